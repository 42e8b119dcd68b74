"""Files: what a crash, a full disk and a broken disk leave behind."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.trees import Crash, CrashAt, snapshot
from towpath.errors import Broken, InputError
from towpath_agent.errors import DiskError, DiskFull
from towpath_agent.system import disk
from towpath_agent.system.files import Files
from towpath_agent.system.handles import EARLY_BYTES

Act = Callable[[Files, Path], None]


def write(files: Files, folder: Path) -> None:
    files.write_atomic(folder / "state", b"new", 0o640)


def relink(files: Files, folder: Path) -> None:
    files.swap_link(folder / "link", "new")


def trade(files: Files, folder: Path) -> None:
    if (folder / "a").read_bytes() == b"old":
        files.exchange(folder / "a", folder / "b")


def old_state(folder: Path) -> None:
    (folder / "state").write_bytes(b"old")
    (folder / "state").chmod(0o600)
    (folder / "link").symlink_to("old")
    (folder / "a").write_bytes(b"old")
    (folder / "b").write_bytes(b"new")


def facts(folder: Path) -> tuple[bytes, str, bytes]:
    return (folder / "state").read_bytes(), str((folder / "link").readlink()), (folder / "a").read_bytes()


ACTS: dict[str, Act] = {"write_atomic": write, "swap_link": relink, "exchange": trade}


def count(act: Act, folder: Path) -> int:
    folder.mkdir()
    old_state(folder)
    recorder = CrashAt()
    act(Files(recorder), folder)
    return len(recorder.operations)


@pytest.mark.parametrize("name", ACTS)
def test_crash_at_any_operation_leaves_old_or_new(tmp_path: Path, name: str) -> None:
    """A crash before any operation leaves the old or the new whole; doing it again ends with the new and no leftover."""
    act = ACTS[name]
    total = count(act, tmp_path / "plain")
    wanted = facts(tmp_path / "plain")
    assert total >= 2
    for number in range(total):
        folder = tmp_path / str(number)
        folder.mkdir()
        old_state(folder)
        before = facts(folder)
        with pytest.raises(Crash):
            act(Files(CrashAt(number)), folder)
        assert facts(folder) in (before, wanted)
        files = Files()
        files.sweep(folder)
        act(files, folder)
        assert snapshot(folder) == snapshot(tmp_path / "plain")


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, DiskError)]
)
def test_disk_error_at_any_operation_is_named_and_leaves_old_or_new(
    tmp_path: Path, name: str, number: int, kind: type[DiskError]
) -> None:
    """A full or broken disk is one error with operation and path; the old or the new is there, and no leftover."""
    act = ACTS[name]
    total = count(act, tmp_path / "plain")
    wanted = facts(tmp_path / "plain")
    for at in range(total):
        folder = tmp_path / str(at)
        folder.mkdir()
        old_state(folder)
        before = facts(folder)
        with pytest.raises(kind, match=f"cannot .*{folder}.*{os.strerror(number)}"):
            act(Files(CrashAt(at, OSError(number, "x"))), folder)
        assert facts(folder) in (before, wanted)
        assert not [path for path in folder.iterdir() if path.name.startswith(".tmp-")]


def test_only_a_full_disk_is_worth_trying_again() -> None:
    """DiskFull says that trying again can help, DiskError says that it cannot."""
    assert DiskFull("x").retryable
    assert DiskFull("x").code == "disk-full"
    assert not DiskError("x").retryable


def test_write_atomic_syncs_content_before_the_rename_and_the_folder_after(tmp_path: Path) -> None:
    """The order that survives a power cut: content, fsync, rename, fsync of the folder."""
    recorder = CrashAt()
    Files(recorder).write_atomic(tmp_path / "state", b"x")
    assert [operation.split()[0] for operation in recorder.operations] == ["make", "write", "fsync", "rename", "sync"]


def test_write_atomic_sets_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    """The mode asked for is the mode of the file, and by default nobody else may read it."""
    before = os.umask(0o077)
    try:
        Files().write_atomic(tmp_path / "open", b"x", 0o644)
        Files().write_atomic(tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "open").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "secret").stat().st_mode & 0o7777 == 0o600


def test_write_atomic_into_a_missing_folder_is_a_disk_error(tmp_path: Path) -> None:
    """A folder that is not there is named in a DiskError, not left to the caller as an OSError."""
    with pytest.raises(DiskError, match="cannot make .*No such file"):
        Files().write_atomic(tmp_path / "gone" / "state", b"x")


def test_make_dirs_makes_parents_with_exactly_that_mode(tmp_path: Path) -> None:
    """Every missing parent gets the mode, whatever the umask; existing folders are left as they are."""
    tmp_path.chmod(0o711)
    Files().make_dirs(tmp_path / "a" / "b", 0o775)
    assert [(tmp_path / p).stat().st_mode & 0o777 for p in (".", "a", "a/b")] == [0o711, 0o775, 0o775]
    Files().make_dirs(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o775


def test_make_dirs_refuses_a_file_in_the_way(tmp_path: Path) -> None:
    """A file where a folder should be is an error that names it."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DiskError, match=str(tmp_path / "a")):
        Files().make_dirs(tmp_path / "a" / "b")


