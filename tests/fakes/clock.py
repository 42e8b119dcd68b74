"""A clock whose waiting takes no time: `wait` advances simulated time and runs what was planned for it on the way."""

import heapq
import itertools
import threading
from collections.abc import Callable

START_UNIX_MS = 1_700_000_000_000


class FakeClock:
    """Simulated time; wall time can be set apart from monotonic time, as on a host with a wrong clock."""

    def __init__(self, now_unix_ms: int = START_UNIX_MS) -> None:
        """Begin at `now_unix_ms` of wall time and some odd monotonic time."""
        self._unix_ms = float(now_unix_ms)
        self._monotonic = 1000.0
        self._lock = threading.RLock()
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.waited: list[float] = []

    def now_unix_ms(self) -> int:
        """Return the simulated wall time."""
        return int(self._unix_ms)

    def monotonic(self) -> float:
        """Return simulated monotonic seconds."""
        return self._monotonic

    def wait(self, event: threading.Event | None, seconds: float) -> bool:
        """Advance by `seconds`, or until something planned sets `event`."""
        with self._lock:
            self.waited.append(seconds)
            return self._pass(max(0.0, seconds), event)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        with self._lock:
            self._pass(seconds, None)

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Plan `act` for `seconds` from now; it runs while somebody waits."""
        with self._lock:
            heapq.heappush(self._planned, (self._monotonic + seconds, next(self._order), act))

    def set_wall(self, unix_ms: int) -> None:
        """Set the wall time; monotonic time goes on as if nothing had happened."""
        self._unix_ms = float(unix_ms)

    def _pass(self, seconds: float, event: threading.Event | None) -> bool:
        end = self._monotonic + seconds
        while not (event is not None and event.is_set()):
            due = self._planned[0][0] if self._planned else end
            self._move(min(max(due, self._monotonic), end))
            if not self._planned or due > end:
                break
            heapq.heappop(self._planned)[2]()
        return event is not None and event.is_set()

    def _move(self, to: float) -> None:
        self._unix_ms += (to - self._monotonic) * 1000
        self._monotonic = to
