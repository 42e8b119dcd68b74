"""What a simulated rollout is made of and what comes of it: assumptions, chance, and the record of a run.

Values only; `domain.simulation` plays them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from towpath_server.domain.model import RolloutState
from towpath_server.domain.standing import HostView, Standing


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
