"""A publisher and a server in memory, with every key at hand: signs on demand what an honest or a lying party would.

Honest use: `publish` releases, then `verify` envelopes of `manifest` with `fetch`. To lie, change `served` (what a fetch
returns), take roles and keys apart, sign with `sign_role`. Everything is real TUF and DSSE bytes. Passes the check that
a real server passes (`check_repository`), see tests/scenarios/trust/test_simulator.py.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from towpath import dsse
from towpath.errors import Unavailable
from towpath.manifest import DesiredApp, HostFacts, Manifest, ManifestFloor
from towpath.names import app_role, target_path
from towpath.release import Artifact, Install, Release, Run
from towpath.repository import (
    APP_MS,
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
from towpath.wire import encode_envelope, encode_manifest, encode_release
from towpath_agent.trust.model import VerifyRequest, VerifyResult
from towpath_agent.trust.verifier import verify

TOPS = ("root", "targets", "snapshot", "timestamp")
HOUR_MS = 3_600_000


def new_signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def make_release(app: str, version: str, counter: int, **fields: Any) -> Release:
    artifact = Artifact(hashlib.sha256(f"{app} {version}".encode()).digest(), 100, 1000)
    return Release(app, version, counter, artifact, Install("tree"), Run("none"), **fields)


class RepositorySimulator:
    """One fleet's repository and director."""

    def __init__(self, now_ms: int, *, targets_threshold: int = 1) -> None:
        self.now_ms = now_ms
        names = ("root", "snapshot", "timestamp", DIRECTOR, "releases")
        self.signers: dict[str, list[CryptoSigner]] = {name: [new_signer()] for name in names}
        self.signers["targets"] = [new_signer() for _ in range(targets_threshold)]
        self.app_signers: dict[str, list[CryptoSigner]] = {}
        self.served: dict[str, bytes] = {}
        self.releases: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.sequence = 0
        self.root = Root(expires=to_time(now_ms + ROOT_MS), consistent_snapshot=True)
        for role in TOPS:
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
            self.root.roles[role].threshold = len(self.signers[role])
        self.apps: dict[str, Targets] = {}
        self.listed: dict[str, tuple[int, bytes]] = {}
        self.targets = Targets(expires=to_time(now_ms + TARGETS_MS), delegations=Delegations({}, {}))
        self.targets.version = 0
        self._delegate(DIRECTOR, DIRECTOR_PATH, self.signers[DIRECTOR], 1)
        self.snapshot = Snapshot(expires=to_time(now_ms + SNAPSHOT_MS), meta={})
        self.snapshot.version = 0
        self.timestamp = Timestamp(expires=to_time(now_ms + TIMESTAMP_MS))
        self.timestamp.version = 0
        self.serve_root()
        self.bootstrap = self.served["1.root.json"]
        self.serve_targets()
        self.serve_online()

    # The publisher

    def _delegate(self, role: str, path: str, signers: Sequence[CryptoSigner], threshold: int) -> None:
        delegations = self.targets.delegations
        assert delegations is not None
        assert delegations.roles is not None
        keyids = [signer.public_key.keyid for signer in signers]
        delegations.roles[role] = DelegatedRole(role, keyids, threshold, terminating=True, paths=[path])
        delegations.keys |= {signer.public_key.keyid: signer.public_key for signer in signers}

    def delegate_app(self, app: str, *, signers: Sequence[CryptoSigner] | None = None, threshold: int = 1) -> None:
        self.app_signers[app] = list(signers or self.signers["releases"])
        self._delegate(app_role(app), f"{app}/*", self.app_signers[app], threshold)

    def publish(self, app: str, version: str, counter: int, *, serve: bool = True, **fields: Any) -> Release:
        """Sign a release and serve it with everything above it."""
        return self.publish_release(make_release(app, version, counter, **fields), serve=serve)

    def publish_release(self, release: Release, *, serve: bool = True) -> Release:
        """Sign this very release and serve it with everything above it."""
        app = release.app
        new = app not in self.apps
        if new:
            if app not in self.app_signers:
                self.delegate_app(app)
            self.apps[app] = Targets(expires=to_time(self.now_ms + APP_MS))
            self.apps[app].version = 0
        self.add_target(self.apps[app], release)
        if serve:
            self.serve_app(app)
            if new:
                self.serve_targets()
            self.serve_online()
        return release

    def add_target(self, role: Targets, release: Release) -> None:
        data = encode_release(release)
        path = target_path(release.app, release.version)
        entry = TargetFile.from_data(path, data, ["sha256"])
        entry.unrecognized_fields["custom"] = {
            "release_counter": release.counter,
            "rollback_floor": release.rollback_floor,
            "platforms": list(release.platforms),
            "environments": list(release.environments),
        }
        role.targets[path] = entry
        self.releases[path] = data

    def serve_root(self, *, also: Sequence[CryptoSigner] = ()) -> None:
        self.served[file_name("root", self.root.version)] = sign_role(self.root, [*self.signers["root"], *also])

    def next_root(self, *, also: Sequence[CryptoSigner] = ()) -> None:
        self.root.version += 1
        self.serve_root(also=also)

    def rotate(self, role: str) -> list[CryptoSigner]:
        """Give a top-level role or the director a new key, and sign what that needs; return the old signers."""
        old, self.signers[role] = self.signers[role], [new_signer() for _ in self.signers[role]]
        if role == DIRECTOR:
            self._delegate(DIRECTOR, DIRECTOR_PATH, self.signers[DIRECTOR], 1)
            self.serve_targets()
        else:
            for signer in old:
                self.root.revoke_key(signer.public_key.keyid, role)
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
            self.next_root(also=old if role == "root" else ())
            if role == "targets":
                self.serve_targets()
        self.serve_online()
        return old

    def serve_targets(self) -> None:
        self._serve("targets", self.targets, self.signers["targets"])

    def serve_app(self, app: str) -> None:
        self._serve(app_role(app), self.apps[app], self.app_signers[app])

    def _serve(self, name: str, role: Targets, signers: Sequence[CryptoSigner]) -> None:
        role.version += 1
        data = sign_role(role, signers)
        self.served[file_name(name, role.version)] = data
        self.listed[name] = (role.version, data)

    # The server

    def serve_online(self, *, snapshot: int | None = None, timestamp: int | None = None) -> None:
        """Sign the next snapshot and timestamp, or those versions, over what is listed."""
        self.snapshot.version = self.snapshot.version + 1 if snapshot is None else snapshot
        self.snapshot.meta = {f"{name}.json": meta_file(version, data) for name, (version, data) in self.listed.items()}
        self.serve_snapshot()
        self.serve_timestamp(timestamp)

    def serve_snapshot(self) -> None:
        data = sign_role(self.snapshot, self.signers["snapshot"])
        self.served[file_name("snapshot", self.snapshot.version)] = data
        self.timestamp.snapshot_meta = meta_file(self.snapshot.version, data)

    def serve_timestamp(self, version: int | None = None) -> None:
        self.timestamp.version = self.timestamp.version + 1 if version is None else version
        self.served["timestamp.json"] = sign_role(self.timestamp, self.signers["timestamp"])

    def fetch(self, kind: str, name: str) -> bytes | None:
        self.asked.append((kind, name))
        return (self.served if kind == "metadata" else self.releases).get(name)

    # The director

    def desire(self, release: Release, **fields: Any) -> DesiredApp:
        data = encode_release(release)
        desired = DesiredApp(
            release.app, release.version, hashlib.sha256(data).digest(), len(data), release.counter, generation=1
        )
        return replace(desired, **fields)

    def manifest(self, facts: HostFacts, apps: Sequence[DesiredApp] = (), **fields: Any) -> Manifest:
        self.sequence += 1
        manifest = Manifest(
            host_id=facts.host_id,
            host_key_sha256=facts.host_key_sha256,
            sequence=self.sequence,
            issued_unix_ms=self.now_ms,
            expires_unix_ms=self.now_ms + 24 * HOUR_MS,
            nonce=b"n" * 16,
            min_snapshot_version=self.snapshot.version,
            environment=facts.environment,
            apps=tuple(apps),
        )
        return replace(manifest, **fields)

    def sign(self, manifest: Manifest, signers: Sequence[CryptoSigner] | None = None) -> bytes:
        return seal(encode_manifest(manifest), self.signers[DIRECTOR] if signers is None else signers)


