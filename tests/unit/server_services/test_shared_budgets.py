"""Budgets that several rollouts of an app share in one environment, with rows in a storage: who counts, who goes first."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy
from fakes.rows import DIGEST, OLD, OLD_DIGEST, assignment, host, reported
from towpath.budgets import parse_budgets
from towpath.status import State
from towpath_server.domain.model import ReportedApp, RolloutState
from towpath_server.domain.standing import CARRIED_UNIX_MS
from towpath_server.services import rollouts, steering, ticking
from towpath_server.services.context import Context
from towpath_server.storage import SqlStorage

ONE_PER_RACK = {"budgets": parse_budgets(["rack=1"]), "max_unavailable": 100}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    storage = SqlStorage(tmp_path / "towpath.db")
    yield deciding(storage, SetClock())
    storage.close()


def fleet(context: Context, count: int = 3) -> None:
    """Add `count` hosts of each role to rack a, all of them there and on the old release."""
    for role in ("web", "db"):
        for number in range(count):
            row = host(f"{role}{number}", labels={"role": role, "rack": "a"})
            with context.storage.transaction() as tx:
                tx.add_host(row)
                tx.replace_app_states(row.id, [ReportedApp(row.id, OLD, 0)])
            context.presence.watch(row.id)


def say(context: Context, host_id: str, state: State, generation: int, **fields: object) -> None:
    with context.storage.transaction() as tx:
        said = replace(reported(state, generation=generation), **fields)  # type: ignore[arg-type]
        tx.replace_app_states(host_id, [ReportedApp(host_id, said, 0)])


def moved(context: Context, *ids: str) -> list[str]:
    """Tick; return who is let into these rollouts now."""
    ticking.tick(context, {"dev"})
    with context.storage.transaction() as tx:
        return sorted(name for one in ids for name in tx.admissions(one))


def test_hosts_that_another_rollout_of_the_app_moves_take_room_in_the_same_tick(context: Context) -> None:
    """Two rules of one app in one environment, decided one after the other: the rack loses one host, not two."""
    fleet(context)
    deploy(context, 1, selector={"role": "web"}, **ONE_PER_RACK)
    deploy(context, 2, selector={"role": "db"}, release_sha256=b"e" * 32, **ONE_PER_RACK)
    first = moved(context, "a1", "a2")
    assert len(first) == 1
    assert moved(context, "a1", "a2") == first, "nor in the next one"
    with context.storage.transaction() as tx:
        (a2,) = (one for one in tx.assignments() if one.id == "a2")
        assert tx.admissions("a2"), "the newer one goes first where nobody said a priority"
        assert "no room in the budget of rack=a" in next(it.reason for it in tx.assignments() if it.id == "a1")
    say(context, first[0], State.CONFIRMED, 2, current_sha256=a2.release_sha256)
    assert len(moved(context, "a1", "a2")) == 2


def test_the_rollout_of_higher_priority_takes_shared_room_first(context: Context) -> None:
    """Though the other one is newer."""
    fleet(context)
    deploy(context, 1, selector={"role": "web"}, priority=5, **ONE_PER_RACK)
    deploy(context, 2, selector={"role": "db"}, release_sha256=b"e" * 32, **ONE_PER_RACK)
    assert moved(context, "a2") == []
    assert len(moved(context, "a1")) == 1


def test_a_host_that_no_rollout_is_about_any_more_takes_room_while_it_is_down(context: Context) -> None:
    """It runs the app by a rule that was halted, is between two releases, and nobody decides about it now."""
    fleet(context)
    deploy(context, 1, selector={"role": "web"}, state=RolloutState.HALTED)
    deploy(context, 2, selector={"role": "db"}, release_sha256=b"e" * 32, **ONE_PER_RACK)
    say(context, "id-web0", State.WATCHING, 1)
    assert moved(context, "a2") == []
    say(context, "id-web0", State.CONFIRMED, 1)
    assert len(moved(context, "a2")) == 1


def test_a_host_that_a_bundle_is_on_its_way_to_takes_no_room_of_another_rule_until_it_is_heard(
    context: Context,
) -> None:
    """It is away, and runs what it ran: the bundle let it in, and took away nothing. Once it is there it is told."""
    for name, role in (("web0", "web"), ("db0", "db"), ("db1", "db")):
        row = host(name, labels={"role": role, "rack": "a"})
        with context.storage.transaction() as tx:
            tx.add_host(row)
            tx.replace_app_states(row.id, [ReportedApp(row.id, OLD, 0)])
        if role == "db":
            context.presence.watch(row.id)
    deploy(context, 1, selector={"role": "web"})
    a2 = deploy(context, 2, selector={"role": "db"}, release_sha256=b"e" * 32, **ONE_PER_RACK)
    with context.storage.transaction() as tx:
        tx.admit("a1", ["id-web0"], CARRIED_UNIX_MS)
    (first,) = moved(context, "a2")
    context.presence.watch("id-web0")
    say(context, first, State.CONFIRMED, 2, current_sha256=a2.release_sha256)
    assert moved(context, "a2") == [first], "it was heard, and is on its way between two releases"
    with context.storage.transaction() as tx:
        assert "no room in the budget of rack=a" in next(it.reason for it in tx.assignments() if it.id == "a2")
        seen = rollouts.view(context, tx, rollouts.load(context, tx, "dev"), steering.find(tx, "a2"))
        assert seen.others == {("rack", "a"): 1}
    say(context, "id-web0", State.CONFIRMED, 1)
    assert len(moved(context, "a2")) == 2


def test_another_app_or_environment_takes_no_room(context: Context) -> None:
    """A budget is of one app where it runs: the neighbour that restarts is another one's matter."""
    fleet(context)
    with context.storage.transaction() as tx:
        tx.add_host(host("far", environment="prod", labels={"role": "web", "rack": "a"}))
        tx.replace_app_states("id-far", [ReportedApp("id-far", reported(State.WATCHING), 0)])
        other = replace(reported(State.WATCHING), app="other")
        tx.replace_app_states("id-db0", [ReportedApp("id-db0", OLD, 0), ReportedApp("id-db0", other, 0)])
    deploy(context, 1, selector={"role": "web"}, **ONE_PER_RACK)
    assert len(moved(context, "a1")) == 1


