"""A rollout played on a simulated clock: the same engine, hosts that behave as assumed, no second done in earnest.

`play` asks `rolling.decide` as the reconciler does and does to a view what `services.rollouts` does to rows; how long a
host takes, whether it fails and when it is away is drawn once, from the random source that is handed in. So the same
seed gives the same run.

Rules, each a named test:
- the clock goes from event to event. Events of one pace are seen by one tick, as the reports of one second are in the
  server: 1 s at first, in large fleets and long runs up to an eighth of what a host takes.
- nobody waits for nothing: where no host moves, the clock goes to what ends the wait (`domain.awaiting`), or to the
  next host that comes back. Where none of these comes, the run ends as it stands, and says what it waits for.
- metrics are good whenever they are asked.
- a run ends when the rollout is done, halted (hosts in flight end as they would), or taken back.
- `max_work` (hosts looked at) bounds it: a run that is cut says so.

Not handled here: whom a person asks for (`domain.planning`), a made-up fleet and its numbers (`domain.rehearsal`).
Hosts that fall silent in flight, and hosts that fall ill after they confirmed, are not simulated.
"""

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath_server.domain.awaiting import awaited
from towpath_server.domain.gates import asked_since, gate, members
from towpath_server.domain.metric import Finding, Trail
from towpath_server.domain.model import Retreat, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.simulated import AnyTime, Assumptions, Chance, Delay, Move, Run, Sample, Times
from towpath_server.domain.standing import Decision, HostView, Phase, RolloutView, Standings, standing

FIRST_PACE_MS = 1_000
# After so many hosts looked at the pace doubles: what a run costs is ticks times hosts.
WORK_PER_PACE = 100_000
PACES_PER_HOST = 8
HORIZON_MS = 90 * 86_400_000
SIMULATED_FAILURE = "fails in this simulation"


class _Kind(StrEnum):
    SWITCH = "switch"
    END = "end"
    ARRIVE = "arrive"
    COME = "come"


class _Mode(StrEnum):
    IDLE = "idle"
    IN_FLIGHT = "in flight"
    HEALTHY = "healthy"
    HARMED = "harmed"
    GOING_BACK = "going back"
    BACK = "back"


@dataclass(slots=True)
class _Host:
    """One simulated host. `epoch` makes events of an order that was taken back worthless."""

    view: HostView
    old: AppState | None
    fails: bool
    takes_ms: int
    mode: _Mode = _Mode.IDLE
    epoch: int = 0


