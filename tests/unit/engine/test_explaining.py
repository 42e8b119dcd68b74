"""The chain of reasons on the host: every fact that decides, in order, with the command that would change it."""

from dataclasses import replace

from towpath.holds import Hold
from towpath.reports import Prefetch, PrefetchState
from towpath.status import Health, State, Verdict
from towpath_agent.engine.explaining import Facts, Live, Underway, chain
from towpath_agent.engine.planning import Failure, Wish

NOW = 1_700_000_000_000
ONE = Wish("hello", b"1", "1.0.0", {"port": 9001}, generation=1)
TWO = Wish("hello", b"2", "2.0.0", generation=2)
HOLD = Hold("hello", "ana", "the till is open", NOW, NOW + 7_200_000)
CALM = Live(sync_in_s=30.0)
PLAIN = Facts(app="hello", now_unix_ms=NOW, wish=ONE, assignment="a1", current=ONE, health=Health.HEALTHY, live=CALM)


def text(facts: Facts) -> str:
    return "\n".join(f"{reason.fact} [{reason.command}]" for reason in chain(facts))


def test_an_app_that_is_as_it_should_be() -> None:
    """Who wants it, what runs, what is kept, and that nothing is to be done."""
    said = text(replace(PLAIN, previous=TWO))
    assert said == (
        "the server wants hello 1.0.0 (assignment a1, generation 1), with port=9001 []\n"
        "it runs 1.0.0, healthy []\n"
        "it keeps 2.0.0 to go back to [towpath-agent revert hello]\n"
        "so it is as it should be []"
    )
    assert "wants hello 2.0.0 (generation 2) []" in text(replace(PLAIN, wish=TWO, assignment=""))


def test_what_should_run_where_the_server_said_nothing_or_no() -> None:
    """Never a manifest, an app that is not in it, and one that this host refuses under the attack's name."""
    assert "never accepted a manifest" in text(replace(PLAIN, accepted=False, wish=None))
    gone = text(replace(PLAIN, wish=None))
    assert "does not name hello" in gone
    assert "so its removal is next" in gone
    assert "so it is as it should be" in text(replace(PLAIN, wish=None, current=None))
    no: dict[str, str | int] = {"version": "3.0.0", "code": "rollback", "message": "below the floor"}
    said = text(replace(PLAIN, wish=None, refused=no))
    assert "wants hello 3.0.0, which this host refuses: rollback: below the floor" in said
    assert "is next" not in said


def test_what_runs_is_said_with_its_health() -> None:
    """Nothing, or a version and what its probes say."""
    assert "nothing of it runs" in text(replace(PLAIN, current=None))
    ill = replace(PLAIN, health=Health.UNHEALTHY, health_reason="probe http: 500")
    assert "it runs 1.0.0, unhealthy: probe http: 500" in text(ill)


def test_what_is_fetched_ahead_is_said_beside_what_runs() -> None:
    """Somebody who finds bytes of a release that nobody runs learns what they are for."""
    it = Prefetch("2.0.0", b"2", PrefetchState.COMPLETE)
    said = text(replace(PLAIN, prefetch=it))
    assert "it runs 1.0.0, healthy []\n2.0.0 is downloaded, and waits until this host is let in to it []" in said
    assert "so it is as it should be" in said
    fetching, low = (
        replace(it, state=PrefetchState.FETCHING),
        replace(it, state=PrefetchState.WAITING, reason="no room"),
    )
    assert "2.0.0 is being downloaded ahead []" in text(replace(PLAIN, prefetch=fetching))
    assert "2.0.0 is to be downloaded ahead, and that waits: no room []" in text(replace(PLAIN, prefetch=low))
    no = replace(it, state=PrefetchState.REFUSED, reason="rollback: too old")
    assert "2.0.0 was announced and is refused: rollback: too old []" in text(replace(PLAIN, prefetch=no))


def test_a_hold_says_what_it_means_and_how_to_end_it() -> None:
    """On the app or on the whole host; what is next waits for its end."""
    said = text(replace(PLAIN, wish=TWO, hold=HOLD))
    assert "held by ana until 2023-11-15 00:13:20Z: the till is open; nothing new begins" in said
    assert "[towpath-agent release hello]" in said
    assert "so 2.0.0 is next, when the hold is over" in said
    assert "[towpath-agent release]" in text(replace(PLAIN, hold=replace(HOLD, app="")))


