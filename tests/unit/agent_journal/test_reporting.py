"""What a host says about itself: every app's state, kept until the server has it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.server import FakeServer
from towpath.errors import Refusal
from towpath.reports import MAX_EVENTS_PER_REPORT, AppState, Event, Prefetch, PrefetchState, Transfer
from towpath.status import Health, State, Verdict
from towpath_agent.engine import pacing
from towpath_agent.engine.health import HealthVerdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.journal import Deployed, Journal, Transaction, open_journal
from towpath_agent.runner.reporting import Reporter, app_states

V1 = Deployed(Wish("hello", b"\x01" * 32, "1.0", {"port": 80}, 1), b"one")
V2 = Deployed(Wish("hello", b"\x02" * 32, "2.0", {"port": 81}, 2), b"two")
MOVE = Transaction("tx", V2.wish, V2.release, V1, reason="why", verdict=Verdict.NONE)
HEALTHY = HealthVerdict(Health.HEALTHY, "all probes pass")
RUNS = AppState(
    app="hello",
    current_version="1.0",
    current_sha256=b"\x01" * 32,
    desired_version="1.0",
    desired_sha256=b"\x01" * 32,
    state=State.CONFIRMED,
    health=Health.HEALTHY,
    verdict=Verdict.SUCCEEDED,
    generation=1,
    parameters={"port": 80},
)
ILL = Failure(V2.wish, "it fell ill", Verdict.FAILED)
REFUSED: dict[str, str | int] = {
    "version": "3.0",
    "sha256": "03" * 32,
    "generation": 3,
    "code": "rollback",
    "message": "cannot accept",
}


def state_of(
    *,
    wish: Wish | None = None,
    current: Deployed | None = None,
    previous: Deployed | None = None,
    opened: Transaction | None = None,
    failure: Failure | None = None,
    refused: dict[str, str | int] | None = None,
    health: HealthVerdict | None = None,
    prefetch: Prefetch | None = None,
    transfer: Transfer | None = None,
) -> AppState:
    def by_app(it: Any) -> dict[str, Any]:
        return {} if it is None else {"hello": it}

    (state,) = app_states(
        desired=by_app(wish),
        current=by_app(current),
        previous=by_app(previous),
        opened=by_app(opened),
        failures=by_app(failure),
        refused=by_app(refused),
        health=by_app(health),
        prefetch=by_app(prefetch),
        transfers=by_app(transfer),
    )
    return state


def test_what_runs_as_it_should_is_confirmed() -> None:
    """An app that runs what it should says so, with its digest, parameters, generation and health."""
    assert state_of(wish=V1.wish, current=V1, health=HEALTHY) == RUNS


def test_health_is_unknown_until_it_was_looked_at() -> None:
    """After a restart, before the first probe, nothing is claimed."""
    assert state_of(wish=V1.wish, current=V1).health is Health.UNKNOWN


def test_ill_health_comes_with_its_reason_and_good_health_without() -> None:
    """Only unhealthy has a reason to read."""
    ill = state_of(wish=V1.wish, current=V1, health=HealthVerdict(Health.UNHEALTHY, "503"))
    assert (ill.health, ill.reason, ill.state) == (Health.UNHEALTHY, "503", State.CONFIRMED)


def test_previous_is_what_can_be_gone_back_to() -> None:
    """The version that is kept is shown."""
    assert state_of(wish=V2.wish, current=V2, previous=V1).previous_version == "1.0"


def test_what_is_only_desired_is_planned() -> None:
    """An app that should run and does not yet has no current and no verdict."""
    state = state_of(wish=V2.wish)
    assert state == AppState("hello", desired_version="2.0", desired_sha256=b"\x02" * 32, state=State.PLANNED)


def test_what_is_to_be_removed_has_no_desired() -> None:
    """An app that still runs but is in no desired set any more shows that."""
    state = state_of(current=V1)
    assert (state.current_version, state.desired_version, state.desired_sha256) == ("1.0", "", b"")


BEFORE = [State.PLANNED, State.FETCHING, State.STAGED, State.PREPARED, State.SWITCHING]


@pytest.mark.parametrize("at", [*BEFORE, State.REVERTING, State.STUCK, State.REVERTED])
def test_under_way_the_old_release_is_current_until_the_switch(at: State) -> None:
    """A transaction shows its state, aim and generation; what runs, and how it is, is still the old release."""
    state = state_of(wish=V2.wish, current=V1, opened=replace(MOVE, state=at), health=HEALTHY)
    assert state == replace(
        RUNS,
        state=at,
        desired_version="2.0",
        desired_sha256=b"\x02" * 32,
        verdict=Verdict.NONE,
        reason="why",
        generation=2,
    )


@pytest.mark.parametrize("at", [State.SWITCHED, State.WATCHING])
def test_between_switch_and_confirm_the_new_release_is_current_and_starting(at: State) -> None:
    """What is live is told as it is, and never as healthy before it is proven."""
    state = state_of(wish=V2.wish, current=V1, opened=replace(MOVE, state=at), health=HEALTHY)
    assert (state.current_version, state.current_sha256, state.parameters) == ("2.0", b"\x02" * 32, {"port": 81})
    assert (state.state, state.health) == (at, Health.STARTING)


def test_a_removal_that_is_live_runs_nothing() -> None:
    """After the switch of a removal there is nothing that could be starting."""
    state = state_of(current=V1, opened=Transaction("tx", Wish("hello"), b"", V1, State.SWITCHED))
    assert (state.current_version, state.current_sha256, state.health) == ("", b"", Health.UNKNOWN)


def test_a_confirmed_transaction_in_probation_is_told_as_what_runs() -> None:
    """Probation is a watch, not a state of its own."""
    state = state_of(wish=V1.wish, current=V1, opened=replace(MOVE, state=State.CONFIRMED), health=HEALTHY)
    assert state == RUNS


def test_a_refused_release_is_told_as_refused_beside_what_runs() -> None:
    """The refusal names what was refused, in its generation; the old release goes on, and is told so."""
    state = state_of(current=V1, refused=REFUSED, health=HEALTHY)
    assert state == replace(
        RUNS,
        desired_version="3.0",
        desired_sha256=b"\x03" * 32,
        verdict=Verdict.REFUSED,
        reason="cannot accept",
        generation=3,
    )
    assert state_of(refused=REFUSED).verdict is Verdict.REFUSED


def test_what_is_under_way_is_told_before_a_refusal() -> None:
    """A transaction that is open tells its own state."""
    assert state_of(opened=replace(MOVE, state=State.STAGED), refused=REFUSED).state is State.STAGED


@pytest.mark.parametrize("current", [None, V1])
def test_a_failed_release_is_told_as_reverted_as_long_as_it_is_desired(current: Deployed | None) -> None:
    """After the transaction is gone its failure still answers the assignment, across restarts."""
    state = state_of(wish=V2.wish, current=current, failure=replace(ILL, verdict=Verdict.INCONCLUSIVE))
    assert (state.state, state.verdict, state.reason) == (State.REVERTED, Verdict.INCONCLUSIVE, "it fell ill")
    assert (state.generation, state.desired_version) == (2, "2.0")
    assert state.current_version == ("1.0" if current else "")


@pytest.mark.parametrize(
    ("wish", "current"),
    [
        (replace(V2.wish, generation=3), V1),
        (replace(V2.wish, parameters={}), V1),
        (V2.wish, V2),
        (None, V1),
    ],
)
def test_an_old_failure_does_not_answer_a_new_wish(wish: Wish | None, current: Deployed) -> None:
    """A new generation, other parameters, a release that runs by now, or no wish at all: the failure is history."""
    assert state_of(wish=wish, current=current, failure=ILL).state is State.CONFIRMED


def test_what_travels_is_told_while_it_is_fetched() -> None:
    """For a change and ahead of one; what was told last is over when the state says so."""
    some = Transfer("2.0.0", 1, 2)
    fetching, staged = replace(MOVE, state=State.FETCHING), replace(MOVE, state=State.STAGED)
    assert state_of(wish=V1.wish, opened=fetching, transfer=some).transfer == some
    assert state_of(wish=V1.wish, opened=staged, transfer=some).transfer is None
    assert state_of(wish=V1.wish, current=V1, prefetch=AHEAD, transfer=some).transfer is None
    ahead = replace(AHEAD, state=PrefetchState.FETCHING)
    assert state_of(wish=V1.wish, current=V1, prefetch=ahead, transfer=some).transfer == some


def test_all_apps_are_told_by_name() -> None:
    """Running, under way, desired and refused apps are all there, in order."""
    states = app_states(
        desired={"c": replace(V1.wish, app="c")},
        current={"d": V1},
        previous={},
        opened={"b": MOVE},
        failures={"x": ILL},
        refused={"a": REFUSED},
        health={},
        prefetch={"e": AHEAD},
        transfers={},
    )
    assert [state.app for state in states] == ["a", "b", "c", "d", "e"]


AHEAD = Prefetch("2.0.0", b"z" * 32, PrefetchState.COMPLETE)


def test_what_is_fetched_ahead_stands_beside_what_runs() -> None:
    """It changes nothing else of an app's state; of an app that is only announced it is all there is."""
    assert state_of(wish=V1.wish, current=V1, health=HEALTHY, prefetch=AHEAD) == replace(RUNS, prefetch=AHEAD)
    assert state_of(prefetch=AHEAD) == AppState("hello", prefetch=AHEAD)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now_unix_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, event: object, seconds: float) -> bool:
        raise AssertionError("a reporter never waits")