def test_undo_keeps_the_budget_also_against_the_hosts_of_other_rules(context: Context) -> None:
    """On the way back: one of the rack at a time, and none while another rule's host is down there."""
    fleet(context)
    with context.storage.transaction() as tx:
        before = assignment(1, release_sha256=OLD_DIGEST, state=RolloutState.SUPERSEDED, done_unix_ms=1, **ONE_PER_RACK)
        tx.add_assignment(before)
        tx.admit("a1", [f"id-web{n}" for n in range(3)], 1)
    deploy(context, 2, state=RolloutState.DONE, done_unix_ms=2, release_sha256=DIGEST, **ONE_PER_RACK)
    with context.storage.transaction() as tx:
        tx.admit("a2", [f"id-web{n}" for n in range(3)], 2)
    for number in range(3):
        say(context, f"id-web{number}", State.CONFIRMED, 2)
    say(context, "id-db0", State.WATCHING, 0)
    undo(context)
    assert retreats(context) == []
    say(context, "id-db0", State.CONFIRMED, 0, current_sha256=OLD_DIGEST)
    (first,) = retreats(context)
    assert retreats(context) == [first]
    say(context, first, State.CONFIRMED, 1, current_sha256=OLD_DIGEST)
    assert len(retreats(context)) == 2


def undo(context: Context) -> None:
    """Take the rollout back as an operator does; what it goes back to is published too."""
    with context.storage.transaction() as tx:
        place = rollouts.load(context, tx, "dev")
        one = next(it for it in place.assignments if it.id == "a2")
        rollouts.restore(tx, place, one, place.now_unix_ms, other_release=True)
        tx.put_assignment(replace(one, state=RolloutState.REVERTING, reason="undo", done_unix_ms=0))


def retreats(context: Context) -> list[str]:
    ticking.tick(context, {"dev"})
    with context.storage.transaction() as tx:
        return sorted(tx.retreats("a2"))


def test_who_asks_sees_which_budget_a_host_waits_for(context: Context) -> None:
    """The picture that `rollout show` and `watch` draw has it as the reason of the host."""
    fleet(context, 2)
    deploy(context, 1, selector={"role": "web"}, **ONE_PER_RACK)
    (first,) = moved(context, "a1")
    with context.storage.transaction() as tx:
        place = rollouts.load(context, tx, "dev")
        seen = rollouts.picture(context, tx, place, steering.find(tx, "a1"))
    said = {one.host.id: one.standing.reason for one in seen.hosts}
    (left,) = set(said) - {first}
    assert said[left] == "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed"
