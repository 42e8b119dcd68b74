"""Installer `deb` through the real agent and the real dpkg: upgrades, reverts, refusals, and kills at every change.

The points of the kills are not listed: from the first to the last change that concerns the package, every change of disk,
journal and service counts, and so do the beginning and the end of every call of dpkg that changes the host. What comes
before and after is the same for all kinds, see `test_kills`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from fakes.packages import DebHost, build_deb
from towpath.release import Install, Release, Run
from towpath.status import Health
from towpath_agent.installers.base import Installer
from towpath_agent.installers.deb import DebTool
from towpath_agent.installers.package import Package, PackageInstaller
from towpath_agent.installers.tool import Call
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

CONF = "etc/hello/hello.conf"
RUN = Run("process", command=("/opt/hello/app", "--port", "${port}"))


class TellingTool(DebTool):
    """dpkg, whose calls count as changes of the simulated host."""

    host: "PackageHost"

    def install(self, path: Path, package: Package, call: Call, /) -> None:
        with self.told("install", path):
            super().install(path, package, call)

    def remove(self, name: str, call: Call) -> None:
        with self.told("remove", Path(name)):
            super().remove(name, call)

    def mend(self, before: Iterable[str], call: Call) -> None:
        with self.told("mend", Path("dpkg")):
            super().mend(before, call)

    @contextmanager
    def told(self, verb: str, path: Path) -> Iterator[None]:
        self.host._change(f"before {verb}", path)
        yield
        self.host._change(f"after {verb}", path)


class PackageHost(SimulatedHost):
    """A simulated host with a dpkg of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "agent")
        self.deb = DebHost.make(folder / "root", folder / "dpkg")
        self.built = folder / "built"
        self.built.mkdir()
        self.installers["deb"] = self._installer

    def _installer(self, files: Files) -> Installer:
        deb = self.deb
        tool = TellingTool(files, SystemClock(), dpkg=deb.dpkg, query=deb.query, root=deb.root, admin=deb.admin)
        tool.host = self
        return PackageInstaller(files, tool)

    def release(self, version: str, **deb: object) -> Release:
        """Publish a release whose package has a configuration file."""
        made: dict[str, object] = {"conffiles": {CONF: f"version = {version}\n"}, **deb}
        package = build_deb(self.built, version, **made)  # type: ignore[arg-type]
        return self.publish(version, package=package, install=Install("deb", {"package": "hello"}), run=RUN)

    @property
    def conf(self) -> Path:
        return self.deb.root / CONF

    def check(self, version: str, where: str = "") -> None:
        """All agree: dpkg, its files, the link, what runs, and what the server was told."""
        state = self.deb.state()
        assert state == f"installed {version}", f"{where}: {state}"
        assert (self.deb.root / "opt/hello/app").read_text() == f"hello {version}\n", where
        assert self.deb.by_hand("--audit") == "", where
        assert (self.live(), self.serving()) == (version, version), where
        assert (self.state().current_version, self.state().health) == (version, Health.HEALTHY), where


def ready(folder: Path) -> PackageHost:
    """Return a host that runs 1.0, whose configuration the operator has edited."""
    folder.mkdir(exist_ok=True)
    host = PackageHost(folder)
    host.assign(host.release("1.0"))
    host.boot()
    host.settle()
    host.run(120)
    host.conf.write_text("mine\n")
    return host


def test_upgrades_and_a_revert_by_downgrade_keep_the_edited_configuration(tmp_path: Path) -> None:
    """1.0, then 1.1, then 1.2 whose probes fail: the host downgrades to 1.1 by itself, and says so."""
    host = ready(tmp_path)
    host.check("1.0")
    host.assign(host.release("1.1"), generation=2)
    host.settle()
    host.check("1.1")
    host.run(120)
    host.ill.add("1.2")
    host.assign(host.release("1.2"), generation=3)
    host.settle()
    host.check("1.1", "after 1.2")
    assert host.chain(version="1.2")[-2:] == ["Reverting", "Reverted"]
    assert host.conf.read_text() == "mine\n"
    host.assign()
    host.settle()
    assert (host.deb.state(), host.conf.read_text(), host.live()) == ("config-files 1.1", "mine\n", "")


def test_a_package_whose_script_fails_is_reverted_and_its_words_are_reported(tmp_path: Path) -> None:
    """What postinst said is in the report; the package before is whole again."""
    host = ready(tmp_path)
    scripts = {"postinst": "echo the database is away >&2; exit 1"}
    host.assign(host.release("1.1", scripts=scripts), generation=2)
    host.settle()
    host.check("1.0")
    (reverting,) = [event for event in host.transitions(version="1.1") if event.state == "Reverting"]
    assert "the database is away" in reverting.reason
    assert reverting.code == "package"


