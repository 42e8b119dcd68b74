"""Drift of what a release put beyond its tree, with the real dpkg, rpm, podman and a real driver: found, put back, told.

The agent is the real one on a simulated clock, so that a minute takes no minute.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from fakes.images import ImageHost, build_image
from fakes.packages import DebHost, RpmHost, build_deb, build_rpm
from towpath.release import Install, Release, Run
from towpath.reports import Event
from towpath_agent.errors import PackageError
from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import Installer
from towpath_agent.installers.package import PackageInstaller
from towpath_agent.system.files import Files

EXAMPLE = Path(__file__).parents[2] / "examples" / "drivers" / "webroot"
MINUTE = 60.0
RUN = Run("process", command=("/opt/hello/app",))


class Asked:
    """Stands before an installer and counts what is asked of it."""

    def __init__(self, behind: Installer) -> None:
        self.behind, self.questions, self.switches = behind, 0, 0

    def __getattr__(self, name: str) -> object:
        self.questions += name == "in_place"
        self.switches += name == "switch"
        return getattr(self.behind, name)


class Lab:
    """A simulated host whose one app is of a kind that reaches beyond its tree."""

    def __init__(self, folder: Path, kind: str, make: Callable[[Files], Installer]) -> None:
        self.host = SimulatedHost(folder / "agent")
        self.kind = kind
        self.asked: Asked
        self.host.installers[kind] = self._make(make)

    def _make(self, make: Callable[[Files], Installer]) -> Callable[[Files], Installer]:
        def made(files: Files) -> Installer:
            self.asked = Asked(make(files))
            return self.asked  # type: ignore[return-value]

        return made

    def start(self, release: Release) -> None:
        """Run until it is confirmed and its probation is over."""
        self.host.assign(release)
        self.host.boot()
        self.host.settle()
        self.host.run(120)
        assert self.host.live() == release.version
        assert self.drifts() == []

    def drifts(self) -> list[Event]:
        return [event for event in self.host.server.events.values() if event.kind == "drift"]

    def repaired(self) -> str:
        """Let a minute pass; return what was told of the one repair."""
        log = list(self.host.world.log)
        self.host.run(MINUTE)
        self.host.settle()
        (event,) = self.drifts()
        assert event.code == "drift-repaired"
        assert self.host.world.log == log  # the app is not restarted for it
        return event.reason


@pytest.fixture
def deb(tmp_path: Path) -> Lab:
    host = DebHost.make(tmp_path / "root", tmp_path / "dpkg")
    lab = Lab(tmp_path, "deb", host.installer)
    lab.deb = host  # type: ignore[attr-defined]
    package = build_deb(tmp_path, "1.0", conffiles={"etc/hello.conf": "theirs\n"})
    lab.start(lab.host.publish("1.0", package=package, install=Install("deb", {"package": "hello"}), run=RUN))
    return lab


def of_deb(lab: Lab) -> DebHost:
    return lab.deb  # type: ignore[attr-defined,no-any-return]


def test_a_file_of_a_package_that_was_deleted_is_installed_again_within_a_minute(deb: Lab) -> None:
    """By dpkg, from the release's own package; the report names the file."""
    app = of_deb(deb).root / "opt" / "hello" / "app"
    app.unlink()
    assert deb.repaired() == f"{app} was deleted: put back as signed"
    assert app.read_text() == "hello 1.0\n"
    assert of_deb(deb).state() == "installed 1.0"


def test_a_file_of_a_package_that_was_changed_is_installed_again(deb: Lab) -> None:
    """Also where its size is the same; an edited configuration file stays as the operator left it."""
    conf = of_deb(deb).root / "etc" / "hello.conf"
    conf.write_text("mine\n")
    app = of_deb(deb).root / "opt" / "hello" / "app"
    app.write_text("HELLO 1.0\n")
    assert "app was changed" in deb.repaired() or "hello.conf was changed" in deb.drifts()[0].reason
    assert (app.read_text(), conf.read_text()) == ("hello 1.0\n", "mine\n")


def test_a_package_that_somebody_removed_comes_back(deb: Lab) -> None:
    """`dpkg --remove` by hand is drift as any other."""
    of_deb(deb).by_hand("--remove", "hello")
    assert of_deb(deb).state() == "config-files 1.0"
    deb.repaired()
    assert of_deb(deb).state() == "installed 1.0"
    assert (of_deb(deb).root / "opt" / "hello" / "app").read_text() == "hello 1.0\n"


