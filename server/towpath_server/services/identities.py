"""Who is calling, and the next certificate of a host: renewal, and recovery of a lapsed one.

The serial rule is `domain.hosts`: the newest counts, and the one before it until the newest was used. So a renewal
whose reply was lost can be asked for again, with the certificate that the host still has.
"""

from towpath import pki
from towpath.errors import Refusal, TowpathError
from towpath_server.domain import hosts
from towpath_server.domain.model import Host
from towpath_server.ports import Transaction
from towpath_server.services.authority import serial_text
from towpath_server.services.context import Context, acting, note


def used(context: Context, host_id: str, serial: str) -> None:
    """Note that a newer certificate works: the one before it is worth nothing from now on. Durable on return."""
    with context.storage.transaction() as tx:
        host = tx.host(host_id)
        after = hosts.first_use(host, serial) if host is not None else None
        if after is not None:
            tx.put_host(after)
    context.cache.entries.pop(host_id, None)


def take_back(context: Context, certificate_pem: bytes) -> None:
    """Make a certificate that the database forgot the newest of its host again. Harmless where it did not forget it."""
    identity = pki.identity(certificate_pem)
    with context.storage.transaction() as tx:
        host = tx.host(identity.name)
    serial = serial_text(identity.serial)
    if host is None or not hosts.renewed_in_lost_time(
        host, serial=serial, not_after_unix_ms=identity.not_after_ms, lost=context.lost
    ):
        return
    with acting(context, f"host/{identity.name}", "host.renew", f"host/{host.name}") as act:
        act.tx.put_host(
            hosts.with_certificate(
                host,
                used_serial="",
                serial=serial,
                key_sha256=identity.key_sha256,
                certificate_pem=certificate_pem,
                not_after_unix_ms=identity.not_after_ms,
            )
        )
        act.detail = "renewed after the backup that this server was restored from"
        act.hosts.add(host.id)


def renew(context: Context, host_id: str, used_serial: str, csr_der: bytes) -> bytes:
    """Return the next certificate (PEM) of a host that called with `used_serial`; Refusal `bad-csr` and others."""
    try:
        with context.storage.transaction() as tx:
            host = hosts.check_known(tx.host(host_id), used_serial)
            pem = _next(context, tx, host, used_serial, csr_der)
    except TowpathError as error:
        who = f"host/{host_id}"
        note(context, who, "host.renew", who, detail=f"{error.code}: {error}", outcome="refused")
        raise
    context.cache.entries.pop(host_id, None)
    return pem


def recover(context: Context, certificate_pem: bytes, csr_der: bytes, at_unix_ms: int, signature: bytes) -> bytes:
    """Return the next certificate (PEM) for a lapsed one, proven by a signature of its key."""
    pki.check_issued(certificate_pem, context.authority.ca_pem)
    identity = pki.identity(certificate_pem)
    if context.lost.until_unix_ms:
        take_back(context, certificate_pem)
    with acting(context, f"host/{identity.name}", "host.recover", f"host/{identity.name}") as act:
        if identity.role != "host":
            raise Refusal("cannot recover: the certificate is no host's", code="wrong-role")
        pki.check_signature(certificate_pem, pki.recover_message(at_unix_ms, csr_der), signature)
        serial = serial_text(identity.serial)
        host = hosts.check_recovery(
            act.tx.host(identity.name),
            serial=serial,
            not_after_unix_ms=identity.not_after_ms,
            at_unix_ms=at_unix_ms,
            now_unix_ms=context.clock.now_unix_ms(),
        )
        act.subject, act.detail = f"host/{host.name}", "a lapsed certificate was replaced"
        pem = _next(context, act.tx, host, serial, csr_der)
        act.hosts.add(host.id)
    return pem


def _next(context: Context, tx: Transaction, host: Host, used_serial: str, csr_der: bytes) -> bytes:
    """Return the certificate for the CSR: the one issued before where its reply was lost, else a new one."""
    if host.previous_serial == used_serial and host.key_sha256 == pki.csr_key_sha256(csr_der):
        return host.certificate_pem
    issued = context.authority.issue_host(host.id, csr_der, context.clock.now_unix_ms())
    tx.put_host(
        hosts.with_certificate(
            host,
            used_serial=used_serial,
            serial=issued.serial,
            key_sha256=issued.key_sha256,
            certificate_pem=issued.pem,
            not_after_unix_ms=issued.not_after_unix_ms,
        )
    )
    return issued.pem
