"""A simulated host whose agent is started by a launcher, and updates itself.

What is simulated: the launcher's processes. `work` does what it does: it chooses by launch.json, starts an agent on what
the last one left, ends it at its deadline, and notes what died.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from fakes.host import Killed, SimulatedHost
from towpath.errors import Broken
from towpath.release import HealthPolicy, Probe, Release, Run
from towpath_agent import launcher
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE, Pointer
from towpath_agent.journal import SCHEMA_VERSION
from towpath_agent.probes.agent import AgentProbe
from towpath_agent.probes.base import Probe as ProbeDriver
from towpath_agent.runner.selfupdate import Itself
from towpath_agent.services.agent import AgentService, read_pointer
from towpath_agent.services.base import Service
from towpath_agent.system.files import Files
from towpath_agent.system.launch import Launch

APP = "towpath-agent"
POLICY = HealthPolicy(healthy_for_ms=1_000, deadline_ms=20_000, probation_ms=30_000)
LIMIT_S = 900.0


class UpdatingHost(SimulatedHost):
    """A host whose agent is started by a launcher. Versions in `dead` die at their start, those in `mute` never report.

    Those in `migrating` have a journal of another schema, which no other version can read.
    """

    hello: Release

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


def launched(folder: Path) -> UpdatingHost:
    """Return a host that runs hello 1.0.0 under the packaged agent, past its probation."""
    folder.mkdir(exist_ok=True)
    host = UpdatingHost(folder)
    host.hello = host.publish("1.0.0")
    host.assign(host.hello)
    host.work(lambda: bool(host.server.apps) and not host.journal.transactions() and host.serving() == "1.0.0")
    return host


def want(host: UpdatingHost, *releases: Release, generation: int = 2) -> None:
    """Let the server want hello and these."""
    hello = host.hello
    host.assign(hello, *releases)
    host.wishes = [(it, 1 if it is hello else generation, {}) for it in (hello, *releases)]


def updated(host: UpdatingHost, version: str, generation: int = 2) -> None:
    want(host, host.agent_release(version), generation=generation)
    host.work(host.kept(version))
