"""A simulated fleet under one rollout: random hosts, faults and operators' acts, and what must be true in every tick.

The hosts obey as agents do: they leave what they were told to leave before the switch, fail, fall silent, go offline,
are held. The ticks apply decisions as `services.ticking` does, one predecessor included. Each decision is made twice,
from scratch and by a tally that only hears what changed; they must be equal. `python -m bench.rollouts` plays thousands
of these, the property tests some. A rule that is broken raises AssertionError.
"""

from dataclasses import dataclass, field, replace
from random import Random

from fakes.rows import NOW, OLD, OLD_DIGEST, REVERTED, assignment, reported, seen, view
from towpath.reports import AppState
from towpath.status import State, Verdict
from towpath.waves import ALL, effective, parse_waves
from towpath.windows import Window
from towpath_server.domain.gates import members
from towpath_server.domain.model import CalendarEntry, EntryKind, OnBreach, Retreat, RolloutState
from towpath_server.domain.rolling import counts_hosts, decide, decided
from towpath_server.domain.standing import Decision, HostView, Phase, RolloutView, limit, standing
from towpath_server.domain.tally import Tally
from towpath_server.domain.timing import bars, host_bars, some_bars

TICK_MS = 3_000
TICKS = 100
GOOD = reported()
PLANNED, SWITCHING = (reported(state, current_sha256=OLD_DIGEST) for state in (State.PLANNED, State.SWITCHING))
WATCHING = reported(State.WATCHING)
UNCLEAR = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
LEAVING, RETURNING = (
    reported(state, current_sha256=OLD_DIGEST, generation=0) for state in (State.SWITCHING, State.WATCHING)
)
# Taken back at once where nobody is there to go back.
STOPPED = (RolloutState.HALTED, RolloutState.REVERTING, RolloutState.REVERTED)
WAVES = ["", "1", "canary,50%", "canary:9s,10%,50%:6s", "2:6s,4", "25%:manual,100%:9s"]


@dataclass
class Host:
    """A simulated host. `end`: how its transaction ends, None for one that falls silent half-way."""

    view: HostView
    end: AppState | None

    @property
    def down(self) -> bool:
        """True while the app is between two releases."""
        return self.view.state in (SWITCHING, WATCHING, LEAVING, RETURNING)

    def step(self, now: int) -> None:
        """Move one state on, as an agent would."""
        admitted, state = self.view.admitted_unix_ms is not None, self.view.state
        after = state
        if admitted:
            moves = {id(OLD): PLANNED, id(PLANNED): SWITCHING, id(SWITCHING): WATCHING, id(WATCHING): self.end}
            after = moves.get(id(state), state) or state
        elif state is PLANNED:
            after = OLD
        elif self.view.retreat is not None:
            moves = {id(GOOD): LEAVING, id(WATCHING): LEAVING, id(SWITCHING): LEAVING, id(LEAVING): RETURNING}
            after = moves.get(id(state), OLD)
        if after is not state:
            self.view = replace(self.view, state=after, progress_unix_ms=now)