def seal(payload: bytes, signers: Sequence[CryptoSigner], payload_type: str = dsse.MANIFEST_TYPE) -> bytes:
    """Return a serialized envelope."""

    def maker(signer: CryptoSigner) -> Callable[[bytes], bytes]:
        return lambda message: bytes.fromhex(signer.sign(message).signature)

    return encode_envelope(dsse.sign(payload, payload_type, [(it.public_key.keyid, maker(it)) for it in signers]))


def copy_of(signed: Signed) -> Any:
    """Return an independent copy of a role."""
    return type(signed).from_dict(signed.to_dict())


class SimulatedHost:
    """A host's memory of trust: cache, floors, clock. `take` verifies as the agent does, and keeps what it learnt."""

    def __init__(self, folder: Path, sim: RepositorySimulator) -> None:
        self.sim = sim
        self.folder = folder / "metadata"
        self.facts = HostFacts("host-1", b"k" * 32, "dev", "linux/amd64")
        self.now_ms = sim.now_ms
        self.time_floor_ms = 0
        self.manifest_floor = ManifestFloor()
        self.role_floors: Mapping[str, int] = {}
        self.release_floors: dict[str, int] = {}

    def request(self, envelope: bytes, nonce: bytes | None = b"n" * 16) -> VerifyRequest:
        return VerifyRequest(
            metadata_dir=str(self.folder),
            root=self.sim.bootstrap,
            envelope=envelope,
            nonce=nonce,
            facts=self.facts,
            manifest_floor=self.manifest_floor,
            role_floors=self.role_floors,
            release_floors=self.release_floors,
            now_unix_ms=self.now_ms,
            time_floor_unix_ms=self.time_floor_ms,
        )

    def take(self, envelope: bytes | None = None, *releases: Release) -> VerifyResult:
        """Verify an envelope, or a fresh one over `releases`, and keep the floors."""
        if envelope is None:
            envelope = self.sim.sign(self.sim.manifest(self.facts, [self.sim.desire(it) for it in releases]))
        result = verify(self.request(envelope), self.sim.fetch)
        self.keep(result)
        return result

    def keep(self, result: VerifyResult) -> None:
        self.manifest_floor = result.manifest_floor
        self.role_floors = result.role_floors
        self.time_floor_ms = result.time_floor_unix_ms

    def lose_cache(self, *, truncated: bool) -> None:
        """Leave what a power cut leaves of files that were renamed into place unsynced: nothing, or empty files."""
        for path in sorted(self.folder.rglob("*.json")):
            if truncated and not path.is_symlink():
                path.write_bytes(b"")
            else:
                path.unlink(missing_ok=True)


def unreachable(_kind: str, _name: str) -> bytes | None:
    raise Unavailable("cannot reach the server: connection refused")
