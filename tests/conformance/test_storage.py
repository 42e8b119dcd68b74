"""What every `towpath_server.ports.Storage` promises: SQLite on disk, and the tests' storage in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from fakes.memory_server import MemoryStorage
from towpath.budgets import Budget
from towpath.errors import Broken, InputError
from towpath.holds import Hold
from towpath.metrics import Metric
from towpath.reports import AppState, Event, Prefetch, PrefetchState
from towpath.status import Health, State, Verdict
from towpath.waves import Wave
from towpath.windows import Window
from towpath_server.domain.approval import Approval
from towpath_server.domain.model import (
    Ahead,
    Assignment,
    AuditEntry,
    CalendarEntry,
    EnrolmentToken,
    EntryKind,
    EnvironmentRule,
    Gap,
    Host,
    HostStatus,
    Lease,
    Newcomers,
    OnBreach,
    PublishedRelease,
    ReportedApp,
    Retreat,
    RolloutState,
    Setting,
    Timing,
    TokenUse,
)
from towpath_server.ports import Storage, Transaction
from towpath_server.storage import SqlStorage


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Return an empty storage."""
    made = cast("Storage", MemoryStorage()) if request.param == "memory" else SqlStorage(tmp_path / "towpath.db")
    yield made
    made.close()


def host(name: str, **fields: Any) -> Host:
    row = Host(
        id=f"id-{name}",
        name=name,
        environment="dev",
        serial="1f",
        key_sha256=name.encode() * 16,
        certificate_pem=b"pem",
        not_after_unix_ms=20,
        enrolled_unix_ms=10,
        labels={"role": "web"},
    )
    return replace(row, **fields)


def token(**fields: object) -> EnrolmentToken:
    return replace(EnrolmentToken("t1", b"s" * 32, "dev", 2, 9_000, 1_000, "operator/root", {"role": "web"}), **fields)


def assignment(generation: int, **fields: object) -> Assignment:
    row = Assignment(
        id=f"a{generation}",
        app="hello",
        version="1.0.0",
        release_sha256=b"d" * 32,
        environment="dev",
        selector={"role": "web"},
        generation=generation,
        max_unavailable=1,
        max_failures=0,
        progress_deadline_ms=600_000,
        created_unix_ms=5,
        created_by="operator/root",
    )
    return replace(row, **fields)


def release(version: str, counter: int, app: str = "hello") -> PublishedRelease:
    return PublishedRelease(app, version, counter, b"d" * 32, b"\x00bytes\xff", 7, "operator/root")


def reported(host_id: str, app: str = "hello", **fields: object) -> ReportedApp:
    state = AppState(
        app=app,
        current_version="1.0.0",
        current_sha256=b"d" * 32,
        desired_version="1.1.0",
        desired_sha256=b"e" * 32,
        previous_version="0.9.0",
        state=State.WATCHING,
        health=Health.STARTING,
        verdict=Verdict.NONE,
        reason="probes",
        generation=3,
        since_unix_ms=11,
        parameters={"port": 8080, "name": "x", "fast": True, "list": ("a", "b")},
        prefetch=Prefetch("1.2.0", b"f" * 32, PrefetchState.FETCHING, "why"),
    )
    return ReportedApp(host_id, replace(state, **fields), 12)


def test_a_transaction_that_raises_leaves_nothing(storage: Storage) -> None:
    """All or nothing: what was written before the error is undone, what was committed before stays."""
    with storage.transaction() as tx:
        tx.add_host(host("h1"))
    with pytest.raises(ZeroDivisionError), storage.transaction() as tx:
        tx.add_host(host("h2"))
        tx.put_number("n", 1)
        assert tx.host("id-h2") is not None, "reads see the writes before them"
        raise ZeroDivisionError
    with storage.transaction() as tx:
        assert [one.name for one in tx.hosts()] == ["h1"]
        assert tx.number("n") == 0


