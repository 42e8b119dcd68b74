"""The agent's own update on a simulated host: the real runner, journal and launcher's decisions, killed everywhere."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.host import Killed
from fakes.person import told
from fakes.updating import APP, UpdatingHost, launched, updated, want
from towpath.reports import PrefetchState
from towpath.status import State
from towpath_agent import launcher
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE, Pointer
from towpath_agent.services.agent import write_pointer
from towpath_agent.system.files import Files

# Every so manieth change is one to be killed at: 1 takes minutes.
STRIDE = int(os.environ.get("TOWPATH_TEST_STRIDE", "11"))


@pytest.fixture
def host(tmp_path: Path) -> UpdatingHost:
    """Run hello 1.0.0 under the packaged agent, past its probation."""
    return launched(tmp_path)


def test_an_update_is_a_transaction_that_two_agents_share(host: UpdatingHost) -> None:
    """The old one begins it, the new one ends it; then it is started anew, on no trial. Nothing else happens."""
    log = list(host.world.log)
    host.starts.clear()
    updated(host, "1.1.0")
    assert host.starts == ["", "1.1.0?", "1.1.0"]
    assert host.chain(APP) == "Planned Fetching Staged Prepared Switching Switched Watching Confirmed".split()
    assert host.pointer.current.startswith("1.1.0-")
    assert not (host.folder / JOURNAL_BEFORE).exists()
    assert (host.live(APP), host.world.log) == ("1.1.0", log)


@pytest.mark.parametrize("before", ["", "1.1.0"])
@pytest.mark.parametrize("migrating", [False, True])
@pytest.mark.parametrize("fault", ["dead", "mute", "hung"])
def test_a_bad_version_ends_in_the_one_before_and_is_remembered(
    host: UpdatingHost, before: str, fault: str, migrating: bool
) -> None:
    """Whether it dies, never reports or hangs, and reads the journal or not; whether a release or the package ran before.

    Told again, it is tried again.
    """
    if before:
        updated(host, before)
    getattr(host, fault).add("2.0.0")
    if migrating:
        host.migrating.add("2.0.0")
    bad = host.agent_release("2.0.0")
    want(host, bad, generation=3)
    host.work(host.kept(before))
    state = host.state(APP)
    assert (state.state, state.verdict, state.current_version) == (State.REVERTED, "failed", before)
    assert {"dead": "it ended 3 times", "mute": "it cannot speak", "hung": "it had not reported in time"}[
        fault
    ] in state.reason
    assert host.live(APP) == before
    assert host.serving() == "1.0.0"
    tries = len(host.chain(APP, "2.0.0"))
    host.boot()
    host.run(600)
    assert len(host.chain(APP, "2.0.0")) == tries, "it was tried again by itself"
    want(host, bad, generation=4)
    getattr(host, fault).clear()
    host.work(host.kept("2.0.0"))


def test_a_server_that_goes_away_in_mid_trial_is_not_the_releases_fault(host: UpdatingHost) -> None:
    """The one that comes back cannot report either: inconclusive, which holds a rollout and blames nobody."""
    updated(host, "1.1.0")
    want(host, host.agent_release("1.2.0"), generation=3)
    host.work(lambda: host.version == "1.2.0" or any(tx.state is State.SWITCHING for tx in host.journal.transactions()))
    host.server.unreachable = True
    deadline = host.clock.monotonic() + 120
    host.work(lambda: host.version == "1.1.0" and host.clock.monotonic() > deadline)
    host.server.unreachable = False
    host.work(lambda: host.kept("1.1.0")() and host.state(APP).state is State.REVERTED)
    assert host.state(APP).verdict == "inconclusive"


def test_an_agent_that_is_not_deployed_any_more_gives_way_to_the_package(host: UpdatingHost) -> None:
    """A removal of the app takes the release away and leaves an agent: the packaged one."""
    updated(host, "1.1.0")
    want(host)
    host.work(lambda: host.version == "" and not host.journal.deployed("current").get(APP))
    assert host.pointer == Pointer()
    assert host.serving() == "1.0.0"


def test_a_lost_pointer_is_found_again_through_the_journal(host: UpdatingHost) -> None:
    """The packaged agent starts, sees what should run, and puts it on trial: once more it is kept."""
    updated(host, "1.1.0")
    (host.folder / "launch.json").write_text("{")
    host.starts.clear()
    host.work(host.kept("1.1.0"))
    assert host.starts == ["", "1.1.0?", "1.1.0"]


def test_a_kept_release_that_never_works_again_waits_for_a_person(host: UpdatingHost) -> None:
    """Its launcher gave it up: the packaged agent runs and says why, tries nothing by itself, and again when told."""
    updated(host, "1.1.0")
    kept = host.pointer.current
    host.work(lambda: not host.journal.transactions())
    write_pointer(Files(), host.folder, Pointer(trying=kept, starts=10, failed="it was started 10 times"))
    host.starts.clear()
    later = host.clock.monotonic() + 400
    host.work(lambda: host.clock.monotonic() > later)
    assert host.starts == [""]
    assert any("it was started 10 times" in event.reason for event in host.server.events.values())
    assert f"{kept} is put on trial again" in told(host, "retry", APP)
    host.work(host.kept("1.1.0"))
    assert [start for start in host.starts if start] == ["1.1.0?", "1.1.0"]


def is_here(host: UpdatingHost, version: str) -> bool:
    """Return whether that version of hello was fetched ahead."""
    ahead = host.state().prefetch
    return ahead is not None and (ahead.version, ahead.state) == (version, PrefetchState.COMPLETE)


def test_a_new_agent_fetches_nothing_ahead_until_it_is_kept(host: UpdatingHost) -> None:
    """It could take longer than the launcher waits for one that is confirmed already. Nor does it turn without a pause."""
    updated(host, "1.1.0")
    host.chance = 0.0  # what is announced may begin at once
    trials, looks = set[bool](), 0

    def look(_sent: int) -> None:
        if host.server.fetches[-1][0].kind == "object":
            trials.add(host.launch.trial)

    def fetched(version: str) -> Callable[[], bool]:
        def met() -> bool:
            nonlocal looks
            looks += host.launch.trial
            return is_here(host, version)

        return met

    host.announce(host.publish("1.5.0"))
    host.work(fetched("1.5.0"))
    want(host, host.agent_release("1.2.0"), generation=3)
    host.work(lambda: host.version == "1.2.0")
    host.announce(host.publish("2.0.0"))
    host.server.before_chunk = look
    host.work(fetched("2.0.0"))
    assert host.version == "1.2.0"
    assert trials == {False}
    assert looks < 100


def kill_before_kept(host: UpdatingHost, times: int) -> None:
    """Let the host lose its power that often when 2.0.0 is confirmed, in its last start, and not on record as kept."""

    def cut(_verb: str, path: Path) -> None:
        nonlocal times
        state = host.agent.own_state if host.version == "2.0.0" and host.launch.trial else None
        if times and state is State.CONFIRMED and path.name.startswith("launch.json"):
            times -= 1
            write_pointer(Files(), host.folder, replace(host.pointer, starts=launcher.MAX_TRIALS))
            raise Killed

    host.extra_change = cut


def test_what_was_confirmed_and_not_yet_kept_is_put_on_trial_once_more(host: UpdatingHost) -> None:
    """The launcher does not know that it was confirmed, and gives it up; the old agent does, and lets it go on."""
    updated(host, "1.1.0")
    kill_before_kept(host, 1)
    want(host, host.agent_release("2.0.0"), generation=3)
    host.work(host.kept("2.0.0"))
    assert host.starts[-5:] == ["1.1.0", "2.0.0?", "1.1.0", "2.0.0?", "2.0.0"]
    assert "Reverting" not in host.chain(APP, "2.0.0")
    assert not any(event.kind == "drift" and event.code == "failed" for event in host.server.events.values())


def test_once_more_is_once(host: UpdatingHost) -> None:
    """What ends a second time between the two has something against it: it is given up for good."""
    updated(host, "1.1.0")
    kill_before_kept(host, 9)
    want(host, host.agent_release("2.0.0"), generation=3)
    later = host.clock.monotonic() + 400
    host.work(lambda: host.clock.monotonic() > later)
    assert host.starts.count("2.0.0?") == 2
    assert host.version == "1.1.0"


@pytest.mark.parametrize("ahead", [False, True])
def test_a_host_that_is_switched_off_in_a_long_fetch_says_nothing_against_its_agent(
    host: UpdatingHost, ahead: bool
) -> None:
    """The first round of each start lasts as long as the fetch, and never ends: after some seconds the agent is settled."""
    updated(host, "1.1.0")
    host.work(lambda: not host.journal.transactions())
    host.chance = 0.0  # what is announced may begin at once
    (agent,) = [wish for wish in host.wishes if wish[0].app == APP]
    release = host.publish("2.0.0", files={f"file-{number}": bytes([number]) * 1000 for number in range(100)})
    if ahead:
        host.announce(release)
    else:
        host.wishes = [agent, (release, 3, {})]
    host.starts.clear()
    counted: list[int] = []

    def slow(_sent: int) -> None:
        if host.server.fetches[-1][0].kind == "object":
            host.clock.wait(host.agent.wake, 4.0)
            counted.append(host.pointer.starts)
            if len(counted) % 6 == 0:
                raise Killed

    host.server.before_chunk = slow
    host.work(lambda: host.serving() == "2.0.0" or is_here(host, "2.0.0"))
    assert len(host.starts) > launcher.MAX_STARTS + 1
    assert set(host.starts) == {"1.1.0"}
    assert counted[:6] == [1, 1, 1, 0, 0, 0]


def test_the_agent_waits_for_other_apps_and_they_for_it(host: UpdatingHost) -> None:
    """Both wanted at once: staged side by side, then the app to its end, then the agent; what comes later waits."""
    new = host.publish("2.0.0")
    host.hello = new
    want(host, host.agent_release("1.1.0"))
    host.wishes = [(release, 2, {}) for release, _, _ in host.wishes]
    said: set[str] = set()

    def look() -> bool:
        said.add(host.agent.waits(APP))
        return host.kept("1.1.0")()

    host.work(look)
    assert "the agent is not changed while others are: hello" in said
    events = [(e.app, e.state) for e in host.server.events.values() if e.kind == "transition"]
    assert events.index((APP, "Switching")) > events.index(
        ("hello", "Confirmed"), events.index(("hello", "Planned"), 8)
    )
    assert host.serving() == "2.0.0"


def test_nothing_else_begins_while_a_new_agent_is_on_trial(host: UpdatingHost) -> None:
    """What is wanted meanwhile begins once the new agent is kept, or the old one is back."""
    host.mute.add("2.0.0")
    bad = host.agent_release("2.0.0")
    want(host, bad)
    host.work(lambda: host.version == "2.0.0")
    host.hello = host.publish("2.0.0")
    want(host, bad)
    host.wishes = [(release, 2, {}) for release, _, _ in host.wishes]
    host.agent.hint()
    host.work(lambda: host.serving() == "2.0.0" and host.kept("")())
    events = [(e.app, e.version, e.state) for e in host.server.events.values() if e.kind == "transition"]
    assert events.index(("hello", "2.0.0", "Planned")) > events.index((APP, "2.0.0", "Reverted"))


@pytest.mark.parametrize("story", ["update", "mute", "mute and migrating", "dead", "removal"])
def test_killed_at_any_change_of_its_update_an_agent_goes_on(tmp_path: Path, story: str) -> None:
    """Kill -9 at each change of disk or journal: an agent runs, the one that should, and the app was never touched."""
    wrong, number = [], 0
    while True:
        number += STRIDE
        host = launched(tmp_path / f"{story}-{number}")
        updated(host, "1.1.0")
        log = list(host.world.log)
        for fault in story.split(" and "):
            if fault in ("mute", "dead", "migrating"):
                getattr(host, fault).add("2.0.0")
        want(host, *([] if story == "removal" else [host.agent_release("2.0.0")]), generation=3)
        host.kill_at = host.changes + number
        end = {"update": "2.0.0", "removal": ""}.get(story, "1.1.0")
        if story == "removal":
            host.work(lambda host=host: host.version == "" and APP not in host.journal.deployed("current"))
        else:
            host.work(lambda host=host, end=end: host.kept(end)() and host.state(APP).desired_version == "2.0.0")
        if (host.live(APP), host.serving(), host.world.log) != (end, "1.0.0", log):
            wrong.append((number, host.steps, host.live(APP), host.serving()))
        if host.kill_at is not None:
            break
    assert number > 40
    assert not wrong
