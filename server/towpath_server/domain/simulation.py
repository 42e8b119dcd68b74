"""A rollout played on a simulated clock: the same engine, hosts that behave as assumed, no second done in earnest.

`play` decides by a `Tally` as the reconciler does, and does to a simulated fleet what `services.rollouts` does to rows;
how long a host takes, whether it fails and when it is away is drawn once, from the random source that is handed in. So
the same seed gives the same run.

Rules, each a named test:
- the clock goes from event to event. Events of one pace are seen by one tick, as the reports of one second are in the
  server: 1 s at first, in long runs up to an eighth of what a host takes.
- a tick costs what changed since the one before; one that counts every host anew decides the same (`kept`).
- nobody waits for nothing: where no host moves, the clock goes to what ends the wait (`domain.awaiting`), or to the
  next host that comes back. Where none of these comes, the run ends as it stands, and says what it waits for.
- metrics are good whenever they are asked.
- a run ends when the rollout is done, halted (hosts in flight end as they would), or taken back.
- `max_work` (hosts looked at) bounds it: a run that is cut says so.

Not handled here: whom a person asks for (`domain.planning`), a made-up fleet and its numbers (`domain.rehearsal`), how
hosts behave (`domain.simulated_fleet`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from towpath_server.domain import rolling
from towpath_server.domain.awaiting import awaited
from towpath_server.domain.budgets import explained
from towpath_server.domain.gates import asked_since, members, opened
from towpath_server.domain.metric import Finding, Trail
from towpath_server.domain.model import RolloutState
from towpath_server.domain.simulated import AnyTime, Assumptions, Chance, Delay, Move, Run, Sample, Times
from towpath_server.domain.simulated_fleet import Fleet, Kind, Mode, drawn
from towpath_server.domain.standing import Decision, RolloutView, Standings, standing
from towpath_server.domain.tally import Group, Tally

FIRST_PACE_MS = 1_000
# After so many ticks the pace doubles: what a long run costs is its ticks.
TICKS_PER_PACE = 2_000
PACES_PER_HOST = 8
HORIZON_MS = 90 * 86_400_000
_STOPPED = (RolloutState.HALTED, RolloutState.REVERTING)
_OVER = (RolloutState.DONE, RolloutState.HALTED, RolloutState.REVERTED, RolloutState.CANCELLED)


@dataclass(slots=True)
class _Play:
    """A run in progress. `view` holds no hosts: those are the fleet's, and the tally's. `work`: hosts looked at."""

    view: RolloutView
    assumptions: Assumptions
    began_unix_ms: int
    fleet: Fleet
    numbers: Mapping[str, int]
    times: Times
    keeps: bool
    kept: Tally | None = None
    moves: list[Move] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    opened: dict[int, int] = field(default_factory=dict)
    ticks: int = 0
    work: int = 0
    harmed_at_stop: int = 0
    stopped_after_ms: int = -1
    waits: str = ""

    @property
    def now(self) -> int:
        return self.fleet.now

    @property
    def after_ms(self) -> int:
        return self.now - self.began_unix_ms

    # --- the reconciler's part ----------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Decide once and do it, as `services.ticking` does to rows; return whether anything changed."""
        self.ticks += 1
        tally = self.look()
        before = self.view
        decision = rolling.decided(tally, before)
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
            self.harmed_at_stop = self.fleet.count[Mode.HARMED]
            self.stopped_after_ms = self.after_ms
        self.sample()
        moved = decision.admit or decision.withdraw or decision.retreat or decision.arrived
        return bool(moved) or (decision.state, decision.wave) != (before.state, before.wave)

    def look(self) -> Tally:
        """Count the hosts that changed, what bars them now, and metrics that are good whenever they are asked."""
        fleet, some = self.fleet, self.times.some_bars(self.now)
        if some or self.view.some_bars:
            for host in fleet.hosts.values():
                bars = self.times.host_bars(host.view.labels, self.now)
                if bars != host.view.bars:
                    fleet.see(host, bars=bars)
        since = asked_since(self.view, self.view.wave_done_unix_ms)
        self.view = replace(
            self.view,
            bars=self.times.bars(self.now),
            some_bars=some,
            asking_since_unix_ms=self.view.asking_since_unix_ms or 0,
            trails={one.name: Trail(since, self.now, Finding.GOOD, "assumed") for one in self.view.metrics},
        )
        kept = self.kept
        if self.keeps and kept is not None and kept.fits(self.view, self.now):
            for name in fleet.changed:
                kept.update(fleet.hosts[name].view, self.now)
            self.work += len(fleet.changed) + 1
            kept.follow(self.view, self.now)
        else:
            kept = self.kept = Tally(self.whole(), self.now)
            self.work += len(fleet.hosts) + 1
        fleet.changed.clear()
        return kept

    def whole(self) -> RolloutView:
        return replace(self.view, hosts=tuple(host.view for host in self.fleet.hosts.values()))

    def sample(self) -> None:
        """Remember how many hosts stand where."""
        count = self.fleet.count
        self.samples.append(
            Sample(
                self.after_ms,
                self.view.wave,
                count[Mode.HEALTHY],
                count[Mode.HARMED],
                self.fleet.moving,
                count[Mode.BACK],
            )
        )

    def do(self, decision: Decision) -> None:
        for name in decision.withdraw:
            self.fleet.withdraw(name)
        for name in decision.admit:
            self.moves.append(Move(name, self.numbers[name], self.after_ms))
            self.fleet.admit(name)
        for name in decision.retreat:
            self.fleet.send_back(name)
        for name in decision.arrived:
            self.fleet.arrive(name)

    # --- time ---------------------------------------------------------------------------------------------------------

    def pace_ms(self) -> int:
        """Return how far apart ticks are at least."""
        most = max(FIRST_PACE_MS, self.assumptions.host_ms // PACES_PER_HOST)
        return int(min(most, FIRST_PACE_MS << min(self.ticks // TICKS_PER_PACE, 20)))

    def standings(self) -> Standings:
        self.look()
        view = self.whole()
        return explained(view, [(host, standing(view, host, self.now)) for host in view.hosts])

    def go_on(self, changed: bool) -> bool:
        """Let time pass up to the next tick; False where nothing more would come."""
        fleet = self.fleet
        if fleet.moving:
            soonest = self.now + self.pace_ms()
            while fleet.queue[0][3] is Kind.SWITCH:  # lets nobody else move: no reason to decide
                fleet.happen(fleet.queue[0][0])
            fleet.happen(max(fleet.queue[0][0], soonest))
            return True
        if changed:
            fleet.happen(self.now + FIRST_PACE_MS)
            return True
        return self.view.state is RolloutState.ROLLING and self.wait()

    def wait(self) -> bool:
        """Pass over a time in which no host moves: THE place where a run learns what delays it."""
        tally = self.look()
        seen = opened(self.view, tally, self.now)
        if seen.wave > self.view.wave or seen.passed:  # a metric was asked, and is good
            self.fleet.happen(self.now + FIRST_PACE_MS)
            return True
        barred = [host for host, _ in tally.named(tally.first(Group.BARRED))]
        bars = [bar for host in barred for bar in (*self.view.bars, *host.bars)]
        found = awaited(self.view, seen, bars, self.now, self.assumptions.person_ms)
        until = found.until_unix_ms
        # Who comes back to a wave that is closed changes nothing yet.
        comes = min((at for at, _, name, _, _ in self.fleet.queue if self.numbers[name] <= seen.wave), default=None)
        if comes is not None and found.then is None:
            until = comes if until is None else min(until, comes)
        if until is None:
            self.waits = seen.waits
            return False
        self.delay(seen.wave, found.waits, until - self.now)
        self.fleet.happen(until)
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


def play(
    view: RolloutView,
    assumptions: Assumptions,
    chance: Chance,
    now_unix_ms: int,
    *,
    max_work: int = 1 << 62,
    times: Times | None = None,
    keeps: bool = True,
) -> Run:
    """Return what becomes of the rollout `view`, which begins (or goes on) at `now_unix_ms`.

    `keeps` False: each tick counts every host anew, which decides the same and costs ticks times hosts.
    """
    fleet = drawn(view, assumptions, chance, now_unix_ms)
    play = _Play(replace(view, hosts=()), assumptions, now_unix_ms, fleet, members(view), times or AnyTime(), keeps)
    cut = False
    while True:
        changed = play.tick()
        if play.view.state in _OVER:
            break
        if play.work > max_work or play.after_ms > HORIZON_MS:
            cut = True
            break
        if not play.go_on(changed):
            break
        if play.view.state in _OVER:  # a person ended the last wave
            play.sample()
            break
    took = play.after_ms
    if play.view.state is RolloutState.HALTED:
        while fleet.moving:
            fleet.happen(fleet.queue[0][0])
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
