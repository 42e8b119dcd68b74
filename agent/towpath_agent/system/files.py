"""Every file operation of the agent, with its durability.

Rules: what is published is written under a unique temporary name, synced, renamed, and its folder synced; a crash
between any two operations leaves the old or the new, and a leftover that `sweep` removes. Links are never followed by
removal. Errors are `DiskError` (`DiskFull` where space is out), naming operation and path; only the readers `read`,
`open_read`, `size` and `stat` let FileNotFoundError through. `before` is called ahead of every operation that changes
the disk: tests crash, fail or record there.
Not handled here: what the files mean; network filesystems without POSIX rename.
"""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from towpath.errors import InputError
from towpath_agent.errors import DiskError, disk_error
from towpath_agent.system import disk
from towpath_agent.system.handles import Before, Lock, OpenFile
from towpath_agent.system.progress import progressed
from towpath_agent.system.reading import BLOCK_UNIT, BUFFER_BYTES, Reading, mark

__all__ = ["TEMP_PREFIX", "Before", "Files", "Lock", "OpenFile", "absolute", "mark", "temporary"]

TEMP_PREFIX = ".tmp-"
_TEMP_RANDOM_BYTES = 8
_TEMP_LENGTH = len(TEMP_PREFIX) + 2 * _TEMP_RANDOM_BYTES


def _unseen(_part: bytes) -> None:
    """Look at nothing."""


def absolute(path: Path) -> Path:
    """Return `path` from the root on, links as they are."""
    return path.absolute()


def temporary(path: Path) -> Path:
    """Return a unique temporary name beside `path`."""
    return path.parent / f"{TEMP_PREFIX}{secrets.token_hex(_TEMP_RANDOM_BYTES)}"


