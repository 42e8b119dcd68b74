"""A delta comes, is kept where it is cut off, is applied when it is whole, and is remembered where it is wrong."""

import errno
import hashlib
import random
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.deltas import delta, difference, frame, make, named, steps
from fakes.server import FakeServer
from towpath.delta.frame import Extent
from towpath.delta.layout import Kind
from towpath.errors import Refusal, Unavailable
from towpath_agent.engine.maxrate import parse_max_rate
from towpath_agent.errors import DiskError
from towpath_agent.ports import CHUNK_BYTES, Chunk, Want
from towpath_agent.store.deltas import Bounds, Pair, Taken
from towpath_agent.store.objects import Store
from towpath_agent.system.files import Files
from towpath_agent.transport.throttle import Throttle

RANDOM = random.Random(5)
OLD = [RANDOM.randbytes(700_000), b"the old index"]
NEW = [OLD[0][300_000:] + RANDOM.randbytes(600_000), b"the new index"]
BASE = named(OLD)
INDEX = hashlib.sha256(NEW[-1]).digest()
PAIR = Pair(BASE[-1][0], INDEX, BASE)
LIMIT = sum(map(len, NEW))
DELTA = make(OLD, NEW, index_last=True)


class Host:
    """A store that has the old objects, and a server that has a delta."""

    def __init__(self, root: Path, data: bytes | None = DELTA) -> None:
        self.root = root
        self.server = FakeServer()
        if data is not None:
            self.server.deltas[PAIR.old, PAIR.new] = data
        self.start()
        for content, (digest, _) in zip(OLD, BASE, strict=True):
            self.store.path(digest).write_bytes(content)

    def start(self, files: Files | None = None, throttle: Throttle | None = None) -> None:
        """Begin anew on what is on disk, as an agent that was restarted."""
        self.store = Store(self.root, files or Files(), throttle.over if throttle else lambda source: source)

    def take(self, interrupted: Callable[[], bool] = lambda: False) -> Taken:
        def lacking() -> int:
            return len(self.store.missing(dict(named(NEW))))

        return self.store.deltas.take(PAIR, self.server, Bounds(LIMIT, LIMIT), lacking=lacking, interrupted=interrupted)

    @property
    def left(self) -> list[str]:
        folder = self.root / "deltas"
        return sorted(path.name.removeprefix(PAIR.name) for path in folder.iterdir()) if folder.exists() else []

    def made(self) -> bool:
        """Whether everything that the delta makes is here, and what its name says."""
        return not self.store.missing(dict(named(NEW))) and all(self.store.read(*it) for it in named(NEW))


