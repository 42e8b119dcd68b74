"""Whole rollouts over random fleets, faults and operators' acts: what must be true in every tick and at the end.

The simulated hosts obey as agents do: they leave what they were told to leave before the switch, fail, fall silent, go
offline, are held. The ticks apply decisions as `services.rollouts` does, one predecessor included.
"""

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.rows import NOW, OLD, OLD_DIGEST, REVERTED, assignment, reported, seen, view
from towpath.reports import AppState
from towpath.status import State, Verdict
from towpath.waves import effective, parse_waves
from towpath.windows import Window
from towpath_server.domain.gates import gate, members
from towpath_server.domain.model import CalendarEntry, EntryKind, Newcomers, OnBreach, Retreat, RolloutState, Timing
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import HostView, Phase, RolloutView, limit, standing
from towpath_server.domain.timing import bars, host_bars

TICK_MS = 3_000
TICKS = 100
GOOD = reported()
PLANNED, SWITCHING = (reported(state, current_sha256=OLD_DIGEST) for state in (State.PLANNED, State.SWITCHING))
WATCHING = reported(State.WATCHING)
UNCLEAR = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
LEAVING, RETURNING = (
    reported(state, current_sha256=OLD_DIGEST, generation=0) for state in (State.SWITCHING, State.WATCHING)
)
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

    def look(self) -> RolloutView:
        """Return the rollout as `services.rollouts.view` makes it, the bars of now included."""
        one = assignment(timing=self.picture.timing)
        hosts = [
            replace(host.view, bars=host_bars(one, self.calendar, host.view.labels, self.now))
            for host in self.hosts.values()
        ]
        return replace(self.picture, hosts=tuple(hosts), bars=bars(one, self.calendar, self.now))

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

    def check(self, before: RolloutView, state: RolloutState, wave: int, admit: tuple[str, ...]) -> None:
        if before.state in (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE):
            failed = [
                host.host_id
                for host in before.hosts
                if standing(before, host, self.now).phase is Phase.FAILED and host.host_id not in before.excused
            ]
            if len(failed) > before.max_failures:
                assert admit == (), "admitted in the tick of a breach"
                assert state in (RolloutState.HALTED, RolloutState.REVERTING)
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


ENDS = st.lists(st.sampled_from([GOOD] * 8 + [REVERTED, UNCLEAR, None]), min_size=1, max_size=12)
# A seed, not hypothesis' own random: thousands of draws a rollout are more than it can hold.
RANDOM = st.integers(0, 2**32 - 1).map(Random)


@settings(max_examples=60, deadline=None)
@given(ENDS, st.sampled_from(WAVES), st.integers(0, 4), st.integers(0, 3), st.sampled_from(list(OnBreach)), RANDOM)
def test_in_any_rollout_budgets_gates_and_breaches_hold_and_everyone_ends_with_a_reason(
    ends: list[AppState | None], waves: str, unavailable: int, failures: int, policy: OnBreach, rng: Random
) -> None:
    """Whatever fails, comes, goes and is ordered: the checks of `Fleet` hold in every tick."""
    fleet = make(ends, waves, rng, max_unavailable=unavailable, max_failures=failures, on_breach=policy)
    for tick in range(TICKS):
        fleet.live(tick)
        if rng.random() < 0.1:
            fleet.operate()
        fleet.apply()
    end = fleet.look()
    for host in end.hosts:
        where = standing(end, host, fleet.now)
        assert where.reason
    if end.state is RolloutState.REVERTED:
        took = [
            n for n, host in fleet.hosts.items() if host.view.state is GOOD and host.view.online and not host.view.held
        ]
        assert not [name for name in took if fleet.hosts[name].view.retreat is None], "left on what was taken back"


# Minutes of the five simulated ones, from a Tuesday, 22:13:20Z.
MINUTES = st.integers(22 * 60 + 12, 22 * 60 + 19)
WINDOWS = st.builds(Window, st.sampled_from([(1,), (0,), (0, 1)]), MINUTES, MINUTES, st.just("UTC")).filter(
    lambda window: window.opens != window.closes
)
TICKS_IN = st.integers(0, TICKS).map(lambda tick: NOW + tick * TICK_MS)
TIMINGS = st.builds(
    Timing,
    windows=st.lists(WINDOWS, max_size=2).map(tuple),
    at_unix_ms=st.just(0) | TICKS_IN,
    expires_unix_ms=st.just(0) | TICKS_IN,
    override=st.sampled_from(["", "", "urgent"]),
)


def entry(kind: EntryKind, weekly: Window | None, begins: int, length: int, labels: dict[str, str]) -> CalendarEntry:
    row = CalendarEntry("f1", kind, "dev", "why", NOW, "ann", labels, weekly)
    return row if weekly is not None else replace(row, from_unix_ms=begins, until_unix_ms=begins + length * TICK_MS)