def test_hosts_come_back_as_they_were(storage: Storage) -> None:
    """A host is found by id, name and key, with every field; names and ids are unique."""
    full = replace(
        host("h1"),
        parameters={"hello.port": "9001"},
        previous_serial="ab",
        boot_id="b",
        state_revision=2**62,
        holds=(Hold("", "ana", "audit week", 1, 2**40), Hold("hello", "bo", "the till", 3, 4)),
        released_unix_ms=2**41,
    )
    other = replace(host("h2"), environment="staging", key_sha256=b"z" * 32)
    with storage.transaction() as tx:
        tx.add_host(other)
        tx.add_host(full)
    with storage.transaction() as tx:
        assert tx.host("id-h1") == tx.host_named("h1") == tx.host_with_key(full.key_sha256) == full
        assert [one.name for one in tx.hosts()] == ["h1", "h2"]
        assert tx.hosts("staging") == [other]
        assert (tx.host("no"), tx.host_named("no"), tx.host_with_key(b"no")) == (None, None, None)
        revoked = replace(full, status=HostStatus.REVOKED, labels={})
        tx.put_host(revoked)
        assert tx.host("id-h1") == revoked


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda tx: tx.add_host(host("h1", id="other")), "exists"),
        (lambda tx: tx.add_host(host("new", id="id-h1")), "exists"),
        (lambda tx: tx.put_host(host("h1", id="other")), "not-found"),
        (lambda tx: tx.put_host(host("h1", id="id-h2")), "exists"),
        (lambda tx: tx.add_token(token()), "exists"),
        (lambda tx: tx.add_release(release("1.0.0", 9)), "exists"),
        (lambda tx: tx.add_assignment(assignment(1, id="other")), "exists"),
        (lambda tx: tx.add_assignment(assignment(9, id="a1")), "exists"),
    ],
)
def test_what_is_taken_or_missing_is_an_input_error(storage: Storage, act: Callable[..., None], code: str) -> None:
    """A taken id or name and a row that is not there are the caller's errors, with a stable code."""
    with storage.transaction() as tx:
        tx.add_host(host("h1"))
        tx.add_host(host("h2"))
        tx.add_token(token())
        tx.add_release(release("1.0.0", 1))
        tx.add_assignment(assignment(1))
    with pytest.raises(InputError) as caught, storage.transaction() as tx:
        act(tx)
    assert caught.value.code == code


def test_last_seen_only_moves_forward(storage: Storage) -> None:
    """Late batches and hosts that are gone do no harm."""
    with storage.transaction() as tx:
        tx.add_host(host("h1"))
        tx.put_seen({"id-h1": 50, "nobody": 1})
        tx.put_seen({"id-h1": 40})
    with storage.transaction() as tx:
        found = tx.host("id-h1")
        assert found is not None
        assert found.last_seen_unix_ms == 50


def test_a_token_is_spent_use_by_use(storage: Storage) -> None:
    """Two uses are two; a third and one of an unknown token are none. Who used it is remembered by key."""
    with storage.transaction() as tx:
        tx.add_token(token())
        assert tx.token("t1") == token()
        assert [tx.spend_token("t1") for _ in range(3)] == [True, True, False]
        assert not tx.spend_token("t2")
        tx.put_token_use(TokenUse("t1", b"k", "id", b"first"))
        tx.put_token_use(TokenUse("t1", b"k", "id", b"second"))
    with storage.transaction() as tx:
        left = tx.token("t1")
        assert left is not None
        assert left.uses_left == 0
        assert tx.token_use("t1", b"k") == TokenUse("t1", b"k", "id", b"second")
        assert tx.token_use("t1", b"other") is None
        assert tx.token("t2") is None


def test_metadata_and_releases_are_kept_byte_for_byte(storage: Storage) -> None:
    """What was signed comes back as it was; files can be replaced and forgotten, releases sort by counter."""
    with storage.transaction() as tx:
        tx.put_metadata({"2.root.json": b"two", "timestamp.json": b"old"})
        tx.put_metadata({"timestamp.json": b"\x00new\xff", "1.root.json": b"one"})
        tx.remove_metadata(["2.root.json", "nothing"])
        tx.add_release(release("1.10.0", 2))
        tx.add_release(release("1.9.0", 1))
        tx.add_release(release("1.0.0", 1, app="alpha"))
    with storage.transaction() as tx:
        assert tx.metadata_names() == ["1.root.json", "timestamp.json"]
        assert tx.metadata("timestamp.json") == b"\x00new\xff"
        assert tx.metadata("2.root.json") is None
        assert [(one.app, one.version) for one in tx.releases()] == [
            ("alpha", "1.0.0"),
            ("hello", "1.9.0"),
            ("hello", "1.10.0"),
        ]
        assert [one.version for one in tx.releases("alpha")] == ["1.0.0"]
        assert tx.release("hello", "1.9.0") == release("1.9.0", 1)
        assert tx.release("hello", "2") is None


