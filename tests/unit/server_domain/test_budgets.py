"""Disruption budgets, the order of hosts by a label, and the priority of rules: each rule a named test."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.rows import NOW, OLD, OLD_DIGEST, REVERTED, assignment, host, reported, seen, view
from towpath.budgets import Budget, parse_budgets
from towpath.errors import InputError
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath.waves import parse_waves
from towpath_server.domain.assignment import check_reach, owner, resolve, unchanged
from towpath_server.domain.budgets import Others, cells, explained, unavailable_elsewhere
from towpath_server.domain.model import Assignment, OnBreach, Retreat, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import HostView, RolloutView, in_order, standing

GOOD = reported()
WATCHING = reported(State.WATCHING)
ILL = replace(OLD, health=Health.UNHEALTHY)
ONE_PER_RACK = parse_budgets(["rack=1"])


def racked(*hosts: HostView, **fields: Any) -> RolloutView:
    return view(*hosts, **{"max_unavailable": 100, "max_failures": 50, "budgets": ONE_PER_RACK, **fields})


def at(rack: str, name: str, state: AppState | None = OLD, *, admitted: bool = False, **fields: Any) -> HostView:
    return seen(name, state, admitted=admitted, labels={"rack": rack} if rack else {}, **fields)


def crowd(racks: int, each: int, state: AppState | None = OLD, *, admitted: bool = False) -> list[HostView]:
    return [at(f"r{r}", f"r{r}-{n}", state, admitted=admitted) for r in range(racks) for n in range(each)]


def racks_of(ids: tuple[str, ...]) -> list[str]:
    return sorted(name.split("-")[0] for name in ids)


def test_at_most_so_many_hosts_of_one_value_move_at_once() -> None:
    """One of each rack, though all of them might; with 50 % two of four."""
    assert racks_of(decide(racked(*crowd(3, 4)), NOW).admit) == ["r0", "r1", "r2"]
    half = racked(*crowd(3, 4), budgets=(Budget("rack", share=5_000),))
    assert racks_of(decide(half, NOW).admit) == ["r0", "r0", "r1", "r1", "r2", "r2"]


def test_max_unavailable_holds_beside_a_budget() -> None:
    """The smaller one counts, and who is first is first by the rollout's order."""
    picture = racked(*crowd(5, 4), max_unavailable=2)
    first = [one.host_id for one in in_order(picture)]
    moved = decide(picture, NOW).admit
    assert moved[0] == first[0]
    assert len(set(racks_of(moved))) == 2


def test_every_budget_has_to_have_room() -> None:
    """Two labels: a host needs room in its rack and in its zone."""
    both = parse_budgets(["rack=1", "zone=2"])
    hosts = [seen(f"h{n}", OLD, admitted=False, labels={"rack": f"r{n}", "zone": f"z{n % 2}"}) for n in range(8)]
    moved = decide(racked(*hosts, budgets=both), NOW).admit
    assert len(moved) == 4
    assert sorted(int(name[1:]) % 2 for name in moved) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("other", "full"),
    [
        (at("a", "x", None, admitted=True), True),
        (at("a", "x", WATCHING, admitted=True), True),
        (at("a", "x", reported(State.FETCHING, current_sha256=OLD_DIGEST), admitted=True, online=False), True),
        (at("a", "x", ILL), True),
        (at("a", "x", replace(GOOD, health=Health.UNHEALTHY), admitted=True), True),
        (at("a", "x", reported(State.STUCK), admitted=True), True),
        (at("a", "x", reported(State.WATCHING), admitted=True, progress_unix_ms=NOW - 70_000), True),
        (at("a", "x", REVERTED, admitted=True), False),
        (
            at("a", "x", reported(State.PLANNED, current_sha256=OLD_DIGEST, verdict=Verdict.REFUSED), admitted=True),
            False,
        ),
        (at("a", "x", GOOD, admitted=True), False),
        (at("a", "x", OLD, online=False), False),
        (at("a", "x", OLD, held="held by ana"), False),
        (at("a", "x", None), False),
    ],
)
def test_unavailable_is_who_moves_is_ill_stuck_or_silent_and_nobody_else(other: HostView, full: bool) -> None:
    """Who is merely offline, held, or back on its old release takes no room; who fell silent does."""
    late = other.progress_unix_ms < NOW and other.admitted_unix_ms is not None
    other = replace(other, admitted_unix_ms=NOW - 70_000) if late else other
    waits = at("a", "y", blocked="")
    picture = racked(replace(other, blocked="a parameter is missing"), waits)
    assert ("y" in decide(picture, NOW).admit) is not full


