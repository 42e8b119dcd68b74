"""Releases that are fetched ahead: what comes when, that nothing else happens, and that the switch needs no download."""

import json
from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from fakes.person import cut_objects, hold, of_kind, reasons, running, told
from fakes.prefetching import (
    MIB,
    SOON_S,
    ahead,
    big,
    fetched,
    here,
    largest,
    object_fetches,
    objects,
    objects_of,
    untouched,
)
from towpath.release import Install
from towpath.reports import PrefetchState
from towpath.status import State
from towpath_agent.control.desk import Ticket
from towpath_agent.control.protocol import Answer, Request
from towpath_agent.ports import CHUNK_BYTES


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """Return a host that runs 1.0.0."""
    host = SimulatedHost(tmp_path / "host")
    running(host, "1.0.0")
    return host


def test_it_comes_ahead_and_the_switch_needs_no_download(host: SimulatedHost) -> None:
    """Every byte is here before the window; nothing else of the host changes; then it switches without one fetch."""
    before, release = untouched(host), big(host)
    fetched(host, release)
    assert untouched(host) == before
    assert not list((host.folder / "staging").iterdir())
    host.run(7_200)
    assert untouched(host) == before
    fetches = object_fetches(host)
    host.announce()
    host.assign(release, generation=2)
    host.settle()
    assert (host.live(), host.serving(), host.state().prefetch) == ("2.0.0", "2.0.0", None)
    assert host.chain(version="2.0.0") == [
        "Planned",
        "Fetching",
        "Staged",
        "Prepared",
        "Switching",
        "Switched",
        "Watching",
        "Confirmed",
    ]
    assert object_fetches(host) == fetches


def test_the_floor_of_a_release_does_not_rise_before_it_is_confirmed(host: SimulatedHost) -> None:
    """A host that has the bytes of 2.0.0, which withdraws 1.0.0, may still be told to run 1.0.0."""
    fetched(host, host.publish("2.0.0", rollback_floor=2))
    host.announce()
    host.assign()
    host.settle()
    assert host.live() == ""
    first = next(it for it in host.sim.releases if it.endswith("1.0.0.release"))
    assert first
    host.assign(host.publish("1.0.1", rollback_floor=0), generation=3)
    host.settle()
    assert host.live() == "1.0.1"
    assert json.loads((host.folder / "trust" / "floors.json").read_text())["releases"].get("hello", 0) == 0


def test_an_agent_says_that_it_knows_the_feature(host: SimulatedHost) -> None:
    """With every sync: a server must not send an announcement to one that did not."""
    assert {call.features for call in host.server.syncs} == {("prefetch-1",)}


def test_a_fleet_does_not_begin_in_one_minute(tmp_path: Path) -> None:
    """The beginning is drawn from five intervals; before it the host says that it waits."""
    begun = []
    for number, chance in enumerate((0.0, 0.5, 0.99)):
        host = SimulatedHost(tmp_path / str(number))
        running(host, "1.0.0")
        host.chance = chance
        since = host.clock.monotonic()
        host.announce(big(host))
        host.run(2)
        assert ahead(host).state is (PrefetchState.COMPLETE if chance == 0 else PrefetchState.WAITING)
        host.run(600, lambda host=host: ahead(host).state is PrefetchState.COMPLETE)
        begun.append(host.clock.monotonic() - since)
    assert begun[0] <= 2
    assert 140 < begun[1] < 160
    assert 290 < begun[2] < 310


def test_an_app_that_the_host_does_not_have_yet_is_fetched_ahead_too(host: SimulatedHost) -> None:
    """Its state says that nothing of it runs; the person on the host is told why it is there at all."""
    release = big(host, "1.0.0", app="new")
    fetched(host, release)
    assert (host.state("new").current_version, host.state("new").state) == ("", State.PLANNED)
    assert host.live("new") == ""
    assert "1.0.0 is downloaded, and waits until this host is let in to it" in reasons(host, "new")
    host.announce()
    host.run(120)
    assert "new" not in host.server.apps


def test_a_person_reads_what_is_fetched_ahead(host: SimulatedHost) -> None:
    """`explain` and the history of the host; centrally the report."""
    host.announce(big(host))
    host.run(2)
    assert "2.0.0 is to be downloaded ahead, and that waits: begins soon" in reasons(host)
    host.run(SOON_S)
    assert "2.0.0 is downloaded" in reasons(host)
    (event,) = of_kind(host, "prefetch")
    assert event.reason == "2.0.0 (3.0 MiB) is here; nothing was switched"


