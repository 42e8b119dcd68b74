"""One verification, from untrusted bytes to what this host may run. Runs in a short-lived child: it loads `tuf`.

Order (DESIGN section 2): time floor; root chain, timestamp, snapshot, targets by the TUF library; our guard (floors,
expiry at T); envelope type and threshold of director signatures; identity, nonce, sequence, window; then each app:
resolved through its delegation, equal to the manifest, fetched, hashed, platform, environment, counter, parameters. A
release that is only announced goes the same way: no object of it is fetched before that.
Of a manifest that comes out of a bundle the bundle's statement is verified first, by the same keys.
Metadata is fsynced before floors are returned.
Trouble with the repository or the manifest refuses everything, under the attack's name. Trouble with one app refuses
that app: one team's lapsed role does not hold up the others.
Not handled here: fetching (a function is handed in), keeping floors, artifacts (obtained by digest, see `store`).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import DownloadError, DownloadHTTPError, LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp
from tuf.ngclient import FetcherInterface, TargetFile, Updater, UpdaterConfig

from towpath import dsse
from towpath.bundle import statement
from towpath.errors import InputError, Refusal, TowpathError, Unavailable
from towpath.manifest import DesiredApp, Manifest, ManifestFloor, accept, admit_release
from towpath.names import app_role
from towpath.release import check_release
from towpath.repository import (
    MAX_ROOT_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    attack,
    check_layout,
    delegated_roles,
    director_keys,
    parse,
    to_ms,
)
from towpath.wire import MAX_RELEASE_BYTES, decode_envelope, decode_manifest, decode_release
from towpath_agent.errors import disk_error
from towpath_agent.system.files import Files
from towpath_agent.trust import guard
from towpath_agent.trust.guard import RoleFact
from towpath_agent.trust.model import AdmittedApp, Fetch, RefusedApp, VerifyRequest, VerifyResult

# Counted from the enrolment's root, those in the cache included; each new one is a round trip.
MAX_ROOT_ROTATIONS = 256
MAX_DELEGATIONS = 8
_MESSAGE_CHARS = 300
_BASE = "towpath:"
# How the library names its own temporary files; a killed child leaves some.
_LIBRARY_TEMP = "tmp"

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


class _Fetcher(FetcherInterface):
    """The library's window to the agent. Keeps what went wrong on the way, which the library would wrap."""

    def __init__(self, fetch: Fetch) -> None:
        self._ask = fetch
        self.trouble: TowpathError | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter([self.download_bytes(url, MAX_TARGETS_BYTES)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a file of at most `max_length` bytes; no detour over a temporary file, unlike the library's own."""
        name = url.removeprefix(f"{_BASE}/")
        try:
            data = self._ask("metadata", name)
        except TowpathError as error:
            self.trouble = error
            raise DownloadError(str(error)) from error
        if data is None:
            raise DownloadHTTPError(f"{name} is not there", 404)
        if len(data) > max_length:
            self.trouble = _endless(name, max_length)
            raise DownloadError(str(self.trouble))
        return data

    def refusal(self, error: DownloadError) -> TowpathError:
        """Return what to raise for the library's download error."""
        trouble, self.trouble = self.trouble, None
        return trouble or Unavailable(f"cannot verify now: the server lacks a file ({_short(error)})")


def _endless(name: str, limit: int) -> Refusal:
    return Refusal(f"cannot accept {name[:80]}: it is longer than {limit} bytes", code="endless-data")


def _short(error: Exception) -> str:
    return str(error)[:_MESSAGE_CHARS]


class Repository:
    """The TUF repository as this host sees it in one verification."""

    def __init__(self, request: VerifyRequest, fetch: Fetch, files: Files, now_unix_ms: int) -> None:
        """Refresh the top-level roles and check them against the guard; Refusal or Unavailable."""
        self._fetcher = _Fetcher(fetch)
        self._ask, self._files, self._now = fetch, files, now_unix_ms
        self._floors = request.role_floors
        self._dir = Path(request.metadata_dir)
        files.make_dirs(self._dir)
        self._sweep()
        try:
            self._updater = Updater(
                request.metadata_dir,
                _BASE,
                fetcher=self._fetcher,
                config=UpdaterConfig(
                    max_root_rotations=MAX_ROOT_ROTATIONS,
                    max_delegations=MAX_DELEGATIONS,
                    root_max_length=MAX_ROOT_BYTES,
                    timestamp_max_length=MAX_TIMESTAMP_BYTES,
                    snapshot_max_length=MAX_SNAPSHOT_BYTES,
                    targets_max_length=MAX_TARGETS_BYTES,
                    prefix_targets_with_hash=False,
                ),
                bootstrap=request.root,
            )
            self._updater.refresh()
        except DownloadError as error:
            raise self._fetcher.refusal(error) from error
        except RepositoryError as error:
            raise Refusal(f"cannot accept the server's metadata: {_short(error)}", code=attack(error)) from error
        except OSError as error:
            raise disk_error("keep metadata in", self._dir, error) from error
        self._load()

    def _sweep(self) -> None:
        for name in self._files.listdir(self._dir):
            if name.startswith(_LIBRARY_TEMP):
                self._files.remove(self._dir / name)

    def _load(self) -> None:
        """Read back, by public parsing, what the library has just verified and written, and apply the guard to it."""
        root = self._cached(Root, Root.type, MAX_ROOT_BYTES)
        timestamp = self._cached(Timestamp, Timestamp.type, MAX_TIMESTAMP_BYTES)
        snapshot = self._cached(Snapshot, Snapshot.type, MAX_SNAPSHOT_BYTES)
        targets = self._cached(Targets, Targets.type, MAX_TARGETS_BYTES)
        if targets.targets:
            raise Refusal("cannot accept the targets role: it lists files itself", code="mix-and-match")
        self.snapshot_version = snapshot.version
        self.targets = targets
        self.facts = [
            RoleFact(role.type, role.version, frozenset(root.get_delegated_role(role.type).keyids), to_ms(role.expires))
            for role in (root, timestamp, snapshot, targets)
        ]
        # What the snapshot lists is only the snapshot key's word, so floors of it fall with that key: a thief of the
        # server who lists a huge version must not lock out an app whose own key was never stolen.
        # Roles that nobody delegated are left out: floors must not grow by what a thief writes.
        keyids = frozenset(root.get_delegated_role(Snapshot.type).keyids)
        for name in (Targets.type, *delegated_roles(targets)):
            listed = snapshot.meta.get(f"{name}.json")
            if listed is not None:
                self.facts.append(RoleFact(f"{Snapshot.type}/{name}", listed.version, keyids))
        guard.check_floors(self.facts, self._floors)
        guard.check_expiry(self.facts, self._now)

    def _cached(self, kind: type[S], name: str, limit: int) -> S:
        return parse(kind, self._files.read(self._dir / f"{name}.json", limit), limit).signed

    def resolve(self, desired: DesiredApp) -> TargetFile:
        """Return the signed entry of a release, resolved through its app's delegation; Refusal otherwise."""
        role = app_role(desired.app)
        delegation = delegated_roles(self.targets).get(role)
        if delegation is None:
            raise Refusal(f"cannot accept {desired.target_path}: nobody may sign {role}", code="arbitrary-software")
        check_layout(delegation)
        try:
            entry = self._updater.get_targetinfo(desired.target_path)
        except DownloadError as error:
            raise self._fetcher.refusal(error) from error
        except RepositoryError as error:
            raise Refusal(f"cannot accept {desired.target_path}: {_short(error)}", code=attack(error)) from error
        except OSError as error:
            raise disk_error("keep metadata in", self._dir, error) from error
        signed = self._cached(Targets, role, MAX_TARGETS_BYTES)
        fact = RoleFact(role, signed.version, frozenset(delegation.keyids), to_ms(signed.expires))
        guard.check_floors([fact], self._floors)
        guard.check_expiry([fact], self._now)
        self.facts.append(fact)
        if entry is None:
            raise Refusal(f"cannot accept {desired.target_path}: no publisher signed it", code="arbitrary-software")
        return entry

    def release(self, entry: TargetFile) -> bytes:
        """Return the release's bytes, of exactly the signed length and digest."""
        if entry.length > MAX_RELEASE_BYTES:
            raise _endless(entry.path, MAX_RELEASE_BYTES)
        data = self._ask("target", entry.path)
        if data is None:
            raise Unavailable(f"cannot verify now: the server lacks {entry.path}")
        if len(data) > entry.length:
            raise _endless(entry.path, entry.length)
        try:
            entry.verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise Refusal(
                f"cannot accept {entry.path}: its bytes are not the signed ones", code="arbitrary-software"
            ) from error
        return data

    def sync(self) -> None:
        """Return when the cache is on disk: the library renames its files into place unsynced."""
        for folder in (self._dir, self._dir / "root_history"):
            for name in self._files.listdir(folder):
                if name.endswith(".json"):
                    self._files.sync_file(folder / name)
            self._files.sync_dir(folder)


def verify(request: VerifyRequest, fetch: Fetch, files: Files | None = None) -> VerifyResult:
    """Return what this host may run; Refusal with the attack's name, or Unavailable where a file could not be had."""
    now = guard.effective_time(request.now_unix_ms, request.time_floor_unix_ms)
    envelope = decode_envelope(request.envelope)
    repository = Repository(request, fetch, files or Files(), now)
    director = director_keys(repository.targets)
    payload = dsse.verify(envelope, dsse.MANIFEST_TYPE, director)
    manifest = decode_manifest(payload)
    floor = ManifestFloor(manifest.sequence, hashlib.sha256(payload).digest(), frozenset(director.keys))
    _accept(request, manifest, floor, nonce=_nonce(request, director, now), now=now)
    if manifest.min_snapshot_version > repository.snapshot_version:
        raise Refusal(
            f"cannot accept the manifest: it stands on snapshot {manifest.min_snapshot_version}, the server shows "
            f"{repository.snapshot_version}",
            code="mix-and-match",
        )
    verdicts = [_app(request, repository, desired) for desired in manifest.apps]
    ahead = [_app(request, repository, desired) for desired in manifest.prefetch]
    repository.sync()
    return VerifyResult(
        manifest=payload,
        apps=tuple(verdict for verdict in verdicts if isinstance(verdict, AdmittedApp)),
        refused=tuple(verdict for verdict in verdicts if isinstance(verdict, RefusedApp)),
        prefetch=tuple(verdict for verdict in ahead if isinstance(verdict, AdmittedApp)),
        prefetch_refused=tuple(verdict for verdict in ahead if isinstance(verdict, RefusedApp)),
        role_floors=guard.raise_floors(repository.facts, request.role_floors),
        manifest_floor=floor,
        director=director,
        expires_unix_ms=guard.earliest_expiry(repository.facts),
        time_floor_unix_ms=guard.raise_time_floor(
            request.time_floor_unix_ms, request.now_unix_ms, manifest.issued_unix_ms
        ),
    )


def _nonce(request: VerifyRequest, director: dsse.Keys, now: int) -> bytes | None:
    """Return what the manifest has to answer: the host's own request, or the id of the bundle that it is out of."""
    if not request.bundle:
        return request.nonce
    said = statement.decode(dsse.verify(decode_envelope(request.bundle), statement.TYPE, director))
    statement.check_lapse(said, now)
    return said.nonce


def _accept(request: VerifyRequest, manifest: Manifest, floor: ManifestFloor, *, nonce: bytes | None, now: int) -> None:
    try:
        accept(
            manifest,
            floor.payload_sha256,
            facts=request.facts,
            nonce=nonce,
            floor=request.manifest_floor,
            director_keys=floor.director_keys,
            now_unix_ms=now,
            offline=bool(request.bundle),
        )
    except InputError as error:
        raise Refusal(f"cannot accept the manifest: {_short(error)}", code="garbled") from error


def _app(request: VerifyRequest, repository: Repository, desired: DesiredApp) -> AdmittedApp | RefusedApp:
    """Return the verdict over one app; Unavailable where it cannot be told now."""
    try:
        entry = repository.resolve(desired)
        _check_equal(entry, desired)
        data = repository.release(entry)
        release = check_release(decode_release(data))
        floor = request.release_floors.get(desired.app, 0)
        return AdmittedApp(desired, data, admit_release(release, desired, facts=request.facts, floor=floor))
    except Refusal as refusal:
        return RefusedApp(desired, refusal.code, str(refusal))
    except InputError as error:
        return RefusedApp(desired, error.code, f"cannot accept {desired.app} {desired.version}: {_short(error)}")


def _check_equal(entry: TargetFile, desired: DesiredApp) -> None:
    """Refuse where the director names other bytes, or another counter, than the publisher signed."""
    custom = entry.custom if isinstance(entry.custom, dict) else {}
    if (
        entry.length != desired.release_size
        or entry.hashes.get("sha256") != desired.release_sha256.hex()
        or custom.get("release_counter") != desired.counter
    ):
        raise Refusal(
            f"cannot accept {desired.target_path}: the manifest names another release than its publisher signed",
            code="mix-and-match",
        )
