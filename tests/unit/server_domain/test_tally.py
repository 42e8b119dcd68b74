"""The tally of a rollout's hosts: what it must notice by itself, and when it must be made anew."""

from dataclasses import replace
from random import Random

import pytest

from fakes.rows import NOW, OLD, REVERTED, reported, seen, view
from towpath.budgets import parse_budgets
from towpath.status import Health, State
from towpath_server.domain.model import OnBreach, RolloutState
from towpath_server.domain.ranking import BUCKET, Ranked
from towpath_server.domain.rolling import decide, decided
from towpath_server.domain.standing import Phase
from towpath_server.domain.tally import Tally

WATCHING = reported(State.WATCHING)


def test_a_deadline_that_passes_is_noticed_without_any_news() -> None:
    """Silence is a failure in the tick in which its time is up, though no row of the host changed."""
    quiet = view(seen("h0", WATCHING), seen("h1", OLD, admitted=False))
    tally = Tally(quiet, NOW)
    tally.follow(quiet, NOW + 60_000)
    assert decided(tally, quiet) == decide(quiet, NOW + 60_000)
    assert tally.count(Phase.FAILED) == 0
    tally.follow(quiet, NOW + 60_001)
    assert decided(tally, quiet).state is RolloutState.HALTED
    assert decided(tally, quiet) == decide(quiet, NOW + 60_001)


def test_an_old_deadline_of_a_host_that_moved_on_means_nothing() -> None:
    """A report moves the deadline; the one before it is passed over, however many there were."""
    quiet = view(seen("h0", WATCHING), max_unavailable=1)
    tally = Tally(quiet, NOW)
    at = NOW
    for _ in range(200):
        at += 30_000
        host = replace(quiet.hosts[0], progress_unix_ms=at)
        quiet = replace(quiet, hosts=(host,))
        tally.update(host, at)
        tally.follow(quiet, at)
        assert decided(tally, quiet) == decide(quiet, at)
    assert tally.count(Phase.IN_FLIGHT) == 1
    for _ in range(200):  # faster than deadlines pass
        at += 100
        quiet = replace(quiet, hosts=(replace(quiet.hosts[0], progress_unix_ms=at),))
        tally.update(quiet.hosts[0], at)
        tally.follow(quiet, at)
    assert decided(tally, quiet) == decide(quiet, at)
    tally.follow(quiet, at + 60_001)
    assert decided(tally, quiet).state is RolloutState.HALTED


def test_a_tally_does_not_fit_another_rule_nor_a_clock_that_was_set_back() -> None:
    """Whatever could put hosts elsewhere makes it anew; where the rollout stands does not."""
    first = view(seen("h0", WATCHING))
    tally = Tally(first, NOW)
    assert tally.fits(replace(first, wave=1, reason="x", wave_done_unix_ms=5, max_failures=3), NOW)
    assert not tally.fits(first, NOW - 1)
    for other in (
        replace(first, generation=2),
        replace(first, state=RolloutState.DONE),
        replace(first, excused=frozenset({"h0"})),
        replace(first, resumed_unix_ms=NOW),
        replace(first, progress_deadline_ms=1),
    ):
        assert not tally.fits(other, NOW)


def test_a_breach_by_a_followed_tally_stops_and_takes_back_in_the_same_tick() -> None:
    """The decision of the breach names who stays and who goes back, as one from scratch does."""
    hosts = (seen("h0", WATCHING), seen("h1", OLD), seen("h2", OLD, admitted=False))
    for policy in OnBreach:
        rolling = view(*hosts, on_breach=policy, max_unavailable=2)
        tally = Tally(rolling, NOW)
        bad = seen("h0", REVERTED)
        tally.update(bad, NOW)
        tally.follow(rolling, NOW)
        now = replace(rolling, hosts=(bad, *hosts[1:]))
        assert decided(tally, rolling) == decide(now, NOW)
        assert decided(tally, rolling).admit == ()


def test_a_host_that_waits_for_room_is_forgotten_where_it_waits_no_more() -> None:
    """It goes away, falls ill, is well again: the budget's own ranking follows, and nobody is counted twice."""
    budget = {"budgets": parse_budgets(["rack=1"]), "max_unavailable": 9, "max_failures": 9}
    racked = {"labels": {"rack": "a"}, "admitted": False}
    hosts = [seen(f"h{n}", OLD, **racked) for n in range(3)]
    quiet = view(*hosts, **budget)
    tally = Tally(quiet, NOW)
    ill = replace(OLD, health=Health.UNHEALTHY)
    for number, state in ((0, WATCHING), (1, ill), (0, OLD), (1, OLD), (2, ill), (2, None), (0, WATCHING)):
        for online in (False, True):
            hosts[number] = replace(hosts[number], state=state, online=online)
            tally.update(hosts[number], NOW)
            tally.follow(quiet, NOW)
            assert decided(tally, quiet) == decide(replace(quiet, hosts=tuple(hosts)), NOW)


@pytest.mark.parametrize("seed", range(3))
def test_a_ranking_is_a_sorted_list_whatever_comes_and_goes(seed: int) -> None:
    """Buckets split, empty and end; the order is that of a sorted list after every change."""
    rng, size = Random(seed), 6 * BUCKET
    everything = [(number,) for number in range(size)]
    rng.shuffle(everything)
    inside = set(everything[: size // 2])
    ranked = Ranked(inside) if seed else Ranked()
    if not seed:
        for entry in sorted(inside):
            ranked.add(entry)
    for entry in everything:
        if entry in inside:
            inside.remove(entry)
            ranked.remove(entry)
        else:
            inside.add(entry)
            ranked.add(entry)
        if entry[0] % 97 == 0:
            assert list(ranked) == sorted(inside)
    for entry in sorted(inside, reverse=True):
        ranked.remove(entry)
    assert (len(ranked), list(ranked)) == (0, [])
