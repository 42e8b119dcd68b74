"""Sets: who moves as one, in which order, and that no order of outcomes leaves a set mixed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.claims import Claim
from towpath.status import State
from towpath_agent.engine.sets import (
    Footprint,
    Gate,
    Member,
    Move,
    Pass,
    circle,
    edges,
    gate,
    groups,
    may_confirm,
    may_go_back,
    may_prove,
    set_of,
    widened,
)

NOTHING = Footprint()


def needs(*requires: str, together: tuple[str, ...] = (), port: str = "") -> Footprint:
    claims = {Claim("port", port)} if port else set()
    return Footprint(frozenset(requires), frozenset(together), frozenset(claims))


def member(new: Footprint | None = NOTHING, *, old: Footprint | None = None, state: State = State.PREPARED) -> Member:
    return Member(state, Move(old, new))


def test_a_set_is_what_is_linked_in_either_direction() -> None:
    """One side's word is enough, links pass on, and a link to an app that does not move binds nothing."""
    found = groups({"a": ["b"], "b": [], "c": ["b", "away"], "d": []})
    assert found == {"a": frozenset("abc"), "b": frozenset("abc"), "c": frozenset("abc"), "d": frozenset("d")}


def test_what_requires_comes_after_what_is_required() -> None:
    """Only where both move, and never after a removal of it."""
    moves = {"web": Move(None, needs("db", "away")), "db": Move(None, NOTHING)}
    assert edges(moves) == {"web": frozenset({"db"}), "db": frozenset()}
    assert edges(moves | {"db": Move(NOTHING, None)})["web"] == frozenset()


def test_what_is_removed_goes_after_what_needed_it() -> None:
    """The order of stopping is the reverse of the order of starting."""
    moves = {"web": Move(needs("db"), None), "db": Move(NOTHING, None), "new": Move(None, NOTHING)}
    assert edges(moves) == {"web": frozenset(), "db": frozenset({"web"}), "new": frozenset()}


def test_who_takes_a_port_waits_for_who_lets_it_go() -> None:
    """Until then two would listen on one port; an app that keeps its port is no reason to wait."""
    moves = {
        "new": Move(None, needs(port="80")),
        "gone": Move(needs(port="80"), None),
        "moved": Move(needs(port="80"), needs(port="81")),
        "same": Move(needs(port="80"), needs(port="80")),
    }
    assert edges(moves)["new"] == {"gone", "moved"}


def test_a_member_of_another_set_stands_for_all_of_it() -> None:
    """It is confirmed only when its whole set is."""
    sets = groups({"a": ["b"], "b": [], "c": []})
    need = {"a": frozenset("b"), "b": frozenset(), "c": frozenset("a")}
    assert widened(need, sets) == {"a": frozenset("b"), "b": frozenset(), "c": frozenset("ab")}


def test_a_circle_is_named_by_its_shortest_way() -> None:
    """Both ends are named, so that the sentence reads; who only leads into a circle is in none."""
    need = {"a": frozenset("b"), "b": frozenset("cd"), "c": frozenset("a"), "d": frozenset("c"), "e": frozenset("a")}
    assert circle(need, "a") == ("a", "b", "c", "a")
    assert circle(need, "e") == ()


def test_a_set_is_sealed_once_and_for_all() -> None:
    """Who is linked but came later, or has decided already, is not of the set."""
    members = {
        "a": replace(member(needs(together=("b",)), state=State.WATCHING), seal="1"),
        "b": replace(member(), seal="1"),
        "c": member(needs(together=("a",))),
        "d": member(needs(together=("e",))),
        "e": member(state=State.REVERTING),
        "f": member(None, old=NOTHING),
        "g": member(needs(together=("f",))),
    }
    assert [set_of(app, members) for app in "abcdefg"] == list(map(frozenset, ["ab", "ab", "c", "d", "e", "fg", "fg"]))


@pytest.mark.parametrize("state", [State.PLANNED, State.FETCHING, State.STAGED])
def test_nothing_switches_before_all_are_prepared(state: State) -> None:
    """One app that is still fetched or staged holds back the others, whoever belongs to whom."""
    members = {"a": member(), "b": member(state=state)}
    assert gate("a", members) == Gate(Pass.WAIT, "b is not prepared yet")


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.PREPARED, Pass.WAIT),
        (State.WATCHING, Pass.WAIT),
        (State.REVERTING, Pass.WAIT),
        (State.STUCK, Pass.NEVER),
        (State.CONFIRMED, Pass.GO),
        (State.REVERTED, Pass.GO),
    ],
)
def test_what_requires_waits_until_the_other_has_ended(state: State, verdict: Pass) -> None:
    """Confirmed is what lets it go on; one that is stuck for good is not waited for."""
    members = {"web": member(needs("db")), "db": replace(member(state=state), proven=state is State.WATCHING)}
    assert gate("web", members).verdict is verdict
    if verdict is not Pass.GO:
        assert "db" in gate("web", members).reason


def test_inside_a_set_what_requires_waits_for_proven_health() -> None:
    """Confirmed comes for all at once, so health must do."""
    members = {"web": member(needs("db", together=("db",))), "db": member(state=State.WATCHING)}
    assert gate("web", members) == Gate(Pass.WAIT, "db is not healthy yet")
    members["db"] = replace(members["db"], proven=True)
    assert gate("web", members).verdict is Pass.GO


