"""A store behind a limit on rates: as fast as it may, never faster, and it looks up while it waits."""

import random
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.server import FakeServer
from towpath_agent.engine.maxrate import parse_max_rate
from towpath_agent.ports import CHUNK_BYTES, Chunk, Want
from towpath_agent.store import Store
from towpath_agent.system.files import Files
from towpath_agent.transport.throttle import LOOK_S, Throttle

MIB = 2**20


class Limited:
    """A store of a host with a limit, and its clock."""

    def __init__(self, folder: Path, limit: str) -> None:
        self.clock, self.server = FakeClock(), FakeServer()
        self.throttle = Throttle(parse_max_rate(limit), self.clock, lambda _: UTC)
        self.store = Store(folder / "store", Files(), self.throttle.over)
        self.began_s = self.clock.monotonic()
        self.looked = 0

    def fetch(self, *contents: bytes) -> float:
        """Fetch them; return the seconds that it took."""
        wanted = {self.server.add_object(content): len(content) for content in contents}
        before = self.clock.monotonic()
        self.store.fetch(wanted, self.server, interrupted=self._looks)
        assert not self.store.missing(wanted)
        return self.clock.monotonic() - before

    def _looks(self) -> bool:
        self.looked += 1
        return False


@pytest.fixture
def content() -> bytes:
    return random.Random(5).randbytes(4 * MIB)


def test_a_transfer_takes_as_long_as_its_bytes(tmp_path: Path, content: bytes) -> None:
    """4 MiB at 256 KiB/s are 16 seconds; the last piece is not waited for."""
    host = Limited(tmp_path, "256KiB/s")
    assert 15.0 <= host.fetch(content) <= 16.1


def test_what_follows_waits_for_what_came_before(tmp_path: Path, content: bytes) -> None:
    """The limit is the host's, not that of a call: the next fetch waits for the last piece of this one."""
    host = Limited(tmp_path, "256KiB/s")
    took = host.fetch(content) + host.fetch(b"little")
    assert 16.0 <= took <= 16.2


def test_it_looks_up_while_it_waits(tmp_path: Path, content: bytes) -> None:
    """One piece of 256 KiB is 64 s at 4 KiB/s: whoever wants the agent is heard at once all the same."""
    host = Limited(tmp_path, "4KiB/s")
    took = host.fetch(content[: 2 * CHUNK_BYTES])
    assert took >= 60
    assert host.looked >= took / LOOK_S
    assert max(host.clock.waited) <= LOOK_S


def test_without_a_limit_nothing_waits(tmp_path: Path, content: bytes) -> None:
    """`full` is no wrapper at all."""
    host = Limited(tmp_path, "full")
    assert host.throttle.over(host.server) is host.server
    assert host.fetch(content) == 0.0


def test_what_comes_over_no_line_is_not_held_up(tmp_path: Path, content: bytes) -> None:
    """A bundle on a stick: a limit is for the site's line."""
    host = Limited(tmp_path, "64KiB/s")

    class Stick(FakeServer):
        def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
            for chunk in super().fetch(wants):
                yield replace(chunk, near=True)

    stick = Stick()
    digest = stick.add_object(content)
    began = host.clock.monotonic()
    host.store.fetch({digest: len(content)}, stick)
    assert host.clock.monotonic() == began


def test_a_window_that_opens_in_mid_fetch_counts_at_once(tmp_path: Path, content: bytes) -> None:
    """At 22:00 the night begins: what was owed for a piece is forgiven, the rest comes as fast as it can."""
    host = Limited(tmp_path, "4KiB/s; daily 22:00-06:00 local full")
    host.clock.set_wall(1_700_000_000_000 // 86_400_000 * 86_400_000 + (22 * 3600 - 30) * 1000)
    assert 29.0 <= host.fetch(content) <= 31.0


def test_an_interrupted_wait_keeps_what_came(tmp_path: Path, content: bytes) -> None:
    """What was received before the wait is on disk before it."""
    host = Limited(tmp_path, "4KiB/s")
    digest = host.server.add_object(content)

    def at_the_second_look() -> bool:
        host.looked += 1
        return host.looked > 3

    result = host.store.fetch({digest: len(content)}, host.server, interrupted=at_the_second_look)
    assert result.interrupted
    assert (tmp_path / "store" / "partial" / digest.hex()).stat().st_size == CHUNK_BYTES


def test_many_small_objects_are_held_to_it_too(tmp_path: Path) -> None:
    """A hundred objects in one call, each a piece of its own; pauses between them belong to none."""
    host = Limited(tmp_path, "10KiB/s")
    took = host.fetch(*(random.Random(n).randbytes(1024) for n in range(100)))
    assert 9.8 <= took <= 10.8
    assert len(host.server.fetches) == 1


class Ending(FakeServer):
    """A server whose stream ends without a word."""

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Send half an answer."""
        yield Chunk(0, b"x", carried_size=10)


def test_a_stream_that_ends_early_ends_here_too(tmp_path: Path) -> None:
    """Nobody waits for what does not come."""
    host = Limited(tmp_path, "10KiB/s")
    came = list(host.throttle.over(Ending()).fetch([Want("object", digest=b"d")]))
    assert [chunk.data for chunk in came if not chunk.is_pause] == [b"x"]


def test_wrong_bytes_are_told_to_whoever_brought_them(tmp_path: Path) -> None:
    """A relay must hear that it lied, limit or not."""
    host = Limited(tmp_path, "10KiB/s")
    host.throttle.over(host.server).distrust(b"d")
    assert host.server.distrusted == [b"d"]
