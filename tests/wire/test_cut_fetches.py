"""A fetch over a line that is cut at random bytes: the real store and transport of the agent, the real server, a TCP proxy.

Nothing that came is asked for again, whatever connection, agent or delta it came with.
"""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deltas import apply
from fakes.line import Line
from fakes.live_server import LiveServer, eventually
from fakes.server_command import ServerCommand
from towpath.errors import Unavailable
from towpath_agent.ports import Want
from towpath_agent.store import Store
from towpath_agent.store.deltas import Bounds, Pair, Taken
from towpath_agent.system.files import Files
from towpath_agent.transport.channel import Limits

RANDOM = random.Random(8)
LIMITS = Limits(reconnect_first_s=0.05, reconnect_most_s=0.1)
RATE = 2_000_000
CUTS = 12
WAIT_S = 200.0

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


def cut(line: Line, size: int) -> None:
    """Plan cuts over a fetch of `size` bytes, at random."""
    line.rate = RATE
    line.cuts = sorted(line.brought + RANDOM.randrange(30_000, size) for _ in range(CUTS))


def test_a_fetch_that_is_cut_at_random_bytes_gets_no_byte_twice(server: LiveServer, tmp_path: Path) -> None:
    """An object: each try, by a new store as after a restart, goes on where the last one was torn."""
    data = RANDOM.randbytes(2_000_000)
    server.upload(data)
    digest, host = hashlib.sha256(data).digest(), server.new_host()
    with Line(server.agents) as line, server.agent(host, line.address, limits=LIMITS) as agent:
        cut(line, len(data))
        tries = 0

        def fetch() -> bool:
            nonlocal tries
            tries += 1
            try:
                Store(tmp_path / "store", Files()).fetch({digest: len(data)}, agent)
            except Unavailable:
                return False
            return True

        eventually(fetch, "all of it is here", WAIT_S)
        store = Store(tmp_path / "store", Files())
        assert store.read(digest, len(data)) == data
        assert not line.cuts
        assert tries > CUTS / 2
        print(f"{tries} tries, {line.brought} bytes for {len(data)}")
        assert line.brought < 1.2 * len(data)


def test_what_came_while_the_reader_was_busy_is_not_lost_by_a_cut(server: LiveServer) -> None:
    """A report over a thin line takes seconds: what a fetch brought meanwhile is here, whole messages all of it."""
    data = RANDOM.randbytes(600_000)
    server.upload(data)
    host = server.new_host()
    with Line(server.agents) as line, server.agent(host, line.address, limits=LIMITS) as agent:
        before = line.brought
        line.rate = RATE
        chunks = agent.fetch([Want("object", digest=hashlib.sha256(data).digest())])
        came = len(next(chunks).data)
        eventually(lambda: line.brought - before > 400_000, "much more came", WAIT_S)
        line.cut()
        with pytest.raises(Unavailable):
            while True:
                came += len(next(chunks).data)
        print(f"{came} of {line.brought - before} bytes are here")
        assert came > 330_000


def test_a_delta_that_is_cut_at_random_bytes_gets_no_byte_twice(server: LiveServer, tmp_path: Path) -> None:
    """The same of a delta: it is applied when its last byte is here."""
    one = RANDOM.randbytes(200_000)
    two = one + RANDOM.randbytes(1_500_000)
    old = server.publish("1.0.0", one)
    host = server.new_host()
    server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "it is admitted", 60)
    host.obey()
    new = server.publish("1.1.0", two)
    folder = server.fleet / "server" / "objects" / "deltas"
    made = eventually(lambda: next((it for it in folder.glob("*-*") if it.is_file()), None), "the delta is made", 120)
    size = made.stat().st_size
    _, index = server.make_release("9", one)
    base = [(hashlib.sha256(it).digest(), len(it)) for it in (one, index)]
    pair = Pair(old.artifact.index_sha256, new.artifact.index_sha256, base)
    with Line(server.agents) as line, server.agent(host, line.address, limits=LIMITS) as agent:
        cut(line, size)

        def take() -> bool:
            store = Store(tmp_path / "store", Files())
            for content, (digest, _) in zip((one, index), base, strict=True):
                store.path(digest).write_bytes(content)
            bounds = Bounds(10**8, 10**8)
            try:
                taken = store.deltas.take(pair, agent, bounds, lacking=lambda: 0, interrupted=lambda: False)
            except Unavailable:
                return False
            return taken is Taken.APPLIED

        eventually(take, "all of it is here and applied", WAIT_S)
        store = Store(tmp_path / "store", Files())
        assert store.read(hashlib.sha256(two).digest(), len(two)) == two
        assert not line.cuts
        assert line.brought < 1.2 * size
    assert bytes(apply(made.read_bytes(), [one, index]).all)[: len(two)] == two


def test_a_cut_is_no_fault_of_the_servers(tmp_path: Path) -> None:
    """It has more to send when the line goes, and on a bad line that is so all day: its log says nothing of it."""
    objects = {}
    with ServerCommand(tmp_path) as server:
        for _ in range(4):
            data = RANDOM.randbytes(7_000_000)
            server.upload(data)
            objects[hashlib.sha256(data).digest()] = len(data)
        host = server.new_host()
        with Line(server.agents) as line, server.agent(host, line.address, limits=LIMITS) as agent:
            cut(line, CUTS * 500_000)
            store = Store(tmp_path / "store", Files())
            while line.cuts:
                with pytest.raises(Unavailable):
                    store.fetch(objects, agent)
    assert "Traceback" not in server.log.read_text()
