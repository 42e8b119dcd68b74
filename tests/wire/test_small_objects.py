"""Many small objects over a long line: they travel in few calls, and the line's length counts a few times, not hundreds."""

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes.line import Line
from fakes.live_server import LiveServer
from towpath_agent.ports import MAX_WANTS, Want
from towpath_agent.store import Store
from towpath_agent.system.files import Files

ONE_WAY_S = 0.1
COUNT = 500

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


def test_five_hundred_small_files_cost_a_handful_of_round_trips(server: LiveServer, tmp_path: Path) -> None:
    """100 ms each way: one by one they would take 100 s; in one call they take what the line takes a few times."""
    chance = random.Random(7)
    contents = [chance.randbytes(chance.randrange(20, 400)) for _ in range(COUNT)]
    for content in contents:
        server.upload(content)
    wanted = {hashlib.sha256(content).digest(): len(content) for content in contents}
    host = server.new_host()
    calls: list[int] = []
    with (
        Line(server.agents, delay_s=ONE_WAY_S) as line,
        server.agent(host, line.address) as agent,
    ):
        agent.sync(nonce=b"n" * 16, state_revision=0, boot_id="b")
        fetch = agent.fetch

        def counted(wants: Sequence[Want]) -> object:
            calls.append(len(wants))
            return fetch(wants)

        agent.fetch = counted  # type: ignore[method-assign,assignment]
        store = Store(tmp_path / "store", Files())
        began = time.monotonic()
        store.fetch(wanted, agent)
        took = time.monotonic() - began
    trips = took / (2 * ONE_WAY_S)
    print(f"{COUNT} objects in {took:.2f} s: {trips:.1f} round trips, {len(calls)} calls")
    assert not store.missing(wanted)
    assert calls == [min(COUNT, MAX_WANTS)]
    assert trips < COUNT / 10
