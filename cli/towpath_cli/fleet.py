"""A new fleet: three folders, one per party, made at once or not at all.

    publisher/  keys/{root,targets,releases}.pem, root.json          stays offline; signs what MAY run
    operator/   operator.pem, ca.pem, root.json, towpath.toml        talks to the server
    server/     ca.pem, ca.key, keys/{snapshot,timestamp,director}.pem, metadata/, server.toml   holds no release key

Rules: folders 0700, key files 0600, everything fsynced in a temporary folder beside, then renamed: a fleet is complete
or absent. A passphrase protects the publisher's keys; the server's must be readable without a person.
Not handled here: more than one key per role (production wants thresholds 2 of 3), renewing an operator's certificate.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Delegations, Root, Snapshot, Targets, Timestamp

from towpath import pki
from towpath.errors import Broken, InputError
from towpath.names import OPERATOR_URI, check_host
from towpath.repository import (
    DIRECTOR,
    DIRECTOR_PATH,
    ROOT_MS,
    SNAPSHOT_MS,
    TARGETS_MS,
    TIMESTAMP_MS,
    file_name,
    meta_file,
    sign_role,
    to_time,
)

OPERATOR_DAYS = 397
SERVER_ADDRESS = "127.0.0.1:7445"

OPERATOR_SETTINGS = f"""# Settings of the operator's tool. Flags and TOWPATH_* variables are stronger.
server = "{SERVER_ADDRESS}"
"""
SERVER_SETTINGS = """# Settings of the server. Flags and TOWPATH_* variables are stronger.
# agent_listen = "127.0.0.1:7443"
# enroll_listen = "127.0.0.1:7444"
# operator_listen = "127.0.0.1:7445"
# prometheus_url = "http://127.0.0.1:9090"
"""

_SECRET = 0o600
_PUBLIC = 0o644


def create_fleet(path: Path, *, passphrase: bytes | None, operator: str, now_ms: int) -> None:
    """Make the three folders of a new fleet below `path`; InputError where `path` is there and not an empty folder."""
    check_host(operator)
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link that is to be replaced)
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise InputError(f"cannot make a fleet in {path}: it is there already; choose another folder", code="exists")
    _place(path, _files(passphrase, operator, now_ms), "a fleet")


def create_operator(fleet: Path, path: Path, operator: str, *, now_ms: int) -> None:
    """Make a folder below `path` with an operator's identity, signed with the CA key in `fleet`; InputError."""
    check_host(operator)
    path = Path(os.path.abspath(path))  # noqa: PTH100  (see above)
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise InputError(
            f"cannot make an operator in {path}: it is there already; choose another folder", code="exists"
        )
    try:
        ca_key = pki.key_from_pem((fleet / "server" / "ca.key").read_bytes())
        ca, root = (fleet / "server" / "ca.pem").read_bytes(), (fleet / "operator" / "root.json").read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot sign an operator: {error.filename}: {error.strerror}; --dir must be the folder that "
            "'towpath init' made, with server/ and operator/"
        ) from error
    key = pki.new_key()
    pem = pki.key_to_pem(key) + _operator_certificate(ca, ca_key, key, operator, now_ms)
    _place(path, _operator_files(pem, ca, root), "an operator")


