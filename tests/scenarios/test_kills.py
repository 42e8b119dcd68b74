"""Kill -9 and EIO at every change, for what the matrix of tests/torture lacks: overwriting, sets, repairs of drift.

The points are not listed anywhere: a run without a kill counts them, then each is a case. A new step gets its cases by
existing. The oracle is FAULTS section 1: previous-and-healthy or new-and-healthy, `current` names what runs, the
server's view is the host's, and a second recovery changes nothing.
"""

import errno
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from towpath.errors import TowpathError
from towpath.release import Install, Release, Run
from towpath.status import Health, State

Scene = Callable[[SimulatedHost], str]


def _removal(host: SimulatedHost) -> str:
    host.assign()
    return ""


def _file(host: SimulatedHost, version: str) -> Release:
    """Publish a release of kind `file` that overwrites what somebody else put at its path."""
    host.file_versions.add(version)
    options = {"path": str(_conf(host)), "existing": "overwrite"}
    return host.publish(version, install=Install("file", options), run=Run("none"))


def _overwrite(host: SimulatedHost) -> str:
    host.assign(_file(host, "2.0.0"), generation=2)
    return "2.0.0"


def _bad_overwrite(host: SimulatedHost) -> str:
    host.ill.add("2.0.0")
    host.assign(_file(host, "2.0.0"), generation=2)
    return "1.0.0"


SCENES: dict[str, Scene] = {
    "bad overwriting file": _bad_overwrite,
    "upgrade of a file": _overwrite,
    "removal of a file": _removal,
}
# Where 1.0.0 is a file that overwrote another's already.
FILE_FIRST = ("upgrade of a file", "removal of a file")
ORIGINAL = b"somebody's own"


def _conf(host: SimulatedHost) -> Path:
    return host.folder.with_name(f"{host.folder.name}-etc") / "app.conf"


# What each app of a set should run in the end, and how to get there from 1.0.0 and 1.5.0.
SETS: dict[str, tuple[str, dict[str, str]]] = {
    "two in order": ("", {"api": "2.0.0", "worker": "2.5.0"}),
    "set that is good": ("together", {"api": "2.0.0", "worker": "2.5.0"}),
    "set with a bad worker": ("together 2.5.0", {"api": "1.0.0", "worker": "1.5.0"}),
    "set with a bad api": ("together 2.0.0", {"api": "1.0.0", "worker": "1.5.0"}),
    "removal in order": ("none", {"api": "", "worker": ""}),
}


def _ready_set(folder: Path, what: str) -> SimulatedHost:
    """Return a host with two apps, one of which requires the other, that was just told to move as `what` says."""
    host = SimulatedHost(folder)
    host.assign(host.publish("1.0.0", app="api"), host.publish("1.5.0", app="worker", requires_apps=("api",)))
    host.boot()
    host.settle()
    host.run(120)
    fields = {"together": ("worker",), "critical": ("together-1",)} if "together" in what else {}
    host.ill.update(what.split())
    if what == "none":
        host.assign()
    else:
        api = host.publish("2.0.0", app="api", **fields)
        host.assign(api, host.publish("2.5.0", app="worker", requires_apps=("api",)), generation=2)
    return host


def _sample(name: str, points: int) -> range:
    """Return every fourth point, each scene from another one on; all where TOWPATH_ALL_POINTS is set (minutes)."""
    if "TOWPATH_ALL_POINTS" in os.environ:
        return range(1, points + 1)
    return range(1 + zlib.crc32(name.encode()) % 4, points + 1, 4)


def _check_set(host: SimulatedHost, expected: dict[str, str], where: str) -> None:
    assert {app: host.live(app) for app in expected} == expected, where
    assert {app: host.serving(app) for app in expected} == expected, where
    assert {app: it.current_version for app, it in host.server.apps.items()} == {
        app: version for app, version in expected.items() if version
    }, where
    assert not [tx for tx in host.journal.transactions() if not tx.state.ended], where


def _ready(folder: Path, name: str = "") -> SimulatedHost:
    host = SimulatedHost(folder)
    _conf(host).parent.mkdir()
    _conf(host).write_bytes(ORIGINAL)
    host.assign(_file(host, "1.0.0") if name in FILE_FIRST else host.publish("1.0.0"))
    host.boot()
    host.settle()
    host.run(120)  # past probation
    return host


def _survive(host: SimulatedHost, limit_s: float = 600.0) -> None:
    """Run to the end, starting a new agent wherever one was killed."""
    for _ in range(3):
        try:
            host.settle(limit_s)
        except Killed:
            host.kill_at = None
            _start(host)
        else:
            return


def _start(host: SimulatedHost) -> None:
    host.boot()
    host.agent.hint()


def _points(tmp_path: Path, name: str) -> int:
    host = _ready(tmp_path / "count", name)
    before = host.changes
    SCENES[name](host)
    host.settle()
    return host.changes - before


def _check_outside(host: SimulatedHost, where: str) -> None:
    """Outside the agent's folder lies the live release's file, or what was there before it, and nothing else."""
    content = f"hello {host.live()}".encode() if host.live() in host.file_versions else ORIGINAL
    assert {path.name: path.read_bytes() for path in _conf(host).parent.iterdir()} == {"app.conf": content}, where


def _check(host: SimulatedHost, expected: str, where: str) -> None:
    _check_outside(host, where)
    assert (host.live(), host.serving()) == (expected, expected), where
    if expected:
        state = host.state()
        assert state.current_version == expected, where
        assert state.health is Health.HEALTHY, where
        assert state.state in (State.CONFIRMED, State.REVERTED), where
    else:
        assert "hello" not in host.server.apps, where
    assert not list((host.folder / "staging").iterdir()), where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENES)