class DeafServer(FakeServer):
    """Takes reports and acknowledges what it likes; keeps how many came with each."""

    def __init__(self, deaf: int = 0, stranger: str = "") -> None:
        super().__init__()
        self.deaf, self.stranger = deaf, stranger
        self.sizes: list[int] = []

    def report(self, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> list[str]:
        self.sizes.append(len(events))
        self.known_state_revision = state_revision
        self.apps = {state.app: state for state in apps}
        if self.deaf:
            self.deaf -= 1
            return [self.stranger] if self.stranger else []
        self.events.update({event.id: event for event in events})
        return [event.id for event in events]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    it = open_journal(tmp_path / "state.db")
    yield it
    it.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def reporter(journal: Journal, clock: HandClock) -> Reporter:
    return Reporter(journal, clock)


def tell(journal: Journal, *numbers: int) -> None:
    with journal._commit() as cursor:  # one commit for all: hundreds of synced ones would only be slow
        for number in numbers:
            journal._put_event(cursor, Event(f"e{number}", 0, "transition"))


def test_a_change_raises_the_revision_and_is_durable(journal: Journal, clock: HandClock, reporter: Reporter) -> None:
    """A changed state has a higher revision and the time of its change; the next agent goes on from there."""
    reporter.update([RUNS], 5)
    assert (reporter.revision, journal.app_states()) == (1, [replace(RUNS, since_unix_ms=5)])
    reporter.update([replace(RUNS, reason="new")], 9)
    again = Reporter(journal, clock)
    assert (reporter.revision, again.revision) == (2, 2)
    again.update([replace(RUNS, reason="new")], 11)
    assert again.revision == 2
    assert [state.since_unix_ms for state in journal.app_states()] == [9]


def test_no_change_writes_nothing(journal: Journal, reporter: Reporter) -> None:
    """The same state again keeps revision and time: an idle host does not write."""
    reporter.update([RUNS], 5)
    journal.set_app_states([], 1)
    reporter.update([RUNS], 6)
    assert (reporter.revision, journal.app_states()) == (1, [])


def test_each_app_has_its_own_time_of_change(journal: Journal, reporter: Reporter) -> None:
    """A change of one app leaves the time of another one; an app that is gone is a change too."""
    other = replace(RUNS, app="other")
    reporter.update([RUNS, other], 5)
    reporter.update([RUNS, replace(other, reason="x")], 9)
    assert [state.since_unix_ms for state in journal.app_states()] == [5, 9]
    reporter.update([RUNS], 10)
    assert (reporter.revision, [state.app for state in journal.app_states()]) == (3, ["hello"])


def test_a_new_agent_reports_at_once_and_then_is_silent(reporter: Reporter, clock: HandClock) -> None:
    """At start the whole state is sent, whatever the server had; then nothing until there is something to say."""
    server = FakeServer()
    assert reporter.due_s() is not None
    reporter.flush(server)
    assert (server.report_calls, reporter.due_s()) == (1, None)
    clock.now_s += 1e6
    reporter.flush(server)
    assert server.report_calls == 1


def test_a_change_is_reported_with_its_revision(reporter: Reporter) -> None:
    """The server has the state and the revision of the newest report."""
    server = FakeServer()
    reporter.flush(server)
    reporter.update([RUNS], 5)
    assert reporter.due_s() == 0.0
    reporter.flush(server)
    assert (server.apps, server.known_state_revision) == ({"hello": replace(RUNS, since_unix_ms=5)}, 1)
    assert reporter.due_s() is None


def test_events_are_sent_until_acknowledged_and_not_again(journal: Journal, reporter: Reporter) -> None:
    """What the server committed leaves the outbox and stays in the history."""
    server = FakeServer()
    reporter.flush(server)
    tell(journal, 1, 2)
    reporter.happened()
    reporter.flush(server)
    assert (list(server.events), journal.outbox(9)) == (["e1", "e2"], [])
    assert len(journal.events()) == 2


def test_more_events_than_one_report_holds_go_one_after_the_other(journal: Journal, reporter: Reporter) -> None:
    """After a long outage everything is sent at once, in reports of the limit."""
    server = DeafServer()
    tell(journal, *range(MAX_EVENTS_PER_REPORT * 2 + 1))
    reporter.flush(server)
    assert server.sizes == [MAX_EVENTS_PER_REPORT, MAX_EVENTS_PER_REPORT, 1]
    assert (journal.outbox(1), reporter.due_s()) == ([], None)


@pytest.mark.parametrize("stranger", ["", "not-yours"])
def test_a_server_that_acknowledges_nothing_is_asked_again_later(
    journal: Journal, reporter: Reporter, clock: HandClock, stranger: str
) -> None:
    """Events that were taken but not committed are kept and sent after a moment, never in a tight loop."""
    server = DeafServer(deaf=1, stranger=stranger)
    tell(journal, *range(MAX_EVENTS_PER_REPORT))
    reporter.flush(server)
    assert len(server.sizes) == 1
    assert reporter.due_s() == clock.now_s + pacing.FIRST_RETRY_S
    reporter.flush(server)
    assert len(server.sizes) == 1
    clock.now_s += pacing.FIRST_RETRY_S
    reporter.flush(server)
    assert (len(server.sizes), reporter.due_s()) == (3, None)
    assert len(server.events) == MAX_EVENTS_PER_REPORT


@pytest.mark.parametrize("trouble", ["away", "refuses", "lost reply"])
def test_what_a_server_did_not_take_is_kept_and_sent_later(
    journal: Journal, reporter: Reporter, clock: HandClock, trouble: str
) -> None:
    """A server that is away, says no, or whose reply is lost costs only time, which grows until it is back."""
    server = FakeServer()
    tell(journal, 1)
    reporter.update([RUNS], 5)
    waits = []
    for _ in range(4):
        server.unreachable = trouble == "away"
        server.refusal = Refusal("no", code="revoked") if trouble == "refuses" else None
        server.lost_reports = 1 if trouble == "lost reply" else 0
        reporter.flush(server)
        due = reporter.due_s()
        assert due is not None
        waits.append(due - clock.now_s)
        assert len(journal.outbox(9)) == 1
        calls = server.report_calls
        reporter.flush(server)
        assert server.report_calls == calls
        clock.now_s = due
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0])
    server.unreachable, server.refusal, server.lost_reports = False, None, 0
    reporter.flush(server)
    assert (list(server.events), server.known_state_revision, reporter.due_s()) == (["e1"], 1, None)
    server.unreachable = True
    reporter.update([], 6)
    reporter.flush(server)
    assert reporter.due_s() == clock.now_s + 0.5


def test_a_server_from_a_backup_is_told_everything_again(reporter: Reporter) -> None:
    """A server that knows another revision than was sent gets the whole state; one that knows it does not."""
    server = FakeServer()
    reporter.update([RUNS], 5)
    reporter.flush(server)
    for knows in (1, None):
        reporter.server_knows(knows)
        assert reporter.due_s() is None
    for knows in (0, 7):
        server.apps.clear()
        reporter.server_knows(knows)
        assert reporter.due_s() == 0.0
        reporter.flush(server)
        assert set(server.apps) == {"hello"}
