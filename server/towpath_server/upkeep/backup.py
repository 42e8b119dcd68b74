"""`backup`: everything that a server is, in one file that was read again.

Why it is consistent while the server runs: the database is copied as one snapshot first; objects are published before
the row that names them and are never changed or removed, so all that this snapshot names is there. Keys and the CA do
not change while a server runs.
Not handled here: the operator's and the publisher's folders (they belong on other machines), /etc/towpath.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from towpath import __version__
from towpath.errors import Broken, InputError
from towpath_server.options import LOCK
from towpath_server.storage.copying import copy_database, faults, revision, sync
from towpath_server.upkeep.archive import FORMAT, Head, unpack, writing
from towpath_server.upkeep.scratch import BACKUP, scratch

DATABASE = "towpath.db"
NEEDED = ("ca.pem", "ca.key")
FOLDERS = ("keys", "metadata", "objects")
SETTINGS = "server.toml"
# What the server makes again, or what was on its way, in its folder or beside the objects.
PASSING = frozenset({"incoming", "deltas", "arriving"})
# What a disk of its own has at its top.
LOST = "lost+found"

# How many bytes were done, of how many.
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Backup:
    """What was made. `left_out`: what lies in the folder and is no part of a server."""

    file: str
    bytes: int
    files: int
    schema: str
    made_unix_ms: int
    left_out: tuple[str, ...]


def back_up(folder: Path, out: Path, now_unix_ms: int, progress: Progress) -> Backup:
    """Write a backup of `folder` to the new file `out`; InputError, Broken: then there is no such file."""
    if not (folder / DATABASE).is_file():
        raise InputError(
            f"cannot back up {folder}: it has no {DATABASE}; --dir must be the folder of a server that ran once"
        )
    if out.exists() or out.is_symlink():
        raise InputError(f"cannot back up to {out}: it is there already; choose another name", code="exists")
    try:
        with scratch(out.parent, BACKUP) as part:
            copy, made = part / DATABASE, part / "backup.tar.zst"
            copy_database(folder / DATABASE, copy)
            _check(folder, copy)
            files = list(parts(folder))
            count = _write(made, copy, files, now_unix_ms, progress)
            unpack(made, None, lambda _: None)  # read it again: what cannot be read is no backup
            schema = revision(copy)
            made.rename(out)
            sync(out.parent)
        return Backup(str(out), out.stat().st_size, count, schema, now_unix_ms, tuple(strangers(folder)))
    except OSError as error:
        raise Broken(f"cannot back up {folder}: {error.filename or out}: {error.strerror or error}") from error


def _check(folder: Path, copy: Path) -> None:
    found = faults(copy)
    if found:
        raise Broken(
            f"cannot back up {folder}: its database is damaged ({found[0]}); keep your older backups, see "
            "'towpath server doctor'"
        )
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(f"cannot back up {folder}: it has no {missing[0]}; --dir must be a server's folder")


def _write(made: Path, copy: Path, files: list[tuple[str, Path]], now_unix_ms: int, progress: Progress) -> int:
    whole = copy.stat().st_size + sum(path.stat().st_size for _, path in files)
    done = 0

    def said(size: int) -> None:
        nonlocal done
        done += size
        progress(done, whole)

    with writing(made, Head(FORMAT, __version__, revision(copy), now_unix_ms), said) as archive:
        archive.add(DATABASE, copy)
        for name, path in files:
            archive.add(name, path)
    return len(files) + 1


def parts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file of a server but its database, with its name in the backup."""
    for name in (*NEEDED, SETTINGS):
        if (folder / name).is_file():
            yield name, folder / name
    for name in FOLDERS:
        top = folder / name
        for place, below, names in os.walk(top):
            below[:] = sorted(one for one in below if Path(place) != top or one not in PASSING)
            for one in sorted(names):
                path = Path(place) / one
                yield str(path.relative_to(folder)), path


def strangers(folder: Path) -> list[str]:
    """Return what lies in the folder and is not in a backup of it."""
    own = {*NEEDED, SETTINGS, *FOLDERS, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK, LOST, *PASSING}
    return sorted(path.name for path in folder.iterdir() if path.name not in own and not path.name.startswith("."))
