"""Whether a host may speak, what its next certificate does to its row, whether it is online, and what it holds.

grpcio lets a connection outlive its certificate and offers no revocation list, so these checks run on every call.

    serial in use      newest, or the previous one as long as nobody has used the newest
    renew              previous = the serial that asked; the newest is replaced (a lost reply may be asked for again)
    first use          of the newest makes the previous one worthless
    after a restore    one that was issued in the hours that the database lost takes the place of the newest known
    recover            a lapsed certificate inside the grace window, by the same rule for its serial

Not handled here: signatures of certificates (`towpath.pki`) and of recovery requests (`services.identities`).
"""

from dataclasses import dataclass, replace

from towpath.errors import InputError, Refusal
from towpath.holds import Hold, covering
from towpath_server.domain.model import Host, HostStatus

CERTIFICATE_LIFE_MS = 7 * 86_400_000
BACKDATE_MS = 600_000
RECOVERY_GRACE_MS = 30 * 86_400_000
RECOVERY_SKEW_MS = 600_000
ONLINE_MS = 90_000


@dataclass(frozen=True, slots=True)
class LostTime:
    """What a restored server does not remember, in Unix ms: from the backup to the restore. 0, 0: nothing."""

    from_unix_ms: int = 0
    until_unix_ms: int = 0


def check_caller(host: Host | None, *, serial: str, not_after_unix_ms: int, now_unix_ms: int) -> Host:
    """Return `host` where a certificate with `serial` may speak for it now; Refusal otherwise."""
    host = check_known(host, serial)
    if not_after_unix_ms <= now_unix_ms:
        raise Refusal("cannot accept the certificate: it has expired; recover on the enrolment port", code="expired")
    return host


def check_recovery(
    host: Host | None, *, serial: str, not_after_unix_ms: int, at_unix_ms: int, now_unix_ms: int
) -> Host:
    """Return `host` where a lapsed certificate may be replaced now; Refusal otherwise."""
    host = check_known(host, serial)
    if now_unix_ms > not_after_unix_ms + RECOVERY_GRACE_MS:
        raise Refusal(
            f"cannot recover {host.name}: its certificate lapsed more than 30d ago; revoke it and enrol again",
            code="expired",
        )
    if abs(now_unix_ms - at_unix_ms) > RECOVERY_SKEW_MS:
        raise Refusal(f"cannot recover {host.name}: the request is not from the last 10m; set the clock", code="replay")
    return host


def check_known(host: Host | None, serial: str) -> Host:
    """Return `host` where it is active and `serial` is its newest certificate's or the one before; else Refusal."""
    if host is None:
        raise Refusal("cannot accept the certificate: this server knows no such host; enrol it", code="unknown-host")
    if host.status is not HostStatus.ACTIVE:
        raise Refusal(f"cannot accept the certificate of {host.name}: the host was revoked", code="revoked")
    if serial != host.serial and (not host.previous_serial or serial != host.previous_serial):
        raise Refusal(
            f"cannot accept the certificate of {host.name}: it was replaced by a newer one", code="stale-certificate"
        )
    return host


def renewed_in_lost_time(host: Host, *, serial: str, not_after_unix_ms: int, lost: LostTime) -> bool:
    """Return whether a certificate of ours was issued to `host` in the time that a restored database does not know.

    Without this a host that renewed after the backup would be cut off by the restore. What was replaced before the
    backup stays worthless, and so does everything once a newer one is known.
    """
    issued_unix_ms = not_after_unix_ms - CERTIFICATE_LIFE_MS
    return (
        host.status is HostStatus.ACTIVE
        and serial not in (host.serial, host.previous_serial)
        and not_after_unix_ms > host.not_after_unix_ms
        # Certificates count in whole seconds.
        and lost.from_unix_ms - 1000 < issued_unix_ms <= lost.until_unix_ms
    )


def first_use(host: Host, serial: str) -> Host | None:
    """Return the row after the newest certificate was used for the first time, or None where nothing changes."""
    if host.previous_serial and serial == host.serial:
        return replace(host, previous_serial="")
    return None


def with_certificate(
    host: Host, *, used_serial: str, serial: str, key_sha256: bytes, certificate_pem: bytes, not_after_unix_ms: int
) -> Host:
    """Return the row of `host` with a newer certificate; the one in use stays good until the newer one is used."""
    return replace(
        host,
        serial=serial,
        previous_serial=used_serial,
        key_sha256=key_sha256,
        certificate_pem=certificate_pem,
        not_after_unix_ms=not_after_unix_ms,
    )


def retired_name(host: Host) -> str:
    """Return the name under which a revoked host is kept once another host takes its name."""
    return f"{host.name[:40]}.revoked.{host.id[:8]}"


def check_name_free(name: str, holder: Host | None) -> None:
    """Return where `name` may be taken from `holder`; InputError where an active host has it."""
    if holder is not None and holder.status is HostStatus.ACTIVE:
        raise InputError(
            f"cannot enrol as {name!r}: another host has that name; choose another --name, or revoke that host",
            code="exists",
        )


def online(*, watching: bool, last_seen_unix_ms: int, now_unix_ms: int) -> bool:
    """Return True where the host listens now, or spoke in the last 90 s."""
    return watching or now_unix_ms - last_seen_unix_ms < ONLINE_MS


def expected(host: Host, *, heard_unix_ms: int) -> bool:
    """Return True for a host that was online when the server before was last up, at `heard_unix_ms` (0: never)."""
    return heard_unix_ms > 0 and heard_unix_ms - host.last_seen_unix_ms < ONLINE_MS


def _in_force(hold: Hold, *, online: bool, now_unix_ms: int) -> bool:
    """Return True while the host says so at every sync (its clock may be off), or said so last and time is not up."""
    return online or now_unix_ms < hold.until_unix_ms


def holds_in_force(host: Host, *, online: bool, now_unix_ms: int) -> tuple[Hold, ...]:
    """Return the holds of the host that count now."""
    return tuple(one for one in host.holds if _in_force(one, online=online, now_unix_ms=now_unix_ms))


def held(host: Host, app: str, *, online: bool, now_unix_ms: int) -> Hold | None:
    """Return the host's own hold on `app` that is in force, the longest; None where the app may move."""
    if not host.holds:
        return None
    return covering(holds_in_force(host, online=online, now_unix_ms=now_unix_ms), app)


def released_unix_ms(host: Host, *, online: bool, now_unix_ms: int) -> int:
    """Return when the last hold of the host ended, 0 for never: silence before that is nobody's failure."""
    lapsed = [one.until_unix_ms for one in host.holds if not _in_force(one, online=online, now_unix_ms=now_unix_ms)]
    return max(lapsed, default=host.released_unix_ms)


def with_holds(host: Host, holds: tuple[Hold, ...], now_unix_ms: int) -> Host:
    """Return the row after the host said which holds it has; that one ended is remembered with its time."""
    if holds == host.holds:
        return host
    ended = {one.app for one in host.holds} - {one.app for one in holds}
    return replace(host, holds=holds, released_unix_ms=now_unix_ms if ended else host.released_unix_ms)
