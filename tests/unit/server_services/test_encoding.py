"""Making deltas costs nothing where it would come to nothing: a disk that is full, and what failed a moment ago."""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard

from fakes.deciding import SetClock, deciding
from fakes.live_server import eventually
from fakes.memory_server import MemoryBlobs
from towpath.errors import Broken
from towpath.index import Entry, EntryType
from towpath.release import Artifact, Install, Release, Run
from towpath.wire import encode_index
from towpath_server.deltamaker import DeltaMaker
from towpath_server.deltas.pairing import Pairing
from towpath_server.deltas.process import Allowance, Maker
from towpath_server.domain.deltas import Pair
from towpath_server.domain.manifests import KnownRelease
from towpath_server.services import encoding
from towpath_server.services.context import Need
from towpath_server.services.encoding import RESTING_MS, Budget, Job, Resting
from towpath_server.services.thread import StorageThread
from towpath_server.storage import FolderDeltas

WAIT_S = 30.0
BUDGET = Budget(2**31, 2**32)
OTHER = Pair(b"x" * 32, b"y" * 32)
ONE = random.Random(3).randbytes(100_000)


def known(blobs: MemoryBlobs, version: str, content: bytes) -> KnownRelease:
    """A release of one file, uploaded."""
    entries = [Entry("bin/serve", EntryType.FILE, 0o755, len(content), hashlib.sha256(content).digest())]
    index = encode_index(entries)
    for data in (content, index):
        blobs.carried[hashlib.sha256(data).digest()] = zstandard.ZstdCompressor().compress(data)
    artifact = Artifact(hashlib.sha256(index).digest(), len(index), len(content))
    release = Release("hello", version, 1, artifact, Install("tree"), Run("process", command=("bin/serve",)))
    return KnownRelease(release, b"r" * 32, 100)


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def job(blobs: MemoryBlobs) -> Job:
    old, new = known(blobs, "1.0.0", ONE), known(blobs, "1.1.0", ONE + b"what is new")
    return Job(Pair(old.release.artifact.index_sha256, new.release.artifact.index_sha256), old, new)


class CountingMaker:
    """`deltas.process.Maker` that makes the same few bytes."""

    def __init__(self) -> None:
        self.begun = 0

    def make(self, _pairing: Pairing, write: Callable[[bytes], None], **_limits: int) -> str:
        self.begun += 1
        write(b"a delta")
        return ""


def make(blobs: MemoryBlobs, deltas: FolderDeltas, maker: CountingMaker, job: Job) -> str:
    return encoding.make(cast("Any", blobs), deltas, cast("Maker", maker), job, BUDGET)


def test_nothing_is_begun_that_the_disk_has_no_room_for(
    blobs: MemoryBlobs, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both releases are unpacked meanwhile. It is no verdict on the delta: with room it is made."""
    deltas, maker = FolderDeltas(tmp_path), CountingMaker()
    unpacked = sum(it.release.artifact.index_size + it.release.artifact.tree_size for it in (job.old, job.new))
    assert deltas.room() > 2**20
    with monkeypatch.context() as patch:
        patch.setattr(deltas, "room", lambda: unpacked)
        with pytest.raises(Broken, match=rf"bytes of disk, and {unpacked} are free; make room"):
            make(blobs, deltas, maker, job)
    assert maker.begun == 0
    assert deltas.refusal(job.pair) == ""
    assert not list((tmp_path / "incoming").iterdir())
    assert make(blobs, deltas, maker, job).startswith("7 bytes instead of")
    assert (maker.begun, deltas.size(job.pair)) == (1, 7)


def test_a_pair_rests_after_a_failure_and_no_other_does() -> None:
    """For so long, from the last one; what is over is forgotten."""
    resting, pair = Resting(), Pair(b"o" * 32, b"n" * 32)
    resting.failed(pair, 1000.0)
    assert resting.rests(pair, 1000.0 + RESTING_MS - 1)
    assert not resting.rests(OTHER, 1000.0)
    assert not resting.rests(pair, 1000.0 + RESTING_MS)
    resting.failed(OTHER, 1000.0 + RESTING_MS)
    assert list(resting._until_ms) == [OTHER]


@pytest.mark.parametrize("error", [Broken("cannot keep a delta: No space left on device"), ValueError("a mistake")])
def test_asks_start_nothing_while_what_failed_rests(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """A host asks at each of its attempts; each cost ten minutes of CPU. Later it is tried again."""
    clock = SetClock()
    context = deciding(cast("Any", None), clock)
    context.deltas = FolderDeltas(tmp_path)
    looked: list[Need] = []
    begun: list[Pair] = []

    def jobs(_context: object, need: Need) -> list[Job]:
        looked.append(need)
        return [job] if need.app == "hello" else []

    def fail(_blobs: object, _deltas: object, _maker: object, one: Job, _budget: object) -> str:
        begun.append(one.pair)
        raise error

    monkeypatch.setattr(encoding, "at_start", lambda _context: None)
    monkeypatch.setattr(encoding, "jobs", jobs)
    monkeypatch.setattr(encoding, "make", fail)
    caplog.set_level(logging.WARNING)

    async def run() -> None:
        thread = StorageThread()
        maker = DeltaMaker(context, thread, Allowance(60, tmp_path), BUDGET)
        task = asyncio.create_task(maker.run())

        async def ask() -> None:
            """Ask, and return when it was looked at and all that came of it is over."""
            count = len(looked) + 2
            context.needs.ask(Need("hello", "1.1.0", job.pair.old))
            context.needs.ask(Need("last", "1.0.0"))
            await asyncio.to_thread(eventually, lambda: len(looked) >= count, "it is looked at", WAIT_S)

        try:
            for _ in range(5):
                await ask()
            assert begun == [job.pair]
            clock.now += int(RESTING_MS)
            await ask()
            assert begun == [job.pair] * 2
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            maker.close()
            thread.close()

    asyncio.run(run())
    lines = [one for one in caplog.records if "hello 1.0.0 to 1.1.0; hosts take its objects" in one.getMessage()]
    assert [bool(one.exc_info) for one in lines] == [not isinstance(error, Broken)] * 2
