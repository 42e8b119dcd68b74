"""A consistent copy of the database file, while a server writes to the original or with nobody there.

SQLite's own online backup, in one step: under WAL that is one snapshot, and writers go on meanwhile. The copy is 0600
from its first byte, whole in itself (no side files) and durable on return.
Also here: is a database file whole, and of which schema? Both only look.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from towpath.errors import Broken

BUSY_TIMEOUT_S = 10
MAX_FAULTS = 3


def sync(path: Path) -> None:
    """Make a file or folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to look at it; Broken where it is none or cannot be read."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Broken(f"cannot open {path}: {error}; put back a backup of it") from error


def copy_database(source: Path, target: Path) -> None:
    """Make `target` a copy of `source` as it is now; Broken, and then there is no `target`."""
    with reading(source) as connection:
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(sqlite3.connect(target)) as copy:
                connection.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE").close()
            sync(target)
        except (sqlite3.Error, OSError) as error:
            target.unlink(missing_ok=True)
            raise Broken(f"cannot copy {source} to {target}: {error}; is there room for it?") from error


def faults(path: Path) -> list[str]:
    """Return what SQLite's integrity check finds, a few lines at most; Broken where it cannot even look."""
    with reading(path) as connection:
        rows = connection.execute(f"PRAGMA integrity_check({MAX_FAULTS})").fetchall()
    return [" ".join(str(text).split()) for (text,) in rows if text != "ok"]


def revision(path: Path) -> str:
    """Return the revision of the schema in a database file, an empty text where it has none."""
    with reading(path) as connection:
        named = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if named else None
    return str(row[0]) if row else ""