def test_another_version_of_the_package_is_replaced_by_the_release(deb: Lab, tmp_path: Path) -> None:
    """Somebody upgraded it by hand: the host goes back to what is signed."""
    (tmp_path / "new.deb").write_bytes(build_deb(tmp_path, "1.5"))
    of_deb(deb).by_hand("--install", tmp_path / "new.deb")
    assert of_deb(deb).state() == "installed 1.5"
    deb.repaired()
    assert of_deb(deb).state() == "installed 1.0"


def test_an_edited_configuration_file_is_no_drift_and_is_asked_about_once(deb: Lab) -> None:
    """It is the operator's. A quiet host asks dpkg hardly ever: once an hour, not once a look."""
    before = deb.asked.questions
    (of_deb(deb).root / "etc" / "hello.conf").write_text("mine\n")
    deb.host.run(1800)
    assert deb.drifts() == []
    assert deb.asked.questions - before == 1
    deb.host.run(2 * 3600)
    assert deb.asked.questions - before <= 4


def test_while_another_program_holds_the_packages_nothing_is_called_drift(deb: Lab) -> None:
    """What dpkg says in the middle of somebody's work is not believed; when the lock is free, the damage is found."""
    lock = of_deb(deb).admin / "lock"
    with lock.open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        (of_deb(deb).root / "opt" / "hello" / "app").unlink()
        deb.host.run(300)
        assert deb.drifts() == []
    deb.repaired()


def test_a_package_database_that_cannot_be_read_is_no_drift(deb: Lab) -> None:
    """The agent does not install on top of what it cannot see; a person is needed for dpkg's own status file."""
    status = of_deb(deb).admin / "status"
    whole = status.read_bytes()
    status.write_bytes(b"Package: \xff\n\ngarbage\n")
    (of_deb(deb).root / "opt" / "hello" / "app").unlink()
    switches = deb.asked.switches
    deb.host.run(300)
    assert (deb.drifts(), deb.asked.switches) == ([], switches)
    status.write_bytes(whole)
    deb.repaired()


def test_a_package_that_changes_its_own_files_is_left_as_it_made_itself(tmp_path: Path) -> None:
    """What its script wrote over its own file at the installation is no damage, and not installed again and again."""
    host = DebHost.make(tmp_path / "root", tmp_path / "dpkg")
    lab = Lab(tmp_path, "deb", host.installer)
    script = 'echo "made here" > "$DPKG_ROOT/opt/hello/app"'
    package = build_deb(tmp_path, "1.0", scripts={"postinst": script})
    lab.start(lab.host.publish("1.0", package=package, install=Install("deb", {"package": "hello"}), run=RUN))
    switches = lab.asked.switches
    lab.host.run(2 * 3600)
    assert (lab.drifts(), lab.asked.switches) == ([], switches)
    assert (host.root / "opt" / "hello" / "app").read_text() == "made here\n"


def test_what_was_damaged_while_no_agent_ran_is_found_after_a_start(deb: Lab) -> None:
    """The first look after a start asks the tool, since no witness is known."""
    (of_deb(deb).root / "opt" / "hello" / "app").unlink()
    deb.host.boot()
    deb.repaired()


def test_a_package_file_that_rots_in_the_release_is_put_back(deb: Lab) -> None:
    """The release's own tree is looked after for every kind: a revert to it must work later."""
    kept = (deb.host.folder / "apps" / "hello" / "current").resolve() / "package"
    whole = kept.read_bytes()
    kept.write_bytes(b"rot")
    assert deb.repaired().startswith("package was changed")
    assert kept.read_bytes() == whole


def test_a_repair_that_fails_is_told_once_and_tried_again(deb: Lab) -> None:
    """`drift-not-repaired`, then `drift-repaired` when it works."""
    inner = deb.asked.behind
    assert isinstance(inner, PackageInstaller)
    calls = {"fails": True}
    install = inner._tool.install

    def failing(*args: object) -> None:
        if calls["fails"]:
            raise PackageError("cannot install: the disk is on fire")
        install(*args)  # type: ignore[arg-type]

    inner._tool.install = failing  # type: ignore[method-assign]
    (of_deb(deb).root / "opt" / "hello" / "app").unlink()
    deb.host.run(600)
    assert [event.code for event in deb.drifts()] == ["drift-not-repaired"]
    assert "the disk is on fire" in deb.drifts()[0].reason
    calls["fails"] = False
    deb.host.run(3600)
    assert [event.code for event in deb.drifts()] == ["drift-not-repaired", "drift-repaired"]
    assert of_deb(deb).state() == "installed 1.0"