@dataclass
class Fleet:
    """A rollout and its hosts; `acts` are what an operator does at which tick."""

    picture: RolloutView
    hosts: dict[str, Host]
    rng: Random
    calm_after: int = TICKS
    now: int = NOW
    silent: set[str] = field(default_factory=set)
    calendar: tuple[CalendarEntry, ...] = ()
    kept: Tally | None = None

    def look(self) -> RolloutView:
        """Return the rollout as `services.rollouts.view` makes it, the bars of now included."""
        one = assignment(timing=self.picture.timing)
        for host in self.hosts.values():
            own = host_bars(one, self.calendar, host.view.labels, self.now)
            if own != host.view.bars:
                host.view = replace(host.view, bars=own)
        return replace(
            self.picture,
            hosts=tuple(host.view for host in self.hosts.values()),
            bars=bars(one, self.calendar, self.now),
            some_bars=some_bars(one, self.calendar, self.now),
        )

    def phases(self) -> dict[str, Phase]:
        seen_now = self.look()
        return {host.name: standing(seen_now, host, self.now).phase for host in seen_now.hosts}

    def live(self, tick: int) -> None:
        """Let hosts come, go, be held and move."""
        self.now += TICK_MS
        calm = tick >= self.calm_after
        for host in self.hosts.values():
            held = "held by ana" if not calm and self.rng.random() < 0.05 else ""
            host.view = replace(host.view, online=calm or self.rng.random() < 0.85, held=held)
            if host.view.online and not held:
                host.step(self.now)
        for name, phase in self.phases().items():
            if phase is Phase.FAILED and self.hosts[name].view.state not in (REVERTED, UNCLEAR):
                self.silent.add(name)

    def apply(self) -> None:
        """Tick, and check what must be true of the decision and of the fleet after it."""
        before = self.look()
        decision = decide(before, self.now)
        assert self.followed(before) == decision, "what was followed host by host decides otherwise"
        numbers = members(before)
        for name in decision.admit:
            self.may_move(before, name)
            assert numbers[name] <= decision.wave, "moved beyond its wave's gate"
            assert before.state in (RolloutState.ROLLING, RolloutState.DONE), f"moved while {before.state}"
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=self.now, progress_unix_ms=self.now)
        for name in decision.withdraw:
            assert not self.hosts[name].down, "told to stay after its switch"
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=None)
        for name in decision.retreat:
            row = Retreat(before.assignment, name, self.now)
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=None, retreat=row)
        for name in decision.arrived:
            row = replace(self.hosts[name].view.retreat or Retreat("", "", 0), arrived_unix_ms=self.now)
            self.hosts[name].view = replace(self.hosts[name].view, retreat=row)
        self.check(before, decision.state, decision.wave, decision.admit)
        self.picture = replace(
            self.picture,
            state=decision.state,
            reason=decision.reason,
            wave=decision.wave,
            wave_done_unix_ms=decision.wave_done_unix_ms,
            roster=frozenset(decision.roster) if decision.roster is not None else before.roster,
        )

    def may_move(self, before: RolloutView, name: str) -> None:
        """Nobody is let in before, after or outside of the times, by an own reading of them; nor a newcomer that waits."""
        timing, labels = before.timing, self.hosts[name].view.labels
        assert self.now >= timing.at_unix_ms, "let in before its time"
        if timing.expires_unix_ms and before.state is RolloutState.ROLLING:
            assert self.now < timing.expires_unix_ms, "let in after its time"
        if timing.windows:
            assert any(in_minutes(window, self.now) for window in timing.windows), "let in outside of its windows"
        for entry in self.calendar:
            if entry.kind is EntryKind.WINDOW and entry.weekly is not None:
                assert in_minutes(entry.weekly, self.now), "let in outside of the environment's window"
            elif not timing.override and entry.selector.items() <= labels.items():
                assert not entry.from_unix_ms <= self.now < entry.until_unix_ms, "let in while frozen"
        assert before.roster is None or name in before.roster, "a newcomer was let in"

    def followed(self, view: RolloutView) -> Decision:
        """Decide as the reconciler does: by a tally that is told which hosts changed, made anew where it must be."""
        if not counts_hosts(view):
            return decided(None, view)
        same = self.kept is not None and self.kept.hosts.keys() == self.hosts.keys()
        if self.kept is None or not same or not self.kept.fits(view, self.now):
            self.kept = Tally(view, self.now)
        for host in view.hosts:
            if self.kept.hosts[host.host_id] is not host:
                self.kept.update(host, self.now)
        self.kept.follow(view, self.now)
        return decided(self.kept, view)

    def check(self, before: RolloutView, state: RolloutState, wave: int, admit: tuple[str, ...]) -> None:
        if before.state in (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE):
            phases = {host.host_id: standing(before, host, self.now).phase for host in before.hosts}
            finished = sum(phase in (Phase.HEALTHY, Phase.FAILED, Phase.INCONCLUSIVE) for phase in phases.values())
            failed = sum(phase is Phase.FAILED and name not in before.excused for name, phase in phases.items())
            counted = before.max_failures > 0 or not before.max_failure_share
            over = before.max_failure_share > 0 and failed * ALL > before.max_failure_share * finished
            if over or (counted and failed > before.max_failures):
                assert admit == (), "admitted in the tick of a breach"
                assert state in STOPPED, "a breach that did not stop"
        if before.state in (RolloutState.ROLLING, RolloutState.PAUSED) and state is RolloutState.CANCELLED:
            assert 0 < before.timing.expires_unix_ms <= self.now, "ended before its time was over"
        if before.state is not RolloutState.ROLLING:
            assert wave == before.wave or before.state is RolloutState.DONE, "a wave opened while nothing may move"
        if wave > before.wave and state is RolloutState.ROLLING:
            for number in range(before.wave, wave):
                self.passed(before, number)
        under_way = [name for name, host in self.hosts.items() if host.down and name not in self.silent]
        assert len(under_way) <= limit(before), "more hosts down than allowed"

    def passed(self, before: RolloutView, number: int) -> None:
        """A wave that was passed had finished: nobody of it and of those before waits or moves."""
        numbers = members(before)
        mine = [host for host in before.hosts if numbers[host.host_id] <= number]
        for host in mine:
            assert standing(before, host, self.now).phase not in (Phase.WAITING, Phase.IN_FLIGHT)

    def operate(self) -> None:
        """Do what an operator may do, as `services.steering` does."""
        act, state = self.rng.choice(["pause", "resume", "halt", "advance"]), self.picture.state
        if act == "pause" and state is RolloutState.ROLLING:
            self.picture = replace(self.picture, state=RolloutState.PAUSED)
        elif act == "resume" and state is RolloutState.PAUSED:
            self.picture = replace(self.picture, state=RolloutState.ROLLING, resumed_unix_ms=self.now)
        elif act == "resume" and state is RolloutState.HALTED:
            phases = self.phases()
            bad = {name for name, phase in phases.items() if phase in (Phase.FAILED, Phase.INCONCLUSIVE)}
            if len(bad) < len(phases):
                excused = self.picture.excused | bad
                self.picture = replace(
                    self.picture, state=RolloutState.ROLLING, excused=excused, resumed_unix_ms=self.now
                )
        elif act == "halt" and state in (RolloutState.ROLLING, RolloutState.PAUSED):
            self.picture = replace(self.picture, state=RolloutState.HALTED, reason="by ann")
        elif act == "advance" and state is RolloutState.ROLLING:
            last = len(effective(self.picture.waves)) - 1
            if self.picture.wave < last:
                self.picture = replace(self.picture, wave=self.picture.wave + 1, wave_done_unix_ms=0)


