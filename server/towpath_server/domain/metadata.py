"""What the server may publish, and the two roles that it signs itself: snapshot and timestamp.

Bytes in, bytes out. The server holds no release key: it checks a publisher's new roles as a host would, adds the
release that they sign, and re-signs the two online roles around them. Nothing that was published is ever changed or
removed. Versions of snapshot and timestamp are max(previous + 1, Unix seconds): a server restored from a backup
continues above what hosts have seen, so its hosts do not take the restore for an attack. Roles of publishers stay as
they were signed. Expiry of offline roles does not stop the server: hosts block change by themselves, and the publisher
must be able to reach the server to renew them.
Not handled here: storing the files, keeping older versions for hosts that are in the middle of a read, keys at rest.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from towpath import dsse
from towpath.bundle.statement import TYPE as BUNDLE_TYPE
from towpath.errors import Broken, InputError, Refusal
from towpath.names import app_role, check_app, target_path
from towpath.pki import signing_key_from_pem
from towpath.release import Release, check_release
from towpath.repository import (
    DIRECTOR,
    MAX_TARGETS_BYTES,
    SNAPSHOT_MS,
    TIMESTAMP_MS,
    Repository,
    check_layout,
    delegated_roles,
    director_keys,
    file_name,
    meta_file,
    next_root,
    open_repository,
    sign_role,
    split_name,
    to_ms,
    to_time,
    verified,
)
from towpath.wire import MAX_RELEASE_BYTES, decode_release

# Roles that lapse sooner than this are worth a warning at the server's start.
WARN_MS = 30 * 86_400_000
AHEAD_MS = 86_400_000


class OnlineKeys:
    """The three keys that the server signs with. They say who runs what now, among releases that others signed."""

    def __init__(self, *, snapshot: bytes, timestamp: bytes, director: bytes) -> None:
        """Read the keys from PEM; InputError where one is no Ed25519 key."""
        self.snapshot = CryptoSigner(signing_key_from_pem(snapshot))
        self.timestamp = CryptoSigner(signing_key_from_pem(timestamp))
        key = signing_key_from_pem(director)
        self.director_keyid: str = CryptoSigner(key).public_key.keyid
        self._signers = [(self.director_keyid, key.sign)]

    def sign_manifest(self, payload: bytes) -> dsse.Envelope:
        """Return the envelope of a serialized manifest, signed by the director."""
        return dsse.sign(payload, dsse.MANIFEST_TYPE, self._signers)

    def sign_bundle(self, payload: bytes) -> dsse.Envelope:
        """Return the envelope of a bundle's statement, signed by the director; it can stand for no manifest."""
        return dsse.sign(payload, BUNDLE_TYPE, self._signers)


def check_repository(files: Mapping[str, bytes], now_ms: int) -> list[str]:
    """Return warnings about roles that lapse soon, where the files form a whole repository; Broken otherwise."""
    try:
        repository = open_repository(files)
    except Refusal as error:
        raise Broken(f"cannot serve this repository: {error}; restore its metadata from a backup") from error
    warnings = []
    for name in (Root.type, Targets.type, *sorted(repository.apps)):
        left = to_ms(repository.roles()[name].expires) - now_ms
        if left < WARN_MS:
            when = "has lapsed" if left <= 0 else f"lapses in {left // 86_400_000} days"
            warnings.append(f"role {name} {when}: hosts accept no change then; publish to renew it")
    return warnings


def snapshot_version(files: Mapping[str, bytes]) -> int:
    """Return the version of the newest snapshot, 0 where there is none. Looks at names alone."""
    parts = [split_name(name) for name in files]
    return max((part[1] for part in parts if part is not None and part[0] == Snapshot.type), default=0)


def admit(
    files: Mapping[str, bytes],
    new: Mapping[str, bytes],
    *,
    target_path: str,
    release: bytes,
    keys: OnlineKeys,
    now_ms: int,
) -> dict[str, bytes]:
    """Return the files to add so that `release` is published: the new roles, a snapshot and a timestamp.

    `new` holds the next version of the release's app role, and of targets and root where they change. Refusal or
    InputError where a host would refuse them, where a published release would change (`version-taken`), or where this
    server could no longer sign manifests.
    """
    repository = open_repository(files)
    parsed = _check_release(release, target_path)
    role_name = app_role(parsed.app)
    strangers = sorted(name for name in new if _role(name) not in (Root.type, Targets.type, role_name))
    if strangers:
        raise Refusal(
            f"cannot publish {target_path}: {strangers[0][:80]!r} does not belong to it", code="mix-and-match"
        )
    if target_path in repository.app_targets(parsed.app):
        raise Refusal(
            f"cannot publish {target_path}: this version is taken; choose another version", code="version-taken"
        )
    root = _new_root(repository, new, now_ms)
    targets = _new_targets(repository, new, root, keys, now_ms)
    if role_name not in delegated_roles(targets):
        raise Refusal(f"cannot publish {target_path}: nobody delegated {role_name}", code="arbitrary-software")
    app = _next(new, role_name, repository.apps.get(role_name), targets, now_ms)
    if app is None:
        raise Refusal(f"cannot publish {target_path}: its new {role_name} role is missing", code="arbitrary-software")
    _check_added(repository.app_targets(parsed.app), app, target_path, release, parsed)
    _check_others(repository, files, targets, role_name)
    return {**new, **_sign_online(repository, new, keys, now_ms)}


