"""The journal: what was committed is there, as one, and the same after reopening."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from towpath.errors import Broken
from towpath.parameters import Value
from towpath.reports import AppState, Event
from towpath.status import Health, State, Verdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.errors import DiskFull
from towpath_agent.journal import (
    MAX_EVENTS,
    Deployed,
    Journal,
    Transaction,
    open_journal,
    open_readonly,
    wish_from_text,
    wish_to_text,
)

PARAMETERS: dict[str, Value] = {"port": 80, "debug": True, "name": "ä\n'x", "many": ("a", "b")}
V1 = Deployed(Wish("hello", b"\x01" * 32, "1.0", PARAMETERS, 1), b"release one \x00\xff")
V2 = Deployed(Wish("hello", b"\x02" * 32, "2.0", {}, 2), b"release two")
V3 = Deployed(Wish("hello", b"\x03" * 32, "3.0", {}, 3), b"release three")
OTHER = Deployed(Wish("other", b"\x09" * 32, "0.9"), b"other")
MOVE = Transaction("tx", V2.wish, V2.release, V1, begun_unix_ms=5)
REMOVAL = Transaction("tx", Wish("hello"), b"", V1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    it = open_journal(path)
    yield it
    it.close()


def reopened(path: Path) -> Journal:
    """What an agent finds that was killed: the first connection is never closed."""
    return open_journal(path)


def event(number: int | str, **more: str) -> Event:
    return Event(id=f"e{number}", at_unix_ms=7, kind="transition", **more)


def ids(events: list[Event]) -> list[str]:
    return [it.id for it in events]


def test_a_new_journal_is_empty(journal: Journal) -> None:
    """Nothing was accepted, nothing runs, nothing is to be said; an empty desired set would be something else."""
    assert journal.desired() is None
    assert (journal.meta(), journal.deployed("current"), journal.transactions()) == ({}, {}, [])
    assert (journal.failures(), journal.app_states(), journal.events(), journal.outbox(5)) == ({}, [], [], [])


def test_a_wish_survives_its_text() -> None:
    """Every type of parameter comes back as it was, lists as tuples, and the same wish gives the same text."""
    assert wish_from_text(wish_to_text(V1.wish)) == V1.wish
    turned = replace(V1.wish, parameters=dict(reversed(PARAMETERS.items())))
    assert wish_to_text(turned) == wish_to_text(V1.wish)
    back = wish_from_text(wish_to_text(V1.wish)).parameters
    assert {name: type(value) for name, value in back.items()} == {n: type(v) for n, v in PARAMETERS.items()}


def test_small_facts_are_kept_and_replaced(journal: Journal, path: Path) -> None:
    """A fact that is set again has its new value; the others stay."""
    journal.set_meta(a="1", b="2")
    journal.set_meta(a="3")
    assert journal.meta() == {"a": "3", "b": "2"}
    assert reopened(path).meta() == {"a": "3", "b": "2"}


def test_the_desired_set_is_replaced_as_a_whole(journal: Journal, path: Path) -> None:
    """Apps come back by name with their release; one that is missing in the next set is gone; an empty set is a set."""
    journal.set_desired([OTHER, V1], "print-1")
    assert journal.desired() == [V1, OTHER]
    assert journal.meta()["desired"] == "print-1"
    journal.set_desired([V2], "print-2")
    assert reopened(path).desired() == [V2]
    journal.set_desired([], "print-3")
    assert journal.desired() == []
    assert journal.meta()["desired"] == "print-3"


def test_current_and_previous_are_recorded_as_one(journal: Journal, path: Path) -> None:
    """Each call says what stands in both slots; what it does not name is gone, other apps are not touched."""
    journal.set_current("other", OTHER, None)
    journal.set_current("hello", V2, V1)
    assert journal.deployed("current") == {"hello": V2, "other": OTHER}
    assert reopened(path).deployed("previous") == {"hello": V1}
    journal.set_current("hello", V1, None)
    assert (journal.deployed("current")["hello"], journal.deployed("previous")) == (V1, {})
    journal.set_current("hello", None, None)
    assert journal.deployed("current") == {"other": OTHER}


FULL = Transaction(
    id="tx-9",
    wish=V2.wish,
    release=V2.release,
    old=V1,
    state=State.STUCK,
    touched=True,
    attempts=2,
    tries=3,
    verdict=Verdict.INCONCLUSIVE,
    reason="why",
    code="unhealthy",
    retry_after_s=1.5,
    begun_unix_ms=11,
    confirmed_unix_ms=12,
)


@pytest.mark.parametrize("tx", [MOVE, REMOVAL, FULL, replace(MOVE, old=None), replace(FULL, retry_after_s=None)])
def test_a_transaction_comes_back_equal(journal: Journal, path: Path, tx: Transaction) -> None:
    """Every field of a transaction survives: a move, a first install, a removal."""
    journal.put_transaction(tx)
    assert reopened(path).transactions() == [tx]
    assert tx.app == "hello"


def test_a_transaction_is_replaced_by_its_next_state(journal: Journal) -> None:
    """One id is one transaction, in its newest state; each state's event is told."""
    journal.put_transaction(MOVE, event(1))
    journal.put_transaction(replace(MOVE, state=State.FETCHING), event(2))
    assert journal.transactions() == [replace(MOVE, state=State.FETCHING)]
    assert ids(journal.outbox(9)) == ["e1", "e2"]


