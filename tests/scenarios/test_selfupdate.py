"""The agent's own update on a simulated host: the real runner, journal and launcher's decisions, killed everywhere.

What is simulated: the launcher's processes. `work` does what it does: it chooses by launch.json, starts an agent on what
the last one left, ends it at its deadline, and notes what died.
"""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from fakes.person import told
from towpath.errors import Broken
from towpath.release import HealthPolicy, Probe, Release, Run
from towpath.reports import PrefetchState
from towpath.status import State
from towpath_agent import launcher
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE, Pointer
from towpath_agent.journal import SCHEMA_VERSION
from towpath_agent.probes.agent import AgentProbe
from towpath_agent.probes.base import Probe as ProbeDriver
from towpath_agent.runner.floors import read_floors
from towpath_agent.runner.selfupdate import Itself
from towpath_agent.services.agent import AgentService, read_pointer, write_pointer
from towpath_agent.services.base import Service
from towpath_agent.system.files import Files
from towpath_agent.system.launch import Launch

APP = "towpath-agent"
POLICY = HealthPolicy(healthy_for_ms=1_000, deadline_ms=20_000, probation_ms=30_000)
LIMIT_S = 900.0
# Every so manieth change is one to be killed at: 1 takes minutes.
STRIDE = int(os.environ.get("TOWPATH_TEST_STRIDE", "11"))