LABELS = st.sampled_from([{}, {}, {"wave": "canary"}])
FREEZES = st.builds(entry, st.just(EntryKind.FREEZE), st.none(), TICKS_IN, st.integers(1, 40), LABELS)
FRAMES = st.builds(entry, st.just(EntryKind.WINDOW), WINDOWS, st.just(0), st.just(0), st.just({}))
CALENDARS = st.tuples(st.lists(FREEZES, max_size=3), st.lists(FRAMES, max_size=1)).map(
    lambda both: (*both[0], *both[1])
)


@pytest.mark.timeout(600)  # with coverage, on a machine that is busy
@settings(max_examples=40, deadline=None)
@given(ENDS, st.sampled_from(WAVES), TIMINGS, CALENDARS, st.sampled_from(list(Newcomers)), st.booleans(), RANDOM)
def test_nobody_is_let_in_outside_a_window_in_a_freeze_before_its_time_or_after_it(
    ends: list[AppState | None],
    waves: str,
    timing: Timing,
    calendar: tuple[CalendarEntry, ...],
    newcomers: Newcomers,
    waits: bool,
    rng: Random,
) -> None:
    """Whatever the calendar says and operators do; who comes late waits where the policy says so."""
    offline = 20_000 if waits else 0
    fleet = make(ends, waves, rng, max_failures=2, timing=timing, newcomers=newcomers, offline_wait_ms=offline)
    fleet.calendar = calendar
    for tick in range(TICKS):
        fleet.live(tick)
        if rng.random() < 0.1:
            fleet.operate()
        if tick == TICKS // 2:
            fleet.hosts["late"] = Host(seen("late", OLD, admitted=False), GOOD)
        fleet.apply()
    end = fleet.look()
    assert all(standing(end, host, fleet.now).reason for host in end.hosts)


@pytest.mark.timeout(600)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.sampled_from(WAVES), st.integers(1, 30), st.integers(1, 30), RANDOM)
def test_a_good_release_goes_on_when_the_freeze_is_over(
    count: int, waves: str, begins: int, length: int, rng: Random
) -> None:
    """Without faults each rollout that a freeze interrupts is done in the end: who was told to stay moves later."""
    fleet = make([GOOD] * count, waves, rng, max_unavailable=count)
    fleet.calm_after = 0
    fleet.calendar = (entry(EntryKind.FREEZE, None, NOW + begins * TICK_MS, length, {}),)
    for tick in range(2 * TICKS):
        fleet.live(tick)
        if fleet.picture.state is RolloutState.ROLLING and "manual" in waves:
            fleet.picture = replace(fleet.picture, wave=min(fleet.picture.wave + 1, len(fleet.picture.waves) - 1))
        fleet.apply()
    assert fleet.picture.state is RolloutState.DONE
    assert {id(host.view.state) for host in fleet.hosts.values()} == {id(GOOD)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.sampled_from(WAVES), st.integers(0, 4), RANDOM)
def test_a_good_release_reaches_everybody_in_order(count: int, waves: str, unavailable: int, rng: Random) -> None:
    """Without faults each rollout is done in the end, manual gates advanced, and everyone runs the release."""
    fleet = make([GOOD] * count, waves, rng, max_unavailable=unavailable, max_failures=0)
    fleet.calm_after = 0
    for tick in range(TICKS):
        fleet.live(tick)
        fleet.apply()
        seen_now = fleet.look()
        standings = [(host, standing(seen_now, host, fleet.now)) for host in seen_now.hosts]
        if gate(seen_now, standings, members(seen_now), fleet.now).waits == "a person has to advance it":
            fleet.picture = replace(fleet.picture, wave=fleet.picture.wave + 1, wave_done_unix_ms=0)
    assert fleet.picture.state is RolloutState.DONE
    assert {id(host.view.state) for host in fleet.hosts.values()} == {id(GOOD)}


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.sampled_from(WAVES[1:]), RANDOM)
def test_a_bad_release_harms_the_first_wave_only_and_is_taken_back(count: int, waves: str, rng: Random) -> None:
    """It fails everywhere: nobody outside the first wave ever leaves the old release, and all are back in the end."""
    fleet = make([REVERTED] * count, waves, rng, max_unavailable=1, max_failures=0, on_breach=OnBreach.REVERT)
    fleet.calm_after = 0
    moved = set()
    for tick in range(TICKS):
        fleet.live(tick)
        fleet.apply()
        moved |= {name for name, host in fleet.hosts.items() if host.view.admitted_unix_ms is not None}
    numbers = members(fleet.look())
    assert {numbers[name] for name in moved} == {min(numbers.values())}
    assert fleet.picture.state is RolloutState.REVERTED
    assert all(host.view.state in (OLD, REVERTED) for host in fleet.hosts.values())