def test_transactions_come_oldest_first_and_can_be_dropped(journal: Journal) -> None:
    """The order is that of their beginning, then of their ids; a dropped one leaves its events."""
    for tx_id, begun in (("c", 2), ("b", 2), ("a", 3), ("d", 1)):
        journal.put_transaction(replace(MOVE, id=tx_id, begun_unix_ms=begun), event(tx_id))
    assert [tx.id for tx in journal.transactions()] == ["d", "b", "c", "a"]
    journal.drop_transaction("b")
    journal.drop_transaction("never was")
    assert [tx.id for tx in journal.transactions()] == ["d", "c", "a"]
    assert "eb" in ids(journal.events())


def test_confirm_records_the_new_release_and_what_it_replaced(journal: Journal, path: Path) -> None:
    """After a confirm the new one is current, the old one previous, the event waits, the failure is forgotten."""
    journal.set_current("hello", V1, V3)
    journal.remember_failure(Failure(V2.wish, "ill", Verdict.FAILED))
    journal.remember_failure(Failure(OTHER.wish, "ill", Verdict.FAILED))
    done = replace(MOVE, state=State.CONFIRMED)
    journal.confirm(done, event(1))
    again = reopened(path)
    assert (again.deployed("current"), again.deployed("previous")) == ({"hello": V2}, {"hello": V1})
    assert (again.transactions(), ids(again.outbox(9)), set(again.failures())) == ([done], ["e1"], {"other"})


def test_confirm_of_other_parameters_keeps_previous(journal: Journal) -> None:
    """The same bits with other parameters replace nothing: what was previous stays what to go back to."""
    journal.set_current("hello", V2, V1)
    changed = Deployed(replace(V2.wish, parameters={"port": 81}), V2.release)
    journal.confirm(Transaction("tx", changed.wish, changed.release, V2, State.CONFIRMED), event(1))
    assert (journal.deployed("current"), journal.deployed("previous")) == ({"hello": changed}, {"hello": V1})


def test_confirm_of_other_parameters_without_previous_invents_none(journal: Journal) -> None:
    """A first release whose parameters change has still nothing to go back to."""
    journal.set_current("hello", V2, None)
    changed = Deployed(replace(V2.wish, parameters={"port": 81}), V2.release)
    journal.confirm(Transaction("tx", changed.wish, changed.release, V2, State.CONFIRMED), event(1))
    assert journal.deployed("previous") == {}


def test_confirm_of_a_first_install_has_no_previous(journal: Journal) -> None:
    """Where nothing ran, nothing is kept."""
    journal.confirm(replace(MOVE, old=None, state=State.CONFIRMED), event(1))
    assert (journal.deployed("current"), journal.deployed("previous")) == ({"hello": V2}, {})


