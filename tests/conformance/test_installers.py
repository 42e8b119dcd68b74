"""Each installer keeps what all promise."""

from pathlib import Path

import pytest

from conformance.installer_port import InstallerSuite, Subject
from fakes.trees import Tree, make_plan
from towpath.kinds import INSTALLERS as KNOWN
from towpath.release import Install
from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import InstallPlan


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