def test_who_is_unavailable_anyway_always_moves() -> None:
    """A release that heals reaches an ill host though its rack is full; nobody else becomes unavailable by that."""
    picture = racked(at("a", "flying", WATCHING, admitted=True), at("a", "ill", ILL), at("a", "well"))
    assert decide(picture, NOW).admit == ("ill",)


def test_a_full_rack_keeps_nobody_of_another_one_waiting() -> None:
    """Though the hosts of the full one are first in the order."""
    hosts = [*[at("a", f"a{n}") for n in range(50)], at("a", "x", WATCHING, admitted=True), at("b", "b0")]
    assert decide(racked(*hosts), NOW).admit == ("b0",)


def test_hosts_of_other_rules_count_too() -> None:
    """What another rollout of the app moves in the rack takes the room that this one would use."""
    picture = racked(*crowd(2, 2), others={("rack", "r0"): 1})
    assert racks_of(decide(picture, NOW).admit) == ["r1"]


def test_hosts_without_the_label_are_one_group() -> None:
    """Nobody knows that they stand in different racks."""
    hosts = [at("", f"x{n}") for n in range(5)] + [at("a", "a0")]
    moved = decide(racked(*hosts), NOW).admit
    assert len(moved) == 2
    assert "a0" in moved


def test_a_wave_that_is_closed_stays_closed_and_a_newcomer_waits_for_room() -> None:
    """Budgets open nothing: only hosts of open waves are taken into their room; after done they hold for newcomers."""
    hosts = [seen(f"c{n}", OLD, admitted=False, labels={"rack": "a", "wave": "canary"}) for n in range(2)]
    assert len(decide(racked(*hosts, at("b", "b0"), waves=parse_waves("canary,100%")), NOW).admit) == 1
    done = racked(at("a", "x", GOOD, admitted=True), at("a", "new1"), at("a", "new2"), state=RolloutState.DONE)
    assert len(decide(done, NOW).admit) == 1


def test_a_budget_holds_on_the_way_back() -> None:
    """One of each rack goes back; the next when it has arrived. Who is between two releases goes anyway."""
    back = racked(*crowd(2, 3, GOOD), state=RolloutState.REVERTING)
    first = decide(back, NOW).retreat
    assert racks_of(first) == ["r0", "r1"]
    gone = [
        replace(one, retreat=Retreat("a1", one.host_id, NOW)) if one.host_id in first else one for one in back.hosts
    ]
    assert decide(replace(back, hosts=tuple(gone)), NOW).retreat == ()
    there = [replace(one, state=OLD) if one.host_id in first else one for one in gone]
    assert racks_of(decide(replace(back, hosts=tuple(there)), NOW).retreat) == ["r0", "r1"]
    silent = decide(replace(back, hosts=tuple(gone)), NOW + 70_000)
    assert silent.retreat == (), "who cannot go back is not known to run"
    between = racked(*crowd(1, 2, GOOD), at("r0", "r0-9", WATCHING), state=RolloutState.REVERTING)
    assert decide(between, NOW).retreat == ("r0-9",)
    away = at("r0", "x", OLD, admitted=True, online=False)
    unheard = racked(away, at("r0", "y", GOOD, admitted=True), state=RolloutState.REVERTING)
    assert decide(unheard, NOW).retreat == (), "who was told and is away may be changing"
    lost = racked(at("r0", "x", GOOD, back_blocked="no arm64"), at("r0", "y", GOOD), state=RolloutState.REVERTING)
    assert decide(lost, NOW).retreat == ("y",)