def test_confirm_of_a_removal_leaves_nothing(journal: Journal) -> None:
    """After a removal neither slot holds the app."""
    journal.set_current("hello", V1, V3)
    journal.confirm(replace(REMOVAL, state=State.CONFIRMED), event(1))
    assert (journal.deployed("current"), journal.deployed("previous")) == ({}, {})


def test_revert_puts_back_what_stood_before(journal: Journal, path: Path) -> None:
    """After a revert the old one is current with the previous that is handed in, and failures are not forgotten."""
    journal.set_current("hello", V2, V1)
    journal.remember_failure(Failure(V2.wish, "ill", Verdict.FAILED))
    back = replace(MOVE, state=State.REVERTED)
    journal.revert(back, event(1), V3)
    again = reopened(path)
    assert (again.deployed("current"), again.deployed("previous")) == ({"hello": V1}, {"hello": V3})
    assert (again.transactions(), ids(again.outbox(9)), set(again.failures())) == ([back], ["e1"], {"hello"})


def test_revert_of_a_first_install_leaves_nothing(journal: Journal) -> None:
    """Where nothing ran before, nothing is current after, and nothing previous."""
    journal.set_current("hello", V2, None)
    journal.revert(replace(MOVE, old=None, state=State.REVERTED), event(1), V3)
    assert (journal.deployed("current"), journal.deployed("previous")) == ({}, {})


ACTS: dict[str, Callable[[Journal], None]] = {
    "confirm": lambda it: it.confirm(replace(MOVE, state=State.CONFIRMED), event(1)),
    "revert": lambda it: it.revert(replace(MOVE, state=State.REVERTED), event(1), None),
    "put_transaction": lambda it: it.put_transaction(replace(MOVE, state=State.FETCHING), event(1)),
    "set_current": lambda it: it.set_current("hello", V1, V3),
    "set_desired": lambda it: it.set_desired([V1], "new"),
    "set_app_states": lambda it: it.set_app_states([AppState("hello")], 2),
}


def everything(it: Journal) -> object:
    return (it.meta(), it.desired(), it.deployed("current"), it.deployed("previous"), it.transactions()), (
        it.failures(),
        it.app_states(),
        it.events(),
    )


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("table", ["meta", "desired", "deployed", "txn", "failure", "app_state", "event"])
def test_what_is_committed_as_one_is_there_as_one(journal: Journal, path: Path, act: str, table: str) -> None:
    """Where any of the writes of one act fails, none of them is there, here and after reopening, and the next works."""
    journal.set_desired([V2], "old")
    journal.set_current("hello", V2, None)
    journal.put_transaction(MOVE, event(0))
    journal.remember_failure(Failure(V3.wish, "", Verdict.FAILED))
    journal.set_app_states([AppState("hello", reason="old")], 1)
    before = everything(journal)
    saboteur = sqlite3.connect(path)
    for verb in ("INSERT", "DELETE"):
        saboteur.execute(
            f"CREATE TRIGGER no_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'sabotage'); END"
        )
    saboteur.commit()
    try:
        ACTS[act](journal)
    except Broken as error:
        assert error.code == "journal"
        assert str(error) == "cannot write the journal: sabotage"
        assert everything(journal) == before
        assert everything(reopened(path)) == before
    else:
        assert everything(journal) == everything(reopened(path)) != before
    for verb in ("INSERT", "DELETE"):
        saboteur.execute(f"DROP TRIGGER no_{verb}")
    saboteur.commit()
    saboteur.close()
    ACTS[act](journal)
    assert everything(journal) != before


SMALL_ACTS: dict[str, Callable[[Journal], None]] = {
    **ACTS,
    "set_meta": lambda it: it.set_meta(desired="other"),
    "drop_transaction": lambda it: it.drop_transaction("tx"),
    "remember_failure": lambda it: it.remember_failure(Failure(V1.wish, "", Verdict.FAILED)),
    "forget_failure": lambda it: it.forget_failure("hello"),
    "add_event": lambda it: it.add_event(event(9)),
    "acknowledge": lambda it: it.acknowledge(["e0"]),
}


