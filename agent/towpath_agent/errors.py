"""Errors of the agent that the other parties do not know, grouped by who must act.

towpath.errors.Broken
├── DiskError         the machine: a file operation failed (EIO, EROFS, EACCES ...)
│   └── DiskFull      the operator: free some space; retryable
├── StartError        the publisher: a program is missing, not executable, or of a wrong format
└── ServiceError      the publisher or the machine: the running unit could not be started or stopped
"""

import errno
from os import strerror
from pathlib import Path
from typing import ClassVar

from towpath.errors import Broken

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskError(Broken):
    """A file operation failed; the message names the operation and the path."""

    code = "disk"


class DiskFull(DiskError):
    """No space is left; trying again can help once there is."""

    code = "disk-full"
    retryable: ClassVar[bool] = True


class StartError(Broken):
    """A program could not be started at all."""

    code = "cannot-start"


class ServiceError(Broken):
    """The running unit of an app could not be started or stopped."""

    code = "service"


def is_full(error: Exception) -> bool:
    """Return whether `error` says that no space is left: freeing some is all that it needs."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)


def disk_error(verb: str, path: Path, error: OSError) -> DiskError:
    """Return the error to raise where `verb` failed on `path`."""
    reason = strerror(error.errno) if error.errno is not None else str(error)
    if is_full(error):
        return DiskFull(f"cannot {verb} {path}: {reason}; free some space, it will be tried again")
    return DiskError(f"cannot {verb} {path}: {reason}")
