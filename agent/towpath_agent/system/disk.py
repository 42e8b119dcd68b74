"""Linux calls that Python's `os` does not offer: syncfs, early writing, atomic exchange, reflinks, holes.

Each says what it does where the kernel or the filesystem cannot: the caller falls back.
"""

import ctypes
import errno
import fcntl
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_RANGE_WRITE = 2
_FICLONE = 0x40049409
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.ENOTTY})


def syncfs(descriptor: int) -> bool:
    """Write all of the filesystem that holds `descriptor` to disk; False where the system has no such call."""
    call = getattr(_LIBC, "syncfs", None)
    if call is None:
        return False
    if call(descriptor) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOSYS:
        return False
    raise OSError(number, os.strerror(number))


def start_writing(descriptor: int) -> None:
    """Have what a file holds begin to be written to disk; waits for nothing, promises nothing, fails never."""
    call = getattr(_LIBC, "sync_file_range", None)
    if call is not None:
        call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _RANGE_WRITE)


def exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the kernel or the filesystem cannot."""
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))


def punch(descriptor: int, length: int) -> bool:
    """Give the first `length` bytes of a file back to the disk, which read as zeros then; False where it cannot."""
    call = getattr(_LIBC, "fallocate64", None) or getattr(_LIBC, "fallocate", None)
    if call is None:
        return False
    if call(descriptor, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))


def reflink(source: int, destination: int) -> bool:
    """Let `destination` share the blocks of `source` until one is written; False where the filesystem cannot."""
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
