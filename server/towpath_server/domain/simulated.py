"""What a simulated rollout is made of and what comes of it: assumptions, chance, and the record of a run.

Values only; `domain.simulation` plays them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from towpath_server.domain import timing
from towpath_server.domain.model import Assignment, CalendarEntry, RolloutState
from towpath_server.domain.standing import HostView, Standing
from towpath_server.domain.timing import Bar


class Chance(Protocol):
    """Where draws come from: `random.Random` with a seed, for one."""

    def random(self) -> float:
        """Return a number from 0 to below 1."""
        ...


class Certainty:
    """The middle of everything: for a fleet in which nothing is left to chance."""

    def random(self) -> float:
        """Return one half."""
        return 0.5


@dataclass(frozen=True, slots=True)
class Assumptions:
    """How hosts behave. Shares from 0 to 1. `host_ms`: from told to proven, `spread` of it more or less.

    `offline` are away at the beginning, for `away_ms` on the average; `person_ms`: how long a manual gate waits.
    """

    failures: float = 0.0
    offline: float = 0.0
    host_ms: int = 60_000
    spread: float = 0.0
    away_ms: int = 0
    person_ms: int = 0


class Times(Protocol):
    """What bars hosts at a moment: all of them, some of them, one with these labels."""

    def bars(self, now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.bars`."""
        ...

    def some_bars(self, now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.some_bars`."""
        ...

    def host_bars(self, labels: Mapping[str, str], now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.host_bars`."""
        ...


@dataclass(frozen=True, slots=True)
class AnyTime:
    """Nothing ever bars anybody."""

    def bars(self, now_unix_ms: int) -> tuple[Bar, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def some_bars(self, now_unix_ms: int) -> tuple[Bar, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def host_bars(self, labels: Mapping[str, str], now_unix_ms: int) -> tuple[Bar, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Dated:
    """The times of one assignment, and the calendar of its environment."""

    one: Assignment
    entries: Sequence[CalendarEntry]
    always: tuple[Bar, ...] = ()

    def bars(self, now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.bars`; what is not a matter of time comes first."""
        return self.always + timing.bars(self.one, self.entries, now_unix_ms)

    def some_bars(self, now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.some_bars`."""
        return timing.some_bars(self.one, self.entries, now_unix_ms)

    def host_bars(self, labels: Mapping[str, str], now_unix_ms: int) -> tuple[Bar, ...]:
        """See `timing.host_bars`."""
        return timing.host_bars(self.one, self.entries, labels, now_unix_ms)


@dataclass(frozen=True, slots=True)
class Move:
    """One host that was let in, at which moment after the beginning."""

    host_id: str
    wave: int
    after_ms: int


@dataclass(frozen=True, slots=True)
class Delay:
    """What a wave waited for while no host moved, from when after the beginning, for how long."""

    wave: int
    waits: str
    after_ms: int
    lasts_ms: int


@dataclass(frozen=True, slots=True)
class Sample:
    """How many hosts stood where at one moment; `harmed`: took the release and failed on it."""

    after_ms: int
    wave: int
    healthy: int
    harmed: int
    in_flight: int
    back: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it. `opened`: wave to when it opened; `waits`: what it still waits for where it came to no end."""

    state: RolloutState
    reason: str
    took_ms: int
    moves: tuple[Move, ...]
    delays: tuple[Delay, ...]
    samples: tuple[Sample, ...]
    opened: Mapping[int, int]
    standings: tuple[tuple[HostView, Standing], ...]
    stopped_after_ms: int = -1
    harmed_at_stop: int = 0
    waits: str = ""
    cut: bool = False
