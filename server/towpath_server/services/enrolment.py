"""Tokens, and how a machine becomes a host.

Rules:
- Idempotent: the same token and key inside the token's life get the same certificate and spend nothing, because a
  lost reply must not strand a host. A host that comes back with its old name AND key under another token gets a new
  certificate.
- A name belongs to one active host. A revoked host gives its name away.
- Environment and labels are the token's; nothing that the machine says about itself is believed, except its key.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from towpath import pki
from towpath.errors import Broken, InputError, Refusal
from towpath.names import check_host
from towpath.token import ID_BYTES, SECRET_BYTES, Token, format_token
from towpath_server.domain import hosts, tokens
from towpath_server.domain.model import EnrolmentToken, Host, HostStatus, TokenUse
from towpath_server.ports import Transaction
from towpath_server.services import ordering
from towpath_server.services.authority import Issued
from towpath_server.services.context import Act, Context, acting

HOST_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a machine sends to become a host."""

    token_id: str
    token_secret: bytes
    name: str
    csr_der: bytes
    platform: str
    agent_version: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a new host is told."""

    host: Host
    certificate_pem: bytes
    root_json: bytes


def create_token(
    context: Context, actor: str, *, environment: str, labels: Mapping[str, str], uses: int, ttl_ms: int
) -> tuple[str, int]:
    """Return a new token as text, and when it expires. The text is kept nowhere."""
    token = Token(
        secrets.token_hex(ID_BYTES), secrets.token_bytes(SECRET_BYTES), pki.ca_public_point(context.authority.ca_pem)
    )
    with acting(context, actor, "token.create", f"token/{token.id}") as act:
        row = tokens.new_token(
            token_id=token.id,
            secret=token.secret,
            environment=environment,
            labels=labels,
            uses=uses,
            ttl_ms=ttl_ms,
            now_unix_ms=context.clock.now_unix_ms(),
            created_by=actor,
        )
        if not act.tx.hosts(environment):
            ordering.check_declared(act.tx, environment)
        act.tx.add_token(row)
        act.detail = f"{row.uses_left} hosts of {environment}"
    return format_token(token), row.expires_unix_ms


def enroll(context: Context, candidate: Candidate) -> Enrolled:
    """Return the certificate of a new (or returning) host. InputError `exists`, Refusal `token-...` or `bad-csr`."""
    actor = f"token/{candidate.token_id[:64]}"
    with acting(context, actor, "host.enroll", f"host/{candidate.name[:64]}") as act:
        check_host(candidate.name)
        now = context.clock.now_unix_ms()
        token = tokens.check_presented(act.tx.token(candidate.token_id), candidate.token_secret, now)
        key_sha256 = pki.csr_key_sha256(candidate.csr_der)
        use = act.tx.token_use(token.id, key_sha256)
        if use is not None:
            host, pem = _again(act.tx, use, candidate), use.certificate_pem
            act.detail = "the same certificate again"
        else:
            tokens.check_remembered(token, context.lost)
            host, pem = _first(context, act, token, candidate, key_sha256)
            act.detail = f"{host.id} in {host.environment}"
        root = act.tx.metadata("1.root.json")
        if root is None:
            raise Broken("cannot enrol: this server has no TUF root; restore its metadata")
        act.hosts.add(host.id)
        act.environments.add(host.environment)
    return Enrolled(host, pem, root)


def _again(tx: Transaction, use: TokenUse, candidate: Candidate) -> Host:
    host = tx.host(use.host_id)
    if host is None or host.status is not HostStatus.ACTIVE:
        raise Refusal("cannot enrol: the host of this key was revoked; use an empty folder", code="revoked")
    if host.name != candidate.name:
        raise InputError(
            f"cannot enrol as {candidate.name!r}: this key belongs to {host.name}; use that --name, or an empty folder",
            code="exists",
        )
    return host


def _first(
    context: Context, act: Act, token: EnrolmentToken, candidate: Candidate, key_sha256: bytes
) -> tuple[Host, bytes]:
    """Return the host and certificate of a key that this token has not seen; spend one use."""
    tx = act.tx
    holder = tx.host_named(candidate.name)
    same_key = tx.host_with_key(key_sha256)
    if (
        holder is not None
        and same_key is not None
        and holder.id == same_key.id
        and holder.environment == token.environment
    ):
        returning = holder if holder.status is HostStatus.ACTIVE else None
    else:
        returning = None
    if returning is None:
        if same_key is not None:
            raise InputError(
                f"cannot enrol: this key belongs to {same_key.name} in {same_key.environment}; use an empty folder",
                code="exists",
            )
        hosts.check_name_free(candidate.name, holder)
    if not tx.spend_token(token.id):
        raise tokens.used_up()
    now = context.clock.now_unix_ms()
    host_id = returning.id if returning is not None else secrets.token_hex(HOST_ID_BYTES)
    issued = context.authority.issue_host(host_id, candidate.csr_der, now)
    if returning is not None:
        host = _returned(returning, issued)
        tx.put_host(host)
    else:
        if holder is not None:
            tx.put_host(replace(holder, name=hosts.retired_name(holder)))
        host = _new_host(host_id, token, candidate, issued, now)
        tx.add_host(host)
    tx.put_token_use(TokenUse(token.id, key_sha256, host.id, issued.pem))
    return host, issued.pem


def _returned(host: Host, issued: Issued) -> Host:
    return hosts.with_certificate(
        host,
        used_serial=host.serial,
        serial=issued.serial,
        key_sha256=issued.key_sha256,
        certificate_pem=issued.pem,
        not_after_unix_ms=issued.not_after_unix_ms,
    )


def _new_host(host_id: str, token: EnrolmentToken, candidate: Candidate, issued: Issued, now: int) -> Host:
    return Host(
        id=host_id,
        name=candidate.name,
        environment=token.environment,
        serial=issued.serial,
        key_sha256=issued.key_sha256,
        certificate_pem=issued.pem,
        not_after_unix_ms=issued.not_after_unix_ms,
        enrolled_unix_ms=now,
        labels=dict(token.labels),
        agent_version=candidate.agent_version[:64],
        platform=candidate.platform[:64],
    )
