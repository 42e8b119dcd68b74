"""What every `towpath_agent.installers.base.Installer` promises, a crash or a full disk at any operation included.

A subclass gives the fixture `subject`: how to make the installer, and plans of two versions.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from fakes.trees import Crash, CrashAt, Tree, snapshot
from towpath.errors import Broken, Refusal
from towpath.index import Entry, EntryType
from towpath_agent.errors import DiskFull
from towpath_agent.installers.base import Installer, InstallPlan, current_release, previous_release
from towpath_agent.system.files import Files


@dataclass
class Subject:
    """The installer under test: made anew for each agent; plans below `root`; what it places elsewhere is `outside`.

    Where the host keeps more there than what is placed, `places` is the folder below `outside` that counts, and
    `prepare` makes the host anew. Where a real tool makes each case slow, staging and switching are cut off at `every`
    second operation only; what is a tree in them is cut off everywhere by the installer `tree`.
    """

    make: Callable[[Files], Installer]
    plan: Callable[[str], tuple[InstallPlan, Tree]]
    root: Path
    outside: Path
    every: int = 1
    places: str = ""
    prepare: Callable[[Path], None] = lambda _outside: None

    @property
    def placed(self) -> dict[str, tuple[int, bytes | str | None]]:
        """Return what was placed outside of the agent's folder."""
        return snapshot(self.outside / self.places)

    def stage(self, version: str, files: Files | None = None) -> InstallPlan:
        files = files or Files()
        plan, tree = self.plan(version)
        self.make(files).stage(plan, tree.materialise(files))
        return plan

    def go(self, version: str, previous: str | None, files: Files | None = None) -> InstallPlan:
        """Stage and switch."""
        plan = self.stage(version, files)
        self.make(files or Files()).switch(plan, None if previous is None else self.plan(previous)[0].release_id)
        return plan

    def facts(self) -> dict[str, object]:
        """Return all that is on disk, without leftovers and empty staging folders."""
        seen = {f"in/{path}": what for path, what in snapshot(self.root).items()}
        seen |= {f"out/{path}": what for path, what in self.placed.items()}
        here = str(self.outside).encode()
        return {
            path: (mode, what.replace(here, b"OUTSIDE") if isinstance(what, bytes) else what)
            for path, (mode, what) in seen.items()
            if not path.startswith("in/staging")
        }

    def wipe(self, root: Path, outside: Path) -> None:
        self.root, self.outside = root, outside
        root.mkdir(parents=True)
        outside.mkdir(parents=True)
        self.prepare(outside)


def unsafe(path: str, kind: EntryType = EntryType.FILE, target: str = "", mode: int = 0o644) -> Entry:
    return Entry(path, kind, mode, 0, b"\0" * 32 if kind is EntryType.FILE else b"", target)


UNSAFE = {
    "climbs": ([unsafe("../evil")], "path-traversal"),
    "climbs inside": ([unsafe("a/../../evil")], "path-traversal"),
    "absolute": ([unsafe("/evil")], "path-traversal"),
    "link leaves": ([unsafe("l", EntryType.LINK, "../../evil")], "path-traversal"),
    "link absolute": ([unsafe("l", EntryType.LINK, "/etc")], "path-traversal"),
    "file below a link": ([unsafe("l", EntryType.LINK, "."), unsafe("l/evil")], "path-traversal"),
    "twice": ([unsafe("a"), unsafe("a")], "path-traversal"),
    "control": ([unsafe("a\nb")], "path-traversal"),
    "setuid": ([unsafe("a", mode=0o4755)], "setuid"),
    "setgid folder": ([unsafe("a", EntryType.DIRECTORY, mode=0o2755)], "setuid"),
}


