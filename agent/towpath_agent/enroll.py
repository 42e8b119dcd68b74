"""Enrolment: an empty folder and a token become a host with an identity of its own.

Rules: the key is made and saved BEFORE the server is called, so that an enrolment whose reply was lost can be repeated
with the same key, which the server answers with the same certificate. Everything that comes back is checked against the
token's pin and the own key before anything is written; host.json is written last.
Not handled here: the wire (`transport.enrolment`), renewal (`renew`), the server's rules for tokens.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from towpath import __version__, pki
from towpath.errors import InputError, Refusal
from towpath.names import check_environment, check_host
from towpath.token import Token, parse_token
from towpath_agent import identity
from towpath_agent.identity import HostRecord
from towpath_agent.system.files import Files
from towpath_agent.system.host import machine_mark
from towpath_agent.transport import enrolment
from towpath_agent.transport.channel import Limits, parse_address


@dataclass(frozen=True, slots=True)
class Request:
    """What a person gives: enrolment port, token, wished host name."""

    server: str
    token: str
    name: str


def _pending_key(folder: Path, files: Files) -> bytes:
    """Return the key (PEM) of an enrolment that was begun here before, or a new one, saved."""
    path = folder / identity.PENDING_KEY
    if files.exists(path):
        pem = files.read(path, identity.MAX_FILE_BYTES)
        try:
            pki.key_from_pem(pem)
        except InputError:
            pass  # a half-written key never reached a server: write_atomic is durable before the call
        else:
            return pem
    pem = pki.key_to_pem(pki.new_key())
    files.write_atomic(path, pem, 0o600)
    return pem


def _agent_address(answer: enrolment.Enrolled, dialled: str) -> str:
    """Return where to sync: an answer without a host means the host that was dialled."""
    host, _, port = answer.agent_address.rpartition(":")
    if not host:
        host = dialled.rpartition(":")[0]
    address = f"{host}:{port}"
    parse_address(address)
    return address


def _check(answer: enrolment.Enrolled, ca_point: bytes, key_sha256: bytes, name: str) -> None:
    pki.check_ca(answer.ca_pem, ca_point)
    pki.check_issued(answer.certificate_pem, answer.ca_pem)
    facts = pki.identity(answer.certificate_pem)
    if facts.role != "host" or facts.name != answer.host_id or facts.key_sha256 != key_sha256:
        raise Refusal("cannot enrol: the server's certificate is for another host or key", code="wrong-host")
    if answer.name != name:
        raise Refusal(f"cannot enrol: the server answers for host {answer.name[:63]!r}", code="wrong-host")
    check_environment(answer.environment)
    try:
        root = json.loads(answer.root_json)
    except ValueError as error:
        raise Refusal("cannot enrol: the server's TUF root is garbled", code="garbled") from error
    if not isinstance(root, dict) or "signed" not in root or "signatures" not in root:
        raise Refusal("cannot enrol: the server's TUF root is garbled", code="garbled")


def enroll(
    folder: Path, files: Files, request: Request, *, limits: Limits | None = None, new_identity: bool = False
) -> HostRecord:
    """Enrol this host and return its record. Where that fails, nothing but the pending key is left in the folder.

    With `new_identity`, a host that is enrolled in the same fleet already becomes another one; what it runs stays.
    """
    check_host(request.name)
    token = parse_token(request.token)
    parse_address(request.server)
    if identity.is_enrolled(folder, files) and new_identity:
        _check_same_fleet(folder, files, token)
    elif identity.is_enrolled(folder, files):
        record = identity.read_record(folder, files)
        raise InputError(
            f"cannot enrol: {folder} is enrolled already, as {record.name} in {record.environment}; use another --dir, "
            "or revoke the host and empty this one",
            code="enrolled",
        )
    files.make_dirs(folder, 0o700)
    with files.lock(folder / identity.LOCK):
        return _enroll(folder, files, request, token, limits or Limits())


def _check_same_fleet(folder: Path, files: Files, token: Token) -> None:
    """Floors and releases below the folder are vouched for by this fleet's keys and mean nothing to another one."""
    try:
        pki.check_ca(files.read(folder / identity.CA, identity.MAX_FILE_BYTES), token.ca_point)
    except Refusal as error:
        raise InputError(
            f"cannot give {folder} a new identity: the token is of another fleet; empty the folder to move there",
            code="wrong-fleet",
        ) from error


def _enroll(folder: Path, files: Files, request: Request, token: Token, limits: Limits) -> HostRecord:
    key_pem = _pending_key(folder, files)
    csr = pki.make_csr(pki.key_from_pem(key_pem))
    answer = enrolment.enroll(
        request.server,
        token,
        name=request.name,
        csr_der=csr,
        platform=identity.local_platform(),
        agent_version=__version__,
        limits=limits,
    )
    _check(answer, token.ca_point, pki.csr_key_sha256(csr), request.name)
    # Until host.json is there again the host is not enrolled, so a crash from here on is mended by the same command.
    files.remove(folder / identity.HOST)
    identity.note_machine(folder, files, machine_mark())
    files.make_dirs((folder / identity.ROOT).parent, 0o700)
    files.write_atomic(folder / identity.CA, answer.ca_pem, 0o600)
    files.write_atomic(folder / identity.ROOT, answer.root_json, 0o600)
    record = identity.save(
        folder,
        files,
        HostRecord(
            host_id=answer.host_id,
            name=answer.name,
            environment=answer.environment,
            agent_address=_agent_address(answer, request.server),
            enroll_address=request.server,
            key_sha256="",
            not_before_unix_ms=0,
            not_after_unix_ms=0,
            identity_sha256="",
        ),
        key_pem + answer.certificate_pem,
    )
    files.remove(folder / identity.PENDING_KEY)
    return record