def test_who_came_later_waits_for_the_earlier_move_of_its_set() -> None:
    """A newer member never joins a set that switches already, and never runs beside its half-way state."""
    early = replace(member(state=State.WATCHING), seal="1")
    late = member(needs(together=("early",)))
    assert "an earlier move of early" in gate("late", {"early": early, "late": late}).reason
    linked = replace(early, move=Move(None, needs(together=("late",))))
    assert gate("late", {"early": linked, "late": member()}).verdict is Pass.WAIT
    assert gate("late", {"early": early, "late": member()}).verdict is Pass.GO
    removal = replace(early, move=Move(NOTHING, None))
    assert gate("late", {"early": removal, "late": member(None)}).verdict is Pass.GO


def test_a_circle_that_came_about_is_never_waited_for() -> None:
    """Manifests may change while others are under way; a wait that cannot end is said instead."""
    members = {"a": member(needs("b")), "b": member(needs("a"))}
    assert gate("a", members) == Gate(Pass.NEVER, "the order goes in a circle: a after b after a")


def test_a_set_is_confirmed_when_all_of_it_are_watched_and_healthy() -> None:
    """One that is not healthy, or not even switched, keeps all from being confirmed; another set does not matter."""
    one = Member(State.WATCHING, Move(None, NOTHING), "1", touched=True, proven=True)
    members = {"a": one, "b": one, "other": replace(one, seal="2", proven=False)}
    assert may_confirm("a", members)
    assert not may_confirm("a", members | {"b": replace(one, proven=False)})
    assert not may_confirm("a", members | {"b": replace(one, state=State.PREPARED)})


def test_a_set_goes_back_in_reverse_order_and_is_judged_at_the_end() -> None:
    """What requires goes first; nobody's old release is probed while another's bad one still runs."""
    web = Member(State.REVERTING, Move(None, needs("db")), "1", touched=True)
    db = Member(State.REVERTING, Move(None, NOTHING), "1", touched=True)
    assert (may_go_back("web", {"web": web, "db": db}), may_go_back("db", {"web": web, "db": db})) == (True, False)
    gone = {"web": replace(web, gone_back=True), "db": db}
    assert (may_go_back("db", gone), may_prove("web", gone), may_prove("db", gone)) == (True, False, True)
    for other in (replace(web, state=State.STUCK), replace(web, touched=False), replace(web, state=State.REVERTED)):
        assert may_go_back("db", {"web": other, "db": db})
        assert may_prove("db", {"web": other, "db": db})


# -- the promise: whatever happens in whatever order, a set ends whole

APPS = "abcd"


def _moves(draw: st.DrawFn) -> dict[str, Move]:
    apps = APPS[: draw(st.integers(2, 4))]
    result = {}
    for number, app in enumerate(apps):
        earlier = st.sampled_from(apps[:number]) if number else st.nothing()
        result[app] = Move(None, Footprint(draw(st.frozensets(earlier)), draw(st.frozensets(st.sampled_from(apps)))))
    return result


@st.composite
def stories(draw: st.DrawFn) -> tuple[dict[str, Move], list[tuple[str, str]]]:
    moves = _moves(draw)
    events = st.tuples(st.sampled_from(sorted(moves)), st.sampled_from(["go", "heal", "ail", "fail", "crash"]))
    return moves, draw(st.lists(events, max_size=40))


@settings(max_examples=300)
@given(stories())
def test_no_order_of_outcomes_leaves_a_set_mixed(  # noqa: C901, PLR0912 - one model, read in one piece
    story: tuple[dict[str, Move], list[tuple[str, str]]],
) -> None:
    """A model of the loop that does what the engine allows: all of a set are confirmed, or none of it is."""
    moves, events = story
    members = {app: Member(State.PREPARED, move) for app, move in moves.items()}
    whole = {app: set_of(app, members) for app in members}
    need = widened(edges(moves), whole)
    for app, event in events:
        it = members[app]
        if event == "crash":  # only what the journal holds is left
            members = {name: replace(one, proven=False, gone_back=False) for name, one in members.items()}
        elif event == "go" and it.state is State.PREPARED and gate(app, members).verdict is Pass.GO:
            for other in need[app]:  # the promise of the order
                assert members[other].proven or members[other].state.ended
            for mate in set_of(app, members):
                members[mate] = replace(members[mate], seal=members[mate].seal or app)
            members[app] = replace(members[app], state=State.WATCHING, touched=True)
        elif event in ("heal", "ail") and it.state is State.WATCHING:
            members[app] = replace(it, proven=event == "heal")
            if members[app].proven and may_confirm(app, members):
                for mate in set_of(app, members):
                    members[mate] = replace(members[mate], state=State.CONFIRMED)
        elif event == "fail" and it.state not in (State.REVERTING, State.REVERTED):
            for mate in set_of(app, members):
                members[mate] = replace(members[mate], state=State.REVERTING)
        elif event == "go" and it.state is State.REVERTING and may_go_back(app, members):
            members[app] = replace(it, gone_back=True)
            if may_prove(app, members):
                members[app] = replace(members[app], state=State.REVERTED)
        for name, mates in whole.items():
            confirmed = {mate for mate in mates if members[mate].state is State.CONFIRMED}
            back = {mate for mate in mates if members[mate].state in (State.REVERTING, State.REVERTED)}
            assert confirmed in (set(), mates), name
            assert back in (set(), mates), name
    for _ in members:  # and it never hangs: what reverts can always go on
        for app in members:
            if members[app].state is State.REVERTING and may_go_back(app, members):
                members[app] = replace(members[app], gone_back=True)
    assert all(it.gone_back or not it.touched for it in members.values() if it.state is State.REVERTING)
