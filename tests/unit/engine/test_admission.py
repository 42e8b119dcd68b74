"""Admission: what may not stand on one host together, said before anything changes, of the offending apps only."""

from hypothesis import given
from hypothesis import strategies as st

from towpath.claims import Claim
from towpath_agent.engine.admission import Objection, Situation, Standing, objections
from towpath_agent.engine.sets import Footprint


def app(version: str = "2", *, requires: str = "", together: str = "", ports: str = "", kind: str = "port") -> Standing:
    claims = frozenset(Claim(kind, port) for port in ports.split())
    return Standing(version, Footprint(frozenset(requires.split()), frozenset(together.split()), claims))


def ask(
    wanted: dict[str, Standing], current: dict[str, Standing] | None = None, held: dict[str, str] | None = None
) -> dict[str, Objection]:
    current, held = current or {}, held or {}
    moving = {name for name, it in wanted.items() if current.get(name) != it}
    return objections(Situation(wanted, current, moving, held))


def codes(found: dict[str, Objection]) -> dict[str, str]:
    return {name: it.code for name, it in found.items()}


def test_a_manifest_that_fits_is_not_objected_to() -> None:
    """Different ports, requirements that are there, an app that is removed: nothing to say."""
    wanted = {"web": app(requires="db", ports="80"), "db": app(ports="81"), "cfg": app(ports="80", kind="path")}
    assert ask(wanted, {"old": app("1", ports="80")}) == {}


def test_two_new_apps_that_claim_one_port_are_both_refused_and_a_third_is_not() -> None:
    """Each is told of the other by name; nobody can say which of them was meant."""
    found = ask({"a": app(ports="80"), "b": app(ports="80"), "c": app(ports="81")})
    assert codes(found) == {"a": "port-claimed-twice", "b": "port-claimed-twice"}
    assert found["a"].message.startswith("cannot run a 2: port 80 is claimed by b 2 as well")


def test_what_runs_and_stays_keeps_its_claim() -> None:
    """The newcomer is refused; what runs already is left alone, whatever kind the claim is of."""
    for kind in ("port", "path", "unit", "package"):
        runs = app("1", ports="x", kind=kind)
        found = ask({"a": runs, "b": app(ports="x", kind=kind)}, {"a": runs})
        assert codes(found) == {"b": f"{kind}-claimed-twice"}


def test_two_that_run_already_with_one_claim_are_left_alone() -> None:
    """Nothing that runs is touched for what an older agent let through."""
    both = {"a": app("1", ports="80"), "b": app("1", ports="80")}
    assert ask(both, both) == {}


def test_a_port_that_is_let_go_can_be_taken() -> None:
    """By a removal, or by the same manifest moving its owner to another."""
    assert ask({"b": app(ports="80")}, {"a": app("1", ports="80")}) == {}
    assert ask({"a": app(ports="81"), "b": app(ports="80")}, {"a": app("1", ports="80")}) == {}


def test_where_the_owner_may_not_move_its_port_is_not_free() -> None:
    """An objection leads to the next: b cannot have the port that a would have let go."""
    found = ask({"a": app(requires="away", ports="81"), "b": app(ports="80")}, {"a": app("1", ports="80")})
    assert codes(found) == {"a": "missing-dependency", "b": "port-claimed-twice"}


def test_two_apps_that_swap_their_ports_are_refused() -> None:
    """Neither can go first."""
    found = ask({"a": app(ports="81"), "b": app(ports="80")}, {"a": app("1", ports="80"), "b": app("1", ports="81")})
    assert codes(found) == {"a": "order-cycle", "b": "order-cycle"}
    assert "a after b after a" in found["a"].message


def test_a_required_app_that_is_not_on_the_host_is_named() -> None:
    """The manifest is the complete set: an app that it does not name will not be there, even where it runs now."""
    found = ask({"web": app(requires="db")})
    message = "cannot run web 2: it requires db: no assignment of this host names it"
    assert found == {"web": Objection("missing-dependency", message)}
    assert codes(ask({"web": app(requires="db")}, {"db": app("1")})) == {"web": "missing-dependency"}