def _place(path: Path, files: Mapping[str, tuple[bytes, int]], what: str) -> None:
    """Make the folder `path` with these files, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, files)
        # A rename onto an empty folder replaces it, and fails on any other: two at once cannot mix.
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        if path.exists() and any(path.iterdir()):
            raise InputError(f"cannot make {what} in {path}: it is there already", code="exists") from error
        raise Broken(f"cannot make {what} in {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _operator_files(pem: bytes, ca: bytes, root: bytes) -> dict[str, tuple[bytes, int]]:
    return {
        "operator/operator.pem": (pem, _SECRET),
        "operator/ca.pem": (ca, _PUBLIC),
        "operator/root.json": (root, _PUBLIC),
        "operator/towpath.toml": (OPERATOR_SETTINGS.encode(), _PUBLIC),
    }


def _operator_certificate(
    ca: bytes, ca_key: EllipticCurvePrivateKey, key: EllipticCurvePrivateKey, operator: str, now_ms: int
) -> bytes:
    return pki.issue(
        ca,
        ca_key,
        pki.make_csr(key),
        uri=OPERATOR_URI + operator,
        not_before_ms=now_ms - pki.BACKDATE_MS,
        not_after_ms=now_ms + OPERATOR_DAYS * pki.DAY_MS,
    )


def _files(passphrase: bytes | None, operator: str, now_ms: int) -> dict[str, tuple[bytes, int]]:
    """Return every file of the fleet: path to (bytes, mode)."""
    ca_key, operator_key = pki.new_key(), pki.new_key()
    ca = pki.new_ca(ca_key, now_ms=now_ms)
    certificate = _operator_certificate(ca, ca_key, operator_key, operator, now_ms)
    offline = {name: Ed25519PrivateKey.generate() for name in ("root", "targets", "releases")}
    online = {name: Ed25519PrivateKey.generate() for name in ("snapshot", "timestamp", "director")}
    metadata = _metadata(offline | online, now_ms)
    root = metadata["1.root.json"]
    files = {f"publisher/keys/{name}.pem": (pki.key_to_pem(key, passphrase), _SECRET) for name, key in offline.items()}
    files |= {f"server/keys/{name}.pem": (pki.key_to_pem(key), _SECRET) for name, key in online.items()}
    files |= {f"server/metadata/{name}": (data, _PUBLIC) for name, data in metadata.items()}
    files |= {
        "publisher/root.json": (root, _PUBLIC),
        **_operator_files(pki.key_to_pem(operator_key) + certificate, ca, root),
        "server/ca.pem": (ca, _PUBLIC),
        "server/ca.key": (pki.key_to_pem(ca_key), _SECRET),
        "server/server.toml": (SERVER_SETTINGS.encode(), _PUBLIC),
    }
    return files


def _metadata(keys: Mapping[str, Ed25519PrivateKey], now_ms: int) -> dict[str, bytes]:
    """Return the first repository: four top-level roles of one key each, and the director's delegation."""
    signers = {name: CryptoSigner(key) for name, key in keys.items()}
    root = Root(expires=to_time(now_ms + ROOT_MS), consistent_snapshot=True)
    for role in (Root.type, Targets.type, Snapshot.type, Timestamp.type):
        root.add_key(signers[role].public_key, role)
    director: Key = signers[DIRECTOR].public_key
    delegation = DelegatedRole(DIRECTOR, [director.keyid], 1, terminating=True, paths=[DIRECTOR_PATH])
    targets = Targets(
        expires=to_time(now_ms + TARGETS_MS),
        delegations=Delegations({director.keyid: director}, {DIRECTOR: delegation}),
    )
    targets_data = sign_role(targets, [signers["targets"]])
    snapshot = Snapshot(expires=to_time(now_ms + SNAPSHOT_MS), meta={"targets.json": meta_file(1, targets_data)})
    snapshot_data = sign_role(snapshot, [signers["snapshot"]])
    timestamp = Timestamp(expires=to_time(now_ms + TIMESTAMP_MS), snapshot_meta=meta_file(1, snapshot_data))
    return {
        file_name(Root.type, 1): sign_role(root, [signers["root"]]),
        file_name(Targets.type, 1): targets_data,
        file_name(Snapshot.type, 1): snapshot_data,
        file_name(Timestamp.type, 1): sign_role(timestamp, [signers["timestamp"]]),
    }


def _write(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    folders = {folder}
    for name, (data, mode) in files.items():
        target = folder / name
        for parent in reversed(target.relative_to(folder).parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
            folders.add(folder / parent)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for each in sorted(folders, reverse=True):
        _sync_folder(each)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
