"""Bundles as an honest or a lying server would make them: every key at hand, every member in reach of a test."""

import hashlib
import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import zstandard

from fakes.host import SimulatedHost
from fakes.repository import RepositorySimulator, make_release, seal
from towpath.bundle import layout, statement
from towpath.bundle.checking import Checked, check
from towpath.bundle.statement import Carried, For, Statement, listed
from towpath.index import Entry, EntryType
from towpath.manifest import OFFLINE_FEATURE, HostFacts, Manifest
from towpath.names import target_path
from towpath.release import Artifact, Release
from towpath.repository import to_time
from towpath.wire import encode_index

NOW = 1_800_000_000_000
DAY_MS = 86_400_000
ID = b"i" * 16
FACTS = HostFacts("host-1", b"k" * 32, "dev", "linux/amd64")
RANDOM = random.Random(39)
OLD = {"a": b"common " * 300, "b": RANDOM.randbytes(2_000)}
NEW = {"a": OLD["a"], "b": RANDOM.randbytes(2_000), "c": b"", "d": RANDOM.randbytes(900_000)}


def carried(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree(files: Mapping[str, bytes]) -> bytes:
    """The index of a tree of these files."""
    entries = [Entry(name, EntryType.FILE, 0o644, len(files[name]), sha256(files[name])) for name in sorted(files)]
    return encode_index(entries)


@dataclass
class BundleMaker:
    """A bundle of hello 1.1.0 for one host. Change `members`, `said` or `manifest`, then take `bytes()`."""

    since: tuple[str, ...] = ()
    delta: bytes = b""
    valid_ms: int = 14 * DAY_MS
    life_ms: int = 60 * DAY_MS
    members: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Publish both releases, and gather what a server would."""
        self.sim = RepositorySimulator(NOW)
        self.releases = {version: self._release(version, files) for version, files in (("1.0.0", OLD), ("1.1.0", NEW))}
        for release in self.releases.values():
            self.sim.publish_release(release)
        for role in (self.sim.snapshot, self.sim.timestamp):
            role.expires = to_time(NOW + self.life_ms)
        self.sim.serve_online()
        self.root = self.sim.bootstrap
        names = ["1.1.0", *self.since]
        for name, data in sorted(self.sim.served.items()):
            if layout.VERSION and self._is_newest(name):
                self.members[f"metadata/{name}"] = data
        for version in sorted(names):
            path = target_path("hello", version)
            self.members[f"releases/{path}"] = self.sim.releases[path]
        self.members[f"manifests/{FACTS.host_id}"] = b""
        for version in sorted(names):
            index = tree(self.files(version))
            self.members[f"indexes/{sha256(index).hex()}"] = carried(index)
        if self.delta:
            old, new = (self.releases[version].artifact.index_sha256.hex() for version in ("1.0.0", "1.1.0"))
            self.members[f"deltas/{old}/{new}"] = self.delta
        else:
            had = {sha256(data) for version in self.since for data in self.files(version).values()}
            contents = {sha256(data): data for data in NEW.values() if sha256(data) not in had}
            self.objects = {f"objects/{digest.hex()}": carried(contents[digest]) for digest in sorted(contents)}

    @staticmethod
    def files(version: str) -> Mapping[str, bytes]:
        return NEW if version == "1.1.0" else OLD

    def _release(self, version: str, files: Mapping[str, bytes]) -> Release:
        index = tree(files)
        artifact = Artifact(sha256(index), len(index), sum(map(len, files.values())))
        return replace(make_release("hello", version, 2 if version == "1.1.0" else 1), artifact=artifact)

    def _is_newest(self, name: str) -> bool:
        role, _, _ = name.removesuffix(".json").rpartition(".")
        newest = {"snapshot": self.sim.snapshot.version, "targets": self.sim.targets.version}
        of = name.split(".")[1]
        if name == "timestamp.json" or of == "root":
            return True
        if of == "app-hello":
            return int(role or name.split(".", maxsplit=1)[0]) == self.sim.apps["hello"].version
        return int(name.split(".", maxsplit=1)[0]) == newest[of]

    def sign_manifest(self) -> None:
        """Sign the host's manifest, with what a test changed of it."""
        desired = self.sim.desire(self.releases["1.1.0"])
        manifest = Manifest(
            host_id=FACTS.host_id,
            host_key_sha256=FACTS.host_key_sha256,
            sequence=100,
            issued_unix_ms=NOW,
            expires_unix_ms=NOW + self.valid_ms,
            nonce=ID,
            min_snapshot_version=self.sim.snapshot.version,
            environment=FACTS.environment,
            apps=(desired,),
            critical=(OFFLINE_FEATURE,),
        )
        name = f"manifests/{FACTS.host_id}"
        if self.members.get(name) == b"":
            self.members[name] = self.sim.sign(replace(manifest, **self.manifest))

    def statement(self) -> Statement:
        """What it says of itself."""
        usual: dict[str, Any] = {
            "id": ID.hex(),
            "created_unix_ms": NOW,
            "valid_until_unix_ms": NOW + self.valid_ms,
            "created_by": "operator/ana",
            "hosts": (For(FACTS.host_id, "h1", "dev"),),
            "releases": (Carried("hello", "1.1.0", self.since),),
            "members": tuple(listed(name, data) for name, data in self.members.items()),
            "objects": len(self.objects),
            "object_bytes": sum(map(len, self.objects.values())),
        }
        return Statement(**{**usual, **self.said})

    def head(self) -> bytes:
        """The signed statement."""
        return seal(statement.encode(self.statement()), self.sim.signers["director"], statement.TYPE)

    def bytes(self) -> bytes:
        """The file."""
        self.sign_manifest()
        return pack({layout.STATEMENT: self.head(), **self.members, **self.objects})


def carry(
    host: SimulatedHost,
    path: Path,
    *releases: Release,
    deltas: Mapping[tuple[bytes, bytes], bytes] = {},
    objects: bool = True,
    generation: int = 2,
    valid_ms: int = 14 * DAY_MS,
    said: Mapping[str, Any] = {},
    **manifest: Any,
) -> Path:
    """Write a bundle of a simulated host's own server: what it would say now, and all that it holds."""
    now = host.clock.now_unix_ms()
    host.sim.sequence = max(host.sim.sequence, now)
    apps = [host.sim.desire(it, generation=generation) for it in releases]
    usual = {"nonce": ID, "critical": (OFFLINE_FEATURE,), "expires_unix_ms": now + valid_ms, "issued_unix_ms": now}
    envelope = host.sim.sign(host.sim.manifest(host.facts, apps, **{**usual, **manifest}))
    members = {f"metadata/{name}": data for name, data in sorted(host.sim.served.items())}
    members |= {f"releases/{name}": host.sim.releases[name] for name in sorted(host.sim.releases)}
    members[f"manifests/{host.facts.host_id}"] = envelope
    for (old, new), data in deltas.items():
        members[f"deltas/{old.hex()}/{new.hex()}"] = data
    if objects:
        members |= {f"objects/{digest.hex()}": host.server.carried[digest] for digest in sorted(host.server.carried)}
    statement_ = Statement(
        **{
            "id": ID.hex(), "created_unix_ms": now, "valid_until_unix_ms": now + valid_ms, "created_by": "operator/ana",
            "hosts": (For(host.facts.host_id, "h1", "dev"),), "releases": (), "members": (), "objects": 0,
            "object_bytes": 0, **said,
        }
    )  # fmt: skip
    head = seal(statement.encode(statement_), host.sim.signers["director"], statement.TYPE)
    path.write_bytes(pack({layout.STATEMENT: head, **members}))
    return path


def pack(members: Mapping[str, bytes]) -> bytes:
    """The tar of these members."""
    out = io.BytesIO()
    for name, data in members.items():
        out.write(layout.header(name, len(data)) + data + bytes(layout.padding(len(data))))
    out.write(layout.END)
    return out.getvalue()


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda at, size: data[at : at + size]


def proven(data: bytes, root: bytes, *, now: int = NOW + 1000, host_id: str = "") -> Checked:
    """Check the bytes of a bundle."""
    return check(reader(data), len(data), root=root, now_unix_ms=now, host_id=host_id)


def bomb(size: int = 64 * 2**20) -> bytes:
    """A few bytes that expand to very many."""
    return zstandard.ZstdCompressor(level=19).compress(bytes(size))
