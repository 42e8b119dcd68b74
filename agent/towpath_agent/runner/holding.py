"""The holds of this host, durable: one small fact in the journal, with the time at which it was last true.

Rules: a hold survives restarts; its time never goes back (`engine.holds`). The journal's schema does not change: an
older agent ignores the fact. Where the fact is garbled it is dropped and said: it must not keep an agent from starting.
Not kept: where the whole journal is lost, so are the holds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

from towpath.holds import Hold, covering
from towpath_agent.engine.holds import hold_time, lifted, live, placed
from towpath_agent.journal import Journal
from towpath_agent.system.clock import Clock

FACT = "holds"
# How often T is written down while something is held: at most so much longer does a hold last where every restart
# finds a clock that was set back.
KEEP_MS = 60_000


def kept_holds(journal: Journal) -> tuple[tuple[Hold, ...], int] | None:
    """Return the holds as they were kept, expired ones too, and T of then; None where the fact is garbled."""
    try:
        raw = json.loads(journal.meta().get(FACT, '{"seen": 0, "holds": []}'))
        holds = tuple(_hold(one) for one in raw["holds"])
        return tuple(hold for hold in holds if hold.text), int(raw["seen"])  # `text` fails for a time that is none
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return None


def _hold(raw: Mapping[str, object]) -> Hold:
    since, until = raw["since_unix_ms"], raw["until_unix_ms"]
    if not isinstance(since, int) or not isinstance(until, int):
        raise TypeError("a time is no number")
    return Hold(str(raw["app"]), str(raw["by"]), str(raw["reason"]), since, until)


class Holding:
    """The holds of one host. Used by the main thread alone."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Take what the journal has; `damaged` says that it could not be read."""
        self._journal, self._clock = journal, clock
        found = kept_holds(journal)
        self.damaged = found is None
        self.holds, self._last_ms = found or ((), 0)
        self._last_s = clock.monotonic()
        self._kept_ms = self._last_ms

    def now(self) -> int:
        """Return T; see `engine.holds`."""
        now_s = self._clock.monotonic()
        passed_ms = int((now_s - self._last_s) * 1000)
        self._last_ms = hold_time(self._clock.now_unix_ms(), self._last_ms, passed_ms)
        self._last_s += passed_ms / 1000
        return self._last_ms

    def covering(self, app: str) -> Hold | None:
        """Return the hold on `app`."""
        return covering(self.holds, app)

    def place(self, *, app: str, by: str, reason: str, for_ms: int) -> Hold:
        """Hold `app` (empty: the host) from now on, durably."""
        self._keep(placed(self.holds, app=app, by=by, reason=reason, for_ms=for_ms, now_unix_ms=self.now()))
        return next(hold for hold in self.holds if hold.app == app)

    def lift(self, app: str) -> tuple[Hold, ...]:
        """End the hold on `app` (empty: all), durably; return what ended."""
        stay, ended = lifted(self.holds, app)
        self._keep(stay)
        return ended

    def expire(self) -> tuple[Hold, ...]:
        """End what is over; return it. Writes T down now and then while something is held."""
        if not self.holds:
            return ()
        now = self.now()
        before, alive = self.holds, live(self.holds, now)
        if len(alive) != len(before) or now - self._kept_ms >= KEEP_MS:
            self._keep(alive)
        return tuple(hold for hold in before if hold not in alive)

    def _keep(self, holds: tuple[Hold, ...]) -> None:
        raw = {"seen": self._last_ms, "holds": [asdict(hold) for hold in holds]}
        self._journal.set_meta(**{FACT: json.dumps(raw)})
        self.holds, self._kept_ms = holds, self._last_ms

    def seconds_left(self) -> float | None:
        """Return in how many seconds the next hold ends, or T is to be written down; None where nothing is held."""
        if not self.holds:
            return None
        now = self.now()
        ends = min(hold.until_unix_ms for hold in self.holds)
        return max(0.0, min(ends, self._kept_ms + KEEP_MS) - now) / 1000
