"""Each installer keeps what all promise."""

from pathlib import Path

import pytest

from conformance.installer_port import InstallerSuite, Subject
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


class TestTree(InstallerSuite):
    """The suite, on installer `tree`."""

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