def _role(name: str) -> str:
    parts = split_name(name)
    return "" if parts is None else parts[0]


def _check_release(data: bytes, path: str) -> Release:
    if len(data) > MAX_RELEASE_BYTES:
        raise Refusal(f"cannot publish {path[:120]!r}: the release is too long", code="endless-data")
    release = check_release(decode_release(data))
    if path != target_path(check_app(release.app), release.version):
        raise Refusal(f"cannot publish {path[:120]!r}: it is {release.app} {release.version}", code="mix-and-match")
    return release


def _new_root(repository: Repository, new: Mapping[str, bytes], now_ms: int) -> Root:
    root = repository.root
    names = [name for name in new if _role(name) == Root.type]
    if not names:
        return root
    name = file_name(Root.type, root.version + 1)
    if names != [name]:
        raise Refusal(f"cannot publish: after root {root.version} comes {name} alone", code="rollback")
    following = next_root(root, new[name])
    _check_fresh(Root.type, to_ms(following.expires), now_ms)
    for role in (Snapshot.type, Timestamp.type):
        if following.roles[role].keyids != root.roles[role].keyids:
            raise Refusal(
                f"cannot publish: the new root gives {role} to another key than this server's", code="wrong-key"
            )
    return following


def _new_targets(
    repository: Repository, new: Mapping[str, bytes], root: Root, keys: OnlineKeys, now_ms: int
) -> Targets:
    targets = _next(new, Targets.type, repository.targets, root, now_ms)
    if targets is None:
        return repository.targets
    if targets.targets:
        raise Refusal("cannot publish: the targets role lists files itself", code="mix-and-match")
    roles = delegated_roles(targets)
    for name, role in roles.items():
        if name != DIRECTOR:
            check_layout(role)
    if keys.director_keyid not in director_keys(targets).keys:
        raise Refusal("cannot publish: the new targets role drops this server's director key", code="wrong-key")
    lost = sorted(set(repository.apps) - set(roles))
    if lost:
        raise Refusal(f"cannot publish: the new targets role drops {lost[0]}", code="version-taken")
    return targets


def _next(
    new: Mapping[str, bytes],
    role: str,
    previous: Targets | None,
    delegator: Root | Targets,
    now_ms: int,
) -> Targets | None:
    """Return the verified next version of a role out of `new`, or None where `new` has none of it."""
    names = [name for name in new if _role(name) == role]
    if not names:
        return None
    before = 0 if previous is None else previous.version
    name = file_name(role, before + 1)
    if names != [name]:
        raise Refusal(f"cannot publish: after {role} {before} comes {name} alone; try again", code="rollback")
    found = verified(Targets, new[name], MAX_TARGETS_BYTES, delegator, role)
    if found.version != before + 1:
        raise Refusal(f"cannot publish: {name} says it is version {found.version}", code="rollback")
    _check_fresh(role, to_ms(found.expires), now_ms)
    return found


def _check_fresh(role: str, expires_ms: int, now_ms: int) -> None:
    if expires_ms <= now_ms:
        raise Refusal(f"cannot publish: the new {role} role has expired already; check the clocks", code="freeze")


def _check_added(before: Mapping[str, TargetFile], app: Targets, path: str, data: bytes, release: Release) -> None:
    """Refuse where the new role does more than adding this one release on top of what is published."""
    for old, entry in before.items():
        if app.targets.get(old) != entry:
            raise Refusal(
                f"cannot publish: {old} is published and would change; choose another version", code="version-taken"
            )
    if set(app.targets) != {*before, path}:
        raise Refusal(f"cannot publish {path}: its role does not add it, or adds more", code="mix-and-match")
    entry = app.targets[path]
    if entry.length != len(data) or entry.hashes.get("sha256") != hashlib.sha256(data).hexdigest():
        raise Refusal(f"cannot publish {path}: the signed entry is of other bytes", code="arbitrary-software")
    expected = {
        "release_counter": release.counter,
        "rollback_floor": release.rollback_floor,
        "platforms": list(release.platforms),
        "environments": list(release.environments),
    }
    if entry.custom != expected:
        raise Refusal(
            f"cannot publish {path}: the signed entry says something else than the release", code="mix-and-match"
        )
    newest = max((counter_of(old) for old in before.values()), default=0)
    if release.counter <= newest:
        raise Refusal(
            f"cannot publish {path}: its counter {release.counter} is not above {newest}; publish again",
            code="rollback",
        )


def counter_of(entry: TargetFile) -> int:
    """Return the release counter that a target's signed entry states, 0 where it states none."""
    custom = entry.custom
    value = custom.get("release_counter") if isinstance(custom, dict) else None
    return value if isinstance(value, int) else 0


