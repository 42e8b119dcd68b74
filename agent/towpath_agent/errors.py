"""Errors of the agent that the other parties do not know, grouped by who must act.

towpath.errors.Broken
├── DiskError         the machine: a file operation failed (EIO, EROFS, EACCES ...)
│   └── DiskFull      the operator: free some space; retryable
├── StartError        the publisher: a program is missing, not executable, or of a wrong format
├── ServiceError      the publisher or the machine: the running unit could not be started or stopped
├── DriverError       the driver's author: an installer's executable failed; `evidence` is what it said
└── PackageError      the publisher or the machine: the host's package or image tool could not do it
    └── PackageLocked the operator, or nobody: another program holds the package database; retryable
towpath.errors.Unavailable
└── DriverBusy        wait: the executable asked to be called again later
"""

import errno
from os import strerror
from pathlib import Path
from typing import ClassVar

from towpath.errors import Broken, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskError(Broken):
    """A file operation failed; the message names the operation and the path."""

    code = "disk"


class DiskFull(DiskError):
    """No space is left; trying again can help once there is."""

    code = "disk-full"
    retryable: ClassVar[bool] = True


class StartError(Broken):
    """A program could not be started at all; `evidence` is the last that it said, where it said anything."""

    code = "cannot-start"
    evidence = ""


class ServiceError(Broken):
    """The running unit of an app could not be started or stopped; `evidence` is what the service knows of it."""

    code = "service"
    evidence = ""


class DriverError(Broken):
    """An executable of kind `exec` failed, hung or did not speak the protocol."""

    code = "driver"

    def __init__(self, message: str, *, code: str | None = None, evidence: str = "") -> None:
        """Keep `evidence`: the last of what the driver wrote to stderr, for the report."""
        super().__init__(message, code=code)
        self.evidence = evidence


class DriverBusy(Unavailable):
    """An executable of kind `exec` could not work now and asked for another try."""

    code = "driver-busy"

    def __init__(self, message: str, *, evidence: str = "") -> None:
        """Keep `evidence`, as a DriverError does."""
        super().__init__(message)
        self.evidence = evidence


class PackageError(Broken):
    """The host's package or image tool failed; the message ends with what it and the package's scripts said."""

    code = "package"


class PackageLocked(PackageError):
    """Another program holds the package database; trying again can help once it has ended."""

    code = "package-locked"
    retryable: ClassVar[bool] = True


def is_full(error: Exception) -> bool:
    """Return whether `error` says that no space is left: freeing some is all that it needs."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)


def disk_error(verb: str, path: Path, error: OSError) -> DiskError:
    """Return the error to raise where `verb` failed on `path`."""
    reason = strerror(error.errno) if error.errno is not None else str(error)
    if is_full(error):
        return DiskFull(f"cannot {verb} {path}: {reason}; free some space, it will be tried again")
    return DiskError(f"cannot {verb} {path}: {reason}")