@pytest.mark.parametrize("act", SMALL_ACTS)
def test_what_was_read_before_a_commit_is_not_what_is_answered_after_it(journal: Journal, path: Path, act: str) -> None:
    """Answers are kept until the next commit, whichever it is: then the disk is asked again."""
    journal.set_desired([V2], "old")
    journal.set_current("hello", V2, None)
    journal.put_transaction(MOVE, event(0))
    journal.remember_failure(Failure(V3.wish, "", Verdict.FAILED))
    before = (everything(journal), journal.outbox(9))
    SMALL_ACTS[act](journal)
    again = reopened(path)
    assert (everything(journal), journal.outbox(9)) == (everything(again), again.outbox(9)) != before


def test_an_answer_belongs_to_who_asked(journal: Journal) -> None:
    """What a caller does to a list or a dict that it got changes nobody else's answer."""
    journal.set_desired([V1], "set")
    journal.set_current("hello", V1, V2)
    journal.put_transaction(MOVE, event(0))
    journal.remember_failure(Failure(V3.wish, "", Verdict.FAILED))
    journal.set_app_states([AppState("hello")], 1)
    before = everything(journal)
    for answer in (
        journal.desired(),
        journal.transactions(),
        journal.events(),
        journal.outbox(9),
        journal.app_states(),
    ):
        assert answer
        answer.clear()
    for named in (journal.meta(), journal.deployed("current"), journal.deployed("previous"), journal.failures()):
        assert named
        named.clear()
    assert everything(journal) == before


def test_an_error_that_is_not_the_databases_leaves_nothing_half_done(journal: Journal) -> None:
    """A value that cannot be written undoes the whole act and does not block the next one."""
    journal.set_desired([V1], "old")
    broken = Deployed(replace(V2.wish, parameters={"x": object()}), b"")  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        journal.set_desired([OTHER, broken], "new")
    assert (journal.desired(), journal.meta()["desired"]) == ([V1], "old")
    journal.set_desired([V2], "next")
    assert journal.desired() == [V2]


def test_a_forgotten_failure_is_gone_and_others_stay(journal: Journal, path: Path) -> None:
    """Of one app, durably; one that is not there is no error."""
    journal.remember_failure(Failure(V2.wish, "ill", Verdict.FAILED))
    journal.remember_failure(Failure(OTHER.wish, "ill", Verdict.FAILED))
    journal.forget_failure("hello")
    journal.forget_failure("never")
    assert set(journal.failures()) == set(reopened(path).failures()) == {"other"}


def test_failure_memory_survives_a_restart(journal: Journal, path: Path) -> None:
    """What failed, why, how and when to try again is known to the next agent; the newest of an app counts."""
    ill = Failure(V2.wish, "ill", Verdict.FAILED)
    away = Failure(V1.wish, "no line", Verdict.INCONCLUSIVE, retry_unix_ms=5)
    other = Failure(OTHER.wish, "refused", Verdict.REFUSED)
    for failure in (ill, other, away):
        journal.remember_failure(failure)
    remembered = reopened(path).failures()
    assert remembered == {"hello": away, "other": other}
    assert remembered["other"].blocks(OTHER.wish, 2**60)
    assert not remembered["hello"].blocks(V1.wish, 5)


def test_app_states_are_replaced_with_their_revision(journal: Journal, path: Path) -> None:
    """The whole state comes back equal, by name, with the revision that it has."""
    full = AppState(
        "hello",
        "1.0",
        b"\x01" * 32,
        "2.0",
        b"\x02" * 32,
        "0.9",
        State.WATCHING,
        Health.STARTING,
        Verdict.NONE,
        "why",
        3,
        4,
        PARAMETERS,
    )
    journal.set_app_states([AppState("z"), full, AppState("gone")], 6)
    journal.set_app_states([AppState("z"), full], 7)
    again = reopened(path)
    assert again.app_states() == [full, AppState("z")]
    assert again.meta()["state_revision"] == "7"
    state = again.app_states()[0]
    assert (type(state.state), type(state.health), type(state.verdict)) == (State, Health, Verdict)


