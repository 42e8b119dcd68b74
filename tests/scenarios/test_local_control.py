"""What a person on the host says to the real agent, on a simulated clock: revert, retry, explain."""

from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from fakes.person import HOUR_MS, ask, cut_objects, hold, of_kind, reasons, refused, running, told
from towpath.errors import Refusal
from towpath.release import Hook
from towpath.status import Health, State, Verdict
from towpath_agent.control.desk import Ticket
from towpath_agent.control.protocol import Answer, Contact, Request

GONE_BACK = ["Reverting", "Reverted"]


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


# -- revert


def test_a_revert_long_after_probation_goes_back_by_the_same_way(host: SimulatedHost) -> None:
    """Reverting, Reverted; the old release serves and is proven; the server learns verdict and whose decision it was."""
    running(host, "1.0.0", "2.0.0")
    said = told(host, "revert", "hello", reason="customers complain")
    assert "hello: goes back from 2.0.0 to 1.0.0" in said
    host.settle()
    assert host.chain(version="2.0.0")[-2:] == GONE_BACK
    state = host.state()
    assert (state.state, state.verdict, state.current_version) == (State.REVERTED, Verdict.FAILED, "1.0.0")
    assert state.reason == "reverted by ana on the host: customers complain"
    assert (host.live(), host.serving(), state.health) == ("1.0.0", "1.0.0", Health.HEALTHY)
    (event,) = [one for one in host.transitions(version="2.0.0") if one.state == "Reverting"]
    assert event.code == "reverted-on-host"


def test_what_was_reverted_is_not_applied_again_until_told(host: SimulatedHost) -> None:
    """Not at the next sync, not after a restart; `retry` or a new generation of the assignment brings it back."""
    running(host, "1.0.0", "2.0.0")
    told(host, "revert", "hello")
    host.run(600)
    host.boot()
    host.run(600)
    assert host.serving() == "1.0.0"
    assert "2.0.0 is tried again" in told(host, "retry", "hello")
    host.settle()
    assert (host.serving(), host.state().verdict) == ("2.0.0", Verdict.SUCCEEDED)
    (event,) = of_kind(host, "retry")
    assert "told by ana to try 2.0.0 again; it had failed: reverted by ana on the host" in event.reason


def test_a_revert_in_probation_is_the_same(host: SimulatedHost) -> None:
    """The transaction that is still kept is turned back."""
    running(host, "1.0.0", "2.0.0", probation_over=False)
    told(host, "revert", "hello")
    host.settle()
    assert (host.serving(), host.state().verdict) == ("1.0.0", Verdict.FAILED)


def test_a_revert_of_what_is_watched_ends_the_watch(host: SimulatedHost) -> None:
    """Switched and not yet proven: the old one comes back at once."""
    running(host, "1.0.0")
    host.ready_after["2.0.0"] = 20.0
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(3)
    assert "2.0.0 is given up in Watching; 1.0.0 comes back" in told(host, "revert", "hello")
    host.settle()
    assert (host.serving(), host.state().reason) == ("1.0.0", "reverted by ana on the host")