def test_read_is_capped(tmp_path: Path) -> None:
    """A file of just the limit is read, one byte more is refused."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert Files().read(path, 5) == b"12345"
    with pytest.raises(Broken, match="longer than 4 bytes"):
        Files().read(path, 4)


def test_readers_let_a_missing_file_through(tmp_path: Path) -> None:
    """Reading what is not there raises FileNotFoundError, so that callers can tell it from a broken disk."""
    files, path = Files(), tmp_path / "gone"
    for reader in (lambda: files.read(path, 1), lambda: files.open_read(path), lambda: files.size(path)):
        with pytest.raises(FileNotFoundError):
            reader()
    assert files.listdir(path) == []
    assert files.read_link(path) is None
    assert files.read_tail(path, 10) == ""
    assert not files.exists(path)
    assert not files.is_dir(path)


def test_read_tail_returns_the_end_as_text(tmp_path: Path) -> None:
    """Only the last bytes of a log are read, and bytes that are no text do no harm."""
    (tmp_path / "log").write_bytes(b"x" * 100 + b"\xffend")
    assert Files().read_tail(tmp_path / "log", 4) == "\ufffdend"
    assert Files().read_tail(tmp_path / "log", 1000) == "x" * 100 + "\ufffdend"


def test_remove_tree_never_follows_links(tmp_path: Path) -> None:
    """Removing a tree removes its links and leaves alone what they point to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_bytes(b"x")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "dir").symlink_to(outside)
    (tree / "file").symlink_to(outside / "keep")
    (tmp_path / "top").symlink_to(outside)
    Files().remove_tree(tree)
    Files().remove_tree(tmp_path / "top")
    Files().remove_tree(tmp_path / "never-there")
    assert not tree.exists()
    assert not (tmp_path / "top").is_symlink()
    assert (outside / "keep").read_bytes() == b"x"


def test_remove_tree_enters_folders_that_their_owner_may_not_write(tmp_path: Path) -> None:
    """A tree with closed folders is removed, and a link to a folder elsewhere keeps that folder's mode as it was."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    closed = tmp_path / "tree" / "closed"
    (closed / "deep").mkdir(parents=True)
    (closed / "link").symlink_to(outside)
    (closed / "deep").chmod(0o000)
    closed.chmod(0o500)
    Files().remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_sweep_removes_only_leftovers_of_its_own(tmp_path: Path) -> None:
    """Leftover files, links and trees of crashed operations go; names that only look like them stay."""
    (tmp_path / ".tmp-0123456789abcdef").mkdir()
    (tmp_path / ".tmp-0123456789abcdef" / "x").write_bytes(b"")
    (tmp_path / ".tmp-fedcba9876543210").symlink_to("nowhere")
    (tmp_path / ".tmp-mine").write_bytes(b"")
    (tmp_path / "kept").write_bytes(b"")
    Files().sweep(tmp_path)
    Files().sweep(tmp_path / "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-mine", "kept"]


def test_copy_makes_its_own_bytes(tmp_path: Path) -> None:
    """A copy has content and mode, and writing to it never reaches the source (no hard link)."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"data" * 500_000)
    Files().copy(source, copy, 0o750)
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o750
    with copy.open("r+b") as file:
        file.write(b"DATA")
    assert source.read_bytes()[:4] == b"data"


