"""What `Files` hands out: an open file and a held lock."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from towpath_agent.errors import disk_error
from towpath_agent.system import disk
from towpath_agent.system.progress import progressed

# Of shorter files each would cost more than waiting for them does.
EARLY_BYTES = 2**20

BLOCK_BYTES = 256 * 1024
Before = Callable[[str, Path], None]


class OpenFile:
    """An open file without a buffer of its own. Close it, or use it in a `with`."""

    def __init__(self, path: Path, descriptor: int, before: Before) -> None:
        """Take over `descriptor`."""
        self.path = path
        self._descriptor = descriptor
        self._before = before

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`."""
        try:
            self._before("write", self.path)
            view = memoryview(data)
            while view:
                progressed()
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise disk_error("write", self.path, error) from error

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end."""
        progressed()
        try:
            return os.read(self._descriptor, size)
        except OSError as error:
            raise disk_error("read", self.path, error) from error

    def blocks(self) -> Iterator[bytes]:
        """Yield what follows, in blocks of at most BLOCK_BYTES."""
        while block := self.read(BLOCK_BYTES):
            yield block

    def seek(self, offset: int) -> None:
        """Go on at `offset`."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)

    def length(self) -> int:
        """Return how many bytes the file has now."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes from `offset` on, none behind the end."""
        progressed()
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise disk_error("read", self.path, error) from error

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        try:
            self._before("truncate", self.path)
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise disk_error("truncate", self.path, error) from error

    def fileno(self) -> int:
        """Return the descriptor, for calls of the system layer."""
        return self._descriptor

    def fsync(self) -> None:
        """Return when the content is on disk."""
        try:
            self._before("fsync", self.path)
            os.fsync(self._descriptor)
        except OSError as error:
            raise disk_error("sync", self.path, error) from error

    def complete(self) -> None:
        """Close what is complete and synced later: a long file begins to be written now, while others are made."""
        if self.length() >= EARLY_BYTES:
            disk.start_writing(self._descriptor)
        self.close()

    def close(self) -> None:
        """Close; twice is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class Lock:
    """A lock that this process holds until `release` or until it ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor that holds the lock."""
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it; twice is fine."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release."""
        self.release()