def _open_folder(path: Path) -> None:
    """Let the owner in: a release may hold folders that their owner may not write, and only root does not care."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
        path.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)


class Files(Reading):
    """The machine's files."""

    @contextmanager
    def _change(self, verb: str, path: Path) -> Iterator[None]:
        try:
            self._before(verb, path)
            yield
        except OSError as error:
            raise disk_error(verb, path, error) from error

    def make_dirs(self, path: Path, mode: int = 0o700) -> None:
        """Make the folder and its missing parents, durable, each with exactly `mode`; nothing where it is there."""
        missing = []
        here = path
        while not here.is_dir():
            missing.append(here)
            here = here.parent
        for folder in reversed(missing):
            with self._change("make", folder):
                folder.mkdir(mode, exist_ok=True)
            self.set_mode(folder, mode)
            self.sync_dir(folder.parent)

    def make_dir(self, path: Path, mode: int = 0o700) -> None:
        """Make one new folder, not yet durable: for trees that `sync_tree` writes to disk as a whole."""
        with self._change("make", path):
            path.mkdir(mode)

    def write_atomic(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """Put `data` at `path`, durable: after a crash there is the old content or the new."""
        temp = temporary(path)
        try:
            with self.open_write(temp, mode) as out:
                out.write(data)
                out.fsync()
            self.rename(temp, path)
        except DiskError:
            # The disk is in trouble already: a leftover that cannot be removed now is swept at the next start.
            temp.unlink(missing_ok=True)
            raise

    def open_write(self, path: Path, mode: int = 0o600, *, instead: bool = False) -> OpenFile:
        """Make a new file and open it; an existing one is an error, or is removed where this one is to be `instead`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._change("make", path):
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileExistsError:
                if not instead:
                    raise
                path.unlink()
                descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, mode)
        return OpenFile(path, descriptor, self._before)

    def open_append(self, path: Path, mode: int = 0o600) -> OpenFile:
        """Open at the end; made where it is missing."""
        with self._change("open", path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, mode)
        return OpenFile(path, descriptor, self._before)

    def copy(self, src: Path, dst: Path, mode: int = 0o600, seen: Callable[[bytes], None] = _unseen) -> bool:
        """Copy content to a new file, sharing blocks where the filesystem can; not synced, see `sync_tree`.

        `seen` is given what is written. Returns False where blocks are shared: then nobody saw it. FileNotFoundError
        where `src` is missing.
        """
        with self.open_read(src) as source, self.open_write(dst, mode) as out, self._change("write", dst):
            if disk.reflink(source.fileno(), out.fileno()):
                return False
            while part := os.read(source.fileno(), BUFFER_BYTES):
                progressed()
                seen(part)
                view = memoryview(part)
                while view:
                    view = view[os.write(out.fileno(), view) :]
            out.complete()
            return True

    def rename(self, src: Path, dst: Path) -> None:
        """Give `src` the name `dst`, replacing a file or an empty folder there, durable in both folders."""
        with self._change("rename", dst):
            src.rename(dst)
        self.sync_dir(dst.parent)
        if src.parent != dst.parent:
            self.sync_dir(src.parent)

    def replace(self, src: Path, dst: Path) -> None:
        """Give `src` the name `dst`, replacing a file there. Not durable: for what is proven again when it is used."""
        with self._change("rename", dst):
            src.rename(dst)

    def exchange(self, first: Path, second: Path) -> None:
        """Swap two paths of one filesystem, durable: in one step where the system can, else by three renames."""
        with self._change("rename", second):
            done = disk.exchange(first, second)
        if done:
            self.sync_dir(second.parent)
            if first.parent != second.parent:
                self.sync_dir(first.parent)
            return
        aside = temporary(second)
        self.rename(second, aside)
        self.rename(first, second)
        self.rename(aside, first)

    def swap_link(self, link: Path, target: str) -> None:
        """Let `link` point to `target`, durable: after a crash it is the old link or the new."""
        temp = temporary(link)
        self.make_link(temp, target)
        try:
            self.rename(temp, link)
        except DiskError:
            temp.unlink(missing_ok=True)
            raise

    def make_link(self, path: Path, target: str) -> None:
        """Make a new link; something there already is an error."""
        with self._change("link", path):
            path.symlink_to(target)

    def remove(self, path: Path) -> None:
        """Remove a file or link; nothing where it is missing."""
        with self._change("remove", path):
            path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all that is in it, or a file or link; links are removed, never followed."""
        if not self.is_dir(path):
            self.remove(path)
            return
        with self._change("remove", path):
            _open_folder(path)
            for folder, names, _files in os.walk(path):
                for name in names:
                    _open_folder(Path(folder, name))
            shutil.rmtree(path)

    def set_mode(self, path: Path, mode: int) -> None:
        """Set the permission bits; never of what a link points to."""
        with self._change("change the mode of", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, mode)
            finally:
                os.close(descriptor)

    def forget_head(self, path: Path, keep: int, limit: int) -> bool:
        """Free all but about the last `keep` bytes of a log that takes more than `limit` on disk; say whether it did.

        For a file that a program appends to all the time: nothing is copied or moved, so nothing that it writes
        meanwhile is lost and it need not be told. The size stays, the freed part reads as zeros. A filesystem that
        cannot do this has the file emptied: the program must append (O_APPEND), as what we start does.
        """
        try:
            facts = self.stat(path)
        except FileNotFoundError:
            return False
        plain = stat.S_ISREG(facts.st_mode) and facts.st_size > keep
        if not plain or facts.st_blocks * BLOCK_UNIT <= limit:
            return False
        with self._change("shorten", path):
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not disk.punch(descriptor, facts.st_size - keep):
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        return True

    def set_owner(self, path: Path, owner: int, group: int) -> None:
        """Give the file or link to a user and a group, by number; set-user bits go with it."""
        with self._change("change the owner of", path):
            os.chown(path, owner, group, follow_symlinks=False)

    def may_give(self, owner: int, group: int) -> bool:
        """Return whether this process could make a file that belongs to that user and group."""
        return os.geteuid() == 0 or (owner == os.geteuid() and group in {os.getegid(), *os.getgroups()})

    def set_changed(self, path: Path, unix_ns: int) -> None:
        """Set the times of the last change and of the last access."""
        with self._change("change the times of", path):
            os.utime(path, ns=(unix_ns, unix_ns), follow_symlinks=False)

    def sweep(self, folder: Path) -> None:
        """Remove what crashed operations of this class left in `folder`."""
        for name in self.listdir(folder):
            if name.startswith(TEMP_PREFIX) and len(name) == _TEMP_LENGTH:
                self.remove_tree(folder / name)

    # Durability and exclusion

    def sync_dir(self, path: Path) -> None:
        """Return when the names in the folder are on disk."""
        self._sync_one(path)

    def sync_file(self, path: Path) -> None:
        """Return when the content of the file is on disk."""
        self._sync_one(path)

    def _sync_one(self, path: Path) -> None:
        with self._change("sync", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sync_tree(self, path: Path) -> None:
        """Return when the folder with all that is in it is on disk.

        By syncfs: fsync of the parent alone lost 50 of 50 files after a power cut, and one call beats thousands.
        """
        with self._change("sync all of", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                done = disk.syncfs(descriptor)
            finally:
                os.close(descriptor)
        if not done:
            for folder, _names, files in os.walk(path, topdown=False):
                for name in files:
                    if not Path(folder, name).is_symlink():
                        self._sync_one(Path(folder, name))
                self._sync_one(Path(folder))

    def lock(self, path: Path) -> Lock:
        """Take the lock file at `path`; InputError where another process holds it."""
        with self._change("open", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise InputError(
                f"cannot use {path.parent}: another process holds it; stop it first", code="locked"
            ) from error
        return Lock(descriptor)