def test_assignments_are_listed_newest_first_and_generations_never_repeat(storage: Storage) -> None:
    """Removed ones are history, and a generation is above every other, also one that was given from outside."""
    with storage.transaction() as tx:
        assert tx.next_generation() == 1
        tx.add_assignment(assignment(1))
        tx.add_assignment(assignment(7, environment="staging"))
        tx.add_assignment(assignment(3, app="other"))
        assert tx.next_generation() == 8
        tx.put_assignment_state("a3", RolloutState.REMOVED, "by operator")
        tx.put_assignment_state("nobody", RolloutState.DONE, "")
    with storage.transaction() as tx:
        assert [one.id for one in tx.assignments()] == ["a7", "a1"]
        assert [one.id for one in tx.assignments(removed=True)] == ["a7", "a3", "a1"]
        assert [one.id for one in tx.assignments(environment="dev", removed=True)] == ["a3", "a1"]
        assert [one.id for one in tx.assignments(app="hello", environment="dev")] == ["a1"]
        assert tx.assignment("a1") == assignment(1)
        assert tx.assignment("a3") == assignment(3, app="other", state=RolloutState.REMOVED, reason="by operator")
        assert tx.assignment("a2") is None
        assert tx.next_generation() == 9


def test_an_assignment_is_replaced_as_a_whole(storage: Storage) -> None:
    """Waves, limits and place in them come back as they went in; a generation belongs to one; unknown ones are refused."""
    after = assignment(
        5,
        id="a1",
        state=RolloutState.REVERTING,
        reason="1 of 1 failed",
        waves=(Wave("canary", 600_000), Wave("10%", manual=True), Wave("100%", 5, approve=2, metrics=("errors",))),
        wave=1,
        wave_done_unix_ms=7,
        max_failure_share=500,
        on_breach=OnBreach.REVERT,
        excused=("x", "y"),
        resumed_unix_ms=8,
        done_unix_ms=9,
        timing=Timing((Window((5, 6), 60, 120, "UTC"),), 10, 11, "urgent"),
        offline_wait_ms=12,
        newcomers=Newcomers.WAIT,
        roster=(),
        approvers=("bob", "carol"),
        approvals=(Approval(0, "bob", 7), Approval(1, "carol", 8)),
        metrics=(Metric("errors", "rate(errors[1m])", below=True, good=0.01, bad=0.05, patience_ms=5_000),),
        entered_unix_ms=3,
        prefetch=True,
        budgets=(Budget("rack", 1), Budget("zone", share=2_000)),
        priority=9,
        order_label="rack",
    )
    with storage.transaction() as tx:
        tx.add_assignment(assignment(1))
        tx.add_assignment(assignment(2))
        tx.put_assignment(after)
    with storage.transaction() as tx:
        assert tx.assignment("a1") == after
        assert [one.id for one in tx.assignments()] == ["a1", "a2"]
        assert tx.next_generation() == 6
    for wrong, code in ((assignment(7, id="nobody"), "not-found"), (assignment(2, id="a1"), "exists")):
        with pytest.raises(InputError) as caught, storage.transaction() as tx:
            tx.put_assignment(wrong)
        assert caught.value.code == code


def test_the_calendar_comes_back_as_it_was_oldest_first(storage: Storage) -> None:
    """Freezes and windows, one-off and weekly; an id is taken once, removing what is not there changes nothing."""
    nights = Window((0, 4), 1320, 240, "Europe/Berlin")
    freeze = CalendarEntry("c2", EntryKind.FREEZE, "dev", "why", 5, "operator/root", {"role": "db"}, None, 6, 7)
    window = CalendarEntry("c1", EntryKind.WINDOW, "", "nights", 6, "operator/root", {}, nights)
    with storage.transaction() as tx:
        tx.add_calendar_entry(window)
        tx.add_calendar_entry(freeze)
        tx.remove_calendar_entry("nobody")
    with pytest.raises(InputError) as caught, storage.transaction() as tx:
        tx.add_calendar_entry(freeze)
    assert caught.value.code == "exists"
    with storage.transaction() as tx:
        assert tx.calendar() == [freeze, window]
        tx.remove_calendar_entry("c2")
        assert tx.calendar() == [window]


