"""Installer `file` and files that were there before: refused, overwritten and given back, or kept; whatever crashes."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.trees import Crash, CrashAt, Tree, make_plan, snapshot
from towpath.errors import Broken, InputError
from towpath.release import Install
from towpath_agent.errors import DiskError
from towpath_agent.installers.base import InstallPlan
from towpath_agent.installers.file import FileInstaller
from towpath_agent.system.files import Files

ORIGINAL = b"somebody's own\n"
CHANGED_NS = 1_234_567_890_123_456_789
OWNER = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


class Host:
    """A folder of the host with a file of somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.etc.mkdir(parents=True)
        self.path = self.etc / "app.conf"
        self.put()

    def put(self) -> None:
        self.path.write_bytes(ORIGINAL)
        os.chown(self.path, *OWNER)
        self.path.chmod(0o604)
        os.utime(self.path, ns=(CHANGED_NS, CHANGED_NS))

    def plan(self, version: str, existing: str, name: str = "app.conf") -> tuple[InstallPlan, Tree]:
        tree = Tree({"app.conf": f"release {version}".encode()}, {"app.conf": 0o640})
        options = {"path": str(self.etc / name), "existing": existing}
        return make_plan(self.folder / "agent", tree, version, Install("file", options)), tree

    def go(self, version: str, existing: str, name: str = "app.conf", files: Files | None = None) -> InstallPlan:
        plan, tree = self.plan(version, existing, name)
        files = files or Files()
        FileInstaller(files).stage(plan, tree.materialise(files))
        FileInstaller(files).switch(plan, None)
        return plan

    def is_original(self) -> bool:
        facts = self.path.lstat()
        return (
            stat.S_ISREG(facts.st_mode)
            and self.path.read_bytes() == ORIGINAL
            and stat.S_IMODE(facts.st_mode) == 0o604
            and facts.st_mtime_ns == CHANGED_NS
            and (facts.st_uid, facts.st_gid) == OWNER
        )

    def content(self) -> bytes:
        return self.path.read_bytes()

    def leftovers(self) -> list[str]:
        hidden = [path.name for path in self.etc.iterdir() if path.name != "app.conf"]
        app = self.folder / "agent" / "apps" / "hello"
        return hidden + [name for name in ("file.json", "replaced", "replaced.lost") if (app / name).exists()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host."""
    return Host(tmp_path)


def test_overwritten_file_comes_back_with_all_that_it_was(host: Host) -> None:
    """Bytes, permissions, owner, group and time of change return when the first install is reverted."""
    plan = host.go("1", "overwrite")
    assert (host.content(), host.path.stat().st_mode & 0o777) == (b"release 1", 0o640)
    assert FileInstaller(Files()).verify(plan)
    for _ in range(2):
        FileInstaller(Files()).unswitch(plan)
        assert host.is_original()
        assert host.leftovers() == []


def test_overwritten_file_comes_back_after_upgrades_too(host: Host) -> None:
    """What was there before the first release is what returns, not a release's own file."""
    host.go("1", "overwrite")
    host.go("2", "overwrite")
    last = host.go("3", "refuse")
    assert host.content() == b"release 3"
    FileInstaller(Files()).unswitch(last)
    assert host.is_original()


def test_release_that_moves_gives_back_what_it_had_replaced(host: Host) -> None:
    """At the old place the original is back; going back overwrites it again."""
    first = host.go("1", "overwrite")
    second = host.go("2", "overwrite", "other.conf")
    assert host.is_original()
    FileInstaller(Files()).switch(first, None)
    assert host.content() == b"release 1"
    assert not (host.etc / "other.conf").exists()
    FileInstaller(Files()).switch(second, None)
    assert host.is_original()


def test_kept_file_stays_and_counts_as_installed(host: Host) -> None:
    """`keep` touches nothing; `verify` says yes while the file is there, whatever it holds."""
    plan = host.go("1", "keep")
    assert host.is_original()
    assert FileInstaller(Files()).verify(plan)
    host.path.write_bytes(b"edited by its owner")
    assert FileInstaller(Files()).verify(plan)
    FileInstaller(Files()).unswitch(plan)
    assert host.content() == b"edited by its owner"
    assert host.leftovers() == []


def test_kept_file_that_vanishes_is_missed_and_then_ours(host: Host) -> None:
    """`verify` notices that the place is empty; a switch puts the release's file there, and a removal takes it away."""
    plan = host.go("1", "keep")
    host.path.unlink()
    assert not FileInstaller(Files()).verify(plan)
    host.go("1", "keep")
    assert host.content() == b"release 1"
    assert FileInstaller(Files()).verify(plan)
    FileInstaller(Files()).unswitch(plan)
    assert not host.path.exists()


def test_every_release_gets_its_own_policy_whatever_came_before(host: Host) -> None:
    """From keep to overwrite and back, each switch ends as if it were the first."""
    keep = host.go("1", "keep")
    overwrite = host.go("2", "overwrite")
    assert host.content() == b"release 2"
    FileInstaller(Files()).switch(keep, None)
    assert host.is_original()
    FileInstaller(Files()).switch(overwrite, None)
    assert host.content() == b"release 2"
    FileInstaller(Files()).unswitch(overwrite)
    assert host.is_original()
    assert host.leftovers() == []


@pytest.mark.parametrize("existing", ["overwrite", "keep"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_anything_but_a_regular_file_is_refused(host: Host, existing: str, kind: str) -> None:
    """A link could lead anywhere and a folder is no file: neither is replaced nor taken for the installed one."""
    host.path.unlink()
    match kind:
        case "link":
            (host.etc / "victim").write_bytes(b"somebody's")
            host.path.symlink_to("victim")
        case "dangling link":
            host.path.symlink_to("nowhere")
        case "folder":
            host.path.mkdir()
        case _:
            os.mkfifo(host.path)
    before = sorted(path.name for path in host.etc.iterdir())
    with pytest.raises(InputError, match="something special is there") as caught:
        host.go("1", existing)
    assert caught.value.code == "unmanaged-file"
    assert sorted(path.name for path in host.etc.iterdir()) == before
    assert not host.path.is_file() or kind == "link"


def test_refusal_names_the_ways_out(host: Host) -> None:
    """Without a policy nothing changes, and the message says what there is."""
    with pytest.raises(InputError, match="move it away, or let the release say existing: overwrite or keep"):
        host.go("1", "refuse")
    assert host.is_original()


def test_damaged_copy_is_not_given_back(host: Host) -> None:
    """What was saved and rotted is said, and the place is left as it is, rather than filled with wrong bytes."""
    plan = host.go("1", "overwrite")
    (saved,) = (plan.app_dir / "replaced").iterdir()
    saved.write_bytes(b"rotten")
    with pytest.raises(Broken, match="its copy .* is damaged"):
        FileInstaller(Files()).unswitch(plan)
    assert host.content() == b"release 1"


def test_missing_folder_keeps_what_was_saved(host: Host) -> None:
    """Where the folder is gone the original cannot go back; it waits until there is one."""
    plan = host.go("1", "overwrite")
    host.path.unlink()
    host.etc.rmdir()
    with pytest.raises(Broken, match="there is no folder .*/etc; make it first"):
        FileInstaller(Files()).unswitch(plan)
    host.etc.mkdir()
    FileInstaller(Files()).unswitch(plan)
    assert host.is_original()


def test_what_was_saved_outlives_a_garbled_record(host: Host) -> None:
    """A record that was truncated anywhere owns nothing, but what it knew of is set aside, never dropped."""
    plan = host.go("1", "overwrite")
    record = plan.app_dir / "file.json"
    whole = record.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        record.write_bytes(whole[:length])
        FileInstaller(Files()).unswitch(plan)
        assert host.content() == b"release 1"
        (kept,) = (plan.app_dir / "replaced.lost").iterdir()
        assert kept.read_bytes() == ORIGINAL
        (plan.app_dir / "replaced.lost").rename(plan.app_dir / "replaced")


def test_record_of_an_older_agent_is_read(host: Host) -> None:
    """A record that knows only paths means what it meant: ours, with nothing saved."""
    plan = host.go("1", "overwrite")
    (plan.app_dir / "file.json").write_text(f'{{"paths": ["{host.path}"]}}')
    assert FileInstaller(Files()).verify(plan)
    FileInstaller(Files()).unswitch(plan)
    assert not host.path.exists()


class Poor(Files):
    """The files of an agent that may not give files to others."""

    def may_give(self, owner: int, group: int) -> bool:
        return False


def test_file_that_could_not_be_given_back_is_refused(host: Host) -> None:
    """An agent without root's rights does not replace what it could not restore."""
    with pytest.raises(InputError, match="only root could give it back"):
        host.go("1", "overwrite", files=Poor())
    assert host.is_original()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user for a moment")
def test_only_root_may_give_files_to_others() -> None:
    """Another user may give files to itself and to its own groups, and to nobody else."""
    assert Files().may_give(12345, 54321)
    os.seteuid(12345)
    try:
        assert Files().may_give(12345, os.getegid())
        assert not Files().may_give(0, os.getegid())
        assert not Files().may_give(12345, 54321)
    finally:
        os.seteuid(0)


Step = Callable[[Host, Files | None], object]


def overwrite(host: Host, files: Files | None) -> InstallPlan:
    return host.go("1", "overwrite", files=files)


def upgrade(host: Host, files: Files | None) -> InstallPlan:
    return host.go("2", "overwrite", files=files)


def move(host: Host, files: Files | None) -> InstallPlan:
    return host.go("2", "overwrite", "other.conf", files=files)


def keep(host: Host, files: Files | None) -> InstallPlan:
    return host.go("3", "keep", files=files)


def remove(host: Host, files: Files | None) -> None:
    FileInstaller(files or Files()).unswitch(host.plan("1", "overwrite")[0])


# name: what is done before, the step that is cut off, and how the place looks once it is done
SCENES: dict[str, tuple[list[Step], Step, bytes]] = {
    "first install": ([], overwrite, b"release 1"),
    "upgrade": ([overwrite], upgrade, b"release 2"),
    "move": ([overwrite], move, ORIGINAL),
    "move back": ([overwrite, move], overwrite, b"release 1"),
    "overwrite to keep": ([overwrite], keep, ORIGINAL),
    "keep to overwrite": ([keep], overwrite, b"release 1"),
    "first keep": ([], keep, ORIGINAL),
    "removal": ([overwrite], remove, ORIGINAL),
}
FAULTS: dict[str, OSError | None] = {
    "killed": None,
    "EIO": OSError(errno.EIO, "injected"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENES)
def test_cut_off_at_any_operation_the_original_is_never_lost(tmp_path: Path, name: str, fault: str) -> None:
    """At every operation: whole bytes at the path, the step done again ends well, and so does a removal instead."""
    before, step, content = SCENES[name]

    def ready(folder: str) -> Host:
        host = Host(tmp_path / folder)
        for done in before:
            done(host, None)
        return host

    recorder = CrashAt()
    step(ready("count"), Files(recorder))
    assert len(recorder.operations) > 1
    for number in range(len(recorder.operations)):
        for instead in (False, True):
            host = ready(f"{number}-{instead}")
            with pytest.raises((Crash, DiskError)):
                step(host, Files(CrashAt(number, FAULTS[fault])))
            where = f"{name}, {fault} at {recorder.operations[number]}"
            assert host.content() in (ORIGINAL, b"release 1", b"release 2"), where
            if not instead:
                step(host, None)
                assert host.content() == content, where
                assert content != ORIGINAL or host.is_original(), where
            remove(host, None)
            assert host.is_original(), where
            assert host.leftovers() == [], where


def test_the_path_is_never_empty(tmp_path: Path) -> None:
    """From the original to the release and back there is no moment without a whole file."""
    seen = set()

    def look(_verb: str, _path: Path) -> None:
        seen.add(host.content())

    host = Host(tmp_path)
    host.go("1", "overwrite", files=Files(look))
    remove(host, Files(look))
    assert seen == {ORIGINAL, b"release 1"}
    assert snapshot(host.etc) == {"app.conf": (0o604, ORIGINAL)}
