"""A simulated host whose releases are trees of some files, and whose server has deltas between them."""

import functools
import random
from collections.abc import Mapping
from pathlib import Path

import zstandard

from fakes.deltas import make
from fakes.host import SimulatedHost
from towpath.index import objects
from towpath.release import Release
from towpath.wire import decode_index

RANDOM = random.Random(11)
SHARED = RANDOM.randbytes(200_000)
OLD: Mapping[str, bytes] = {"data": SHARED, "same": b"as it was", "words": b"words of the old release\n" * 500}
NEW: Mapping[str, bytes] = {
    "data": SHARED[50_000:] + b"and some more",
    "empty": b"",
    "moved-words": b"words of the new release\n" * 500,
    "same": b"as it was",
}


@functools.cache
def _made(old: tuple[bytes, ...], new: tuple[bytes, ...]) -> bytes:
    return make(old, new, index_last=True)


class DeltaHost:
    """It runs 1.0.0; 2.0.0 is published."""

    def __init__(self, folder: Path) -> None:
        self.host = SimulatedHost(folder)
        self.old = self.host.publish("1.0.0", files=OLD)
        self.new = self.host.publish("2.0.0", files=NEW)
        self.host.assign(self.old)
        self.host.boot()
        self.host.settle()
        self.host.run(120)  # past probation
        self.host.server.fetches.clear()
        self.host.server.sent_bytes = 0

    @property
    def pair(self) -> tuple[bytes, bytes]:
        return self.old.artifact.index_sha256, self.new.artifact.index_sha256

    def contents(self, release: Release) -> dict[bytes, bytes]:
        """Every object of a release by its digest, in the order of a delta."""
        index = self._carried(release.artifact.index_sha256)
        digests = [*objects(decode_index(index)), release.artifact.index_sha256]
        return {digest: self._carried(digest) for digest in digests}

    def _carried(self, digest: bytes) -> bytes:
        return zstandard.ZstdDecompressor().decompress(self.host.server.carried[digest])

    def delta(self) -> bytes:
        """What leads from 1.0.0 to 2.0.0."""
        old = self.contents(self.old)
        new = [it for digest, it in self.contents(self.new).items() if digest not in old]
        return _made(tuple(old.values()), tuple(new))

    def offer(self, data: bytes) -> None:
        """Let the server have `data` for a delta."""
        self.host.server.deltas[self.pair] = data

    def upgrade(self) -> None:
        """Let the server want 2.0.0, and run until nothing moves."""
        self.host.assign(self.new, generation=2)
        self.host.settle()

    @property
    def asked(self) -> list[str]:
        """The kinds of what was asked of the store's objects, in order."""
        return [want.kind for wants in self.host.server.fetches for want in wants if want.kind in ("object", "delta")]

    def left(self) -> list[str]:
        """What lies in the folder of deltas."""
        folder = self.host.folder / "store" / "deltas"
        return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []

    def notes(self) -> list[str]:
        """The codes of what the host told beside transitions."""
        return [event.code for event in self.host.server.events.values() if event.kind == "note"]
