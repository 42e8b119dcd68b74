"""Drift with real files and a real process: what is killed runs again, what is damaged is put back under what runs."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from fakes.live_server import eventually
from fakes.services import end_all
from towpath.release import Run
from towpath_agent.runner.site import id_of
from towpath_agent.services import SERVICES
from towpath_agent.services.base import Service
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_by_env

SCRIPT = "#!/bin/sh\nexec sleep 1000\n"


class RealHost(SimulatedHost):
    """A host whose apps are real processes; only its clock, its server and its publisher are simulated."""

    def services(self, files: Files) -> Mapping[str, Service]:
        return {kind: make(files, SystemClock()) for kind, make in SERVICES.items()}

    def pids(self) -> list[int]:
        return [process.pid for process in find_by_env("TOWPATH_APP_DIR", str(self.folder / "apps" / "hello"))]

    def kill(self, pid: int) -> None:
        """Kill a process, and wait for its end: a signal is not yet a death, and a minute here is no time at all."""
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in self.pids(), "it is dead")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    host = RealHost(tmp_path)
    host.assign(host.publish("1.0.0", content=SCRIPT, run=Run("process", command=("bin/serve",)), probes=()))
    host.boot()
    host.settle()
    host.run(120)
    try:
        yield host
    finally:
        end_all(tmp_path)


def drifts(host: RealHost) -> list[str]:
    return [event.reason for event in host.server.events.values() if event.kind == "drift"]


def test_a_process_that_is_killed_runs_again_within_a_minute(host: RealHost) -> None:
    """SIGKILL from outside: a new process of the same release, and one report."""
    (before,) = host.pids()
    host.kill(before)
    host.run(60)
    (after,) = host.pids()
    assert after != before
    assert drifts(host) == ["it was not running; started again (1)"]


def test_a_program_that_is_damaged_is_replaced_under_the_running_process(host: RealHost) -> None:
    """The file is a new one with the signed bytes; the process that has the old one open is not ended for it."""
    (before,) = host.pids()
    program = host.folder / "apps" / "hello" / "current" / "bin" / "serve"
    inode = program.stat().st_ino
    program.write_text("#!/bin/sh\nexit 1\n")
    host.run(60)
    assert (program.read_text(), program.stat().st_mode & 0o777) == (SCRIPT, 0o755)
    assert program.stat().st_ino != inode
    assert host.pids() == [before]
    assert len(drifts(host)) == 1


def test_a_tree_that_is_gone_with_its_process_comes_back_with_it(host: RealHost) -> None:
    """Files first, then the process that needs them: both in one look."""
    (before,) = host.pids()
    here = host.folder / "apps" / "hello" / "releases" / id_of(host.journal.deployed("current")["hello"])
    for path in (here / "bin" / "serve", here / "bin", here):
        path.unlink() if path.is_file() else path.rmdir()
    host.kill(before)
    host.run(60)
    assert len(host.pids()) == 1
    assert (here / "bin" / "serve").read_text() == SCRIPT