def test_only_long_files_begin_to_be_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync at the end waits for less; a short file would cost more than it saves."""
    begun: list[int] = []
    real = disk.start_writing

    def start_writing(descriptor: int) -> None:
        begun.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(disk, "start_writing", start_writing)
    monkeypatch.setattr(disk, "reflink", lambda _source, _destination: False)
    for size in (EARLY_BYTES - 1, EARLY_BYTES):
        (tmp_path / "source").write_bytes(bytes(size))
        Files().copy(tmp_path / "source", tmp_path / f"copy-{size}")
        assert (tmp_path / f"copy-{size}").stat().st_size == size
    assert begun == [EARLY_BYTES]


def test_to_begin_writing_is_no_promise() -> None:
    """Where the kernel cannot, as for a pipe, nothing happens."""
    reader, writer = os.pipe()
    disk.start_writing(writer)
    os.close(reader)
    os.close(writer)


def test_sizes_tell_what_is_missing(tmp_path: Path) -> None:
    """Many at once; what cannot be looked at is an error, never missing."""
    (tmp_path / "a").write_bytes(b"abc")
    assert Files().sizes(tmp_path, ["a", "b"]) == [3, -1]
    with pytest.raises(DiskError, match="cannot look at"):
        Files().sizes(tmp_path / "a", ["b"])


def test_nothing_is_written_through_a_planted_link(tmp_path: Path) -> None:
    """Copying, opening and changing modes refuse a link at the destination: what it points to stays as it is."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"safe")
    victim.chmod(0o600)
    (tmp_path / "source").write_bytes(b"evil")
    (tmp_path / "planted").symlink_to(victim)
    files = Files()
    for act in (
        lambda: files.copy(tmp_path / "source", tmp_path / "planted"),
        lambda: files.open_append(tmp_path / "planted"),
        lambda: files.open_write(tmp_path / "planted"),
        lambda: files.set_mode(tmp_path / "planted", 0o777),
    ):
        with pytest.raises(DiskError):
            act()
    assert (victim.read_bytes(), victim.stat().st_mode & 0o777) == (b"safe", 0o600)


def test_append_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A file opened to append keeps what it has; it can be read from an offset and cut."""
    files, path = Files(), tmp_path / "partial"
    with files.open_append(path) as out:
        out.write(b"abc")
    with files.open_append(path) as out:
        out.write(b"def")
        out.fsync()
        out.seek(2)
        assert out.read(10) == b"cdef"
        out.truncate(1)
    out.close()
    assert path.read_bytes() == b"a"


def test_a_lock_is_held_once_and_freed_by_release(tmp_path: Path) -> None:
    """A second holder is refused in one line; after release it gets the lock."""
    held = Files().lock(tmp_path / "lock")
    with pytest.raises(InputError, match="another process holds it; stop it first"):
        Files().lock(tmp_path / "lock")
    held.release()
    held.release()
    with Files().lock(tmp_path / "lock"):
        pass


def test_disk_facts_of_what_is_not_there_yet(tmp_path: Path) -> None:
    """Free space and filesystem of a folder that will be made are those of the nearest parent that is there."""
    files = Files()
    assert files.disk_free(tmp_path / "a" / "b") > 0
    assert files.device(tmp_path / "a" / "b") == tmp_path.stat().st_dev


def test_sync_tree_and_exchange_of_folders(tmp_path: Path) -> None:
    """A tree can be written to disk as a whole and swapped with another, links in it included."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        (tmp_path / name / "dangling").symlink_to("nowhere")
    Files().sync_tree(tmp_path / "one")
    Files().exchange(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "file").read_text() == "two"
    assert (tmp_path / "two" / "file").read_text() == "one"
