"""Incident 11 over a real TCP proxy: idle connections are closed, connections are half-open, everybody comes back at once.

The real transport of the agent on one side, the real server on the other.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from fakes.line import Line
from fakes.live_server import LiveServer, eventually
from towpath.errors import Unavailable
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.client import GrpcServer

NONCE = b"0123456789abcdef"
# The server hears no more than a ping each 5 s; the agent sends one each 20 s, and proxies close after 30 s at the least.
LIMITS = Limits(call_s=10.0, keepalive_s=6.0, keepalive_timeout_s=4.0, reconnect_first_s=0.1, reconnect_most_s=1.0)
HOSTS, CHANNELS_OF_EACH = 10, 50
BACK_WITHIN_S = 60.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as live:
        yield live


def sync(agent: GrpcServer) -> bool:
    """Sync once; return whether it was answered."""
    try:
        agent.sync(nonce=NONCE, state_revision=0, boot_id="boot")
    except Unavailable:
        return False
    return True


class Watching:
    """A watch in a thread, as the agent has it: opened again whenever it ends."""

    def __init__(self, agent: GrpcServer) -> None:
        self.hints = self.ends = 0
        self._agent, self._stop = agent, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._agent.watch(self._hinted, self._stop)
            except Unavailable:
                self.ends += 1
                self._stop.wait(0.1)

    def _hinted(self) -> None:
        self.hints += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._agent.close()
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_keepalive_carries_a_watch_through_a_proxy_that_closes_what_is_idle(server: LiveServer) -> None:
    """Incident 11, proxy closes idle connections: our pings are heard as traffic, and a hint comes after a long silence."""
    host = server.new_host()
    server.publish("1.0.0")
    with (
        Line(server.agents, idle_s=10.0) as line,
        Watching(server.agent(host, line.address, limits=LIMITS)) as watching,
    ):
        eventually(lambda: line.accepted, "the watch is open", 60)
        threading.Event().wait(22.0)  # more than two idle times
        assert (line.closed_idle, watching.ends) == (0, 0)
        hints = watching.hints
        server.deploy("1.0.0")
        eventually(lambda: watching.hints > hints, "a hint over the connection that was silent", 60)


def test_without_pings_an_idle_connection_is_lost_and_made_anew_by_the_next_call(server: LiveServer) -> None:
    """Incident 11, proxy closes idle connections: an agent that only polls is hardly aware of it."""
    host = server.new_host()
    rare = replace(LIMITS, keepalive_s=600.0)
    with Line(server.agents, idle_s=1.0) as line:
        agent = server.agent(host, line.address, limits=rare)
        eventually(lambda: sync(agent), "a sync", 60)
        eventually(lambda: line.closed_idle, "the proxy closes the idle connection", 60)
        eventually(lambda: sync(agent), "a sync over a new connection", 60)
        assert line.accepted >= 2
        agent.close()


def test_a_half_open_connection_is_given_up_and_a_new_one_works(server: LiveServer) -> None:
    """Incident 11, half-open TCP: nothing is closed and nothing answers; the watch ends within the time of a ping."""
    host = server.new_host()
    server.publish("1.0.0")
    with Line(server.agents) as line, Watching(server.agent(host, line.address, limits=LIMITS)) as watching:
        eventually(lambda: line.accepted, "the watch is open", 60)
        server.deploy("1.0.0")
        eventually(lambda: watching.hints, "a hint", 60)
        line.hole = True
        eventually(lambda: watching.ends, "the half-open connection is noticed", 60)
        line.hole = False
        line.cut()
        seen = watching.hints
        server.publish("2.0.0")
        eventually(lambda: _hinted_again(server, watching, seen), "a hint over a new connection", 60)


def _hinted_again(server: LiveServer, watching: Watching, seen: int) -> bool:
    server.deploy("2.0.0")
    return watching.hints > seen


def test_a_reconnect_storm_leaves_nobody_behind(server: LiveServer) -> None:
    """Incident 11, everybody reconnects at once: 500 channels are cut in one moment and turned away, until the server is
    back; then all are back within 60 s, though each of them has failed and waits.
    """
    token = server.token(uses=HOSTS)
    hosts = [server.new_host(f"h{number}", token=token) for number in range(HOSTS)]
    limits = replace(LIMITS, call_s=30.0)
    with Line(server.agents) as line, ThreadPoolExecutor(64) as pool:
        agents = [server.agent(host, line.address, limits=limits) for host in hosts for _ in range(CHANNELS_OF_EACH)]

        def settle(agent: GrpcServer, deadline: float) -> bool:
            while not sync(agent):
                if time.monotonic() > deadline:
                    return False
            return True

        first = time.monotonic() + 3 * BACK_WITHIN_S
        assert all(pool.map(lambda agent: settle(agent, first), agents))
        assert line.accepted >= len(agents) == HOSTS * CHANNELS_OF_EACH
        line.away = True
        line.cut()
        assert not any(pool.map(sync, agents))
        before, line.away = line.accepted, False
        began = time.monotonic()
        assert all(pool.map(lambda agent: settle(agent, began + BACK_WITHIN_S), agents))
        assert line.accepted - before >= len(agents)
        print(f"{len(agents)} channels back after {time.monotonic() - began:.1f} s")
        list(pool.map(GrpcServer.close, agents))