class UpdatingHost(SimulatedHost):
    """A host whose agent is started by a launcher. Versions in `dead` die at their start, those in `mute` never report.

    Those in `migrating` have a journal of another schema, which no other version can read.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dead: set[str] = set()
        self.mute: set[str] = set()
        self.hung: set[str] = set()
        self.migrating: set[str] = set()
        self.starts: list[str] = []
        self.launch = Launch()
        self.left = False
        self.at_start: Callable[[], None] = lambda: None

    @property
    def version(self) -> str:
        """Return which agent runs; empty for the packaged one."""
        return self.launch.release.rpartition("-")[0]

    @property
    def on_trial(self) -> bool:
        return self.launch.trial

    def services(self, files: Files) -> dict[str, Service]:
        self.service = AgentService(files, self.clock, launch=self.launch)
        return {**super().services(files), "agent": self.service}

    def probes(self, files: Files) -> dict[str, ProbeDriver]:
        self.probe = AgentProbe(files, self.clock)
        return {**super().probes(files), "agent": self.probe}

    def agent_release(self, version: str) -> Release:
        return self.publish(
            version, app=APP, program="bin/towpath-agent", run=Run("agent"), probes=(Probe("agent"),), health=POLICY, parameters=()
        )  # fmt: skip

    def boot(self) -> None:
        """Start the agent that `launch` names."""
        files = self.files(self._change)
        self.left = False
        if self.version in self.migrating:
            self.schema(SCHEMA_VERSION)  # which it knows too
        itself = Itself(self.folder, files, self.launch, self.clock, self.log.append)
        self.at_start()
        super().boot()
        itself.attach(self.agent, self.journal, self.service, self.probe, self._leave)
        unproven = self.probe.missing
        self.probe.missing = lambda: "it cannot speak" if self.version in self.mute else unproven()
        self.itself = itself

    def _leave(self) -> None:
        self.left = True
        self.agent.stop()

    def schema(self, number: int, name: str = "state.db") -> None:
        """Let the journal be one of that schema."""
        db = sqlite3.connect(self.folder / name)
        db.execute(f"PRAGMA user_version={number}")
        db.close()

    def work(self, until: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        """Launch and run agents until something is so."""
        end_s = self.clock.monotonic() + limit_s
        while self.clock.monotonic() < end_s:
            command, state, trial = launcher.choose(str(self.folder), "")
            release = Path(command).parents[1].name if command else ""
            self.launch = Launch(("launcher",), release, trial)
            self.starts.append(self.version + "?" * trial)
            if trial and self.version in self.dead:
                if state["starts"] == launcher.MAX_TRIALS:
                    launcher.give_up(str(self.folder), state, "it ended 3 times", "Traceback: boom")
                continue
            try:
                self.boot()
                if self._rounds(until, end_s, self.clock.monotonic() + state["deadline_s"]):
                    return
                if trial and not self.left:
                    launcher.give_up(str(self.folder), launcher.read(str(self.folder)), "it had not reported in time")
            except Killed:
                self.kill_at = None
            except Broken as error:
                if not trial:
                    raise
                if state["starts"] == launcher.MAX_TRIALS:
                    launcher.give_up(str(self.folder), state, "it ended 3 times", str(error))
            finally:
                if self.version in self.migrating:
                    self.schema(SCHEMA_VERSION + 1)
                    if not trial and (self.folder / JOURNAL_BEFORE).exists():  # a copy of its own
                        self.schema(SCHEMA_VERSION + 1, JOURNAL_BEFORE)
        raise AssertionError(f"it never came to that: {self.log}")

    def _rounds(self, until: Callable[[], bool], end_s: float, deadline_s: float) -> bool:
        """Run one agent; return whether it came to what was waited for."""
        while self.clock.monotonic() < end_s:
            if self.launch.trial and self.clock.monotonic() >= deadline_s:
                return False
            if self.launch.trial and self.version in self.hung:
                self.clock.wait(self.agent.wake, 1.0)
                continue
            delay = self.agent.tick()
            if not self.left and self.itself.after_round(self.journal, self.agent.own_state):
                self.left = True
            if self.left:
                return False
            if until():
                return True
            self.clock.wait(self.agent.wake, min(max(delay, 0.001), 5.0))
            self.agent.wake.clear()
        return False

    @property
    def pointer(self) -> Pointer:
        return read_pointer(Files(), self.folder) or Pointer()

    def kept(self, version: str) -> Callable[[], bool]:
        """Return a condition: that version runs, on no trial, and the server knows how its change ended."""

        def met() -> bool:
            if self.journal.outbox(1) or APP not in self.server.apps or self.launch.trial:
                return False
            state = self.state(APP)
            return self.version == version and state.state.ended and not self.pointer.trying

        return met


@pytest.fixture
def host(tmp_path: Path) -> UpdatingHost:
    """Run hello 1.0.0 under the packaged agent, past its probation."""
    host = UpdatingHost(tmp_path)
    host.hello = host.publish("1.0.0")  # type: ignore[attr-defined]
    host.assign(host.hello)  # type: ignore[attr-defined]
    host.work(lambda: bool(host.server.apps) and not host.journal.transactions() and host.serving() == "1.0.0")
    return host


def want(host: UpdatingHost, *releases: Release, generation: int = 2) -> None:
    """Let the server want hello and these."""
    hello = host.hello  # type: ignore[attr-defined]
    host.assign(hello, *releases)
    host.wishes = [(it, 1 if it is hello else generation, {}) for it in (hello, *releases)]


def updated(host: UpdatingHost, version: str, generation: int = 2) -> None:
    want(host, host.agent_release(version), generation=generation)
    host.work(host.kept(version))


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
    host.hello = new  # type: ignore[attr-defined]
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
    host.hello = host.publish("2.0.0")  # type: ignore[attr-defined]
    want(host, bad)
    host.wishes = [(release, 2, {}) for release, _, _ in host.wishes]
    host.agent.hint()
    host.work(lambda: host.serving() == "2.0.0" and host.kept("")())
    events = [(e.app, e.version, e.state) for e in host.server.events.values() if e.kind == "transition"]
    assert events.index(("hello", "2.0.0", "Planned")) > events.index((APP, "2.0.0", "Reverted"))


def test_a_journal_that_the_new_agent_migrated_is_given_back(host: UpdatingHost) -> None:
    """A newer schema, written on trial, then death: the old agent takes its copy, goes back, and knows all as before."""
    updated(host, "1.1.0")
    bad = host.agent_release("2.0.0")
    want(host, bad, generation=3)

    def migrate() -> None:
        if host.version == "2.0.0":
            host.schema(SCHEMA_VERSION + 1)
            host.dead.add("2.0.0")
            raise Killed

    host.at_start = migrate
    host.work(host.kept("1.1.0"))
    assert host.state(APP).state is State.REVERTED
    assert "the copy from before the agent's update took its place" in " ".join(host.log)
    assert host.journal.failures()[APP].wish.version == "2.0.0"
    assert [it.state for it in host.journal.app_states()] == [State.CONFIRMED, State.REVERTED]


def test_a_power_cut_while_the_journals_copy_is_taken_loses_nothing(tmp_path: Path) -> None:
    """Killed at each change of that: the next start takes the copy, goes back and remembers, and leaves no foreign rest."""
    number, over = 0, False
    while not over:
        number += 1
        host = UpdatingHost(tmp_path / str(number))
        host.folder.mkdir()
        host.hello = host.publish("1.0.0")  # type: ignore[attr-defined]
        host.assign(host.hello)  # type: ignore[attr-defined]
        host.work(lambda host=host: bool(host.server.apps) and not host.journal.transactions())
        updated(host, "1.1.0")
        host.migrating.add("2.0.0")
        host.hung.add("2.0.0")
        want(host, host.agent_release("2.0.0"), generation=3)

        def cut(host: UpdatingHost = host, number: int = number) -> None:
            if host.version == "1.1.0" and host.pointer.failed and not host.steps and host.kill_at is None:
                (host.folder / "state.db-journal").write_bytes(b"foreign")
                host.kill_at = host.changes + number

        host.at_start = cut
        host.work(lambda host=host: host.kept("1.1.0")() and host.state(APP).desired_version == "2.0.0")
        over = host.steps == ["before commit state.db"]  # the first of its first round
        assert host.state(APP).state is State.REVERTED, host.steps
        assert host.journal.failures()[APP].wish.version == "2.0.0", host.steps
        assert host.live(APP) == "1.1.0", host.steps
    assert number > 4


def undeployed(host: UpdatingHost) -> None:
    want(host)


def without_pointer(host: UpdatingHost) -> None:
    (host.folder / "launch.json").unlink()


def ten_times_dead(host: UpdatingHost) -> None:
    failed = Pointer(trying=host.pointer.current, starts=10, failed="it was started 10 times")
    write_pointer(Files(), host.folder, failed)


@pytest.mark.parametrize(("leave", "then"), [(undeployed, ""), (without_pointer, "2.0.0"), (ten_times_dead, "")])
def test_the_package_runs_again_after_a_release_with_another_journal(
    host: UpdatingHost, leave: Callable[[UpdatingHost], None], then: str
) -> None:
    """Every way back to an older agent: its journal is rebuilt, which is said; what runs goes on, and floors are kept."""
    host.migrating.add("2.0.0")
    updated(host, "2.0.0")
    host.work(lambda: not host.journal.transactions())
    log, floors = list(host.world.log), read_floors(host.folder / "trust" / "floors.json", Files())
    host.starts.clear()
    leave(host)
    if leave is not undeployed:
        host.schema(SCHEMA_VERSION + 1)  # as it was left
    host.work(lambda: "" in host.starts and host.version == then and bool(host.server.syncs))
    later = host.clock.monotonic() + 120
    host.work(lambda: host.clock.monotonic() > later)
    assert host.version == then
    assert host.starts[-1] == then
    (note,) = [event for event in host.server.events.values() if event.code == "journal"]
    assert "schema 2, this agent knows 1; it was set aside as state.db.damaged-" in note.reason
    assert note.reason.endswith("and rebuilt from what runs")
    assert f"host: {note.reason}" in host.log
    assert host.world.log == log
    assert (host.state().current_version, host.state().state) == ("1.0.0", State.CONFIRMED)
    assert read_floors(host.folder / "trust" / "floors.json", Files()).releases == floors.releases
    host.migrating.add("3.0.0")
    want(host, host.agent_release("3.0.0"), generation=5)
    host.work(host.kept("3.0.0"))


def test_an_older_agent_on_trial_leaves_the_newer_ones_journal_alone(host: UpdatingHost) -> None:
    """It cannot read it, dies, and the newer one comes back to all that it knew."""
    host.migrating.add("2.0.0")
    updated(host, "2.0.0")
    host.work(lambda: not host.journal.transactions())
    want(host, host.agent_release("1.1.0"), generation=3)
    host.work(host.kept("2.0.0"))
    assert host.state(APP).state is State.REVERTED
    assert not list(host.folder.glob("state.db.damaged-*"))


@pytest.mark.parametrize("story", ["update", "mute", "mute and migrating", "dead", "removal"])
def test_killed_at_any_change_of_its_update_an_agent_goes_on(tmp_path: Path, story: str) -> None:
    """Kill -9 at each change of disk or journal: an agent runs, the one that should, and the app was never touched."""
    wrong, number = [], 0
    while True:
        number += STRIDE
        host = UpdatingHost(tmp_path / f"{story}-{number}")
        host.folder.mkdir()
        hello = host.hello = host.publish("1.0.0")  # type: ignore[attr-defined]
        host.assign(hello)
        host.work(lambda host=host: bool(host.server.apps) and not host.journal.transactions())
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