def test_a_revert_of_what_is_still_fetched_gives_it_up(host: SimulatedHost) -> None:
    """What runs goes on without a restart, and what was given up is not begun again, under a hold too."""
    running(host, "1.0.0")
    cut_objects(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(5)
    hold(host)
    starts = len(host.world.log)
    assert "2.0.0 is given up in Fetching; 1.0.0 goes on running" in told(host, "revert", "hello")
    host.server.before_chunk = None
    host.run(60)
    told(host, "release")
    host.run(600)
    assert (host.serving(), len(host.world.log)) == ("1.0.0", starts)
    assert host.state().verdict is Verdict.FAILED


def test_where_the_old_release_is_ill_too_a_revert_is_inconclusive(host: SimulatedHost) -> None:
    """The same probes judge what is gone back to; the person is told the truth."""
    running(host, "1.0.0", "2.0.0")
    host.ill.add("1.0.0")
    told(host, "revert", "hello")
    host.settle()
    assert host.state().verdict is Verdict.INCONCLUSIVE
    assert "the previous release 1.0.0 fails its probes too" in host.state().reason


def test_a_revert_where_there_is_no_way_back_is_one_line(host: SimulatedHost) -> None:
    """A first release, an unknown app, one that goes back already, and what was gone back to."""
    running(host, "1.0.0")
    assert "no-previous: cannot revert hello: there is nothing to go back to from 1.0.0" in refused(
        host, "revert", "hello"
    )
    assert "not-found: cannot revert nope: this host has no such app; it has hello" in refused(host, "revert", "nope")
    running(host, "1.0.0", "2.0.0")
    told(host, "revert", "hello")
    host.settle()
    assert "no-previous" in refused(host, "revert", "hello")


def test_a_revert_while_going_back_is_one_line(host: SimulatedHost) -> None:
    """It is on its way already."""
    running(host, "1.0.0", "2.0.0")
    host.ready_after["1.0.0"] = 20.0
    told(host, "revert", "hello")
    assert host.journal.transactions()[0].state is State.REVERTING
    assert "under-way: cannot revert hello: it is going back already (Reverting)" in refused(host, "revert", "hello")


def test_a_revert_to_a_damaged_tree_is_refused_before_anything_changes(host: SimulatedHost) -> None:
    """It would end Stuck; so the person is told which release to deploy instead."""
    running(host, "1.0.0", "2.0.0")
    (tree,) = [path for path in (host.folder / "apps/hello/releases").iterdir() if path.name.startswith("1.0.0")]
    (tree / "bin/serve").write_text("rotten")
    assert "damaged: cannot revert hello to 1.0.0: its tree on this host is damaged" in refused(host, "revert", "hello")
    assert host.serving() == "2.0.0"


def test_a_revert_below_the_publishers_floor_is_refused(host: SimulatedHost) -> None:
    """A release that its publisher withdrew is not brought back by anybody on the host."""
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    host.assign(host.publish("2.0.0", rollback_floor=2), generation=2)
    host.settle()
    host.run(120)
    assert "rollback: cannot revert hello to 1.0.0: the publisher has withdrawn it" in refused(host, "revert", "hello")


def test_the_failure_of_what_should_run_is_not_forgotten_by_a_revert(host: SimulatedHost) -> None:
    """3.0.0 failed, 2.0.0 runs, the person goes back to 1.0.0: 3.0.0 is not tried because of that."""
    running(host, "1.0.0", "2.0.0")
    host.ill.add("3.0.0")
    host.assign(host.publish("3.0.0"), generation=3)
    host.settle()
    tries = len(host.chain(version="3.0.0"))
    kept = host.journal.deployed("current")["hello"], host.journal.deployed("previous").get("hello")
    assert [it.wish.version for it in kept if it is not None] == ["2.0.0", "1.0.0"]
    told(host, "revert", "hello")
    host.run(600)
    assert host.serving() == "1.0.0"
    assert len(host.chain(version="3.0.0")) == tries


@pytest.mark.parametrize("when", range(1, 60, 3))
def test_a_revert_that_is_killed_anywhere_ends_in_one_healthy_release(tmp_path: Path, when: int) -> None:
    """Kill -9 at any change: either the command was never taken, or the old release serves; never a host half-way."""
    host = SimulatedHost(tmp_path)
    running(host, "1.0.0", "2.0.0")
    host.kill_at = host.changes + when
    killed = False
    try:
        told(host, "revert", "hello")
        host.run(120)
    except Killed:
        killed = True
    host.kill_at = None
    if killed:
        host.boot()
    host.run(300)
    assert host.serving() == host.live() == host.state().current_version
    assert host.state().health is Health.HEALTHY
    decided = any(event.code == "reverted-on-host" for event in host.journal.events(1000))
    assert host.serving() == ("1.0.0" if decided else "2.0.0")


# -- retry


def test_a_retry_tries_a_failed_release_again_now(host: SimulatedHost) -> None:
    """The world is mended, so the same generation is tried again; without the word it would not be."""
    running(host, "1.0.0")
    host.ill.add("2.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    host.ill.clear()
    host.run(600)
    assert host.serving() == "1.0.0"
    told(host, "retry", "hello")
    host.settle()
    assert host.serving() == "2.0.0"
    assert host.journal.failures() == {}


def test_a_retry_does_not_wait_for_the_next_try_of_a_fetch(host: SimulatedHost) -> None:
    """After some tries the pause is long; the person says now."""
    running(host, "1.0.0")
    cut_objects(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(8)
    fetches = len(host.server.fetches)
    host.server.before_chunk = None
    assert "hello: fetches again now" in told(host, "retry", "hello")
    assert len(host.server.fetches) > fetches
    host.settle()
    assert host.serving() == "2.0.0"


def test_a_retry_makes_a_stuck_app_go_back_now(host: SimulatedHost) -> None:
    """What kept it from going back is mended."""
    running(host, "1.0.0")
    host.ill.add("2.0.0")
    broken = True

    def change(verb: str, path: Path) -> None:
        if broken and verb == "start" and path.name.startswith("1.0.0"):
            raise OSError(5, "Input/output error")

    host.extra_change = change
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(200)
    assert host.state().state is State.STUCK
    broken = False
    assert "hello: goes back again now" in told(host, "retry", "hello")
    host.run(3)
    assert host.serving() == "1.0.0"


def test_a_retry_of_what_did_not_fail_is_one_line(host: SimulatedHost) -> None:
    """Nothing failed, an unknown app, or one that is on its way already."""
    running(host, "1.0.0")
    assert "no-failure: cannot retry hello: nothing of it failed" in refused(host, "retry", "hello")
    assert "not-found" in refused(host, "retry", "nope")
    host.ready_after["2.0.0"] = 20.0
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(3)
    assert "under-way: cannot retry hello: it is under way already (Watching)" in refused(host, "retry", "hello")


def test_a_retry_of_a_refused_release_says_who_can_change_it(host: SimulatedHost) -> None:
    """Trust is not overruled from the host's shell."""
    running(host, "1.0.0")
    host.assign(host.publish("2.0.0", platforms=("linux/s390x",)), generation=2)
    host.run(60)
    said = refused(host, "retry", "hello")
    assert said.startswith("refused: cannot retry hello: this host refuses 2.0.0")
    assert "which this host refuses" in reasons(host)


def test_a_retry_under_a_hold_waits_for_its_end(host: SimulatedHost) -> None:
    """Forgotten now, tried when the hold is over; the answer says so."""
    running(host, "1.0.0")
    host.ill.add("2.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    host.ill.clear()
    hold(host)
    assert "note: hello stays held by ana" in told(host, "retry", "hello")
    host.run(600)
    assert host.serving() == "1.0.0"
    told(host, "release")
    host.settle()
    assert host.serving() == "2.0.0"


# -- explain, and the desk


def test_explain_follows_an_app_through_its_life(host: SimulatedHost) -> None:
    """From the assignment to what it waits for, each time with the command that would change it."""
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.agent.tick()
    assert "the server wants hello 1.0.0 (" in reasons(host)
    host.settle()
    assert "it is in probation" in reasons(host)
    host.run(120)
    said = reasons(host)
    assert "it runs 1.0.0, healthy" in said
    assert "so it is as it should be" in said
    cut_objects(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(5)
    assert "it goes on in " in reasons(host)
    hold(host)
    assert "[towpath-agent release]" in reasons(host)
    told(host, "release")
    host.server.before_chunk = None
    host.ill.add("2.0.0")
    host.settle()
    assert "it is not tried again until told [towpath-agent retry hello]" in reasons(host)
    assert "nope" in str(ask(host, "explain", "nope"))
    host.server.unreachable = True
    host.run(120)
    assert "the server did not answer" in reasons(host)


def test_a_person_who_looks_does_not_stop_a_fetch_and_one_who_changes_does(host: SimulatedHost) -> None:
    """In mid-fetch explain is answered; a hold ends the fetch at the next chunk, with what came so far kept."""
    running(host, "1.0.0")
    look = Ticket(Request("explain", "hello"), "ana", lambda: None)
    change = Ticket(Request("hold", "", HOUR_MS, "x"), "ana", lambda: None)
    seen: list[object] = []

    def before(_want: int) -> None:
        if not seen:
            host.agent.desk.put(look)
            seen.append(look)
        elif len(seen) == 1:
            seen.append(look.answer)
            host.agent.desk.put(change)

    host.server.before_chunk = before
    host.assign(host.publish("2.0.0", content="x" * 3_000_000), generation=2)
    host.agent.tick()
    assert isinstance(look.answer, Answer)
    host.agent.tick()
    assert isinstance(change.answer, Answer)
    assert host.journal.transactions()[-1].state is State.FETCHING
    host.server.before_chunk = None
    told(host, "release")
    host.settle()
    assert host.serving() == "2.0.0"


def test_a_bug_in_a_command_is_an_answer_and_not_the_end_of_the_agent(host: SimulatedHost) -> None:
    """Whatever happens in it, the person reads one line and the agent goes on."""
    running(host, "1.0.0", "2.0.0")

    def boom(_deployed: object) -> bool:
        raise RuntimeError("boom")

    host.agent._actions.is_whole = boom  # type: ignore[method-assign]
    assert "bug: cannot revert hello: RuntimeError: boom" in refused(host, "revert", "hello")
    assert "does not know it" in refused(host, "dance")
    host.run(60)
    assert host.serving() == "2.0.0"


def test_hooks_of_a_revert_run_as_in_any_other(host: SimulatedHost) -> None:
    """The stop hook of the release that is left, then its own post_revert."""
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    hook = Hook("post_revert", ("/bin/false",), 5_000)
    host.assign(host.publish("2.0.0", hooks=(hook,)), generation=2)
    host.settle()
    host.run(120)
    told(host, "revert", "hello")
    host.settle()
    assert [event.reason for event in of_kind(host, "note")] == ["hook post_revert exited 1"]
    assert host.state().current_version == "1.0.0"


def test_a_server_that_is_away_is_a_line_in_the_log_and_so_is_its_return(tmp_path: Path) -> None:
    """One each, however long it takes; a server that was asked in vain once is no news."""
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()

    def said(words: str) -> int:
        return sum(words in line for line in host.log)

    host.server.unreachable = True
    host.run(86_400)
    assert said("what runs goes on, and the server is asked again and again") == 1
    assert said("the server answers again") == 0
    host.server.unreachable = False
    host.run(3_600)
    assert said("the server answers again") == 1


def test_the_agent_knows_when_its_server_last_answered_and_since_when_it_is_away(tmp_path: Path) -> None:
    """Away is what the log says too, from the first try in vain; a try in vain is no news, a server that refuses is there."""
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    assert host.agent.contact == Contact()
    host.settle()
    assert host.agent.contact == Contact(answered := host.agent.contact.answered_unix_ms)
    assert 0 <= host.clock.now_unix_ms() - answered < HOUR_MS

    host.server.unreachable = True
    began = host.clock.now_unix_ms()
    while not host.agent.contact.trouble:
        host.run(1)
    assert host.agent.contact.away_since_unix_ms == 0
    host.run(7_200)
    contact = host.agent.contact
    assert began <= contact.away_since_unix_ms < began + HOUR_MS
    assert began - HOUR_MS < contact.answered_unix_ms <= began
    assert contact.trouble

    host.server.unreachable = False
    host.server.refusal = Refusal("cannot sync: this host was revoked")
    host.run(3_600)
    answered = host.agent.contact.answered_unix_ms
    assert answered > began + 2 * HOUR_MS
    assert host.agent.contact == Contact(answered, 0, "cannot sync: this host was revoked")
    host.server.refusal = None
    host.run(3_600)
    assert host.agent.contact == Contact(host.agent.contact.answered_unix_ms)
    assert host.agent.contact.answered_unix_ms > answered