class InstallerSuite:
    """Run by each installer; `kind` is the one that a subclass is about."""

    kind: ClassVar[str]

    def test_staging_makes_nothing_live(self, subject: Subject) -> None:
        """Staged means on disk and whole, and nothing more."""
        plan = subject.stage("1")
        assert subject.make(Files()).verify(plan)
        assert current_release(plan.app_dir) is None
        assert not subject.placed
        assert not plan.staging.exists()

    def test_switching_is_seen_in_the_links(self, subject: Subject) -> None:
        """After a switch the links name current and previous, relative, and the tree verifies."""
        first = subject.go("1", None)
        assert (current_release(first.app_dir), previous_release(first.app_dir)) == (first.release_id, None)
        second = subject.go("2", "1")
        assert (current_release(first.app_dir), previous_release(first.app_dir)) == (
            second.release_id,
            first.release_id,
        )
        assert not (first.app_dir / "current").readlink().is_absolute()
        assert subject.make(Files()).verify(second)

    def test_what_is_live_is_in_place(self, subject: Subject) -> None:
        """Asked after each switch; what tells of a change is named by absolute paths, or there is nothing that tells."""
        installer = subject.make(Files())
        for version, before in (("1", None), ("2", "1"), ("1", None)):
            plan = subject.go(version, before)
            assert installer.in_place(plan) is True
            named = installer.witnesses(plan)
            assert named is None or all(path.is_absolute() and not path.is_dir() for path in named)

    def test_doing_all_again_changes_nothing(self, subject: Subject) -> None:
        """Each call repeated leaves the same files."""
        subject.go("1", None)
        subject.go("2", "1")
        before = subject.facts()
        subject.go("2", "1")
        assert subject.facts() == before

    def test_switching_back_is_the_same_call_with_arguments_swapped(self, subject: Subject) -> None:
        """A revert leaves what was there before the upgrade; the failed tree is kept until it is pruned."""
        first = subject.go("1", None)
        before = {path: what for path, what in subject.facts().items() if "releases" not in path}
        subject.go("2", "1")
        subject.make(Files()).switch(first, None)
        assert {path: what for path, what in subject.facts().items() if "releases" not in path} == before
        assert subject.make(Files()).verify(first)

    def test_unswitching_leaves_nothing_live(self, subject: Subject) -> None:
        """A first install that is reverted leaves no link and nothing outside; twice is fine, also without entries."""
        plan = subject.go("1", None)
        for _ in range(2):
            subject.make(Files()).unswitch(replace(plan, entries=()))
            assert current_release(plan.app_dir) is None
            assert previous_release(plan.app_dir) is None
            assert not subject.placed
        assert plan.folder.is_dir()

    def test_switching_to_what_is_not_staged_is_refused(self, subject: Subject) -> None:
        """Without its tree a release does not go live, and what is live stays."""
        first = subject.go("1", None)
        with pytest.raises(Broken, match="its tree is not there; stage it again"):
            subject.make(Files()).switch(subject.plan("2")[0], first.release_id)
        assert current_release(first.app_dir) == first.release_id

    @pytest.mark.parametrize("what", UNSAFE)
    def test_unsafe_tree_is_refused_before_anything_is_written(self, subject: Subject, what: str) -> None:
        """Traversal, escaping links, duplicates and setuid are refused again on the host, under the attack's name."""
        entries, code = UNSAFE[what]
        plan, tree = subject.plan("1")
        with pytest.raises(Refusal) as caught:
            subject.make(Files()).stage(replace(plan, entries=tuple(entries)), tree.materialise(Files()))
        assert caught.value.code == code
        assert subject.facts() == {}

    def test_crash_at_any_operation_of_an_upgrade_is_survived(self, subject: Subject, tmp_path: Path) -> None:
        """Killed before any file operation, `current` names a whole old or new tree; doing it again ends well."""
        subject.wipe(tmp_path / "plain", tmp_path / "plain-out")
        first = subject.go("1", None)
        recorder = CrashAt()
        second = subject.go("2", "1", Files(recorder))
        wanted = subject.facts()
        assert len(recorder.operations) > 5
        for number in range(0, len(recorder.operations), subject.every):
            subject.wipe(tmp_path / f"root{number}", tmp_path / f"out{number}")
            subject.go("1", None)
            with pytest.raises(Crash):
                subject.go("2", "1", Files(CrashAt(number)))
            old, new = subject.plan("1")[0], subject.plan("2")[0]
            live = current_release(old.app_dir)
            assert live in (first.release_id, second.release_id), recorder.operations[number]
            # Staged again first, as the agent does: the links were never touched before the tree was whole.
            if live == new.release_id:
                assert all((new.folder / entry.path).exists() for entry in new.entries)
            subject.go("2", "1")
            assert subject.facts() == wanted, recorder.operations[number]
            assert subject.make(Files()).verify(new)

    def test_crash_at_any_operation_of_a_revert_is_survived(self, subject: Subject, tmp_path: Path) -> None:
        """The way back is as safe as the way there, also where a crash cut off the way there."""
        subject.wipe(tmp_path / "plain", tmp_path / "plain-out")
        first = subject.go("1", None)
        subject.go("2", "1")
        recorder = CrashAt()
        subject.make(Files(recorder)).switch(first, None)
        wanted = subject.facts()
        for number in range(len(recorder.operations)):
            subject.wipe(tmp_path / f"root{number}", tmp_path / f"out{number}")
            subject.go("1", None)
            subject.go("2", "1")
            plan = subject.plan("1")[0]
            with pytest.raises(Crash):
                subject.make(Files(CrashAt(number))).switch(plan, None)
            subject.make(Files()).switch(plan, None)
            assert subject.facts() == wanted, recorder.operations[number]

    def test_crash_at_any_operation_of_unswitching_is_survived(self, subject: Subject, tmp_path: Path) -> None:
        """Cut off anywhere and done again, nothing is live and nothing is left outside."""
        subject.wipe(tmp_path / "plain", tmp_path / "plain-out")
        recorder = CrashAt()
        subject.make(Files(recorder)).unswitch(subject.go("1", None))
        wanted = subject.facts()
        for number in range(len(recorder.operations)):
            subject.wipe(tmp_path / f"root{number}", tmp_path / f"out{number}")
            plan = subject.go("1", None)
            with pytest.raises(Crash):
                subject.make(Files(CrashAt(number))).unswitch(plan)
            subject.make(Files()).unswitch(plan)
            assert subject.facts() == wanted

    def test_full_disk_at_any_operation_leaves_the_old_and_recovers(self, subject: Subject, tmp_path: Path) -> None:
        """No space left is one retryable error; the revert needs no space that is not there, and later all goes well."""
        subject.wipe(tmp_path / "plain", tmp_path / "plain-out")
        subject.go("1", None)
        recorder = CrashAt()
        subject.go("2", "1", Files(recorder))
        wanted = subject.facts()
        for number in range(0, len(recorder.operations), subject.every):
            subject.wipe(tmp_path / f"root{number}", tmp_path / f"out{number}")
            old = subject.go("1", None)
            with pytest.raises(DiskFull) as caught:
                subject.go("2", "1", Files(CrashAt(number, OSError(errno.ENOSPC, "full"))))
            assert caught.value.retryable
            subject.make(Files()).switch(old, None)
            assert subject.make(Files()).verify(old)
            subject.go("2", "1")
            assert subject.facts() == wanted, recorder.operations[number]

    def test_damaged_tree_is_found_and_replaced(self, subject: Subject) -> None:
        """Incident 5, corrupt bytes on disk: one changed byte, a lost file, a changed mode: `verify` sees it, staging heals it, also of what is live."""
        plan = subject.go("1", None)
        whole = subject.facts()
        path = plan.folder / next(entry.path for entry in plan.entries if entry.type is EntryType.FILE)

        def change_a_byte() -> None:
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

        def replace_by_link() -> None:
            path.unlink()
            path.symlink_to("/etc/passwd")

        for damage in (change_a_byte, path.unlink, lambda: path.chmod(0o4755), replace_by_link):
            damage()
            assert not subject.make(Files()).verify(plan)
            subject.stage("1")
            assert subject.make(Files()).verify(plan)
            assert subject.facts() == whole
            assert current_release(plan.app_dir) == plan.release_id

    def test_interrupted_staging_starts_afresh(self, subject: Subject) -> None:
        """What an earlier try left in staging is not trusted."""
        plan, tree = subject.plan("1")
        plan.staging.mkdir(parents=True)
        (plan.staging / "stranger").write_bytes(b"x")
        subject.make(Files()).stage(plan, tree.materialise(Files()))
        assert not (plan.folder / "stranger").exists()

    def test_failing_object_leaves_no_release(self, subject: Subject) -> None:
        """An object that turns out corrupt while it is put in place stops the staging, and nothing gets a name."""
        plan, _ = subject.plan("1")

        def corrupt(digest: bytes, path: Path, mode: int) -> None:
            raise Refusal("cannot use an object: corrupt", code="corrupt-object")

        with pytest.raises(Refusal):
            subject.make(Files()).stage(plan, corrupt)
        assert not plan.folder.exists()

    def test_pruning_keeps_current_previous_and_the_newest(self, subject: Subject) -> None:
        """The oldest go first; current and previous stay even where fewer should be kept, in whatever order they came."""
        ids = [subject.stage(version).release_id for version in "12345"]
        installer = subject.make(Files())
        plan = subject.plan("1")[0]
        installer.switch(plan, ids[1])
        assert installer.prune(plan.app_dir, 3) == ids[2:4]
        assert sorted(path.name for path in (plan.app_dir / "releases").iterdir()) == [ids[0], ids[1], ids[4]]
        assert installer.prune(plan.app_dir, 0) == ids[4:]
        assert installer.prune(plan.app_dir, 0) == []
        assert subject.make(Files()).verify(plan)

    def test_pruning_by_bytes_lets_the_oldest_go(self, subject: Subject) -> None:
        """With a limit of bytes the oldest go until the rest fits; current and previous stay though they do not fit."""
        ids = [subject.stage(version).release_id for version in "12345"]
        installer = subject.make(Files())
        plan = subject.plan("1")[0]
        installer.switch(plan, ids[1])
        sizes = [Files().tree_bytes(plan.app_dir / "releases" / release) for release in ids]
        assert installer.prune(plan.app_dir, 5, sum(sizes)) == []
        assert installer.prune(plan.app_dir, 5, sum(sizes) - 1) == ids[2:3]
        assert installer.prune(plan.app_dir, 5, sizes[0] + sizes[1] + sizes[4]) == ids[3:4]
        assert installer.prune(plan.app_dir, 5, 1) == ids[4:]
        assert installer.prune(plan.app_dir, 5, 1) == []
        assert subject.make(Files()).verify(plan)

    @pytest.mark.parametrize("target", [None, "releases/gone", "elsewhere/x", "releases/../..", "/abs", "releases/"])
    def test_pruning_deletes_nothing_where_current_is_unknown(self, subject: Subject, target: str | None) -> None:
        """A missing, dangling or strange `current` means that nothing is known, so nothing is deleted."""
        for version in "123":
            subject.stage(version)
        app_dir = subject.plan("1")[0].app_dir
        if target is not None:
            (app_dir / "current").symlink_to(target)
        before = subject.facts()
        assert current_release(app_dir) is None
        assert subject.make(Files()).prune(app_dir, 0) == []
        assert subject.facts() == before

    def test_crash_at_any_operation_of_pruning_leaves_no_half_release(self, subject: Subject, tmp_path: Path) -> None:
        """A release that is being deleted has lost its name first; what has a name is whole."""
        subject.wipe(tmp_path / "plain", tmp_path / "plain-out")
        for version in "123":
            subject.stage(version)
        recorder = CrashAt()
        plan = subject.go("3", "2")
        subject.make(Files(recorder)).prune(plan.app_dir, 0)
        wanted = subject.facts()
        assert recorder.operations
        for number in range(len(recorder.operations)):
            subject.wipe(tmp_path / f"root{number}", tmp_path / f"out{number}")
            for version in "123":
                subject.stage(version)
            plan = subject.go("3", "2")
            with pytest.raises(Crash):
                subject.make(Files(CrashAt(number))).prune(plan.app_dir, 0)
            for version in "123":
                other = subject.plan(version)[0]
                staged_whole = all((other.folder / entry.path).exists() for entry in other.entries)
                assert staged_whole or not other.folder.exists()
            subject.make(Files()).prune(plan.app_dir, 0)
            assert subject.facts() == wanted
