"""The fault matrix inside one process: a sample of each situation's generated cases; `make torture` runs them all.

The seed is in the name of each failing test's output; TOWPATH_TORTURE_SEED and TOWPATH_TORTURE_SAMPLE choose others.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from torture import trees
from torture.crashes import Crashes
from torture.faults import PORTS, Harness, settle
from torture.matrix import Stage
from torture.model import Hit, expect
from torture.remembered import Remembered
from torture.rewind import resume
from torture.situations import Goal, situations, unplayed
from towpath.status import State
from towpath_agent.engine.table import Outcome
from towpath_agent.installers.base import InstallPlan
from towpath_agent.installers.exec import ExecInstaller
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.handles import OpenFile

SEED = int(os.environ.get("TOWPATH_TORTURE_SEED", "1"))
SAMPLE = int(os.environ.get("TOWPATH_TORTURE_SAMPLE", "18"))
SITUATIONS = situations()
pytestmark = pytest.mark.timeout(600)
T = TypeVar("T")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs of a real disk prove nothing here."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="towpath-torture-", dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


def sample(cases: Sequence[T], salt: str) -> list[T]:
    most = max(1, SAMPLE // 9) if SITUATIONS[salt].slow else SAMPLE
    return random.Random(f"{SEED} {salt}").sample(cases, min(most, len(cases)))


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_fault_at_any_step_ends_in_the_old_or_the_new_with_exactly_these_reports(folder: Path, name: str) -> None:
    """Error, bug, hang, kill once, kill always, full disk, I/O error: chain, verdict and host are what the model says."""
    stage = Stage(SITUATIONS[name], folder)
    cases = list(stage.cases())
    assert len(cases) > 60  # a situation that does nothing proves nothing
    lost = {case.name: wrong for case in sample(cases, name) if (wrong := stage.play(case))}
    assert lost == {}, f"seed {SEED}"


@pytest.mark.parametrize("name", [name for name, it in SITUATIONS.items() if not it.slow])
def test_on_every_disk_that_a_crash_may_leave_the_host_wakes_up_whole(folder: Path, name: str) -> None:
    """Every prefix of what was written, with every allowed loss of what was not synced, recovers without help."""
    crashes = Crashes(Stage(SITUATIONS[name], folder))
    cases = list(crashes.cases())
    assert len(cases) > 20
    lost = {crashes.name(case): wrong for case in sample(cases, name) if (wrong := crashes.play(case))}
    assert lost == {}, f"seed {SEED}"


@pytest.mark.parametrize("name", ["from deb to rpm", "from rpm to deb, bad"])
def test_a_move_between_package_kinds_that_is_cut_off_leaves_one_package(folder: Path, name: str) -> None:
    """Done again after the new package was in place, the move takes the old kind away once more, and nothing else."""
    if name not in SITUATIONS:
        pytest.skip(f"cannot play {name!r} here: {unplayed()}")
    stage = Stage(SITUATIONS[name], folder)
    cases = [
        case
        for case in stage.cases()
        if (case.point.step, case.fault) == ("journal Switched", "killed")
        or (case.point.label, case.point.state, case.fault) == ("installer.switch", "Switching", "killed after")
    ]
    assert len(cases) >= 3
    assert {case.name: wrong for case in cases if (wrong := stage.play(case))} == {}


def test_a_case_begins_where_every_other_began(folder: Path) -> None:
    """What a case does to a host is gone before the next: also since when its apps run, by which they are judged."""
    stage = Stage(SITUATIONS["upgrade of a tree"], folder)
    hang = next(case for case in stage.cases() if (case.point.state, case.fault) == ("Watching", "hang"))
    assert stage.play(hang) == []
    host = resume(stage.moment)
    assert host._started == stage.moment.started
    assert host._started["hello"] <= host.clock.monotonic()


class NoSyncOfTrees(Files):
    """An agent that forgets to sync a tree before it names it."""

    def sync_tree(self, path: Path) -> None:
        """Forget it."""


class NoSyncOfFolders(Files):
    """An agent that forgets to sync the folder after a rename."""

    def sync_dir(self, path: Path) -> None:
        """Forget it."""


class _Unsynced(OpenFile):
    def fsync(self) -> None:
        """Forget it."""


class NoSyncOfFiles(Files):
    """An agent that forgets to sync a file before it renames it."""

    def open_write(self, path: Path, mode: int = 0o600, *, instead: bool = False) -> OpenFile:
        """Open a file that is never synced."""
        real = super().open_write(path, mode, instead=instead)
        return _Unsynced(path, os.dup(real.fileno()), self._before)


@pytest.mark.parametrize("forgetful", [NoSyncOfTrees, NoSyncOfFolders, NoSyncOfFiles])
def test_an_agent_that_forgets_a_sync_is_found_out(folder: Path, forgetful: Callable[..., Files]) -> None:
    """The crash model is sharp: without any one kind of sync, some crash loses something."""
    crashes = Crashes(Stage(SITUATIONS["upgrade of a tree"], folder, forgetful))
    cases = list(crashes.cases())
    assert any(crashes.play(case) for case in cases if case.loss in ("all that may be", "contents", "names"))


def test_one_kind_of_installer_alone_has_more_than_fifteen_hundred_cases(folder: Path) -> None:
    """They come from what a run passes, and nobody lists them: fewer would mean that something is not looked at."""
    names = [name for name in SITUATIONS if name.endswith(" of a tree")]
    stages = [Stage(SITUATIONS[name], folder / str(number)) for number, name in enumerate(names)]
    assert sum(len(list(stage.cases())) for stage in stages) > 1_500


def test_hosts_that_differ_in_what_runs_are_not_taken_for_one(folder: Path) -> None:
    """A crash right before and right after a start leaves the same disk; both are played."""
    crashes = Crashes(Stage(SITUATIONS["upgrade of a tree"], folder))
    killed = [crash for crash in crashes.cases() if not crash.power]
    disks = {trees.digest(crash.tree) for crash in killed}
    assert len(killed) > len(disks)
    hosts = {(trees.digest(crash.tree), crash.step.around.visible()) for crash in killed}
    assert len(killed) == len(hosts)


def test_what_a_tool_says_is_asked_again_once_anything_on_its_disk_is_different(folder: Path) -> None:
    """A look is remembered for one state of the disk only: damage is seen, and so is that it is gone again."""
    stage = Stage(SITUATIONS["upgrade of a exec"], folder)
    host = resume(stage.moment)
    Harness(host)
    settle(host)
    current = host.journal.deployed("current")["hello"]
    plan = host.site.plan(current, host.site.entries(current))
    asked = []

    class Counted(ExecInstaller):
        def in_place(self, plan: InstallPlan) -> bool | None:
            asked.append(plan)
            return super().in_place(plan)

    remembered = Remembered("exec", Counted(Files(), SystemClock(), host.folder / "drivers"), host, {})
    assert (remembered.in_place(plan), remembered.in_place(plan), len(asked)) == (True, True, 1)
    page = folder / "machine" / "www" / "hello" / "bin" / "serve"
    good = page.read_bytes()
    page.write_bytes(good.upper())
    assert (remembered.in_place(plan), len(asked)) == (False, 2)
    page.write_bytes(good)
    assert (remembered.in_place(plan), len(asked)) == (True, 2)


def test_each_state_with_an_action_has_its_cases(folder: Path) -> None:
    """No step is passed over: each state's action or its journal write is struck; Stuck is made by striking Reverting."""
    seen = set()
    calls = set()
    for number, name in enumerate(("upgrade of a tree", "bad upgrade of a tree", "removal of a tree")):
        points = Stage(SITUATIONS[name], folder / str(number)).points
        seen |= {it for point in points for it in (point.state, point.committing)}
        calls |= {point.label.partition(" ")[0] for point in points if point.kind == "call"}
    acting = {state.value for state in State if not state.ended and state is not State.STUCK}
    assert acting <= seen
    assert {call.partition(".")[0] for call in calls} == set(PORTS)


def test_a_step_that_cannot_be_undone_is_reported_stuck_and_tried_again() -> None:
    """The model follows the table: a failure on the way back is Stuck, then Reverted; nothing is skipped."""
    hits = [Hit("a", State.SWITCHED, Outcome.FAILED), Hit("a", State.REVERTING, Outcome.FAILED)]
    expected = expect(Goal("1", "2"), hits)
    assert expected.chains[0][-4:] == (State.SWITCHED, State.REVERTING, State.STUCK, State.REVERTED)
    assert expected.version == "1"


def test_a_full_disk_is_one_more_attempt_in_the_model() -> None:
    """What trying again can help is tried again, and then the new version runs."""
    expected = expect(Goal("1", "2"), [Hit("a", State.FETCHING, Outcome.FAILED, retryable=True)])
    assert [chain[-1] for chain in expected.chains] == [State.REVERTED, State.CONFIRMED]
    assert expected.version == "2"


def test_every_installer_has_a_sample_or_is_named() -> None:
    """A kind that nobody can sample in this process is a gap that `make torture` shows, not one that is forgotten."""
    assert not set(unplayed()) & {"tree", "file", "exec"}