def test_environments_and_parameters_are_kept_by_their_names(storage: Storage) -> None:
    """Putting replaces, removing what is not there changes nothing, one environment's parameters are asked for alone."""
    first = Setting("dev", "", "hello", "port", "1")
    labelled = Setting("dev", "rack=7", "hello", "port", "2")
    with storage.transaction() as tx:
        tx.put_environment(EnvironmentRule("staging", "dev"))
        tx.put_environment(EnvironmentRule("production", "staging"))
        tx.put_environment(EnvironmentRule("production", "staging", 7_200_000))
        for setting in (labelled, first, Setting("staging", "", "hello", "port", "3"), replace(first, text="4")):
            tx.put_setting(setting)
        tx.put_setting(Setting("dev", "", "admin", "user", "root"))
        tx.remove_setting(Setting("dev", "rack=8", "hello", "port", ""))
        tx.remove_setting(Setting("staging", "", "hello", "port", ""))
    with storage.transaction() as tx:
        assert tx.environments() == [
            EnvironmentRule("production", "staging", 7_200_000),
            EnvironmentRule("staging", "dev"),
        ]
        dev = [Setting("dev", "", "admin", "user", "root"), replace(first, text="4"), labelled]
        assert tx.settings("dev") == tx.settings() == dev
        assert tx.settings("staging") == []


def test_gaps_and_hosts_that_are_ahead_are_kept_until_they_are_cleared(storage: Storage) -> None:
    """The newest gaps alone, the newest word of a host, by name; cleared together."""
    with storage.transaction() as tx:
        for number in (20, 10, 30, 40):
            tx.add_gap(Gap(number, number + 5), 3)
        tx.add_gap(Gap(40, 45), 3)
        tx.put_ahead(Ahead("id-h2", "h2", "dev", 42, 1))
        tx.put_ahead(Ahead("id-h1", "h1", "staging", 31, 1))
        tx.put_ahead(Ahead("id-h2", "h2", "dev", 43, 2))
    with storage.transaction() as tx:
        assert tx.gaps() == [Gap(20, 25), Gap(30, 35), Gap(40, 45)]
        assert tx.ahead() == [Ahead("id-h1", "h1", "staging", 31, 1), Ahead("id-h2", "h2", "dev", 43, 2)]
        tx.forget_ahead("id-h1")
        tx.forget_ahead("id-h9")
        assert [one.name for one in tx.ahead()] == ["h2"]
        tx.clear_ahead()
    with storage.transaction() as tx:
        assert (tx.gaps(), tx.ahead()) == ([], [])


def test_retreats_keep_their_first_time_and_their_arrival(storage: Storage) -> None:
    """Telling a host twice changes nothing; an arrival of somebody who was never told neither; each rollout has its own."""
    many = [f"m{number}" for number in range(1_200)]
    with storage.transaction() as tx:
        tx.retreat("a1", ["x", "y", *many], 5)
        tx.retreat("a1", ["x"], 9)
        tx.retreat("a2", ["x"], 6)
        tx.arrive("a1", ["y", "nobody", *many], 7)
    with storage.transaction() as tx:
        found = tx.retreats("a1")
        assert (found["x"], found["y"]) == (Retreat("a1", "x", 5), Retreat("a1", "y", 5, 7))
        assert set(found) == {"x", "y", *many}
        assert {found[one].arrived_unix_ms for one in many} == {7}
        assert tx.retreats("a2") == {"x": Retreat("a2", "x", 6)}
        assert tx.retreats("a3") == {}


