"""Who this host is: the files that enrolment leaves in the agent's folder, and when the certificate is to be renewed.

    identity.pem     private key and certificate, one file so that they always fit together (0600)
    ca.pem           the private CA that vouches for servers
    host.json        what the host must never take from a server again: id, name, pinned environment, addresses
    trust/root.json  the first TUF root, vouched for by the token's pin at enrolment
    machine          a digest of the machine-id where the host was enrolled, so that a clone of its disk is told apart

Rules: host.json is written last, so "is there" means "is enrolled". It repeats facts of the certificate so that the
resident agent needs no X.509 code (5 MB); `identity_sha256` says of which identity.pem. Where a crash came between the
two writes of a renewal, `load` reads the certificate once and mends host.json.
Not handled here: TLS (`transport`), issuing (`enroll`, `renew`), verifying releases (`trust`).
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from towpath.errors import Broken, InputError
from towpath_agent.system.files import Files

IDENTITY = "identity.pem"
NEXT_IDENTITY = "identity.next.pem"
PENDING_KEY = "enroll.key"
CA = "ca.pem"
HOST = "host.json"
ROOT = "trust/root.json"
MACHINE = "machine"
LOCK = "agent.lock"
MAX_FILE_BYTES = 2**20

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What is in host.json. Digests are hex; `key_sha256` is of the certificate's SubjectPublicKeyInfo."""

    host_id: str
    name: str
    environment: str
    agent_address: str
    enroll_address: str
    key_sha256: str
    not_before_unix_ms: int
    not_after_unix_ms: int
    identity_sha256: str


@dataclass(frozen=True, slots=True)
class Identity:
    """All that a host needs to speak to its server."""

    host: HostRecord
    pem: bytes
    ca_pem: bytes

    def __repr__(self) -> str:
        """Return a text without the private key."""
        return f"Identity({self.host.name!r}, {self.host.host_id!r})"


def local_platform() -> str:
    """Return what this machine is, in the words of release files: `linux/amd64`."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def is_enrolled(folder: Path, files: Files) -> bool:
    """Return True where the folder belongs to an enrolled host."""
    return files.exists(folder / HOST)


def note_machine(folder: Path, files: Files, mark: str) -> None:
    """Note on which machine this folder belongs; nothing where the machine has no id."""
    if mark:
        files.write_atomic(folder / MACHINE, f"{mark}\n".encode(), 0o600)


def is_clone(folder: Path, files: Files, mark: str) -> bool:
    """Return True where the folder was noted on another machine. Where nothing can be compared, it is no clone."""
    path = folder / MACHINE
    if not mark or not files.exists(path):
        return False
    return files.read(path, MAX_FILE_BYTES).decode("ascii", "replace").strip() != mark


def check_machine(folder: Path, files: Files, mark: str) -> None:
    """InputError `cloned` where the folder was enrolled on another machine; notes this one where none is noted yet."""
    if is_clone(folder, files, mark):
        name = read_record(folder, files).name
        raise InputError(
            f"cannot run as {name}: {folder} was enrolled on another machine (this disk is a clone, or its machine-id "
            "was made anew); for an identity of its own: towpath-agent setup --new-identity --server HOST:PORT --token "
            f"TOKEN; where this is still {name} and no other machine runs as it: rm {folder / MACHINE}",
            code="cloned",
        )
    if mark and not files.exists(folder / MACHINE):
        note_machine(folder, files, mark)


def read_record(folder: Path, files: Files) -> HostRecord:
    """Return host.json; InputError where the host is not enrolled, Broken where the file is damaged."""
    path = folder / HOST
    if not files.exists(path):
        raise InputError(
            f"cannot use {folder}: no host is enrolled there; run towpath-agent enroll --server HOST:PORT "
            f"--token TOKEN --name NAME --dir {folder}",
            code="not-enrolled",
        )
    damaged = Broken(
        f"cannot use {path}: it is damaged; restore it, or empty {folder} and enrol again", code="bad-host-file"
    )
    try:
        table = json.loads(files.read(path, MAX_FILE_BYTES))
        record = HostRecord(**table)
    except (ValueError, TypeError) as error:
        raise damaged from error
    for value, like in ((getattr(record, name), kind) for name, kind in HostRecord.__annotations__.items()):
        if type(value) is not like:
            raise damaged
    return record


def write_record(folder: Path, files: Files, record: HostRecord) -> None:
    """Write host.json durably."""
    text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
    files.write_atomic(folder / HOST, text.encode(), 0o600)


def with_certificate(record: HostRecord, pem: bytes) -> HostRecord:
    """Return `record` with the facts of the certificate in `pem`. It loads X.509 code: not daily work of a resident."""
    from towpath import pki  # noqa: PLC0415  (loaded only when a certificate changed)

    facts = pki.identity(pem)
    return replace(
        record,
        key_sha256=facts.key_sha256.hex(),
        not_before_unix_ms=facts.not_before_ms,
        not_after_unix_ms=facts.not_after_ms,
        identity_sha256=hashlib.sha256(pem).hexdigest(),
    )


def load(folder: Path, files: Files) -> Identity:
    """Return this host's identity; InputError `not-enrolled`, or Broken where a file is damaged or missing."""
    record = read_record(folder, files)
    for name in (IDENTITY, CA):
        if not files.exists(folder / name):
            raise Broken(f"cannot use {folder}: {name} is missing; restore it, or empty the folder and enrol again")
    pem = files.read(folder / IDENTITY, MAX_FILE_BYTES)
    if hashlib.sha256(pem).hexdigest() != record.identity_sha256:
        record = with_certificate(record, pem)
        write_record(folder, files, record)
    return Identity(record, pem, files.read(folder / CA, MAX_FILE_BYTES))


def save(folder: Path, files: Files, record: HostRecord, pem: bytes) -> HostRecord:
    """Replace identity.pem, then host.json; return the new record. A crash between the two is mended by `load`."""
    updated = with_certificate(record, pem)
    files.write_atomic(folder / IDENTITY, pem, 0o600)
    write_record(folder, files, updated)
    return updated


def renew_at_unix_ms(record: HostRecord) -> int:
    """Return when to renew: at 2/3 of the certificate's life, plus up to a tenth that differs by host and certificate.

    The spread comes from a digest, not from chance: a restart does not move it, and a fleet enrolled in one minute does
    not renew in one minute.
    """
    life_ms = record.not_after_unix_ms - record.not_before_unix_ms
    seed = hashlib.sha256(f"{record.host_id}:{record.identity_sha256}".encode()).digest()
    jitter = int.from_bytes(seed[:4], "big") / 2**32
    return record.not_before_unix_ms + int(life_ms * (2 / 3 + jitter / 10))


def renewal_is_due(folder: Path, files: Files, record: HostRecord, now_unix_ms: int) -> bool:
    """Return True where `renew` should run now: it is time, or an earlier renewal was cut off half-way."""
    return now_unix_ms >= renew_at_unix_ms(record) or files.exists(folder / NEXT_IDENTITY)
