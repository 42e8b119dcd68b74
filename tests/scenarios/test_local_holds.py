"""Holds that a person places on the host: what waits, what goes on, and that they always end; on a simulated clock."""

import json
from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from fakes.person import HOUR_MS, cut_objects, hold, of_kind, refused, running, told
from towpath.status import State


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def test_a_held_host_begins_nothing_and_goes_on_by_itself_when_the_time_is_up(host: SimulatedHost) -> None:
    """No transaction for hours; then the release that is wanted is installed without anybody's help."""
    running(host, "1.0.0")
    assert "held by ana until " in hold(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(2 * 3600 - 60)
    assert host.chain(version="2.0.0") == []
    host.run(120)
    host.settle()
    assert host.state().current_version == "2.0.0"
    codes = [event.code for event in of_kind(host, "hold")]
    assert codes == ["held", "expired"]


def test_the_server_is_told_of_a_hold_at_once_and_of_its_end(host: SimulatedHost) -> None:
    """By the very next sync, which is not waited for; the state of the apps goes before it."""
    running(host, "1.0.0")
    syncs, known = len(host.server.syncs), []
    plain = host.server.answer
    assert plain is not None

    def answer(nonce: bytes) -> bytes:
        known.append([event.code for event in of_kind(host, "hold")])
        return plain(nonce)

    host.server.answer = answer
    hold(host, "hello")
    assert len(host.server.syncs) == syncs + 1
    assert known == [["held"]], "what was reported came before the sync that tells of the hold"
    (one,) = host.server.syncs[-1].holds
    assert (one.app, one.by, one.reason) == ("hello", "ana", "the till is open")
    told(host, "release", "hello")
    assert host.server.syncs[-1].holds == ()


def test_what_has_not_switched_stays_where_it_is_and_is_resumed(host: SimulatedHost) -> None:
    """The transaction under way keeps its state and its bytes, is not driven, and finishes after the release."""
    running(host, "1.0.0")
    cut_objects(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(5)
    assert host.chain(version="2.0.0")[-1] == "Fetching"
    (before,) = host.journal.transactions()
    assert "hello: 2.0.0 stays Fetching and goes on afterwards" in hold(host)
    host.server.before_chunk = None
    fetches = len(host.server.fetches)
    host.run(3600)
    assert host.journal.transactions() == [before]
    assert len(host.server.fetches) == fetches
    assert told(host, "release") == "all apps of this host: released"
    host.settle()
    assert host.state().current_version == "2.0.0"
    assert host.chain(version="2.0.0").count("Fetching") == 1, "the same transaction went on"


def test_what_is_past_its_switch_finishes_under_a_hold(host: SimulatedHost) -> None:
    """Confirmed where it is well, back where it is ill: a hold never leaves a host half-way."""
    running(host, "1.0.0")
    host.ready_after["2.0.0"] = 5.0
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(3)
    assert "2.0.0 is past its switch (Watching) and finishes" in hold(host)
    host.settle()
    assert host.state().current_version == "2.0.0"
    told(host, "release")
    host.ill.add("3.0.0")
    host.assign(host.publish("3.0.0"), generation=3)
    host.run(3)
    hold(host)
    host.settle()
    assert (host.state().state, host.live()) == (State.REVERTED, "2.0.0")


def test_a_newer_wish_does_not_disturb_what_a_hold_keeps(host: SimulatedHost) -> None:
    """Neither a superseded transaction nor a removal is acted upon before the hold ends; then the newest counts."""
    running(host, "1.0.0")
    cut_objects(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(5)
    hold(host)
    host.server.before_chunk = None
    host.assign(host.publish("3.0.0"), generation=3)
    host.run(600)
    assert [tx.wish.version for tx in host.journal.transactions()] == ["2.0.0"]
    host.assign()
    host.run(600)
    assert host.serving() == "1.0.0"
    told(host, "release")
    host.settle()
    assert host.serving() == ""


def test_a_hold_on_one_app_leaves_the_others_free(host: SimulatedHost) -> None:
    """The other app of the same manifest is installed; the held one follows."""
    running(host, "1.0.0")
    hold(host, "hello")
    new, other = host.publish("2.0.0"), host.publish("1.0.0", app="other")
    host.assign(new, other, generation=2)
    host.run(60)
    assert host.state("other").state is State.CONFIRMED
    assert host.state().current_version == "1.0.0"
    told(host, "release", "hello")
    host.settle()
    assert host.state().current_version == "2.0.0"


def test_what_runs_is_kept_up_under_a_hold(host: SimulatedHost) -> None:
    """A crashed app is started again: a hold is about changes."""
    running(host, "1.0.0")
    hold(host)
    host.world.crash("hello")
    host.run(60)
    assert host.serving() == "1.0.0"
    assert of_kind(host, "drift")


def test_a_hold_survives_restarts_and_still_ends(host: SimulatedHost) -> None:
    """It is in the journal; after kill -9 the next agent honours it to its end and no longer."""
    running(host, "1.0.0")
    hold(host)
    host.assign(host.publish("2.0.0"), generation=2)
    for _ in range(3):
        host.boot()
        host.run(1800)
    assert host.chain(version="2.0.0") == []
    host.boot()
    host.run(2000)
    host.settle()
    assert host.state().current_version == "2.0.0"


def test_a_clock_that_is_set_back_does_not_make_a_hold_last(host: SimulatedHost) -> None:
    """Ten years back, in the middle and at every restart: it ends after two hours all the same."""
    running(host, "1.0.0")
    hold(host)
    ten_years_ms = 10 * 365 * 86_400_000
    host.clock.set_wall(host.clock.now_unix_ms() - ten_years_ms)
    host.run(3600)
    assert host.agent.holding.holds
    host.boot()
    host.run(3500)
    assert host.agent.holding.holds
    host.run(300)
    assert host.agent.holding.holds == ()


def test_a_clock_that_jumps_ahead_ends_a_hold(host: SimulatedHost) -> None:
    """A host that boots in 1970 and then learns the time is not held for fifty years."""
    running(host, "1.0.0")
    hold(host)
    host.clock.set_wall(host.clock.now_unix_ms() + 3 * HOUR_MS)
    host.run(120)
    assert host.agent.holding.holds == ()


def test_holds_that_cannot_be_read_are_dropped_and_said(host: SimulatedHost) -> None:
    """A garbled fact must not keep the agent from starting."""
    running(host, "1.0.0")
    for garbled in ("{", "[]", '{"seen": 1, "holds": [{"app": 1}]}', '{"seen": 0, "holds": [[]]}', "null"):
        host.journal.set_meta(holds=garbled)
        host.boot()
        assert "the holds in the journal could not be read" in host.log[-1]
        assert host.agent.holding.holds == ()
    far = {"app": "", "by": "a", "reason": "b", "since_unix_ms": 0, "until_unix_ms": 10**30}
    host.journal.set_meta(holds=json.dumps({"seen": 0, "holds": [far]}))
    host.boot()
    assert host.agent.holding.holds == ()


def test_holds_that_cannot_be_are_refused_in_one_line(host: SimulatedHost) -> None:
    """Too long, too short, without a reason, on no app name, and a release of what is not held."""
    running(host, "1.0.0")
    assert "1s to 30d are allowed" in refused(host, "hold", for_ms=31 * 24 * HOUR_MS, reason="x")
    assert "1s to 30d are allowed" in refused(host, "hold", for_ms=0, reason="x")
    assert "cannot use an empty reason" in refused(host, "hold", for_ms=HOUR_MS)
    assert "as an app name" in refused(host, "hold", "../x", for_ms=HOUR_MS, reason="x")
    assert refused(host, "release").startswith("not-held: cannot release the host: nothing holds it")
    assert "this host has no other yet" in told(host, "hold", "other", for_ms=HOUR_MS, reason="x")
    hold(host)
    assert "the whole host is held by ana" in refused(host, "release", "hello")
    assert "note: other stays held by ana" in told(host, "release", "other")


def test_a_hold_is_taken_without_a_server(host: SimulatedHost) -> None:
    """Local control needs nobody else; the server hears of it when it is back."""
    running(host, "1.0.0")
    host.server.unreachable = True
    hold(host)
    host.run(600)
    host.server.unreachable = False
    host.run(120)
    assert host.server.syncs[-1].holds
    assert [event.code for event in of_kind(host, "hold")] == ["held"]