def test_a_required_app_that_was_refused_is_missing_unless_an_older_one_runs() -> None:
    """What runs of it satisfies the requirement: it names the app, not a version."""
    refused = {"db": "wrong platform"}
    assert "requires db: wrong platform" in ask({"web": app(requires="db")}, held=refused)["web"].message
    assert ask({"web": app(requires="db")}, {"db": app("1")}, held=refused) == {}


def test_what_something_still_needs_is_not_removed() -> None:
    """Held with the name of who needs it; once that one goes as well, both go."""
    found = ask({"web": app("1", requires="db")}, {"web": app("1", requires="db"), "db": app("7")})
    assert codes(found) == {"db": "still-required"}
    assert "web 1, which stays on this host, requires it" in found["db"].message
    assert ask({}, {"web": app("1", requires="db"), "db": app("7")}) == {}


def test_a_circle_of_requirements_is_refused_by_its_names() -> None:
    """All that are in it, and not who only needs one of them, except that it is missing then."""
    found = ask({"a": app(requires="b"), "b": app(requires="a"), "c": app()})
    assert codes(found) == {"a": "requires-cycle", "b": "requires-cycle"}
    assert "a requires b requires a" in found["a"].message


def test_a_circle_through_a_set_is_refused() -> None:
    """The third waits for the whole set of a and b, and b waits for c."""
    found = ask({"a": app(together="b"), "b": app(requires="c"), "c": app(requires="a")})
    assert codes(found) == {"a": "set-held", "b": "order-cycle", "c": "order-cycle"}


def test_a_removal_takes_part_in_the_order_of_a_set() -> None:
    """An app that moves together with a removal is objected to where the removal is."""
    found = ask(
        {"a": app(together="db"), "web": app("1", requires="db")}, {"db": app("1"), "web": app("1", requires="db")}
    )
    assert codes(found) == {"db": "still-required", "a": "set-held"}


def test_who_moves_together_with_a_refused_app_is_held_with_it() -> None:
    """Half a set is not what was asked for; it says which one and why."""
    found = ask({"a": app(together="b"), "c": app()}, {"b": app("1")}, held={"b": "it expired"})
    assert codes(found) == {"a": "set-held"}
    assert found["a"].message == "cannot run a 2: it moves together with b: it expired"
    assert codes(ask({"a": app(together="b"), "b": app(requires="x")})) == {"b": "missing-dependency", "a": "set-held"}


STANDINGS = st.builds(
    app,
    st.sampled_from("12"),
    requires=st.sampled_from(["", "a", "b", "b c"]),
    together=st.sampled_from(["", "a", "c"]),
    ports=st.sampled_from(["", "80", "81"]),
)
HOSTS = st.dictionaries(st.sampled_from("abcd"), STANDINGS, max_size=4)


@given(HOSTS, HOSTS, st.dictionaries(st.sampled_from("abcd"), st.just("no"), max_size=2))
def test_what_is_left_after_the_objections_fits(
    wanted: dict[str, Standing], current: dict[str, Standing], held: dict[str, str]
) -> None:
    """No newcomer shares a claim, misses a requirement or leaves its set; only movers and removals are objected to."""
    found = ask(wanted, current, held)
    movers = {name for name in wanted if current.get(name) != wanted[name]} - set(held) - set(found)
    standing = {name: it for name, it in current.items() if name in wanted or name in held or name in found}
    standing |= {name: wanted[name] for name in movers}
    assert set(found) <= (set(wanted) | set(current)) - set(held)
    for name in movers:
        mine = standing[name].footprint
        assert mine.requires <= set(standing)
        for other in set(standing) - {name}:
            assert not mine.claims & standing[other].footprint.claims
    for name in found:
        assert current.get(name) != wanted.get(name)