def test_a_first_install_that_fails_leaves_no_package(tmp_path: Path) -> None:
    """There is nothing to go back to: the package goes away again."""
    host = PackageHost(tmp_path)
    host.ill.add("1.0")
    host.assign(host.release("1.0"))
    host.boot()
    host.settle()
    assert host.deb.state().partition(" ")[0] in ("", "not-installed", "config-files")
    assert (host.live(), host.serving()) == ("", "")


def test_a_refused_package_changes_nothing_and_stops_nothing(tmp_path: Path) -> None:
    """A missing dependency is said by name while the old release goes on without a restart."""
    host = ready(tmp_path)
    log = list(host.world.log)
    host.assign(host.release("1.1", control="Depends: libfoo (>= 2)\n"), generation=2)
    host.settle()
    host.check("1.0")
    assert host.world.log == log
    assert "libfoo (>= 2), which is not installed" in "".join(event.reason for event in host.transitions(version="1.1"))


def test_a_locked_database_is_tried_again_later(tmp_path: Path) -> None:
    """Somebody else's long work with dpkg is no fault of the release: it is installed once that has ended."""
    import fcntl
    import os

    host = ready(tmp_path)
    made = host.installers["deb"]

    def impatient(files: Files) -> Installer:
        installer = made(files)
        assert isinstance(installer, PackageInstaller)
        installer._tool._lock_timeout_s = 0.2  # type: ignore[attr-defined]
        return installer

    host.installers["deb"] = impatient
    host.boot()
    held = os.open(host.deb.admin / "lock-frontend", os.O_RDWR)
    host.assign(host.release("1.1"), generation=2)

    def reverting() -> bool:
        return "Reverting" in host.chain(version="1.1")

    fcntl.lockf(held, fcntl.LOCK_EX)
    host.run(60, reverting)
    assert reverting()
    os.close(held)
    host.run(300, lambda: host.state().current_version == "1.1")
    host.run(5)
    host.check("1.1")


SCENES = {"upgrade": "1.1", "bad upgrade": "1.0"}


def begin(host: PackageHost, scene: str) -> str:
    """Let the server want 1.1; return the version with which the host must end."""
    if scene == "bad upgrade":
        host.ill.add("1.1")
    host.assign(host.release("1.1"), generation=2)
    return SCENES[scene]


def package_points(host: PackageHost, scene: str) -> range:
    """Return the changes (from 1) between the first and the last that the package installer makes, and some around."""
    changes: list[str] = []
    host.extra_change = lambda verb, path: changes.append(f"{verb} {path.name}")
    begin(host, scene)
    host.settle()
    ours = [at for at, it in enumerate(changes, 1) if it.endswith((" package", " package.json", " dpkg"))]
    switching = [at for at in ours if not changes[at - 1].startswith(("make", "write", "change"))]
    return range(switching[0] - 5, switching[-1] + 8)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", SCENES)
def test_an_agent_killed_at_any_change_ends_with_one_whole_package(tmp_path: Path, scene: str) -> None:
    """Before and after every commit, file operation, service call and dpkg: old or new, installed, linked and told."""
    points = package_points(ready(tmp_path / "count"), scene)
    assert len(points) > 15
    for point in points:
        host = ready(tmp_path / str(point))
        expected = begin(host, scene)
        host.kill_at = host.changes + point
        for _ in range(3):
            try:
                host.settle()
            except Killed:
                host.kill_at = None
                host.boot()
                host.agent.hint()
            else:
                break
        where = f"{scene}, killed at change {point} ({', '.join(host.steps)})"
        assert host.steps, where
        host.check(expected, where)
        assert host.conf.read_text() == "mine\n", where


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", ["preinst", "postinst", "prerm", "postrm"])
@pytest.mark.parametrize("scene", SCENES)
def test_dpkg_killed_on_the_way_there_or_back_still_ends_whole(tmp_path: Path, scene: str, point: str) -> None:
    """Kill -9 of dpkg in each script, once: the agent that meets it goes back or on, and one whole package is left."""
    host = ready(tmp_path)
    deadly = 'if [ -e "$DPKG_ROOT/kill" ]; then rm "$DPKG_ROOT/kill"; kill -9 $PPID; sleep 1; fi'
    host.ill.update({"1.1"} if scene == "bad upgrade" else ())
    host.assign(host.release("1.1", scripts={point: deadly}), generation=2)
    if scene == "bad upgrade":
        # On the way back: the outgoing scripts of 1.1 run there.
        host.run(60, lambda: host.serving() == "1.1")
    (host.deb.root / "kill").touch()
    host.settle(600)
    version = host.live()
    assert version == "1.0" if scene == "bad upgrade" else version in ("1.0", "1.1")
    host.run(120)
    host.check(version, f"{scene} {point}")
    assert host.conf.read_text() == "mine\n"