def test_a_file_of_an_rpm_that_was_deleted_is_installed_again(tmp_path: Path) -> None:
    """By rpm; a package that was erased comes back as well."""
    host = RpmHost.make(tmp_path / "root")
    lab = Lab(tmp_path, "rpm", host.installer)
    package = build_rpm(tmp_path / "built", "1.0", config={"etc/hello.conf": "theirs\n"})
    lab.start(lab.host.publish("1.0", package=package, install=Install("rpm", {"package": "hello"}), run=RUN))
    (host.root / "etc" / "hello.conf").write_text("mine\n")
    lab.host.run(600)
    assert lab.drifts() == []
    questions = lab.asked.questions
    lab.host.run(1800)
    assert lab.asked.questions - questions <= 1
    app = host.root / "opt" / "hello" / "app"
    app.unlink()
    assert lab.repaired() == f"{app} was deleted: put back as signed"
    assert app.read_text() == "hello 1.0\n"
    host.by_hand("--erase", "hello")
    assert host.state() == ""
    lab.host.run(300)
    assert host.state() == "1.0"
    # rpm itself saves what was edited when somebody erases the package; what comes back is as the package says.
    assert (host.root / "etc" / "hello.conf.rpmsave").read_text() == "mine\n"


def test_a_damaged_rpm_database_is_no_drift(tmp_path: Path) -> None:
    """Rpm gives one status for what is not there and for what it cannot read: only the first is believed."""
    host = RpmHost.make(tmp_path / "root")
    lab = Lab(tmp_path, "rpm", host.installer)
    package = build_rpm(tmp_path / "built", "1.0")
    lab.start(lab.host.publish("1.0", package=package, install=Install("rpm", {"package": "hello"}), run=RUN))
    switches = lab.asked.switches
    (database,) = (host.root / "var" / "lib" / "rpm").glob("rpmdb.sqlite")
    database.write_bytes(b"garbage" * 1000)
    lab.host.run(300)
    assert (lab.drifts(), lab.asked.switches) == ([], switches)


@pytest.fixture
def podman() -> Iterator[ImageHost]:
    host = ImageHost.make()
    yield host
    host.remove()


def test_an_image_that_lost_its_name_or_is_gone_is_loaded_again(podman: ImageHost, tmp_path: Path) -> None:
    """Untagged: named again. Removed: loaded again from the release. A quiet host does not ask podman."""
    lab = Lab(tmp_path, "oci", podman.installer)
    lab.start(lab.host.publish("1.0", package=build_image("1.0"), install=Install("oci"), run=RUN))
    current = "localhost/towpath/hello:current"
    assert current in podman.names()
    questions = lab.asked.questions
    lab.host.run(1800)
    assert lab.asked.questions - questions <= 1
    podman.by_hand("untag", current, current)
    assert current not in podman.names()
    lab.repaired()
    assert current in podman.names()
    podman.by_hand("rmi", "--all", "--force")
    assert podman.names() == []
    lab.host.run(300)
    assert current in podman.names()


def test_what_a_driver_put_in_place_is_put_back_by_it(tmp_path: Path) -> None:
    """The driver is asked each 40 s, as only it knows; a page that was changed is served as signed again."""
    lab = Lab(tmp_path, "exec", INSTALLERS["exec"])
    (tmp_path / "www").mkdir()
    drivers = lab.host.folder / "drivers"
    drivers.mkdir(parents=True)
    shutil.copy(EXAMPLE, drivers / "webroot")
    options = {"driver": "webroot", "options": (f"root={tmp_path / 'www'}",)}
    lab.start(lab.host.publish("1.0.0", install=Install("exec", options)))
    page = tmp_path / "www" / "hello" / "bin" / "serve"
    page.write_text("defaced")
    assert lab.repaired().startswith("exec is not as the release installs it")
    assert page.read_text() == "hello 1.0.0"
    before = lab.asked.questions
    lab.host.run(400)
    assert 5 <= lab.asked.questions - before <= 11


@pytest.mark.parametrize("words", ["exit 1", "exit 75", "echo nonsense", "kill -9 $$"])
def test_a_driver_that_cannot_tell_reports_no_drift(tmp_path: Path, words: str) -> None:
    """It fails, is busy, breaks the protocol or dies at `verify`: nothing is put back, and nothing told."""
    lab = Lab(tmp_path, "exec", INSTALLERS["exec"])
    drivers = lab.host.folder / "drivers"
    drivers.mkdir(parents=True)
    driver = drivers / "odd"
    driver.write_text(f"#!/bin/sh\n[ $1 != verify ] || {{ {words}; }}\n")
    driver.chmod(0o755)
    lab.start(lab.host.publish("1.0.0", install=Install("exec", {"driver": "odd", "timeout": 2000})))
    switches = lab.asked.switches
    lab.host.run(300)
    assert (lab.drifts(), lab.asked.switches) == ([], switches)