def in_minutes(window: Window, now: int) -> bool:
    """Return whether a window over midnight in UTC, where no clocks change, is open."""
    minute, weekday = now // 60_000 % 1440, (now // 86_400_000 + 3) % 7
    if window.opens < window.closes:
        return weekday in window.days and window.opens <= minute < window.closes
    late, early = weekday in window.days, (weekday - 1) % 7 in window.days
    return (late and minute >= window.opens) or (early and minute < window.closes)


def make(ends: list[AppState | None], waves: str, rng: Random, **fields: object) -> Fleet:
    hosts = {}
    for n, end in enumerate(ends):
        labels = {"wave": "canary"} if n % 4 == 0 else {}
        hosts[f"h{n}"] = Host(seen(f"h{n}", OLD, admitted=False, labels=labels), end)
    picture = view(waves=parse_waves(waves) if waves else (), progress_deadline_ms=60_000, **fields)
    return Fleet(picture, hosts, rng)


def play(fleet: Fleet, ticks: int = TICKS) -> RolloutView:
    """Play a rollout with an operator about; return the end, in which everyone has a reason."""
    for tick in range(ticks):
        fleet.live(tick)
        if fleet.rng.random() < 0.1:
            fleet.operate()
        fleet.apply()
    end = fleet.look()
    for host in end.hosts:
        assert standing(end, host, fleet.now).reason, "a host without a reason"
    if end.state is RolloutState.REVERTED:
        took = [
            n for n, host in fleet.hosts.items() if host.view.state is GOOD and host.view.online and not host.view.held
        ]
        assert not [name for name in took if fleet.hosts[name].view.retreat is None], "left on what was taken back"
    return end


def chance(rng: Random) -> Fleet:
    """Return a random fleet under a random policy."""
    ends: list[AppState | None] = [*[GOOD] * 8, REVERTED, UNCLEAR, None]
    return make(
        [rng.choice(ends) for _ in range(rng.randint(1, 12))],
        rng.choice(WAVES),
        rng,
        max_unavailable=rng.randint(0, 4),
        max_failures=rng.randint(0, 3),
        max_failure_share=rng.choice([0, 0, 2_000, 5_000]),
        on_breach=rng.choice(list(OnBreach)),
    )
