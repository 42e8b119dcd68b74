"""A limit on rates against real bytes: the real store and transport of the agent, the real server, a proxy that counts.

What counts is what comes over the connection to the host, with all that TLS, HTTP/2 and flow control add, not what the
agent believes that it read.
"""

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.line import Line
from fakes.live_server import LiveServer
from towpath_agent.engine.maxrate import parse_max_rate
from towpath_agent.store import Store
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.throttle import Throttle

RANDOM = random.Random(9)
RATE = 300_000
# What a server may send before somebody reads it: the window of a stream, and a piece or two.
IN_FLIGHT_BYTES = 320 * 1024

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


def throttle(limit: str) -> Throttle:
    return Throttle(parse_max_rate(limit), SystemClock())


def test_bytes_that_come_keep_to_the_limit(server: LiveServer, tmp_path: Path) -> None:
    """At no moment is more on this side of the line than the limit allows, beside the first window."""
    data = RANDOM.randbytes(3_000_000)
    server.upload(data)
    digest, host = hashlib.sha256(data).digest(), server.new_host()
    over: list[float] = []
    limit = throttle(f"{RATE}B/s")
    with (
        Line(server.agents) as line,
        server.agent(host, line.address, limits=Limits(fetch_window=limit.window)) as agent,
    ):
        agent.sync(nonce=b"n" * 16, state_revision=0, boot_id="b")
        before, began, ended = line.brought, time.monotonic(), threading.Event()

        def look() -> None:
            while not ended.wait(0.02):
                came, allowed = line.brought - before, RATE * (time.monotonic() - began)
                over.append(came - allowed)

        watcher = threading.Thread(target=look)
        watcher.start()
        Store(tmp_path / "store", Files(), limit.over).fetch({digest: len(data)}, agent)
        took = time.monotonic() - began
        ended.set()
        watcher.join()
        brought = line.brought - before
    print(f"{brought} bytes in {took:.2f} s, at most {max(over):.0f} ahead")
    assert max(over) < IN_FLIGHT_BYTES
    assert brought / took < 1.04 * RATE
    assert brought / took > 0.5 * RATE  # a machine that is busy with other tests wakes late


def test_a_limit_below_the_least_rate_is_no_slow_server(server: LiveServer, tmp_path: Path) -> None:
    """The agent waits for itself, not for the server: that is never taken for one that sends by drops."""
    data = RANDOM.randbytes(40_000)
    server.upload(data)
    digest, host = hashlib.sha256(data).digest(), server.new_host()
    limit = throttle("12KB/s")
    limits = Limits(min_rate=1_000_000, rate_window_s=0.4, fetch_window=limit.window)
    with server.agent(host, limits=limits) as agent:
        began = time.monotonic()
        Store(tmp_path / "store", Files(), limit.over).fetch({digest: len(data)}, agent)
        assert time.monotonic() - began > 2.0
    assert Store(tmp_path / "store", Files()).read(digest, len(data)) == data