def test_an_event_comes_back_equal_and_only_once(journal: Journal, path: Path) -> None:
    """An event that is told again under the same id changes nothing, acknowledged or not."""
    full = Event("e1", 5, "drift", "hello", "tx", "Watching", "1.0", b"\x01" * 32, "failed", "ä", "code", "line\n")
    journal.add_event(full)
    journal.add_event(replace(full, reason="told again"))
    assert reopened(path).events() == [full]
    journal.acknowledge(["e1"])
    journal.add_event(full)
    assert (journal.outbox(9), journal.events()) == ([], [full])


def test_the_outbox_gives_the_oldest_that_no_server_has(journal: Journal, path: Path) -> None:
    """Events wait in their order until acknowledged, across restarts; unknown ids are ignored."""
    for number in range(6):
        journal.add_event(event(number))
    assert ids(journal.outbox(2)) == ["e0", "e1"]
    journal.acknowledge(["e0", "e2", "stranger"])
    journal.acknowledge([])
    assert ids(reopened(path).outbox(3)) == ["e1", "e3", "e4"]


def test_history_gives_the_newest_oldest_of_them_first(journal: Journal) -> None:
    """A person reads the last events in the order in which they happened, acknowledged or not."""
    for number in range(6):
        journal.add_event(event(number))
    journal.acknowledge(["e4"])
    assert ids(journal.events(3)) == ["e3", "e4", "e5"]


def test_beyond_the_limit_acknowledged_events_go_first_then_the_oldest(journal: Journal) -> None:
    """Reports that no server has are kept before history; where only such are left, the oldest goes."""
    journal.add_event(event(0))
    with journal._commit() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO event (id, body)"
            " SELECT 'e' || i, replace(body, '\"e0\"', '\"e' || i || '\"') FROM event, n ORDER BY i",
            (MAX_EVENTS - 1,),
        )
    journal.acknowledge(["e1", "e3"])
    for number, gone in enumerate(("e1", "e3", "e0", "e2"), MAX_EVENTS):
        before = set(ids(journal.events(2 * MAX_EVENTS)))
        journal.add_event(event(number))
        after = set(ids(journal.events(2 * MAX_EVENTS)))
        assert (before - after, after - before) == ({gone}, {f"e{number}"})
    assert len(journal.outbox(2 * MAX_EVENTS)) == MAX_EVENTS == 5_000


def test_a_reader_beside_the_agent_sees_what_it_writes_and_writes_nothing(journal: Journal, path: Path) -> None:
    """`status` and `history` read while the agent works: each look is fresh, and nothing can be changed."""
    reader = open_readonly(path)
    assert reader.events() == []
    journal.add_event(event(1))
    assert ids(reader.events()) == ["e1"]
    journal.add_event(event(2))
    assert ids(reader.events()) == ["e1", "e2"]
    with pytest.raises(Broken, match="cannot write the journal"):
        reader.set_meta(a="1")
    reader.close()


def test_a_closed_journal_says_so(path: Path) -> None:
    """Reading what was closed is an error of ours, not of Python's."""
    it = open_journal(path)
    it.close()
    with pytest.raises(Broken, match="cannot read the journal"):
        it.meta()


def test_every_commit_is_synced(journal: Journal) -> None:
    """synchronous=FULL (2) and a rollback journal: what was committed survives a power cut."""
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("truncate",)


def test_a_full_disk_is_said_to_be_one_and_nothing_is_half_written(tmp_path: Path) -> None:
    """SQLite's own word for it becomes the error that is tried again; what was there before stays readable."""
    journal = open_journal(tmp_path / "state.db")
    journal.set_meta(kept="yes")
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DiskFull, match="free some space, it will be tried again"):
        journal.set_meta(large="x" * 100_000)
    assert journal.meta().get("kept") == "yes"
    assert "large" not in journal.meta()
    journal.close()