def test_a_transaction_says_where_it_is_and_what_it_waits_for() -> None:
    """Its state, its tries, its set, the time of its next try, and the command that makes it now."""
    fetching = Underway(TWO, State.FETCHING)
    said = text(replace(PLAIN, wish=TWO, underway=fetching, live=replace(CALM, again_in_s=12.0)))
    assert "under way: 2.0.0 is Fetching" in said
    assert "it goes on in 12s [towpath-agent retry hello]" in said
    assert "is next" not in said
    watching = Underway(TWO, State.WATCHING, attempts=2)
    said = text(replace(PLAIN, wish=TWO, underway=watching, live=replace(CALM, again_in_s=0.0)))
    assert "2.0.0 is Watching, started 2 times" in said
    assert "it goes on now []" in said
    assert "it goes on" not in text(replace(PLAIN, underway=watching))
    stuck = Underway(TWO, State.STUCK, "cannot go back: disk full")
    assert "is Stuck because cannot go back: disk full" in text(replace(PLAIN, underway=stuck))
    waits = replace(PLAIN, underway=Underway(TWO, State.PREPARED), waits_for=("db", "web"), live=None)
    assert "it waits for the rest of its set: db, web" in text(waits)
    assert "its removal is Planned" in text(replace(PLAIN, underway=Underway(Wish("hello"), State.PLANNED)))


def test_a_held_transaction_waits_for_the_hold_alone() -> None:
    """Before its switch the time of its next try means nothing; past it, it finishes."""
    early = replace(PLAIN, hold=HOLD, underway=Underway(TWO, State.FETCHING), live=replace(CALM, again_in_s=12.0))
    assert "it goes on" not in text(early)
    assert "it goes on in 12s" in text(replace(early, underway=Underway(TWO, State.WATCHING)))


def test_probation_is_said_with_its_end_and_what_would_come_back() -> None:
    """Until when, and what an ill verdict would do."""
    tx = Underway(ONE, State.CONFIRMED, old_version="0.9.0", probation_until_unix_ms=NOW + 600_000)
    said = text(replace(PLAIN, underway=tx))
    assert (
        "1.0.0 is confirmed; until 2023-11-14 22:23:20Z it is in probation: if it falls ill, 0.9.0 comes back" in said
    )
    assert "so it is as it should be" in said
    assert "it has nothing to go back to" in text(replace(PLAIN, underway=replace(tx, old_version="")))


def test_failure_memory_is_said_with_the_command_that_ends_it() -> None:
    """Until told, until a time, or no longer in the way."""
    failure = Failure(TWO, "probe http: 500", Verdict.FAILED)
    said = text(replace(PLAIN, wish=TWO, failure=failure))
    assert (
        "2.0.0 (generation 2) failed here: probe http: 500; it is not tried again until told [towpath-agent retry"
        in said
    )
    assert "is next" not in said
    later = replace(failure, retry_unix_ms=NOW + 60_000)
    assert "it is tried again at 2023-11-14 22:14:20Z" in text(replace(PLAIN, wish=TWO, failure=later))
    assert "no longer in the way: 2.0.0" in text(replace(PLAIN, failure=failure))
    assert "no longer in the way" in text(replace(PLAIN, wish=None, failure=failure))
    told = text(replace(PLAIN, wish=replace(TWO, generation=3), failure=failure))
    assert "so 2.0.0 is next" in told


def test_whether_somebody_works_on_it() -> None:
    """No agent, a crash-looping app, a server that does not answer."""
    assert "no agent runs here" in text(replace(PLAIN, live=None))
    crashing = replace(CALM, restarts=4, restart_in_s=8.0)
    assert "started again 4 times, again in 8s at the earliest" in text(replace(PLAIN, live=crashing))
    assert text(replace(PLAIN, live=replace(crashing, restart_in_s=0.0))).endswith("started again 4 times []")
    away = replace(CALM, sync_failures=3, sync_trouble="connection refused")
    said = text(replace(PLAIN, live=away))
    assert "did not answer 3 times in a row (connection refused); the agent asks again in 30s" in said
    assert "[towpath-agent doctor]" in said


def test_what_waits_because_the_agent_changes_says_so() -> None:
    """The agent waits for apps, apps for the agent: prepared, or not begun yet."""
    why = "the agent's own update is Watching"
    waiting = replace(PLAIN, wish=TWO, agent_waits=why, underway=Underway(TWO, State.PREPARED))
    assert f"it waits: {why} []" in text(waiting)
    assert "it waits" not in text(replace(waiting, underway=Underway(TWO, State.FETCHING)))
    assert f"so 2.0.0 is next, but not now: {why} []" in text(replace(waiting, underway=None))
    assert "so 2.0.0 is next []" in text(replace(waiting, underway=None, agent_waits=""))
