"""Holds whatever fills the store to the most bytes a second that this host was told to fetch.

Rules: what came is taken at once, and the wait is before the next piece: nothing that came waits in memory. While it
waits a source yields empty chunks, so that the reader looks up as often as on a fast line. One limit holds for all
sources and calls together. What is not asked for is not sent: the line has no more in flight than its windows.
Not handled here: which rate counts when (`engine.maxrate`); syncs, reports and metadata, which do not fill the store.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import tzinfo

from towpath_agent.engine.maxrate import Debt, MaxRate, rate_at
from towpath_agent.ports import Chunk, Source, Want
from towpath_agent.system.clock import Clock, local_zone

LOOK_S = 0.25
# Less is no wait for a machine; it stays owed.
LEAST_WAIT_S = 0.001
# What is not read yet may be on its way: enough for lines as long as this, and no burst.
IN_FLIGHT_S = 0.25
# What TLS, HTTP/2 and gRPC add to each piece.
PIECE_OVERHEAD_BYTES = 56
LEAST_WINDOW_BYTES, MOST_WINDOW_BYTES = 16 * 1024, 4 * 2**20


class Throttle:
    """The limit of one host."""

    def __init__(self, limit: MaxRate, clock: Clock, local: Callable[[int], tzinfo] = local_zone) -> None:
        """Owe nothing yet. `local` gives the host's zone at a time in Unix milliseconds."""
        self._limit, self._clock, self._local = limit, clock, local
        self._lock = threading.Lock()
        self._debt = Debt(0.0, clock.monotonic())

    def over(self, source: Source) -> Source:
        """Return `source`, held to the limit."""
        return _Throttled(source, self) if any(self._limit.rates) else source

    def window(self) -> int:
        """Return how many bytes may be on their way before they are read; 0: as many as the line holds."""
        rate = self._rate()
        return min(max(int(rate * IN_FLIGHT_S), LEAST_WINDOW_BYTES), MOST_WINDOW_BYTES) if rate else 0

    def came(self, count: int) -> None:
        """Take note that `count` bytes came."""
        with self._lock:
            self._debt = self._debt.after(self._clock.monotonic(), self._rate(), count)

    def waits(self) -> Iterator[None]:
        """Wait until the next piece may come, looking up in between."""
        while (left_s := self._left_s()) > LEAST_WAIT_S:
            self._clock.wait(None, min(left_s, LOOK_S))
            yield

    def _left_s(self) -> float:
        with self._lock:
            rate = self._rate()
            self._debt = self._debt.after(self._clock.monotonic(), rate)
            return self._debt.wait_s(rate)

    def _rate(self) -> int:
        return rate_at(self._limit, self._clock.now_unix_ms(), self._local)


class _Throttled(Source):
    def __init__(self, inner: Source, throttle: Throttle) -> None:
        self._inner, self._throttle = inner, throttle

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield what the inner one yields, and empty chunks."""
        left = len(wants)  # a relay may answer some of them later than those behind
        with closing(self._inner.fetch(wants)) as chunks:
            while left:
                for _ in self._throttle.waits():
                    yield Chunk(0)
                chunk = next(chunks, None)
                if chunk is None:
                    return
                if not chunk.near:
                    self._throttle.came(len(chunk.data) + PIECE_OVERHEAD_BYTES)
                left -= chunk.last or chunk.missing
                yield chunk

    def distrust(self, digest: bytes) -> bool:
        """Let the inner one know."""
        return self._inner.distrust(digest)
