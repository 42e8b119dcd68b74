"""The TUF repository as Towpath lays it out: names, lifetimes, and the check that a set of files belongs together.

Parties: the publisher builds on what a server sent only after this check; the server runs it at start and before it
publishes; the agent's verifier walks with `tuf.ngclient` and takes names, limits and attack names from here. A process
that must stay small does not import this module: it loads `tuf`.
Layout: `root` and `targets` offline; `targets` lists no files, only delegations: `director` (keys alone, under a path
that no file has) and one terminating `app-NAME` per app over `NAME/*`; `snapshot` and `timestamp` online.
Rules: verify, then use; sizes are capped before parsing; every refusal has an attack's name.
Not handled here: expiry (`expired` only tells; each party decides what it blocks), files, clocks, signing keys at rest.
"""

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import (
    BadVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from towpath.dsse import Keys
from towpath.errors import Refusal
from towpath.names import app_role

DIRECTOR = "director"
DIRECTOR_PATH = "director/none"
APP_PREFIX = "app-"

DAY_MS = 86_400_000
ROOT_MS = 365 * DAY_MS
TARGETS_MS = 180 * DAY_MS
APP_MS = 90 * DAY_MS
SNAPSHOT_MS = 7 * DAY_MS
TIMESTAMP_MS = 1 * DAY_MS

MAX_ROOT_BYTES = 512_000
MAX_TIMESTAMP_BYTES = 16_384
MAX_SNAPSHOT_BYTES = 2_000_000
MAX_TARGETS_BYTES = 5_000_000
MAX_ROOTS = 1024

_FILE = re.compile(r"([1-9][0-9]{0,18})\.([a-z][a-z0-9-]{0,63})\.json")

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
Delegator = Root | Targets


def file_name(role: str, version: int) -> str:
    """Return a role's file name: `3.targets.json`; a timestamp's has no number."""
    return "timestamp.json" if role == Timestamp.type else f"{version}.{role}.json"


def split_name(name: str) -> tuple[str, int] | None:
    """Return (role, version) of a numbered file name, or None for any other."""
    match = _FILE.fullmatch(name)
    return None if match is None else (match[2], int(match[1]))


def to_ms(moment: dt.datetime) -> int:
    """Return Unix milliseconds."""
    return int(moment.timestamp()) * 1000


def to_time(ms: int) -> dt.datetime:
    """Return the UTC time that TUF metadata wants, in whole seconds."""
    return dt.datetime.fromtimestamp(ms // 1000, dt.UTC)


def attack(error: RepositoryError) -> str:
    """Return the attack's name for what `tuf` refused."""
    match error:
        case ExpiredMetadataError():
            return "freeze"
        case BadVersionNumberError():
            return "rollback"
        case UnsignedMetadataError():
            return "arbitrary-software"
        case DeserializationError():
            return "garbled"
        case _:
            return "mix-and-match"


@dataclass(frozen=True, slots=True)
class Repository:
    """A verified, consistent set: the newest of each role. `roots` has every root, oldest first."""

    roots: tuple[Root, ...]
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    apps: Mapping[str, Targets]

    @property
    def root(self) -> Root:
        """Return the newest root."""
        return self.roots[-1]

    def roles(self) -> dict[str, Signed]:
        """Return the newest metadata of every role by name: root, targets, snapshot, timestamp, then the apps."""
        tops: tuple[Signed, ...] = (self.root, self.targets, self.snapshot, self.timestamp)
        return {role.type: role for role in tops} | {name: self.apps[name] for name in sorted(self.apps)}

    def app_targets(self, app: str) -> Mapping[str, Any]:
        """Return target path to TargetFile of everything published of an app."""
        role = self.apps.get(app_role(app))
        return {} if role is None else role.targets

    def expired(self, now_ms: int) -> tuple[str, ...]:
        """Return the names of roles that are expired at `now_ms`, root first, apps last."""
        return tuple(name for name, role in self.roles().items() if to_ms(role.expires) <= now_ms)


def delegated_roles(targets: Targets) -> dict[str, DelegatedRole]:
    """Return the delegations of the targets role by name."""
    delegations = targets.delegations
    return {} if delegations is None or delegations.roles is None else dict(delegations.roles)


def director_keys(targets: Targets) -> Keys:
    """Return the keys that may sign manifests; Refusal where the targets role names none that we can use."""
    role = delegated_roles(targets).get(DIRECTOR)
    if role is None:
        raise Refusal("cannot use the repository: its targets role names no director", code="mix-and-match")
    keys: dict[str, bytes] = {}
    for keyid in role.keyids:
        raw = raw_ed25519(targets.get_key(keyid))
        if raw is None:
            raise Refusal("cannot use the repository: a director key is not Ed25519", code="mix-and-match")
        keys[keyid] = raw
    return Keys(keys, role.threshold)


def raw_ed25519(key: Key) -> bytes | None:
    """Return the 32 bytes of an Ed25519 public key, or None for another kind."""
    public = key.keyval.get("public")
    if key.keytype != "ed25519" or not isinstance(public, str) or re.fullmatch(r"[0-9a-f]{64}", public) is None:
        return None
    return bytes.fromhex(public)


def parse(kind: type[S], data: bytes, limit: int) -> Metadata[S]:
    """Return unverified metadata of that type; Refusal where it is too long, garbled or of another type."""
    if len(data) > limit:
        raise Refusal(f"cannot read {kind.type} metadata: {len(data)} bytes, at most {limit}", code="endless-data")
    try:
        metadata: Metadata[S] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise Refusal(f"cannot read {kind.type} metadata: it is garbled", code="garbled") from error
    if not isinstance(metadata.signed, kind):
        raise Refusal(f"cannot read {kind.type} metadata: it is of another type", code="garbled")
    return metadata


def verified(kind: type[S], data: bytes, limit: int, delegator: Delegator, role: str) -> S:
    """Return metadata that `delegator`'s keys for `role` signed; Refusal `arbitrary-software` otherwise."""
    metadata = parse(kind, data, limit)
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError) as error:
        raise Refusal(
            f"cannot accept {role} metadata: too few of its signatures are good", code="arbitrary-software"
        ) from error
    return metadata.signed


def next_root(current: Root, data: bytes) -> Root:
    """Return the root that follows `current`: signed by both, one version on; Refusal otherwise."""
    new = verified(Root, data, MAX_ROOT_BYTES, current, Root.type)
    verified(Root, data, MAX_ROOT_BYTES, new, Root.type)
    if new.version != current.version + 1:
        raise Refusal(f"cannot accept root {new.version} after root {current.version}", code="rollback")
    return new


def open_repository(
    files: Mapping[str, bytes], root: bytes | None = None, apps: Collection[str] | None = None
) -> Repository:
    """Return the repository in `files`, verified from `root` (None: from its own first root); Refusal otherwise.

    `files` holds every root, `timestamp.json`, and at least the versions of other roles that the timestamp leads to;
    with `apps`, of app roles those of these apps alone are looked at. Expired roles are no refusal here.
    """
    roots = _roots(files, root)
    top = roots[-1]
    timestamp = verified(Timestamp, _file(files, "timestamp.json"), MAX_TIMESTAMP_BYTES, top, Timestamp.type)
    data = _listed(files, Snapshot.type, timestamp.snapshot_meta)
    snapshot = verified(Snapshot, data, MAX_SNAPSHOT_BYTES, top, Snapshot.type)
    _check_version(Snapshot.type, snapshot.version, timestamp.snapshot_meta.version)
    targets = open_targets(files, snapshot, top, Targets.type)
    opened: dict[str, Targets] = {}
    known, wanted = {Targets.type}, None if apps is None else {app_role(app) for app in apps}
    for name, role in delegated_roles(targets).items():
        if name == DIRECTOR:
            continue
        check_layout(role)
        known.add(name)
        if wanted is None or name in wanted:
            opened[name] = open_targets(files, snapshot, targets, name)
    strangers = set(snapshot.meta) - {f"{name}.json" for name in known}
    if strangers:
        raise Refusal(f"cannot use the repository: nobody delegated {min(strangers)[:80]}", code="mix-and-match")
    director_keys(targets)
    return Repository(tuple(roots), timestamp, snapshot, targets, opened)


def _roots(files: Mapping[str, bytes], root: bytes | None) -> list[Root]:
    data = _file(files, "1.root.json") if root is None else root
    first = parse(Root, data, MAX_ROOT_BYTES).signed
    roots = [verified(Root, data, MAX_ROOT_BYTES, first, Root.type)]
    while (name := file_name(Root.type, roots[-1].version + 1)) in files and len(roots) < MAX_ROOTS:
        roots.append(next_root(roots[-1], files[name]))
    if not roots[-1].consistent_snapshot:
        raise Refusal("cannot use the repository: it has no consistent snapshots", code="mix-and-match")
    return roots


def open_targets(files: Mapping[str, bytes], snapshot: Snapshot, delegator: Delegator, name: str) -> Targets:
    """Return the targets role `name` exactly as the snapshot lists it and as `delegator`'s keys signed it."""
    listed = snapshot.meta.get(f"{name}.json")
    if listed is None:
        raise Refusal(f"cannot use the repository: its snapshot does not list {name}", code="mix-and-match")
    role = verified(Targets, _listed(files, name, listed), MAX_TARGETS_BYTES, delegator, name)
    _check_version(name, role.version, listed.version)
    if name == Targets.type and role.targets:
        raise Refusal("cannot use the repository: its targets role lists files itself", code="mix-and-match")
    return role


def check_layout(role: DelegatedRole) -> None:
    """Return where an app's delegation is terminating and covers its own prefix alone; Refusal otherwise."""
    app = role.name.removeprefix(APP_PREFIX)
    if app == role.name or not role.terminating or role.paths != [f"{app}/*"]:
        raise Refusal(
            f"cannot use the repository: delegation {role.name[:80]!r} is not one app's", code="mix-and-match"
        )


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    data = files.get(name)
    if data is None:
        raise Refusal(f"cannot use the repository: {name} is missing", code="mix-and-match")
    return data


def _listed(files: Mapping[str, bytes], role: str, listed: MetaFile) -> bytes:
    name = file_name(role, listed.version)
    data = _file(files, name)
    try:
        listed.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise Refusal(f"cannot use the repository: {name} is not the listed one", code="mix-and-match") from error
    return data


def _check_version(role: str, version: int, listed: int) -> None:
    if version != listed:
        raise Refusal(f"cannot use the repository: {role} {version} stands in for {listed}", code="mix-and-match")


def sign_role(signed: Signed, signers: Iterable[Signer]) -> bytes:
    """Return the bytes of a role, signed by each signer."""
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def meta_file(version: int, data: bytes) -> MetaFile:
    """Return how a snapshot or timestamp lists a file: version, length and SHA-256."""
    return MetaFile.from_data(version, data, ["sha256"])
