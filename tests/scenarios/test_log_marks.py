"""Where a log stood at the start: noted before it, kept by what is adopted, and never a reason not to start."""

import errno
import os
from pathlib import Path

import pytest

from fakes.drivers import FakeService, World
from fakes.host import SimulatedHost
from towpath.release import Probe
from towpath_agent.journal import Deployed
from towpath_agent.probes.base import FileMark
from towpath_agent.runner import logmarks
from towpath_agent.runner.site import Site
from towpath_agent.store import Store
from towpath_agent.system.files import Files


class Started:
    """A release with a probe on a log, and the service that runs it."""

    def __init__(self, folder: Path, files: Files, deployed: Deployed) -> None:
        self.site, self.deployed = Site(folder, files, Store(folder / "store", files)), deployed
        self.world = World()
        self.log = folder.parent / "app.log"

    def start(self) -> None:
        logmarks.start(self.site, FakeService(self.world), self.deployed)

    def mark(self) -> FileMark | None:
        return logmarks.read(self.site, self.deployed).get(str(self.log))


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    """Return a release that a simulated host has confirmed."""
    host = SimulatedHost(tmp_path / "host")
    probe = Probe("log", {"path": str(tmp_path / "app.log"), "pattern": "x"})
    host.assign(host.publish("1.0.0", probes=(probe,)))
    host.boot()
    host.settle()
    return host.journal.deployed("current")["hello"]


def test_each_start_is_noted_and_what_runs_keeps_its_note(tmp_path: Path, deployed: Deployed) -> None:
    """A log that is not there yet has none and counts whole; adopting moves nothing; a new start does."""
    it = Started(tmp_path / "host", Files(), deployed)
    it.start()
    assert it.mark() is None
    it.world.crash("hello")
    it.log.write_text("1234\n")
    it.start()
    first = FileMark(it.log.stat().st_ino, 5)
    assert it.mark() == first
    it.log.write_text("12345678\n")
    it.start()
    assert it.mark() == first
    it.world.crash("hello")
    it.start()
    assert it.mark() == FileMark(first.inode, 9)


def test_a_note_that_cannot_be_written_does_not_keep_an_app_from_starting(tmp_path: Path, deployed: Deployed) -> None:
    """A full disk costs the probe its precision; going back to a release needs no space for it."""

    def full(verb: str, _path: Path) -> None:
        if verb in ("make", "write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    it = Started(tmp_path / "host", Files(full), deployed)
    it.log.write_text("1234\n")
    it.start()
    assert it.world.running("hello") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"a": 5}', '{"a": ["x", 1]}', '{"a": [1]}', "x" * 99_999])
def test_a_garbled_note_is_none(tmp_path: Path, deployed: Deployed, text: str) -> None:
    """Then the log counts whole."""
    it = Started(tmp_path / "host", Files(), deployed)
    (note,) = (tmp_path / "host/apps/hello/records").glob("*.marks")
    note.write_text(text)
    assert dict(logmarks.read(it.site, deployed)) == {}