@dataclass(slots=True)
class _Play:
    """A run in progress."""

    view: RolloutView
    assumptions: Assumptions
    began_unix_ms: int
    now: int
    hosts: dict[str, _Host]
    numbers: Mapping[str, int]
    queue: list[tuple[int, int, str, _Kind, int]] = field(default_factory=list)
    count: Counter[_Mode] = field(default_factory=Counter)
    moves: list[Move] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)
    ticks: int = 0
    number: int = 0
    harmed_at_stop: int = 0
    stopped_after_ms: int = -1
    waits: str = ""
    times: Times = field(default_factory=AnyTime)

    @property
    def after_ms(self) -> int:
        return self.now - self.began_unix_ms

    @property
    def moving(self) -> int:
        return self.count[_Mode.IN_FLIGHT] + self.count[_Mode.GOING_BACK]

    # --- events -------------------------------------------------------------------------------------------------------

    def later(self, host: _Host, after_ms: int, kind: _Kind) -> None:
        self.number += 1
        heapq.heappush(self.queue, (self.now + after_ms, self.number, host.view.host_id, kind, host.epoch))

    def set_mode(self, host: _Host, mode: _Mode) -> None:
        self.count[host.mode] -= 1
        self.count[mode] += 1
        host.mode = mode

    def happen(self, until: int) -> None:
        """Let everything happen up to `until`, which is then the time."""
        while self.queue and self.queue[0][0] <= until:
            at, _, host_id, kind, epoch = heapq.heappop(self.queue)
            host = self.hosts[host_id]
            self.now = max(self.now, at)
            if kind is _Kind.COME:
                host.view = replace(host.view, online=True)
            elif epoch == host.epoch:
                self.report(host, kind)
        self.now = max(self.now, until)

    def report(self, host: _Host, kind: _Kind) -> None:
        if kind is _Kind.SWITCH:
            self.say(host, State.WATCHING)
        elif kind is _Kind.ARRIVE:
            host.view = replace(host.view, state=host.old or AppState("", state=State.CONFIRMED))
            self.set_mode(host, _Mode.BACK)
        elif host.fails:
            self.say(host, State.REVERTED)
            self.set_mode(host, _Mode.HARMED)
        else:
            self.say(host, State.CONFIRMED)
            self.set_mode(host, _Mode.HEALTHY)

    def say(self, host: _Host, state: State) -> None:
        """Put down what the host reports about the release."""
        old = host.old
        reverted = state is State.REVERTED
        said = AppState(
            app=old.app if old is not None else "",
            current_version=old.current_version if old is not None and reverted else "",
            current_sha256=(old.current_sha256 if old is not None else b"") if reverted else self.view.release_sha256,
            state=state,
            health=Health.UNKNOWN if state is State.WATCHING else Health.HEALTHY,
            verdict=_VERDICTS[state],
            reason=SIMULATED_FAILURE if reverted else "",
            generation=self.view.generation,
        )
        host.view = replace(host.view, state=said, progress_unix_ms=self.now)

    # --- the reconciler's part ----------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Decide once and do it, as `services.rollouts` does to rows; return whether anything changed."""
        self.ticks += 1
        before = self.look()
        decision = decide(before, self.now)
        self.do(decision)
        self.view = replace(
            before,
            state=decision.state,
            reason=decision.reason,
            wave=decision.wave,
            wave_done_unix_ms=decision.wave_done_unix_ms,
            roster=frozenset(decision.roster) if decision.roster is not None else before.roster,
        )
        for number in range(decision.wave + 1):
            self.opened.setdefault(number, self.after_ms)
        if before.state is RolloutState.ROLLING and decision.state in _STOPPED:
            self.harmed_at_stop = self.count[_Mode.HARMED]
            self.stopped_after_ms = self.after_ms
        self.sample()
        moved = decision.admit or decision.withdraw or decision.retreat or decision.arrived
        return bool(moved) or (decision.state, decision.wave) != (before.state, before.wave)

    def look(self) -> RolloutView:
        """Take the hosts, what bars them now, and metrics that are good whenever they are asked."""
        some = self.times.some_bars(self.now)
        if some or self.view.some_bars:
            for host in self.hosts.values():
                host.view = replace(host.view, bars=self.times.host_bars(host.view.labels, self.now))
        since = asked_since(self.view, self.view.wave_done_unix_ms)
        self.view = replace(
            self.view,
            hosts=tuple(host.view for host in self.hosts.values()),
            bars=self.times.bars(self.now),
            some_bars=some,
            trails={one.name: Trail(since, self.now, Finding.GOOD, "assumed") for one in self.view.metrics},
        )
        return self.view

    def sample(self) -> None:
        """Remember how many hosts stand where."""
        count = self.count
        self.samples.append(
            Sample(
                self.after_ms,
                self.view.wave,
                count[_Mode.HEALTHY],
                count[_Mode.HARMED],
                self.moving,
                count[_Mode.BACK],
            )
        )

    def do(self, decision: Decision) -> None:
        for name in decision.withdraw:
            host = self.hosts[name]
            host.view = replace(host.view, admitted_unix_ms=None)
            self.stop(host, _Mode.IDLE)
        for name in decision.admit:
            self.admit(self.hosts[name])
        for name in decision.retreat:
            self.send_back(self.hosts[name])
        for name in decision.arrived:
            host = self.hosts[name]
            row = replace(host.view.retreat or Retreat("", name, 0), arrived_unix_ms=self.now)
            host.view = replace(host.view, retreat=row)

    def stop(self, host: _Host, mode: _Mode) -> None:
        """Make what is under way on the host worthless."""
        host.epoch += 1
        if host.mode is _Mode.IN_FLIGHT:
            self.set_mode(host, mode)

    def admit(self, host: _Host) -> None:
        host.view = replace(host.view, admitted_unix_ms=self.now)
        self.moves.append(Move(host.view.host_id, self.numbers[host.view.host_id], self.after_ms))
        if host.mode is _Mode.HEALTHY:
            return  # it runs the identical release already
        host.epoch += 1
        self.set_mode(host, _Mode.IN_FLIGHT)
        self.later(host, host.takes_ms // 2, _Kind.SWITCH)
        self.later(host, host.takes_ms, _Kind.END)

    def send_back(self, host: _Host) -> None:
        self.stop(host, _Mode.BACK)
        row = Retreat(self.view.assignment, host.view.host_id, self.now)
        host.view = replace(host.view, admitted_unix_ms=None, retreat=row)
        state = host.view.state
        if state is not None and state.current_sha256 == self.view.release_sha256:
            self.set_mode(host, _Mode.GOING_BACK)
            self.later(host, host.takes_ms, _Kind.ARRIVE)

    # --- time ---------------------------------------------------------------------------------------------------------

    def pace_ms(self) -> int:
        """Return how far apart ticks are at least."""
        most = max(FIRST_PACE_MS, self.assumptions.host_ms // PACES_PER_HOST)
        return int(min(most, FIRST_PACE_MS << min(self.ticks * len(self.hosts) // WORK_PER_PACE, 20)))

    def standings(self) -> Standings:
        view = self.look()
        return [(host, standing(view, host, self.now)) for host in view.hosts]

    def go_on(self, changed: bool) -> bool:
        """Let time pass up to the next tick; False where nothing more would come."""
        if self.moving:
            soonest = self.now + self.pace_ms()
            while self.queue[0][3] is _Kind.SWITCH:  # lets nobody else move: no reason to decide
                self.happen(self.queue[0][0])
            self.happen(max(self.queue[0][0], soonest))
            return True
        if changed:
            self.happen(self.now + FIRST_PACE_MS)
            return True
        return self.view.state is RolloutState.ROLLING and self.wait()

    def wait(self) -> bool:
        """Pass over a time in which no host moves: THE place where a run learns what delays it."""
        standings = self.standings()
        seen = gate(self.view, standings, self.numbers, self.now)
        if seen.wave > self.view.wave or seen.passed:  # a metric was asked, and is good
            self.happen(self.now + FIRST_PACE_MS)
            return True
        found = awaited(self.view, seen, standings, self.now, self.assumptions.person_ms)
        until = found.until_unix_ms
        # Who comes back to a wave that is closed changes nothing yet.
        comes = min((at for at, _, name, _, _ in self.queue if self.numbers[name] <= seen.wave), default=None)
        if comes is not None and found.then is None:
            until = comes if until is None else min(until, comes)
        if until is None:
            self.waits = seen.waits
            return False
        self.delay(seen.wave, found.waits, until - self.now)
        self.happen(until)
        if found.then is not None:
            self.view = found.then(self.view, seen.wave, self.now)
        return True

    def delay(self, wave: int, waits: str, lasts_ms: int) -> None:
        """Remember what was waited for; hosts that came back meanwhile make it no second wait."""
        last = self.delays[-1] if self.delays else None
        if last is not None and (last.wave, last.waits) == (wave, waits):
            self.delays[-1] = replace(last, lasts_ms=self.after_ms + lasts_ms - last.after_ms)
        else:
            self.delays.append(Delay(wave, waits, self.after_ms, lasts_ms))


_STOPPED = (RolloutState.HALTED, RolloutState.REVERTING)
_OVER = (RolloutState.DONE, RolloutState.HALTED, RolloutState.REVERTED, RolloutState.CANCELLED)
_VERDICTS = {
    State.WATCHING: Verdict.NONE,
    State.CONFIRMED: Verdict.SUCCEEDED,
    State.REVERTED: Verdict.FAILED,
}


def play(
    view: RolloutView,
    assumptions: Assumptions,
    chance: Chance,
    now_unix_ms: int,
    *,
    max_work: int = 1 << 62,
    times: Times | None = None,
) -> Run:
    """Return what becomes of the rollout `view`, which begins (or goes on) at `now_unix_ms`."""
    play = _begin(view, assumptions, chance, now_unix_ms)
    play.times = times or AnyTime()
    cut = False
    while True:
        changed = play.tick()
        if play.view.state in _OVER:
            break
        if play.ticks * max(1, len(play.hosts)) > max_work or play.after_ms > HORIZON_MS:
            cut = True
            break
        if not play.go_on(changed):
            break
        if play.view.state in _OVER:  # a person ended the last wave
            play.sample()
            break
    took = play.after_ms
    if play.view.state is RolloutState.HALTED:
        while play.moving:
            play.happen(play.queue[0][0])
        play.sample()
    return Run(
        play.view.state,
        play.view.reason,
        took,
        tuple(play.moves),
        tuple(play.delays),
        tuple(play.samples),
        play.opened,
        tuple(play.standings()),
        play.stopped_after_ms,
        play.harmed_at_stop,
        play.waits,
        cut,
    )


def _begin(view: RolloutView, assumptions: Assumptions, chance: Chance, now_unix_ms: int) -> _Play:
    hosts: dict[str, _Host] = {}
    play = _Play(view, assumptions, now_unix_ms, now_unix_ms, hosts, members(view))
    for seen in view.hosts:
        away, fails = chance.random() < assumptions.offline, chance.random() < assumptions.failures
        takes = int(assumptions.host_ms * (1 + assumptions.spread * (2 * chance.random() - 1)))
        back_ms = int(-math.log(1.0 - chance.random()) * assumptions.away_ms)
        host = _Host(replace(seen, online=False) if away else seen, seen.state, fails, max(2, takes))
        hosts[seen.host_id] = host
        phase = standing(view, host.view, now_unix_ms).phase
        host.mode = _MODES.get(phase, _Mode.IDLE)
        play.count[host.mode] += 1
        if away and assumptions.away_ms:
            play.later(host, back_ms, _Kind.COME)
        if host.mode is _Mode.IN_FLIGHT:
            play.later(host, host.takes_ms, _Kind.END)
    return play


_MODES = {Phase.HEALTHY: _Mode.HEALTHY, Phase.FAILED: _Mode.HARMED, Phase.IN_FLIGHT: _Mode.IN_FLIGHT}