# What comes between


def test_another_change_goes_first_and_the_rest_comes_after_it(host: SimulatedHost) -> None:
    """In mid-fetch the server wants 1.5.0: what has come stays, 1.5.0 is installed at once, then the rest comes."""
    release, other = big(host), host.publish("1.5.0")
    name = largest(host)
    came: list[int] = []

    def change(_want: int) -> None:
        if not came and host.server.sent_bytes - begun > MIB:
            came.append(host.server.sent_bytes)
            host.assign(other, generation=2)

    host.announce(release)
    host.run(2)
    begun = host.server.sent_bytes
    host.server.before_chunk = change
    host.run(SOON_S, lambda: host.live() == "1.5.0")
    assert came
    assert (host.live(), ahead(host).state) == ("1.5.0", PrefetchState.WAITING)
    assert ahead(host).reason == "a change of this host goes first"
    assert (host.folder / "store" / "partial" / name).stat().st_size > MIB // 2
    host.run(SOON_S, lambda: ahead(host).state is PrefetchState.COMPLETE)
    resumed = [want.offset for wants in host.server.fetches for want in wants if want.digest.hex() == name]
    assert resumed[0] == 0
    assert resumed[-1] > MIB // 2
    assert ahead(host) == here(release)
    host.announce()
    host.assign(release, generation=3)
    fetches = object_fetches(host)
    host.settle()
    assert (host.live(), object_fetches(host)) == ("2.0.0", fetches)


def test_clean_up_after_another_change_leaves_what_is_announced(host: SimulatedHost) -> None:
    """1.5.0 is confirmed and the store pruned: 2.0.0 is still here, current and previous as well."""
    release = big(host)
    fetched(host, release)
    mine = objects_of(host, release)
    host.assign(host.publish("1.5.0"), generation=2)
    host.settle()
    host.run(120)
    wants = [want.digest.hex() for wants in host.server.fetches for want in wants if want.kind == "object"]
    assert len(wants) == len(set(wants)), "nothing was dropped and fetched again"
    assert (host.live(), host.state().previous_version) == ("1.5.0", "1.0.0")
    assert mine <= objects(host)
    assert ahead(host) == here(release)


def test_what_is_not_announced_any_more_is_dropped(host: SimulatedHost) -> None:
    """A halt, a cancel, a newer release: the bytes go, what runs and what is kept to go back to stays."""
    before, release = objects(host), big(host)
    fetched(host, release)
    assert len(objects(host)) == len(before) + 2
    newer = big(host, "3.0.0")
    fetched(host, newer)
    assert len(objects(host)) == len(before) + 2
    host.announce()
    host.run(5)
    assert objects(host) == before
    assert host.state().prefetch is None
    assert host.journal.meta()["prefetch_kept"] == "[]"


def test_what_is_due_but_held_is_not_dropped(host: SimulatedHost) -> None:
    """The window opened while a person holds the app: the bytes wait with it, also while another app is installed."""
    release = big(host)
    fetched(host, release)
    hold(host, "hello")
    host.announce()
    host.assign(release, host.publish("1.0.0", app="other"), generation=2)
    host.run(600)
    fetches = object_fetches(host)
    assert (host.live(), host.live("other")) == ("1.0.0", "1.0.0")
    told(host, "release", "hello")
    host.settle()
    assert (host.live(), object_fetches(host)) == ("2.0.0", fetches)


def test_a_hold_stops_the_download_and_keeps_what_came(host: SimulatedHost) -> None:
    """A person may need the line: nothing comes while the host is held, the rest afterwards."""
    release = big(host)
    host.announce(release)
    hold(host)
    host.run(SOON_S)
    assert ahead(host).state is PrefetchState.WAITING
    assert ahead(host).reason.startswith("held by ana until ")
    assert object_fetches(host) == 2  # of 1.0.0
    told(host, "release")
    host.run(SOON_S)
    assert ahead(host) == here(release)


def test_a_release_that_failed_after_all_is_dropped_when_it_is_not_announced(host: SimulatedHost) -> None:
    """It came ahead, was let in and went back: nothing waits for its bytes any more."""
    release = big(host)
    host.ill.add("2.0.0")
    fetched(host, release)
    host.announce()
    host.assign(release, generation=2)
    host.settle()
    host.run(120)
    assert (host.live(), host.state().state) == ("1.0.0", State.REVERTED)
    assert host.journal.meta()["prefetch_kept"] == "[]"


