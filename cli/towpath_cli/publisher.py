"""Signing releases: the publisher's keys, and what they are put under.

Rules: nothing is built on what a server sent before it was verified from the publisher's own pinned root; a version
that is published is never signed with other bytes; a counter only rises. Signing renews what would lapse soon: the
app's role always, targets at half of its life, root in its last 90 days, where the keys are at hand.
Not handled here: several people signing one role (thresholds above one need a signing session), hardware keys, and
talking to the server.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Root, TargetFile, Targets

from towpath.errors import InputError, Refusal
from towpath.names import app_role, target_path
from towpath.pki import key_is_protected, signing_key_from_pem
from towpath.release import Release, check_release
from towpath.repository import (
    APP_MS,
    MAX_ROOT_BYTES,
    ROOT_MS,
    TARGETS_MS,
    Repository,
    delegated_roles,
    file_name,
    open_repository,
    sign_role,
    to_ms,
    to_time,
)
from towpath.wire import encode_release

ROOT_RENEWAL_MS = 90 * 86_400_000


@dataclass(frozen=True, slots=True)
class Signed:
    """What to send to the server. `already` is True, and `metadata` empty, where this very release is published."""

    target_path: str
    release: bytes
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    already: bool = False

    @property
    def release_bytes(self) -> bytes:
        """Return the serialized release, exactly as signed."""
        return self.release


class Publisher:
    """The folder `publisher/` of a fleet. `passphrase` is asked once, and only where a key is protected."""

    def __init__(self, folder: Path, passphrase: Callable[[], bytes] | None = None) -> None:
        """Read the pinned root; InputError where the folder is no publisher's."""
        self._folder = folder
        self._ask = passphrase
        self._passphrase: bytes | None = None
        self._root = self._read("root.json", MAX_ROOT_BYTES)

    def _read(self, name: str, limit: int) -> bytes:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except OSError as error:
            raise InputError(
                f"cannot publish: {path} cannot be read ({error.strerror}); give the fleet's folder with --dir"
            ) from error

    def _signer(self, name: str) -> CryptoSigner:
        pem = self._read(f"keys/{name}.pem", 64 * 1024)
        if key_is_protected(pem) and self._passphrase is None:
            if self._ask is None:
                raise InputError("cannot sign: the publisher's keys are protected; give their passphrase")
            self._passphrase = self._ask()
        return CryptoSigner(signing_key_from_pem(pem, self._passphrase))

    def open(self, files: Mapping[str, bytes]) -> Repository:
        """Return the verified repository in what a server sent; Refusal where it does not stand on our root."""
        return open_repository(files, self._root)

    def next_counter(self, files: Mapping[str, bytes], app: str) -> int:
        """Return the counter for the next release of `app`."""
        return 1 + max((_counter(entry) for entry in self.open(files).app_targets(app).values()), default=0)

    def published(self, files: Mapping[str, bytes], path: str) -> tuple[int, bytes] | None:
        """Return (length, SHA-256) of what is published under a target path, or None."""
        entry = self.open(files).app_targets(path.partition("/")[0]).get(path)
        return None if entry is None else (entry.length, bytes.fromhex(entry.hashes["sha256"]))

    def sign(self, files: Mapping[str, bytes], release: Release, *, now_ms: int) -> Signed:
        """Return the signed release and the roles to send with it; InputError where its version is taken.

        The same release again, whatever its counter says, is no error: the result is marked `already`.
        """
        repository = self.open(files)
        check_release(release)
        path = target_path(release.app, release.version)
        data = encode_release(release)
        targets_of_app = repository.app_targets(release.app)
        if path in targets_of_app:
            return _already(path, targets_of_app[path], release)
        newest = max((_counter(entry) for entry in targets_of_app.values()), default=0)
        if release.counter <= newest:
            raise InputError(f"cannot sign {path}: counter {release.counter} is not above {newest}")
        new: dict[str, bytes] = {}
        self._renew_root(repository, new, now_ms)
        self._delegate(repository, release.app, new, now_ms)
        self._add(repository, release, data, new, now_ms)
        return Signed(path, data, new)

    def _renew_root(self, repository: Repository, new: dict[str, bytes], now_ms: int) -> None:
        if to_ms(repository.root.expires) - now_ms > ROOT_RENEWAL_MS:
            return
        signer = self._usable("root", Root.type, repository.root)
        root = Root.from_dict(repository.root.to_dict())
        root.version += 1
        root.expires = to_time(now_ms + ROOT_MS)
        new[file_name(Root.type, root.version)] = sign_role(root, [signer])

    def _delegate(self, repository: Repository, app: str, new: dict[str, bytes], now_ms: int) -> None:
        """Put into `new` a targets role that delegates to the app's role, where there is none yet or it ages."""
        role = app_role(app)
        known = role in delegated_roles(repository.targets)
        if known and to_ms(repository.targets.expires) - now_ms > TARGETS_MS // 2:
            return
        signer = self._usable("targets", Targets.type, repository.root)
        targets = Targets.from_dict(repository.targets.to_dict())
        if not known:
            releases = self._signer("releases").public_key
            delegation = DelegatedRole(role, [releases.keyid], 1, terminating=True, paths=[f"{app}/*"])
            delegations = targets.delegations
            if delegations is None or delegations.roles is None:
                raise Refusal("cannot sign: the targets role has no delegations", code="mix-and-match")
            delegations.keys[releases.keyid] = releases
            delegations.roles[role] = delegation
        targets.version += 1
        targets.expires = to_time(now_ms + TARGETS_MS)
        new[file_name(Targets.type, targets.version)] = sign_role(targets, [signer])

    def _add(self, repository: Repository, release: Release, data: bytes, new: dict[str, bytes], now_ms: int) -> None:
        role, path = app_role(release.app), target_path(release.app, release.version)
        previous = repository.apps.get(role)
        signer = self._signer("releases")
        if previous is None:
            app = Targets(version=1, expires=to_time(now_ms + APP_MS))
        else:
            self._usable("releases", role, repository.targets)
            app = Targets.from_dict(previous.to_dict())
            app.version += 1
            app.expires = to_time(now_ms + APP_MS)
        entry = TargetFile.from_data(path, data, ["sha256"])
        entry.unrecognized_fields["custom"] = {
            "release_counter": release.counter,
            "rollback_floor": release.rollback_floor,
            "platforms": list(release.platforms),
            "environments": list(release.environments),
        }
        app.targets[path] = entry
        new[file_name(role, app.version)] = sign_role(app, [signer])

    def _usable(self, name: str, role: str, delegator: Root | Targets) -> CryptoSigner:
        """Return the signer in `keys/NAME.pem` where it alone may sign the role; InputError otherwise."""
        trusted = delegator.get_delegated_role(role)
        signer = self._signer(name)
        if signer.public_key.keyid not in trusted.keyids:
            raise InputError(f"cannot sign role {role}: keys/{name}.pem is not one of its keys")
        if trusted.threshold > 1:
            raise InputError(f"cannot sign role {role}: it wants {trusted.threshold} signatures, this folder gives one")
        return signer


def _counter(entry: TargetFile) -> int:
    custom = entry.custom
    value = custom.get("release_counter") if isinstance(custom, dict) else None
    return value if isinstance(value, int) else 0


def _already(path: str, entry: TargetFile, release: Release) -> Signed:
    """Return the marker where `release`, under the counter that it was published with, has the published bytes."""
    data = encode_release(replace(release, counter=_counter(entry)))
    if entry.length == len(data) and entry.hashes.get("sha256") == hashlib.sha256(data).hexdigest():
        return Signed(path, data, already=True)
    raise InputError(
        f"cannot publish {release.app} {release.version}: this version is published with other content; "
        "choose another version",
        code="version-taken",
    )
