"""Installers of packages and images are loaded when they are first used, and only then."""

import subprocess
import sys
from pathlib import Path

from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import Installer, InstallPlan, Materialise
from towpath_agent.installers.ondemand import OnDemand
from towpath_agent.system.files import Files

IDLE = """
import sys
from towpath_agent.daemon import main
from towpath_agent.installers import INSTALLERS
from towpath_agent.system.files import Files
made = {kind: make(Files()) for kind, make in INSTALLERS.items()}
heavy = ("deb", "debdeps", "rpm", "oci", "image", "package", "tool")
print([name for name in heavy if f"towpath_agent.installers.{name}" in sys.modules])
print([name for name in ("tarfile", "towpath.packages") if name in sys.modules])
"""


def test_an_idle_agent_imports_nothing_of_them() -> None:
    """Making every installer, as the daemon does at its start, loads no module of packages and images."""
    done = subprocess.run([sys.executable, "-c", IDLE], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


class Recording:
    """An installer that writes down its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def stage(self, _plan: InstallPlan, _materialise: Materialise) -> None:
        self.calls.append("stage")

    def switch(self, _plan: InstallPlan, previous_id: str | None) -> None:
        self.calls.append(f"switch {previous_id}")

    def unswitch(self, _plan: InstallPlan) -> None:
        self.calls.append("unswitch")

    def verify(self, _plan: InstallPlan) -> bool:
        self.calls.append("verify")
        return True

    def prune(self, _app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        self.calls.append(f"prune {keep} {keep_bytes}")
        return ["gone"]


def test_every_call_reaches_the_one_that_is_loaded_once(tmp_path: Path) -> None:
    """Nothing is loaded before the first call; then every call goes to the same installer, and its answer comes back."""
    from fakes.trees import Tree, make_plan

    loaded: list[Recording] = []

    def load() -> Installer:
        loaded.append(Recording())
        return loaded[-1]

    installer = OnDemand(load)
    assert not loaded
    plan = make_plan(tmp_path, Tree({"a": b""}))
    installer.stage(plan, lambda _digest, _path, _mode: None)
    installer.switch(plan, "before")
    installer.unswitch(plan)
    assert (installer.verify(plan), installer.prune(tmp_path, 2)) == (True, ["gone"])
    assert [it.calls for it in loaded] == [["stage", "switch before", "unswitch", "verify", "prune 2 0"]]


def test_the_real_ones_can_be_loaded() -> None:
    """Each kind's loader makes an installer; pruning an app that is not there changes nothing."""
    for make in INSTALLERS.values():
        assert make(Files()).prune(Path("/nowhere"), 1) == []
