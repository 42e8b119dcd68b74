"""What is on its way to an agent that is busy: little where the server is near, what the line holds where it is far."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fakes.line import Line
from fakes.live_server import LiveServer, eventually
from towpath.errors import Unavailable
from towpath_agent.ports import Want
from towpath_agent.transport.client import NEAR_S, NEAR_WINDOW_BYTES
from towpath_agent.transport.pulling import WAITING_BYTES

OBJECTS = [random.Random(seed).randbytes(7_000_000) for seed in range(3)]
WAIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        for data in (b"small", *OBJECTS):
            running.upload(data)
        yield running


def want(data: bytes) -> Want:
    return Want("object", digest=hashlib.sha256(data).digest())


def comes_to_rest(line: Line) -> int:
    """Return how much was brought once nothing more comes."""
    seen = [line.brought]

    def rests() -> bool:
        seen.append(line.brought)
        return len(seen) > 20 and seen[-1] == seen[-20]

    eventually(rests, "nothing comes any more", WAIT_S)
    return line.brought


def test_a_busy_reader_has_little_before_it_where_the_server_is_near(server: LiveServer) -> None:
    """An agent has 64 MiB; grpc would take 25 of them for what nobody has read. All of it comes all the same."""
    with Line(server.agents) as line, server.agent(address=line.address) as agent:
        list(agent.fetch([want(b"small")] * 3))
        list(agent.fetch([want(b"small")]))
        before = line.brought
        chunks = agent.fetch(list(map(want, OBJECTS)))
        came = len(next(chunks).data)
        assert comes_to_rest(line) - before < 2 * (NEAR_WINDOW_BYTES + WAITING_BYTES)
        came += sum(len(chunk.data) for chunk in chunks)
        assert came >= sum(map(len, OBJECTS))
        assert line.accepted == 2


def test_a_far_server_is_not_held_back(server: LiveServer) -> None:
    """Where an answer takes long, so does the permission to send more: what the line holds is on its way, as measured."""
    with Line(server.agents, delay_s=NEAR_S) as line, server.agent(address=line.address) as agent:
        list(agent.fetch([want(b"small")]))
        chunks = list(agent.fetch([want(OBJECTS[0])]))
        assert sum(len(chunk.data) for chunk in chunks) >= len(OBJECTS[0])
        assert line.accepted == 1


def test_a_host_that_moves_away_is_not_held_back_for_long(server: LiveServer) -> None:
    """It fetches on the first connection again, which grows with what the line holds."""
    with Line(server.agents) as line, server.agent(address=line.address) as agent:

        def first_connection_is_back() -> bool:
            with suppress(Unavailable):  # what was cut
                list(agent.fetch([want(b"small")]))
            return line.accepted == 4

        list(agent.fetch([want(b"small")]))
        list(agent.fetch([want(b"small")]))
        assert line.accepted == 2
        line.cut()
        line.delay_s = NEAR_S
        eventually(first_connection_is_back, "the near window is given up", WAIT_S)
