"""Each installer keeps what all promise."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.installer_port import InstallerSuite, Subject
from fakes.images import ImageHost, build_image
from fakes.packages import DebHost, RpmHost, build_deb, build_rpm
from fakes.trees import Tree, make_plan
from towpath.kinds import INSTALLERS as KNOWN
from towpath.release import Install
from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import Installer, InstallPlan
from towpath_agent.installers.exec import ExecInstaller
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

EXAMPLES = Path(__file__).parents[2] / "examples" / "drivers"


def test_every_known_kind_has_its_driver() -> None:
    """What a publisher's lint allows, the agent can install; and nothing else."""
    assert set(INSTALLERS) == set(KNOWN)


def test_every_kind_runs_the_suite() -> None:
    """A kind that is added without a case here fails."""
    assert {suite.kind for suite in InstallerSuite.__subclasses__()} == set(INSTALLERS)


class TestTree(InstallerSuite):
    """The suite, on installer `tree`."""

    kind = "tree"

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return plans of a tree with all that a tree can hold."""

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            content: dict[str, bytes | str | None] = {
                "bin/serve": f"serve {version}".encode(),
                "bin/link": "-> ../lib/deep/data",
                "data/seed": b"seed",
                "empty": None,
                "lib/deep/data": b"same in all versions",
                "link": "-> bin",
                f"only-{version}": b"",
            }
            tree = Tree(content, {"bin/serve": 0o755, "lib": 0o555, "lib/deep": 0o500})
            return make_plan(subject.root, tree, version, Install("tree", {"shared": ("data/", "conf/app.toml")})), tree

        subject = Subject(INSTALLERS["tree"], plan, tmp_path / "root", tmp_path / "outside")
        subject.wipe(subject.root, subject.outside)
        return subject


class TestExec(InstallerSuite):
    """The suite, on installer `exec` with the example driver."""

    kind = "exec"

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return plans of a small site, of which version 2 also moves to another link."""

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            tree = Tree({"index.html": f"version {version}".encode(), "css/site.css": b"same"}, {"css": 0o750})
            options = ("root=${where}", f"name={'other' if version == '2' else 'site'}")
            install = Install("exec", {"driver": "webroot", "options": options})
            return make_plan(subject.root, tree, version, install, where=str(subject.outside)), tree

        def make(files: Files) -> Installer:
            return ExecInstaller(files, SystemClock(), system_drivers=EXAMPLES)

        subject = Subject(make, plan, tmp_path / "root", tmp_path / "outside")
        subject.wipe(subject.root, subject.outside)
        return subject


class TestFile(InstallerSuite):
    """The suite, on installer `file`."""

    kind = "file"

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return plans of one file, of which version 2 also moves to another path."""

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            tree = Tree({"etc/app.conf": f"version {version}".encode()}, {"etc/app.conf": 0o640})
            name = "other.conf" if version == "2" else "app.conf"
            install = Install("file", {"path": "${where}/" + name})
            return make_plan(subject.root, tree, version, install, where=str(subject.outside)), tree

        subject = Subject(INSTALLERS["file"], plan, tmp_path / "root", tmp_path / "outside")
        subject.wipe(subject.root, subject.outside)
        return subject


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return a Debian package for each version."""
    built = tmp_path_factory.mktemp("debs")
    return {version: build_deb(built, version) for version in "12345"}


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return an RPM package for each version."""
    built = tmp_path_factory.mktemp("rpms")
    return {version: build_rpm(built, version) for version in "12345"}


# A call of a real tool at each of many crash points: seconds, where a tree takes milliseconds.
@pytest.mark.timeout(600)
class TestDeb(InstallerSuite):
    """The suite, on installer `deb` and the real dpkg."""

    kind = "deb"

    @pytest.fixture
    def subject(self, tmp_path: Path, debs: dict[str, bytes]) -> Subject:
        """Return plans of a small package."""

        def host(outside: Path) -> DebHost:
            return DebHost(outside, outside / "dpkg")

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            tree = Tree({"hello.deb": debs[version], "bin/hook": b"#!/bin/sh"}, {"bin/hook": 0o755})
            return make_plan(subject.root, tree, version, Install("deb", {"package": "hello"})), tree

        subject = Subject(
            lambda files: host(subject.outside).installer(files),
            plan,
            tmp_path / "root",
            tmp_path / "outside",
            every=2,
            places="opt",
            prepare=lambda outside: str(DebHost.make(outside, outside / "dpkg")) and None,
        )
        subject.wipe(subject.root, subject.outside)
        return subject


@pytest.mark.timeout(600)
class TestRpm(InstallerSuite):
    """The suite, on installer `rpm` and the real rpm."""

    kind = "rpm"

    @pytest.fixture
    def subject(self, tmp_path: Path, rpms: dict[str, bytes]) -> Subject:
        """Return plans of a small package."""

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            tree = Tree({"hello.rpm": rpms[version]})
            return make_plan(subject.root, tree, version, Install("rpm")), tree

        subject = Subject(
            lambda files: RpmHost(subject.outside).installer(files),
            plan,
            tmp_path / "root",
            tmp_path / "outside",
            every=2,
            places="opt/hello",
            prepare=lambda outside: str(RpmHost.make(outside)) and None,
        )
        subject.wipe(subject.root, subject.outside)
        return subject


@pytest.mark.timeout(600)
class TestOci(InstallerSuite):
    """The suite, on installer `oci` and the real podman, which has no image at first."""

    kind = "oci"

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return plans of a small image."""
        host = ImageHost.make()
        images = {version: build_image(version) for version in "12345"}

        def plan(version: str) -> tuple[InstallPlan, Tree]:
            tree = Tree({"image.tar": images[version]})
            return make_plan(subject.root, tree, version, Install("oci")), tree

        def prepare(_outside: Path) -> None:
            host.by_hand("rmi", "--all", "--force")  # or what an earlier run loaded would make this one shorter

        subject = Subject(host.installer, plan, tmp_path / "root", tmp_path / "outside", every=2, prepare=prepare)
        subject.wipe(subject.root, subject.outside)
        yield subject
        host.remove()