def test_every_change_of_a_host_is_found_by_its_number_and_no_other(storage: Storage) -> None:
    """Whoever follows the database reads what somebody wrote about, and nothing else, of this environment alone."""
    with storage.transaction() as tx:
        for name in ("h1", "h2"):
            tx.add_host(host(name))
        tx.add_host(host("h3", environment="staging"))
        assert sorted(tx.changed_hosts("dev", 0)) == ["id-h1", "id-h2"]
    acts: list[Callable[[Transaction], object]] = [
        lambda tx: tx.put_host(host("h1", labels={"role": "db"})),
        lambda tx: tx.admit("a1", ["id-h1"], 5),
        lambda tx: tx.withdraw("a1", ["id-h1"]),
        lambda tx: tx.retreat("a1", ["id-h1"], 5),
        lambda tx: tx.arrive("a1", ["id-h1"], 6),
        lambda tx: tx.replace_app_states("id-h1", [reported("id-h1")]),
        lambda tx: tx.replace_app_states("id-h1", []),
        lambda tx: tx.put_seen({"id-h1": 10_000_000}),
    ]
    for act in acts:
        with storage.transaction() as tx:
            since = tx.change()
            assert tx.changed_hosts("dev", since) == []
            act(tx)
            assert tx.changed_hosts("dev", since) == ["id-h1"]
            assert tx.changed_hosts("staging", since) == []
            assert tx.change() > since
    with storage.transaction() as tx:
        since = tx.change()
        tx.put_seen({"id-h1": 10_010_000})
        tx.admit("a1", [], 5)
        assert (tx.change(), tx.changed_hosts("dev", since)) == (since, [])


def test_who_asks_for_a_number_is_told_of_what_the_same_transaction_does_afterwards(storage: Storage) -> None:
    """A tick asks how far it followed, and then admits hosts and writes rollouts down: the next tick has to see that."""
    with storage.transaction() as tx:
        tx.add_host(host("h1"))
        tx.add_host(host("h2"))
        tx.add_assignment(assignment(1))
    with storage.transaction() as tx:
        tx.put_seen({"id-h1": 10_000_000})
        change = tx.change()
        tx.admit("a1", ["id-h2"], 5)
        tx.put_assignment_state("a1", RolloutState.PAUSED, "paused")
        rules = tx.rules()
        tx.put_assignment_state("a1", RolloutState.DONE, "all healthy")
    with storage.transaction() as tx:
        assert tx.changed_hosts("dev", change) == ["id-h2"]
        assert tx.rules() > rules


def test_every_change_of_an_assignment_changes_the_number_of_the_rules(storage: Storage) -> None:
    """Whoever follows the database sees that a rule came, went or moved on."""
    with storage.transaction() as tx:
        before = tx.rules()
    acts: list[Callable[[Transaction], object]] = [
        lambda tx: tx.add_assignment(assignment(1)),
        lambda tx: tx.put_assignment(assignment(1)),
        lambda tx: tx.put_assignment_state("a1", RolloutState.DONE, "all healthy"),
    ]
    for act in acts:
        with storage.transaction() as tx:
            act(tx)
            assert tx.rules() > before
            before = tx.rules()


def test_some_hosts_are_read_without_the_others(storage: Storage) -> None:
    """Rows, admissions, retreats and reports of the ids that are asked for; unknown ids are no error."""
    with storage.transaction() as tx:
        for name in ("h1", "h2"):
            tx.add_host(host(name))
        tx.admit("a1", ["id-h1", "id-h2"], 5)
        tx.admit("a2", ["id-h1"], 6)
        tx.retreat("a3", ["id-h1", "id-h2"], 7)
        tx.replace_app_states("id-h1", [reported("id-h1")])
        tx.replace_app_states("id-h2", [reported("id-h2")])
        assert [one.name for one in tx.hosts_of(["id-h1", "nobody"])] == ["h1"]
        assert tx.admissions_of(["id-h1", "nobody"]) == {"id-h1": {"a1": 5, "a2": 6}, "nobody": {}}
        assert tx.retreats_of(["id-h1"]) == [Retreat("a3", "id-h1", 7)]
        assert tx.app_states_of(["id-h1"]) == [reported("id-h1")]


def test_the_lease_is_one_row(storage: Storage) -> None:
    """Nobody decides at first; then the one who was written last."""
    with storage.transaction() as tx:
        assert tx.lease() is None
        tx.put_lease(Lease("one", "seat", 1, 1))
        tx.put_lease(Lease("two", "seat", 2, 1))
        assert tx.lease() == Lease("two", "seat", 2, 1)