def test_killed_once_at_any_change_the_host_ends_as_if_it_had_not_been(tmp_path: Path, name: str) -> None:
    """Every point of every scene ends in the same place, with what runs, what is linked and what is told agreeing."""
    scene = SCENES[name]
    points = _points(tmp_path, name)
    assert points > 20  # a scene that does nothing proves nothing
    for point in range(1, points + 1):
        host = _ready(tmp_path / f"{point}", name)
        expected = scene(host)
        host.kill_at = host.changes + point
        _survive(host)
        where = f"{name}, killed at change {point} ({', '.join(host.steps)})"
        assert host.steps, where
        _check(host, expected, where)
        log = list(host.world.log)
        _start(host)
        host.settle()
        assert host.world.log == log, f"{where}: a second recovery touched what runs"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENES)
def test_an_io_error_at_any_change_ends_in_the_old_or_the_new_and_never_between(tmp_path: Path, name: str) -> None:
    """EIO once at any write, commit, start or stop: the host ends with one release linked, running and reported."""
    scene = SCENES[name]
    for point in range(1, _points(tmp_path, name) + 1):
        host = _ready(tmp_path / f"{point}", name)
        wanted = scene(host)
        fault = Fault(host.changes + point, host)
        host.extra_change = fault
        _endure(host)
        where = f"{name}, EIO at change {point} ({fault.hit})"
        assert fault.hit, where
        assert host.live() == host.serving(), where
        assert host.live() in (wanted, "1.0.0"), where
        _check_outside(host, where)
        if host.live():
            assert host.state().current_version == host.live(), where
            assert host.state().health is Health.HEALTHY, where
        assert not [tx for tx in host.journal.transactions() if not tx.state.ended], where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SETS)
def test_killed_once_at_any_change_a_set_ends_whole(tmp_path: Path, name: str) -> None:
    """Apps in order and sets: all of it on the new or all on the old, as without the kill, and told so."""
    what, expected = SETS[name]
    count = _ready_set(tmp_path / "count", what)
    before = count.changes
    count.settle()
    _check_set(count, expected, name)
    for point in _sample(name, count.changes - before):
        host = _ready_set(tmp_path / f"{point}", what)
        host.kill_at = host.changes + point
        _survive(host)
        host.run(60)
        where = f"{name}, killed at change {point} ({', '.join(host.steps)})"
        assert host.steps, where
        _check_set(host, expected, where)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SETS)
def test_an_io_error_at_any_change_never_leaves_a_set_mixed(tmp_path: Path, name: str) -> None:
    """EIO once at any write, commit, start or stop: a set is all on the new or all on the old."""
    what, expected = SETS[name]
    count = _ready_set(tmp_path / "count", what)
    before = count.changes
    count.settle()
    for point in _sample(name, count.changes - before):
        host = _ready_set(tmp_path / f"{point}", what)
        fault = Fault(host.changes + point, host)
        host.extra_change = fault
        _endure(host)
        where = f"{name}, EIO at change {point} ({fault.hit})"
        assert fault.hit, where
        runs = {app: host.serving(app) for app in expected}
        assert {app: host.live(app) for app in expected} == runs, where
        old = {"api": "1.0.0", "worker": "1.5.0"}
        if "together" in what:
            assert runs in (old, expected), where
        assert all(runs[app] in (old[app], expected[app]) for app in expected), where
        assert not [tx for tx in host.journal.transactions() if not tx.state.ended], where


def _endure(host: SimulatedHost) -> None:
    """Run to the end, starting the agent again where an error that its loop does not handle ended it."""
    for _ in range(3):
        try:
            host.settle()
        except (TowpathError, OSError):
            _start(host)
        else:
            break
    host.run(400)


def _damaged(folder: Path) -> SimulatedHost:
    """Return a host on which somebody just deleted a folder, changed a link and broke an object of the store."""
    host = _ready(folder)
    app = folder / "apps" / "hello"
    shutil.rmtree((app / "current").resolve() / "bin")
    (app / "current").unlink()
    for stored in (folder / "store" / "objects").iterdir():
        if stored.read_bytes() == b"hello 1.0.0":
            stored.write_bytes(b"hello 6.6.6")
    return host


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["kill", "EIO"])
def test_cut_off_anywhere_a_repair_of_drift_is_done_in_the_end(tmp_path: Path, fault: str) -> None:
    """At any change of a repair: the next look or the next agent repairs what is left; the app runs on all the time."""
    count = _damaged(tmp_path / "count")
    before = count.changes
    count.run(60)
    points = count.changes - before
    assert points > 10
    for point in range(1, points + 1):
        host = _damaged(tmp_path / f"{point}")
        log = list(host.world.log)
        if fault == "kill":
            host.kill_at = host.changes + point
            with pytest.raises(Killed):
                host.run(60)
            host.kill_at = None
            _start(host)
        else:
            host.extra_change = Fault(host.changes + point, host)
            _endure(host)
        host.run(120)
        where = f"{fault} at change {point} ({', '.join(host.steps)})"
        _check(host, "1.0.0", where)
        assert (host.folder / "apps" / "hello" / "current" / "bin" / "serve").read_bytes() == b"hello 1.0.0", where
        assert host.world.log == log, where


class Fault:
    """An I/O error at one change, once."""

    def __init__(self, at: int, host: SimulatedHost) -> None:
        self._at, self._host, self.hit = at, host, ""

    def __call__(self, verb: str, path: Path) -> None:
        if self._host.changes == self._at and not self.hit:
            self.hit = f"{verb} {path.name}"
            raise OSError(errno.EIO, "injected")
