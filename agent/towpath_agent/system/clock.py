"""Time as a parameter.

`Clock` is what the rest of the agent waits by; tests hand in one whose `wait` advances simulated time. `Deadline` is
for waiting on something that is real whatever the clock says: a process, a socket. It ends by the clock or by the
machine's own time, whichever comes first, so a hanging hook ends under a simulated clock too.
"""

import threading
import time
from datetime import datetime, tzinfo
from typing import Protocol

from towpath_agent.system.progress import progressed


class Clock(Protocol):
    """Wall time, monotonic time and waiting."""

    def now_unix_ms(self) -> int:
        """Return the wall time in milliseconds; it may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...

    def wait(self, event: threading.Event | None, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; True where the event is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_unix_ms(self) -> int:
        """Return the wall time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        progressed()
        return time.monotonic()

    def wait(self, event: threading.Event | None, seconds: float) -> bool:
        """Wait for `event`, at most `seconds`."""
        progressed()
        if event is not None:
            return event.wait(max(0.0, seconds))
        time.sleep(max(0.0, seconds))
        return False


def local_zone(unix_ms: int) -> tzinfo:
    """Return the offset of this host's own zone at a time."""
    return datetime.fromtimestamp(unix_ms / 1000).astimezone().tzinfo  # type: ignore[return-value]  # it has one now


class Deadline:
    """A limit on waiting for something real."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        """Start to count `seconds` now."""
        self._clock = clock
        self._end = clock.monotonic() + seconds
        self._real_end = time.monotonic() + seconds
        self._start = time.monotonic()

    def remaining(self) -> float:
        """Return the seconds that are left, 0.0 where none are."""
        progressed()
        left = min(self._end - self._clock.monotonic(), self._real_end - time.monotonic())
        return max(0.0, left)

    @property
    def expired(self) -> bool:
        """Return True where no time is left."""
        return self.remaining() <= 0.0

    def elapsed_ms(self) -> int:
        """Return real milliseconds since the start, for evidence in reports."""
        return round((time.monotonic() - self._start) * 1000)


def pause(seconds: float) -> None:
    """Give real processes a moment; for poll loops of the system layer that end by a `Deadline`."""
    progressed()
    time.sleep(seconds)