def test_a_breach_takes_back_within_the_budget_in_the_same_tick() -> None:
    """The policy is to revert: a rack is never down as a whole."""
    hosts = [*crowd(2, 3, GOOD, admitted=True), at("r0", "bad", REVERTED, admitted=True)]
    decision = decide(racked(*hosts, max_failures=0, on_breach=OnBreach.REVERT), NOW)
    assert decision.state is RolloutState.REVERTING
    assert racks_of(tuple(name for name in decision.retreat if name != "bad")) == ["r0", "r1"]


def test_the_reason_says_which_budget_has_no_room() -> None:
    """For who watches: the groups that are full while hosts wait there, three of them by name."""
    hosts = [at(f"r{n}", f"x{n}", WATCHING, admitted=True) for n in range(5)]
    hosts += [at(f"r{n}", f"y{n}") for n in range(5)] + [at("r9", "z", WATCHING, admitted=True)]
    reason = decide(racked(*hosts), NOW).reason
    assert reason.endswith("no room in the budget of rack=r0, rack=r1, rack=r2 and 2 more")
    assert "budget" not in decide(racked(hosts[0]), NOW).reason
    nameless = racked(at("", "x", WATCHING, admitted=True), at("", "y"))
    assert decide(nameless, NOW).reason.endswith("no room in the budget of those without rack")


def test_a_host_that_waits_for_a_budget_says_so() -> None:
    """And only who waits for nothing else: a blocked or barred host says that."""
    picture = racked(
        at("a", "x", WATCHING, admitted=True), at("a", "y"), at("b", "z"), at("a", "w", blocked="port is missing")
    )
    said = {
        one.host_id: where.reason
        for one, where in explained(picture, [(one, standing(picture, one, NOW)) for one in picture.hosts])
    }
    assert said["y"] == "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed"
    assert said["z"] == "waits for its turn"
    assert said["w"] == "port is missing"
    free = replace(picture, budgets=())
    assert explained(free, [(picture.hosts[1], standing(free, picture.hosts[1], NOW))])[0][1].reason == (
        "waits for its turn"
    )


TOLD = assignment(1)


@pytest.mark.parametrize(
    ("state", "told", "leaving", "expected"),
    [
        (WATCHING, None, False, True),
        (ILL, TOLD, False, True),
        (None, None, False, False),
        (None, TOLD, False, True),
        (OLD, TOLD, False, True),
        (OLD, None, False, False),
        (GOOD, TOLD, False, False),
        (reported(State.FETCHING, current_sha256=OLD_DIGEST), TOLD, False, True),
        (REVERTED, TOLD, False, False),
        (replace(GOOD, generation=7), TOLD, False, False),
        (GOOD, None, True, True),
        (reported(current_sha256=b""), None, True, False),
    ],
)
def test_a_host_of_another_rule_is_unavailable_by_what_it_was_told_and_says(
    state: AppState | None, told: Assignment | None, leaving: bool, expected: bool
) -> None:
    """Whoever tells it: between two releases, ill, or told and not there yet; to remove the app is to be told too."""
    assert unavailable_elsewhere(state, told, leaving=leaving) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, False),
        (OLD, False),
        (reported(State.FETCHING, current_sha256=OLD_DIGEST), False),
        (WATCHING, True),
        (ILL, True),
        (GOOD, False),
    ],
)
def test_a_host_of_another_rule_that_only_a_bundle_tells_is_unavailable_where_it_said_so(
    state: AppState | None, expected: bool
) -> None:
    """As in its own rollout: that it was told something is no reason, for nobody knows whether it heard of it."""
    assert unavailable_elsewhere(state, TOLD, leaving=False, unreached=True) is expected


def test_others_are_counted_once_each() -> None:
    """A host that is put again counts where it is now, and nowhere once it is well."""
    others = Others()
    where = cells(parse_budgets(["rack=1", "zone=1"]), {"rack": "a"})
    for _ in range(2):
        others.put("h1", where)
    assert +others.count == {("rack", "a"): 1, ("zone", ""): 1}
    others.put("h1", ())
    assert +others.count == {}