def _check_others(repository: Repository, files: Mapping[str, bytes], targets: Targets, skip: str) -> None:
    """Refuse where the new delegations no longer vouch for a role that is published and stays as it is."""
    for name, role in repository.apps.items():
        if name != skip:
            verified(Targets, files[file_name(name, role.version)], MAX_TARGETS_BYTES, targets, name)


def _sign_online(
    repository: Repository,
    new: Mapping[str, bytes],
    keys: OnlineKeys,
    now_ms: int,
    *,
    ahead_ms: int = 0,
    until_ms: int = 0,
) -> dict[str, bytes]:
    meta = dict(repository.snapshot.meta)
    for name, data in new.items():
        parts = split_name(name)
        if parts is not None and parts[0] != Root.type:
            meta[f"{parts[0]}.json"] = meta_file(parts[1], data)
    version = _above(repository.snapshot.version, now_ms + ahead_ms)
    snapshot = Snapshot(version=version, expires=to_time(until_ms or now_ms + SNAPSHOT_MS), meta=meta)
    data = sign_role(snapshot, [keys.snapshot])
    timestamp = _above(repository.timestamp.version, now_ms + ahead_ms)
    return {
        file_name(Snapshot.type, version): data,
        **_sign_timestamp(timestamp, meta_file(version, data), keys, until_ms or now_ms + TIMESTAMP_MS),
    }


def _sign_timestamp(version: int, snapshot: MetaFile, keys: OnlineKeys, until_ms: int) -> dict[str, bytes]:
    timestamp = Timestamp(version=version, expires=to_time(until_ms), snapshot_meta=snapshot)
    return {file_name(Timestamp.type, version): sign_role(timestamp, [keys.timestamp])}


def _above(previous: int, now_ms: int) -> int:
    return max(previous + 1, now_ms // 1000)


def sign_again(files: Mapping[str, bytes], keys: OnlineKeys, now_ms: int) -> dict[str, bytes]:
    """Return a new snapshot and timestamp, whatever the age of those before, with versions of a day ahead.

    For a restored server: hosts may have seen newer ones, also such that many publishes pushed ahead of the clock.
    """
    return _sign_online(open_repository(files), {}, keys, now_ms, ahead_ms=AHEAD_MS)


def refresh(files: Mapping[str, bytes], keys: OnlineKeys, now_ms: int) -> dict[str, bytes]:
    """Return a new snapshot and timestamp where less than half of one's life is left, else nothing."""
    repository = open_repository(files)
    if to_ms(repository.snapshot.expires) - now_ms < SNAPSHOT_MS // 2:
        return _sign_online(repository, {}, keys, now_ms)
    if to_ms(repository.timestamp.expires) - now_ms < TIMESTAMP_MS // 2:
        version = repository.snapshot.version
        listed = meta_file(version, files[file_name(Snapshot.type, version)])
        version = _above(repository.timestamp.version, now_ms)
        return _sign_timestamp(version, listed, keys, now_ms + TIMESTAMP_MS)
    return {}


@dataclass(frozen=True, slots=True)
class Travelling:
    """Metadata for a bundle, `files`, and what the server shows from then on, `after`: newer, and short-lived again.

    `snapshot_version` is the one in the bundle.
    """

    files: dict[str, bytes]
    after: dict[str, bytes]
    snapshot_version: int


def travelling(
    files: Mapping[str, bytes], apps: Collection[str], keys: OnlineKeys, *, now_ms: int, until_ms: int
) -> Travelling:
    """Return metadata that is good until `until_ms`, of these apps alone; InputError where a role lapses before.

    Snapshot and timestamp are signed for the bundle. Versions go up, and the server's own go on above: so a host that
    has heard the server since refuses what is in the bundle as older, and no version has two contents.
    """
    repository = open_repository(files)
    roles = [Root.type, Targets.type, *(app_role(app) for app in sorted(apps))]
    for name in roles:
        expires_ms = to_ms(repository.roles()[name].expires)
        if expires_ms < until_ms:
            way_out = "sign it anew with the publisher's keys" if name == Root.type else "publish a release to renew it"
            raise InputError(
                f"cannot make a bundle that is good until {to_time(until_ms):%Y-%m-%d %H:%M}Z: role {name} lapses on "
                f"{to_time(expires_ms):%Y-%m-%d %H:%M}Z, and hosts would refuse it from then on; {way_out}, or give a "
                "shorter --valid",
                code="lapses",
            )
    online = _sign_online(repository, {}, keys, now_ms, until_ms=until_ms)
    after = _sign_online(open_repository({**files, **online}), {}, keys, now_ms)
    roots = {name: data for name, data in files.items() if _role(name) == Root.type}
    others = {}
    for name in roles[1:]:
        file = file_name(name, repository.roles()[name].version)
        others[file] = files[file]
    return Travelling({**roots, **online, **others}, after, snapshot_version(online))
