"""The folder and the disk: who may read and write, how much room there is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from towpath.findings import Finding, fail, ok, warn
from towpath_server.upkeep.backup import DATABASE, LOST
from towpath_server.upkeep.scratch import BACKUP, RESTORE, remains

SECRETS = ("ca.key", "keys", DATABASE, f"{DATABASE}-wal")
LOW_BYTES = 2**30
NO_BYTES = 100 * 2**20
LOW_SHARE = 0.05
NO_INODES = 1000
SHOWN = 3


def modes(folder: Path) -> Iterator[Finding]:
    """Look for secrets that others can read, and files that the server's user does not own."""
    owner = folder.stat()
    if stat.S_IMODE(owner.st_mode) & 0o022:
        yield fail("folder", f"others may write to {folder}: they could replace its keys", f"chmod 0700 {folder}")
    open_ones, foreign = [], []
    for path in _files(folder):
        found = path.lstat()
        secret = path.relative_to(folder).parts[0] in SECRETS and not stat.S_ISDIR(found.st_mode)
        if secret and stat.S_IMODE(found.st_mode) & 0o077:
            open_ones.append(path)
        if found.st_uid != owner.st_uid:
            foreign.append(path)
    if open_ones:
        shown = " ".join(map(str, open_ones))
        yield fail("folder", f"others can read {_named(open_ones)}: it is secret", f"chmod 0600 {shown}")
    if foreign:
        yield fail(
            "folder",
            f"{_named(foreign)} does not belong to the owner of {folder}: the server cannot work with it",
            f"chown -R --reference={folder} {folder}",
        )
    if not open_ones and not foreign:
        yield ok("folder", f"{folder} belongs to one user, its secrets to nobody else")


def cut_short(folder: Path) -> Iterator[Finding]:
    """Name what a backup or a restore left that was killed here."""
    for kind in (BACKUP, RESTORE):
        for left in remains(folder, kind):
            what = f"{left.name} is left of a {kind.removeprefix('towpath-')} that was cut short, keys and all"
            yield warn("folder", f"{what}; where none is on its way, remove it", f"rm -r {left}")


def _files(folder: Path) -> Iterator[Path]:
    for place, below, names in os.walk(folder):
        if Path(place) == folder and LOST in below:
            below.remove(LOST)  # root's, on a disk of its own
        for name in (*below, *names):
            yield Path(place) / name


def _named(paths: list[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(path.name for path in paths[:SHOWN]) + more


def disk(folder: Path) -> Iterator[Finding]:
    """Say how much room there is: a full disk takes no report and no release."""
    found = os.statvfs(folder)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{free / 2**30:.1f} of {whole / 2**30:.1f} GiB are free"
    if free < NO_BYTES:
        yield fail("disk", f"{text}: soon no report can be stored; make room, or move {folder} to a larger disk")
    elif free < min(LOW_BYTES, whole * LOW_SHARE):
        yield warn("disk", f"{text}; make room")
    else:
        yield ok("disk", text)
    if found.f_files and found.f_favail < NO_INODES:
        yield fail("disk", f"only {found.f_favail} inodes are free: no object can be stored; remove files")
    elif found.f_files and found.f_favail < found.f_files * LOW_SHARE:
        yield warn("disk", f"{found.f_favail} of {found.f_files} inodes are free; remove files")