def test_hosts_go_by_the_value_of_a_label_where_that_is_the_order() -> None:
    """Rack after rack, 2 before 10, who lacks the label last; within a rack by hash. Waves are cut from that order."""
    hosts = [at(rack, f"{rack}-{n}") for rack in ("r10", "r2", "", "r1") for n in range(3)]
    picture = racked(*hosts, budgets=(), order_label="rack", waves=parse_waves("3,100%"))
    assert [one.labels.get("rack", "") for one in in_order(picture)] == [
        *["r1"] * 3,
        *["r2"] * 3,
        *["r10"] * 3,
        *[""] * 3,
    ]
    assert racks_of(decide(picture, NOW).admit) == ["r1"] * 3
    other = replace(picture, assignment="a2")
    assert {one.host_id for one in in_order(picture)[:3]} == {one.host_id for one in in_order(other)[:3]}


CANARY = assignment(1, selector={"rack": "a"}, priority=10)
BROAD = assignment(2, selector={})
A_HOST = host(labels={"rack": "a"})


def test_of_several_rules_the_one_of_highest_priority_owns_a_host() -> None:
    """Though another one is newer; among equals the newest does, as ever."""
    assert owner([CANARY, BROAD], A_HOST) is CANARY
    assert owner([replace(CANARY, priority=0), BROAD], A_HOST) is BROAD
    assert owner([CANARY, BROAD], host(labels={})) is BROAD


def test_what_a_host_runs_follows_priority_between_rules_and_age_within_one() -> None:
    """A retry of the broad rule, newer by its generation, pulls no host out of the rule that counts more.

    Within a rule the newest counts, whatever priority an older one had: a host keeps it until it is let into the next.
    """
    again = replace(BROAD, generation=9)
    assert resolve([CANARY, again], {"a1", "a2"}, A_HOST) == {"hello": CANARY}
    older = replace(CANARY, state=RolloutState.SUPERSEDED)
    newer = assignment(5, selector={"rack": "a"})
    assert resolve([older, BROAD], {"a1", "a2"}, A_HOST) == {"hello": older}
    assert resolve([older, BROAD, newer], {"a1", "a2", "a5"}, A_HOST) == {"hello": newer}
    assert resolve([older, replace(BROAD, generation=6), newer], {"a1", "a2", "a5"}, A_HOST)["hello"].id == "a2"


def test_a_rule_on_its_way_back_counts_before_the_one_that_it_goes_back_to() -> None:
    """Of one rule the newest decides about whom it let in, though its predecessor has the higher priority."""
    before = assignment(1, selector={}, priority=10)
    reverting = assignment(2, selector={}, state=RolloutState.REVERTING)
    assert owner([before, reverting], A_HOST, {"a2"}) is reverting
    assert owner([before, reverting], A_HOST) is before


@pytest.mark.parametrize("what", [{"budgets": ONE_PER_RACK}, {"priority": 1}, {"order_label": "rack"}])
def test_another_budget_order_or_priority_is_another_policy(what: dict[str, Any]) -> None:
    """So a deploy of the same release with it is a change, and without it none."""
    one = assignment(1)
    assert not unchanged(one, replace(one, **what), failed=0)
    assert unchanged(replace(one, **what), replace(one, **what), failed=0)


def test_a_budget_or_order_by_a_label_that_nobody_has_is_refused_up_front() -> None:
    """It would be a typing mistake: all hosts would be one group, or in no order."""
    labels = [{"role": "web"}, {"rack": "a"}]
    check_reach(assignment(1, budgets=ONE_PER_RACK, order_label="rack"), labels, allow_empty=False)
    with pytest.raises(InputError, match="with the budget shelf=1: none of its 2 hosts in dev has the label"):
        check_reach(assignment(1, budgets=parse_budgets(["shelf=1"])), labels, allow_empty=False)
    with pytest.raises(InputError, match="in the order of shelf: none of its 2 hosts in dev has the label"):
        check_reach(assignment(1, order_label="shelf"), labels, allow_empty=False)
    check_reach(assignment(1, order_label="shelf"), [], allow_empty=True)