def test_a_delta_makes_the_new_objects_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Asked for by the digests of both indexes, once, from the first byte."""
    host = Host(tmp_path)
    assert host.take() is Taken.APPLIED
    assert host.made()
    assert host.left == []
    ((want,),) = host.server.fetches
    assert (want.kind, want.base, want.digest, want.offset) == ("delta", PAIR.old, PAIR.new, 0)


def test_without_a_delta_nothing_is_here_and_nothing_is_told(tmp_path: Path) -> None:
    """A server that has none, and one that is too old to know of any."""
    host = Host(tmp_path, None)
    assert host.take() is Taken.NONE
    host.server.knows_deltas = False
    assert host.take() is Taken.NONE
    assert host.left == []


def test_a_cut_fetch_goes_on_at_its_byte_in_another_agent(tmp_path: Path) -> None:
    """Each cut brings some bytes more, none of them twice, until it is whole."""
    host = Host(tmp_path)
    for cut in range(1, 4):
        host.server.cut_after = 100_000 + cut
        host.start()
        with pytest.raises(Unavailable):
            host.take()
        assert host.left == [""]
    host.server.cut_after = None
    host.start()
    assert host.take() is Taken.APPLIED
    assert host.server.sent_bytes == len(DELTA)
    assert [want.offset for (want,) in host.server.fetches] == [0, 100_001, 200_003, 300_006]
    assert host.made()


def test_a_line_that_breaks_before_the_first_byte_leaves_it_to_the_objects(tmp_path: Path) -> None:
    """What cannot bring one byte of a delta must not keep a host from its release."""
    host = Host(tmp_path)
    host.server.cut_after = 0
    assert host.take() is Taken.NONE
    host.server.unreachable = True
    assert host.take() is Taken.NONE


def test_an_interruption_keeps_what_came(tmp_path: Path) -> None:
    """While bytes come, and while they are applied: the next attempt asks for what is missing and no more."""
    host = Host(tmp_path)
    asked = iter([False, True])
    assert host.take(interrupted=lambda: next(asked)) is Taken.INTERRUPTED
    came = (tmp_path / "deltas" / PAIR.name).stat().st_size
    assert 0 < came < len(DELTA)
    pieces = iter([False, False, False, False, False, True])
    assert host.take(interrupted=lambda: next(pieces)) is Taken.INTERRUPTED
    assert host.left == [""]
    assert host.take() is Taken.APPLIED
    assert host.server.sent_bytes == len(DELTA)
    assert host.made()


@pytest.mark.parametrize("damage", ["flipped", "longer", "much longer", "of another delta"])
def test_damaged_leftovers_are_dropped_and_fetched_again(tmp_path: Path, damage: str) -> None:
    """What was kept and is wrong is no fault of the server: once more from the first byte, and nothing is told."""
    host = Host(tmp_path)
    (tmp_path / "deltas").mkdir()
    kept = {
        "flipped": DELTA[:40_000] + bytes([DELTA[40_000] ^ 1]) + DELTA[40_001:500_000],
        "longer": DELTA + b"!",
        "much longer": bytes(LIMIT + 1),
        "of another delta": make(OLD[1:], NEW, index_last=True)[: len(DELTA) // 2],
    }[damage]
    (tmp_path / "deltas" / PAIR.name).write_bytes(kept)
    assert host.take() is Taken.APPLIED
    assert host.made()
    assert host.left == []


WRONG = {
    "corrupt-delta garbled": DELTA[:40_000] + bytes([DELTA[40_000] ^ 1]) + DELTA[40_001:],
    "corrupt-delta cut off": DELTA[:-10],
    "corrupt-delta no delta": RANDOM.randbytes(1000),
    "corrupt-delta empty": b"",
    "corrupt-delta another release": make(OLD, [NEW[0], b"another index"], index_last=True),
    "wrong-base other objects": make([OLD[0], b"another index"], NEW, index_last=True),
    "endless-data makes too much": make(OLD, [*NEW, bytes(2_000_000)]),
    "endless-data carried in too much": bytes(LIMIT + 1),
    "endless-data frames without end": delta(
        OLD, [100, 13], *[frame(1, Kind.DIFF, difference([Extent(2, 6)], steps((1, 0, 0))))] * 113
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_delta_is_refused_by_name_and_not_asked_for_again(tmp_path: Path, name: str) -> None:
    """By this agent and the next one; its bytes are gone."""
    host = Host(tmp_path, WRONG[name])
    with pytest.raises(Refusal) as caught:
        host.take()
    assert caught.value.code == name.partition(" ")[0]
    assert "fetched whole" in str(caught.value)
    assert host.left == [".refused"]
    host.start()
    asked = len(host.server.fetches)
    assert host.take() is Taken.NONE
    assert len(host.server.fetches) == asked


@pytest.mark.parametrize("promise", [1000, len(DELTA) - 1, len(DELTA) + 1, LIMIT])
def test_a_server_that_lies_about_the_size_is_found_out(tmp_path: Path, promise: int) -> None:
    """More bytes than it promised, or fewer: at most one piece too much is taken."""
    host = Host(tmp_path)
    honest = host.server.fetch

    def lying(wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        for chunk in honest(wants):
            yield Chunk(chunk.want, chunk.data, chunk.last, chunk.missing, chunk.carried_size and promise)

    host.server.fetch = lying
    with pytest.raises(Refusal) as caught:
        host.take()
    assert caught.value.code == "corrupt-delta"
    assert host.left == [".refused"]


def test_a_damaged_base_is_no_fault_of_the_delta(tmp_path: Path) -> None:
    """It is named, what was damaged goes, and the pair may be tried again once it is whole."""
    host = Host(tmp_path)
    damaged = bytearray(OLD[0])
    damaged[350_000] ^= 1
    host.store.path(BASE[0][0]).write_bytes(damaged)
    host.store.path(BASE[1][0]).unlink()
    with pytest.raises(Refusal, match="2 objects of the release") as caught:
        host.take()
    assert caught.value.code == "damaged-base"
    assert host.left == []
    assert host.store.missing(dict(BASE[:1]))
    for content, (digest, _) in zip(OLD, BASE, strict=True):
        host.store.path(digest).write_bytes(content)
    assert host.take() is Taken.APPLIED


def test_where_the_disk_has_no_room_for_it_the_objects_are_taken(tmp_path: Path) -> None:
    """A delta needs room of its own for a while; that must not be what fills the disk."""
    host = Host(tmp_path)

    class Full(Files):
        def disk_free(self, path: Path) -> int:
            return len(DELTA) + 2 * LIMIT - 1

    host.start(Full())
    assert host.take() is Taken.NONE
    assert host.left == []


def test_a_full_disk_keeps_what_came(tmp_path: Path) -> None:
    """It says nothing about the delta."""
    host = Host(tmp_path)
    writes = 0

    def before(verb: str, path: Path) -> None:
        nonlocal writes
        writes += verb == "write"
        if writes == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    host.start(Files(before))
    with pytest.raises(DiskError):
        host.take()
    writes = 4
    assert host.take() is Taken.APPLIED
    assert host.server.sent_bytes < len(DELTA) + 300_000


def test_pruning_forgets_leftovers_and_refusals_of_releases_that_are_gone(tmp_path: Path) -> None:
    """A refusal is kept as long as the release that it starts from is here."""
    host = Host(tmp_path, b"no delta")
    with pytest.raises(Refusal):
        host.take()
    (tmp_path / "deltas" / PAIR.name).write_bytes(b"left")
    assert host.store.prune([PAIR.old, BASE[0][0]]) == 1
    assert host.left == [".refused"]
    assert host.store.prune([BASE[0][0]]) == 2
    assert host.left == []


def test_a_limit_on_rates_holds_for_deltas_too(tmp_path: Path) -> None:
    """The pauses of a throttled source are no bytes of the delta, before its first piece either."""
    host, clock = Host(tmp_path), FakeClock()
    throttle = Throttle(parse_max_rate("64KiB/s"), clock)
    throttle.came(64 * 1024)
    host.start(throttle=throttle)
    began_s = clock.monotonic()
    assert host.take() is Taken.APPLIED
    assert host.made()
    pieces = -(-len(DELTA) // CHUNK_BYTES)
    assert clock.monotonic() - began_s >= 1.0 + (pieces - 1) * CHUNK_BYTES / 65536 - 0.5
