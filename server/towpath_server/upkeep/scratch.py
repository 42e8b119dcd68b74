"""Where a backup or a restore works: a hidden folder, 0700, beside what it makes, and gone when that is made or not.

It holds all of a server's keys meanwhile, and whoever is killed leaves it. Its lock says whether somebody still works
there: the next one in the same place first removes all that nobody holds.
"""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKUP, RESTORE = "towpath-backup", "towpath-restore"
_LOCK = "lock"


@contextmanager
def scratch(place: Path, kind: str) -> Iterator[Path]:
    """Yield a new folder in `place` for the time of the block; `kind` is BACKUP or RESTORE. OSError."""
    for left in remains(place, kind):
        _sweep(left)
    part = place / f".{kind}.{secrets.token_hex(4)}.part"
    part.mkdir(mode=0o700)
    try:
        with (part / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remains(place: Path, kind: str) -> list[Path]:
    """Return what is left in `place` of those that were cut short, and what others work in now."""
    return sorted(place.glob(f".{kind}.*.part"))


def _sweep(left: Path) -> None:
    found = left.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return  # made by somebody else, such as in /tmp
    with suppress(OSError), (left / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)
