"""The half of `Files` that looks: contents, facts and lists, all without any change.

Only `read`, `open_read`, `size` and `stat` let FileNotFoundError through. Facts are of a link itself.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from towpath.errors import Broken, InputError
from towpath_agent.errors import disk_error
from towpath_agent.system.handles import Before, OpenFile

BUFFER_BYTES = 2**20
BLOCK_UNIT = 512  # of st_blocks, whatever the filesystem's own block is


def _nothing(_verb: str, _path: Path) -> None:
    """Do nothing before an operation."""


def mark(facts: os.stat_result) -> int:
    """Return one number that is another one after any change of the inode, its times, size or mode; never 0."""
    return hash((facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_mode)) or 1


class Reading:
    """What is on the machine's disks."""

    def __init__(self, before: Before | None = None) -> None:
        """`before(verb, path)` is called ahead of every operation that changes the disk, for files opened here too."""
        self._before = before or _nothing

    def read(self, path: Path, limit: int) -> bytes:
        """Return the content; Broken where it is longer than `limit` bytes, FileNotFoundError where it is missing."""
        with self.open_read(path) as source:
            parts = []
            left = limit + 1
            while left > 0 and (part := source.read(min(left, BUFFER_BYTES))):
                parts.append(part)
                left -= len(part)
        if left <= 0:
            raise Broken(f"cannot read {path}: it is longer than {limit} bytes", code="too-large")
        return b"".join(parts)

    def read_tail(self, path: Path, limit: int) -> str:
        """Return the last `limit` bytes as text, "" where the file is missing; for logs that people read."""
        try:
            with self.open_read(path) as source:
                source.seek(max(0, self.size(path) - limit))
                return source.read(limit).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def open_read(self, path: Path) -> OpenFile:
        """Open for reading; FileNotFoundError where it is missing."""
        try:
            return OpenFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), self._before)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise disk_error("open", path, error) from error

    def open_regular(self, path: Path) -> OpenFile:
        """Open a file that a person named, for reading; InputError where it is none. Waits for nothing."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags)
        except ValueError as error:  # a NUL in it
            raise InputError("cannot read that file: its name is none", code="not-found") from error
        except OSError as error:
            raise InputError(f"cannot read {path}: {os.strerror(error.errno or 0)}", code="not-found") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"cannot read {path}: it is no file", code="not-found")
        return OpenFile(path, descriptor, self._before)

    def size(self, path: Path) -> int:
        """Return the size in bytes; FileNotFoundError where it is missing."""
        return self.stat(path).st_size

    def stat(self, path: Path) -> os.stat_result:
        """Return facts about the path itself, never about what a link points to; FileNotFoundError where missing."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
        except OSError as error:
            raise disk_error("look at", path, error) from error

    def marks(self, folder: Path, names: Iterable[str]) -> list[int]:
        """Return the `mark` of each path below `folder`, 0 for one that is missing: many at once, and cheap."""
        prefix = f"{folder}/"
        result = []
        for name in names:
            try:
                result.append(mark(os.lstat(prefix + name)))
            except OSError:
                result.append(0)
        return result

    def sizes(self, folder: Path, names: Iterable[str]) -> list[int]:
        """Return the size of each path below `folder`, -1 for one that is missing: many at once, and cheap."""
        prefix = f"{folder}/"
        result = []
        for name in names:
            try:
                result.append(os.lstat(prefix + name).st_size)
            except FileNotFoundError:
                result.append(-1)
            except OSError as error:
                raise disk_error("look at", folder / name, error) from error
        return result

    def exists(self, path: Path) -> bool:
        """Return True where something has that name, a dangling link included."""
        return os.path.lexists(path)

    def is_dir(self, path: Path) -> bool:
        """Return True for a real folder, False for a link to one."""
        return path.is_dir() and not path.is_symlink()

    def listdir(self, path: Path) -> list[str]:
        """Return the sorted names in a folder, none where it is missing."""
        return sorted(self.names(path))

    def names(self, path: Path) -> Iterator[str]:
        """Yield the names in a folder in no order, none where it is missing: for folders that hold many."""
        try:
            with os.scandir(path) as found:
                for it in found:
                    yield it.name
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error("list", path, error) from error

    def disk_bytes(self, path: Path) -> int:
        """Return what a file takes on disk, freed parts not counted; 0 where it is missing."""
        try:
            return self.stat(path).st_blocks * BLOCK_UNIT
        except FileNotFoundError:
            return 0

    def tree_bytes(self, path: Path) -> int:
        """Return the sizes of all files below `path` together, links not followed; what vanishes meanwhile is none."""
        total = 0
        for folder, _folders, names in os.walk(path):
            for name in names:
                try:
                    total += Path(folder, name).lstat().st_size
                except FileNotFoundError:
                    continue
        return total

    def read_link(self, path: Path) -> str | None:
        """Return where the link at `path` points; None where there is no link."""
        try:
            return str(path.readlink())
        except OSError:
            return None

    def real(self, path: Path) -> Path:
        """Return the absolute path with all links followed, as far as it exists."""
        return path.resolve()

    def disk_free(self, path: Path) -> int:
        """Return the bytes that an ordinary user may still write where `path` is or will be."""
        facts = os.statvfs(self._nearest(path))
        return facts.f_bavail * facts.f_frsize

    def device(self, path: Path) -> int:
        """Return the number of the filesystem where `path` is or will be."""
        return self._nearest(path).stat().st_dev

    def _nearest(self, path: Path) -> Path:
        here = path.absolute()
        while not here.exists() and here != here.parent:
            here = here.parent
        return here
