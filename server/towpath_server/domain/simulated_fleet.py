"""The hosts of a simulated rollout: they obey, take their time, fail, and are away, as was drawn for each once.

A fleet has its own clock, which goes from event to event, and remembers which of its hosts changed since it was asked
last, so that a decision looks at no other.

Not handled here: who is told what (`domain.simulation`). Hosts that fall silent in flight, and hosts that fall ill
after they confirmed, are not simulated.
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import Retreat
from towpath_server.domain.simulated import Assumptions, Chance
from towpath_server.domain.standing import HostView, Phase, RolloutView, standing

SIMULATED_FAILURE = "fails in this simulation"


class Kind(StrEnum):
    """What happens to a host."""

    SWITCH = "switch"
    END = "end"
    ARRIVE = "arrive"
    COME = "come"


class Mode(StrEnum):
    """Where a host is, as samples count it."""

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    HEALTHY = "healthy"
    HARMED = "harmed"
    GOING_BACK = "going back"
    BACK = "back"


@dataclass(slots=True)
class SimulatedHost:
    """One host. `epoch` makes events of an order that was taken back worthless."""

    view: HostView
    old: AppState | None
    fails: bool
    takes_ms: int
    mode: Mode = Mode.IDLE
    epoch: int = 0


@dataclass(slots=True)
class Fleet:
    """See the module. `queue`: what is to come, soonest first; `changed`: host ids."""

    rollout: RolloutView
    now: int
    hosts: dict[str, SimulatedHost] = field(default_factory=dict)
    queue: list[tuple[int, int, str, Kind, int]] = field(default_factory=list)
    count: Counter[Mode] = field(default_factory=Counter)
    changed: set[str] = field(default_factory=set)
    number: int = 0

    @property
    def moving(self) -> int:
        """How many hosts are under way."""
        return self.count[Mode.IN_FLIGHT] + self.count[Mode.GOING_BACK]

    def see(self, host: SimulatedHost, **fields: Any) -> None:
        """Let something be known of a host."""
        host.view = replace(host.view, **fields)
        self.changed.add(host.view.host_id)

    # --- events -------------------------------------------------------------------------------------------------------

    def later(self, host: SimulatedHost, after_ms: int, kind: Kind) -> None:
        """Let something happen to a host."""
        self.number += 1
        heapq.heappush(self.queue, (self.now + after_ms, self.number, host.view.host_id, kind, host.epoch))

    def happen(self, until: int) -> None:
        """Let everything happen up to `until`, which is then the time."""
        while self.queue and self.queue[0][0] <= until:
            at, _, host_id, kind, epoch = heapq.heappop(self.queue)
            host = self.hosts[host_id]
            self.now = max(self.now, at)
            if kind is Kind.COME:
                self.see(host, online=True)
            elif epoch == host.epoch:
                self._report(host, kind)
        self.now = max(self.now, until)

    def _set_mode(self, host: SimulatedHost, mode: Mode) -> None:
        self.count[host.mode] -= 1
        self.count[mode] += 1
        host.mode = mode

    def _report(self, host: SimulatedHost, kind: Kind) -> None:
        if kind is Kind.SWITCH:
            self._say(host, State.WATCHING)
        elif kind is Kind.ARRIVE:
            self.see(host, state=host.old or AppState("", state=State.CONFIRMED))
            self._set_mode(host, Mode.BACK)
        elif host.fails:
            self._say(host, State.REVERTED)
            self._set_mode(host, Mode.HARMED)
        else:
            self._say(host, State.CONFIRMED)
            self._set_mode(host, Mode.HEALTHY)

    def _say(self, host: SimulatedHost, state: State) -> None:
        """Put down what the host reports about the release."""
        old = host.old
        reverted = state is State.REVERTED
        kept = old.current_sha256 if old is not None else b""
        said = AppState(
            app=old.app if old is not None else "",
            current_version=old.current_version if old is not None and reverted else "",
            current_sha256=kept if reverted else self.rollout.release_sha256,
            state=state,
            health=Health.UNKNOWN if state is State.WATCHING else Health.HEALTHY,
            verdict=_VERDICTS[state],
            reason=SIMULATED_FAILURE if reverted else "",
            generation=self.rollout.generation,
        )
        self.see(host, state=said, progress_unix_ms=self.now)

    # --- what hosts are told ------------------------------------------------------------------------------------------

    def admit(self, name: str) -> None:
        """Tell a host to take the release."""
        host = self.hosts[name]
        self.see(host, admitted_unix_ms=self.now)
        if host.mode is Mode.HEALTHY:
            return  # it runs the identical release already
        host.epoch += 1
        self._set_mode(host, Mode.IN_FLIGHT)
        self.later(host, host.takes_ms // 2, Kind.SWITCH)
        self.later(host, host.takes_ms, Kind.END)

    def withdraw(self, name: str) -> None:
        """Tell a host to stay on what it has."""
        host = self.hosts[name]
        self.see(host, admitted_unix_ms=None)
        self._stop(host, Mode.IDLE)

    def send_back(self, name: str) -> None:
        """Tell a host to go back to what it had."""
        host = self.hosts[name]
        self._stop(host, Mode.BACK)
        self.see(host, admitted_unix_ms=None, retreat=Retreat(self.rollout.assignment, name, self.now))
        state = host.view.state
        if state is not None and state.current_sha256 == self.rollout.release_sha256:
            self._set_mode(host, Mode.GOING_BACK)
            self.later(host, host.takes_ms, Kind.ARRIVE)

    def arrive(self, name: str) -> None:
        """Write down that a host is back."""
        host = self.hosts[name]
        row = replace(host.view.retreat or Retreat("", name, 0), arrived_unix_ms=self.now)
        self.see(host, retreat=row)

    def _stop(self, host: SimulatedHost, mode: Mode) -> None:
        """Make what is under way on the host worthless."""
        host.epoch += 1
        if host.mode is Mode.IN_FLIGHT:
            self._set_mode(host, mode)


_VERDICTS = {
    State.WATCHING: Verdict.NONE,
    State.CONFIRMED: Verdict.SUCCEEDED,
    State.REVERTED: Verdict.FAILED,
}
_MODES = {Phase.HEALTHY: Mode.HEALTHY, Phase.FAILED: Mode.HARMED, Phase.IN_FLIGHT: Mode.IN_FLIGHT}


def drawn(view: RolloutView, assumptions: Assumptions, chance: Chance, now_unix_ms: int) -> Fleet:
    """Return the hosts of a rollout as they begin; what is left to chance is drawn here, host by host."""
    fleet = Fleet(view, now_unix_ms)
    for seen in view.hosts:
        away, fails = chance.random() < assumptions.offline, chance.random() < assumptions.failures
        takes = int(assumptions.host_ms * (1 + assumptions.spread * (2 * chance.random() - 1)))
        back_ms = int(-math.log(1.0 - chance.random()) * assumptions.away_ms)
        host = SimulatedHost(replace(seen, online=False) if away else seen, seen.state, fails, max(2, takes))
        fleet.hosts[seen.host_id] = host
        phase = standing(view, host.view, now_unix_ms).phase
        host.mode = _MODES.get(phase, Mode.IDLE)
        fleet.count[host.mode] += 1
        if away and assumptions.away_ms:
            fleet.later(host, back_ms, Kind.COME)
        if host.mode is Mode.IN_FLIGHT:
            fleet.later(host, host.takes_ms, Kind.END)
    return fleet
