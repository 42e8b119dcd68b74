"""Whole rollouts over random fleets, faults and operators' acts: see `fakes.simulated` for what holds in every tick."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.rows import NOW, OLD, REVERTED, seen
from fakes.simulated import TICK_MS, TICKS, WAVES, chance, make, play
from fakes.simulated_host import GOOD, UNCLEAR, Host
from towpath.reports import AppState
from towpath.windows import Window
from towpath_server.domain.gates import gate, members
from towpath_server.domain.model import CalendarEntry, EntryKind, Newcomers, OnBreach, RolloutState, Timing
from towpath_server.domain.standing import standing

ENDS = st.lists(st.sampled_from([GOOD] * 8 + [REVERTED, UNCLEAR, None]), min_size=1, max_size=12)
# A seed, not hypothesis' own random: thousands of draws a rollout are more than it can hold.
RANDOM = st.integers(0, 2**32 - 1).map(Random)


@settings(max_examples=60)
@given(ENDS, st.sampled_from(WAVES), st.integers(0, 4), st.integers(0, 3), st.sampled_from(list(OnBreach)), RANDOM)
def test_in_any_rollout_budgets_gates_and_breaches_hold_and_everyone_ends_with_a_reason(
    ends: list[AppState | None], waves: str, unavailable: int, failures: int, policy: OnBreach, rng: Random
) -> None:
    """Whatever fails, comes, goes and is ordered: the checks of `Fleet` hold in every tick."""
    fleet = make(ends, waves, rng, max_unavailable=unavailable, max_failures=failures, on_breach=policy)
    play(fleet)


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
@settings(max_examples=40)
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
@settings(max_examples=20)
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


@settings(max_examples=30)
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


@settings(max_examples=30)
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


@pytest.mark.timeout(600)
@settings(max_examples=60)
@given(RANDOM)
def test_a_decision_by_what_changed_is_the_decision_from_scratch(rng: Random) -> None:
    """After every step of a random history a followed tally and a new one decide the same, to the last word."""
    play(chance(rng))