def test_what_runs_is_watched_while_something_comes(host: SimulatedHost) -> None:
    """The app stops in mid-fetch of hours: it is started again between two pieces, before the fetch is over."""
    host.announce(big(host))
    host.run(2)
    restarted: list[bool] = []

    def slow(_want: int) -> None:
        host.clock.advance(20)
        if not restarted:
            host.world.crash("hello")
        restarted.append(host.serving() == "1.0.0")

    host.server.before_chunk = slow
    host.run(SOON_S, lambda: ahead(host).state is PrefetchState.COMPLETE)
    assert restarted[0] is False
    assert any(restarted[1:])


def test_a_person_is_heard_in_mid_fetch(host: SimulatedHost) -> None:
    """A hold that comes in the middle ends the fetch; the answer does not wait for it."""
    host.announce(big(host))
    host.run(2)
    answers: list[Ticket] = []

    def ask_once(_want: int) -> None:
        if not answers and host.server.sent_bytes - begun > MIB:
            ticket = Ticket(Request("hold", "", for_ms=3_600_000, reason="x"), "ana", lambda: None)  # type: ignore[arg-type]
            host.agent.desk.put(ticket)
            answers.append(ticket)

    begun = host.server.sent_bytes
    host.server.before_chunk = ask_once
    host.run(SOON_S)
    assert isinstance(answers[0].answer, Answer)
    assert ahead(host).state is PrefetchState.WAITING
    assert 0 < host.server.sent_bytes - begun < 2 * MIB


@pytest.mark.parametrize("last", [False, True])
def test_the_announcement_may_be_withdrawn_in_mid_fetch(host: SimulatedHost, last: bool) -> None:
    """The sync between two pieces says so: the fetch ends, and what came is dropped; after the last piece as well."""
    before, release = objects(host), big(host)
    carried = len(host.server.carried[bytes.fromhex(largest(host))])
    host.announce(release)
    host.run(2)
    begun = host.server.sent_bytes

    def withdraw(_want: int) -> None:
        if host.announced and host.server.sent_bytes - begun > (carried - CHUNK_BYTES // 2 if last else MIB // 2):
            host.announce()

    host.server.before_chunk = withdraw
    host.run(SOON_S)
    assert host.announced == []
    assert objects(host) == before
    assert last is (host.server.sent_bytes - begun > carried)
    assert host.state().prefetch is None
    assert host.serving() == "1.0.0"


# Trouble


def test_a_line_that_breaks_is_waited_for_ever_more_seldom(host: SimulatedHost) -> None:
    """Every byte that came is kept; the host says what it waits for, and goes on without anybody."""
    release = big(host)
    host.announce(release)
    cut_objects(host)
    host.run(1200)
    assert ahead(host).state is PrefetchState.WAITING
    assert ahead(host).reason == "cannot fetch: the connection broke; it is tried again"
    assert object_fetches(host) < 20
    host.server.before_chunk = None
    host.run(SOON_S)
    assert ahead(host) == here(release)


def test_wrong_bytes_are_never_kept(host: SimulatedHost) -> None:
    """Twice another object than the signed one: refused under the attack's name, told, and not in the store."""
    release = big(host)
    name = largest(host)
    host.server.lies[bytes.fromhex(name)] = host.server.carried[release.artifact.index_sha256]
    host.announce(release)
    host.run(SOON_S)
    assert ahead(host).state is PrefetchState.REFUSED
    assert name not in objects(host)
    assert [event.code for event in of_kind(host, "prefetch")] == ["corrupt-object"]
    host.server.lies.clear()
    host.run(600)
    assert ahead(host) == here(release)


def test_a_kind_that_this_agent_does_not_know_is_not_fetched(host: SimulatedHost) -> None:
    """It could not be run anyway: the same refusal as of a change, and not one byte."""
    fetches = object_fetches(host)
    del host.installers["exec"]
    host.boot()
    host.announce(host.publish("2.0.0", install=Install("exec", {"driver": "x"})))
    host.run(SOON_S)
    assert ahead(host).state is PrefetchState.REFUSED
    assert "cannot run kind 'exec' here" in ahead(host).reason
    assert object_fetches(host) == fetches