def test_admissions_keep_their_first_time(storage: Storage) -> None:
    """Admitting twice changes nothing; withdrawing what is not there neither; each host knows its assignments."""
    many = [f"m{number}" for number in range(1_200)]
    with storage.transaction() as tx:
        tx.admit("a1", ["x", "y"], 5)
        tx.admit("a1", ["x"], 9)
        tx.admit("a2", ["x", *many], 6)
        tx.withdraw("a1", ["y", "nobody"])
        tx.withdraw("a2", many)
    with storage.transaction() as tx:
        assert tx.admissions("a1") == {"x": 5}
        assert tx.admissions("a2") == {"x": 6}
        assert tx.admitted_to(["x", "y", *many]) == {"x": {"a1", "a2"}, "y": set(), **{one: set() for one in many}}


def test_events_are_kept_once_in_order(storage: Storage) -> None:
    """An event's id decides per host: sending it again, or twice in one report, adds nothing. Pruning keeps the newest."""
    events = [
        Event(f"e{number}", number, "transition", "hello", "tx", "Staged", "1", b"d" * 32, "", "why", "code", "out")
        for number in range(5)
    ]
    with storage.transaction() as tx:
        assert tx.add_events("x", [events[1], events[0], events[1]]) == 2
        assert tx.add_events("x", events) == 3
        assert tx.add_events("y", events[:1]) == 1
    with storage.transaction() as tx:
        assert tx.events("x", 10) == [events[1], events[0], *events[2:]]
        assert tx.events("x", 2) == events[3:]
        tx.prune_events("x", 1)
        assert tx.events("x", 10) == events[4:]
        assert tx.events("y", 10) == events[:1]
        assert tx.events("z", 10) == []


def test_the_reported_state_is_replaced_as_a_whole(storage: Storage) -> None:
    """An app that is missing from the newest report is gone, other hosts are not touched, parameters keep their types."""
    with storage.transaction() as tx:
        tx.replace_app_states("x", [reported("x"), reported("x", "zeta")])
        tx.replace_app_states("y", [reported("y")])
        tx.replace_app_states("x", [reported("x", state=State.CONFIRMED, verdict=Verdict.SUCCEEDED)])
    with storage.transaction() as tx:
        newest = reported("x", state=State.CONFIRMED, verdict=Verdict.SUCCEEDED)
        assert tx.app_states() == [newest, reported("y")]
        assert tx.app_states(host_id="y") == tx.app_states(app="hello", host_id="y") == [reported("y")]
        assert tx.app_states(app="zeta") == []


def test_the_audit_log_only_grows(storage: Storage) -> None:
    """The newest entries come last, and a limit cuts the oldest."""
    entries = [AuditEntry(number, "operator/root", "deploy", f"app/{number}", "", "done") for number in range(3)]
    with storage.transaction() as tx:
        for entry in entries:
            tx.add_audit(entry)
    with storage.transaction() as tx:
        assert tx.audit(10) == entries
        assert tx.audit(2) == entries[1:]


def test_numbers_are_kept_by_name(storage: Storage) -> None:
    """A number that was never set is zero."""
    with storage.transaction() as tx:
        tx.put_number("a", 1)
        tx.put_number("a", 2**62)
    with storage.transaction() as tx:
        assert (tx.number("a"), tx.number("b")) == (2**62, 0)


def test_a_database_survives_its_process(tmp_path: Path) -> None:
    """Opened again, everything that was committed is there; the file is for its owner alone."""
    path = tmp_path / "towpath.db"
    first = SqlStorage(path)
    with first.transaction() as tx:
        tx.add_host(host("h1"))
    first.close()
    second = SqlStorage(path)
    with second.transaction() as tx:
        assert tx.host_named("h1") == host("h1")
    second.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A damaged database is an error that says what to do, and not one byte of it changes."""
    path = tmp_path / "towpath.db"
    path.write_bytes(b"this is no database, and long enough to be looked at" * 100)
    with pytest.raises(Broken, match=r"cannot open .*towpath\.db: .*; put back a backup"):
        SqlStorage(path)
    assert path.read_bytes().startswith(b"this is no database")
