"""Opening state.db, for writing and for reading beside a running agent, and finding what is wrong with it.

Not here: what to do with a damaged one (`runner.recovery` sets it aside and rebuilds from facts).
"""

import sqlite3
from pathlib import Path

from towpath.errors import Broken
from towpath_agent.journal.tables import SCHEMA, SCHEMA_VERSION, Journal, code_of, primary
from towpath_agent.journal.texts import event_from_text
from towpath_agent.system.files import absolute

# SQLite would keep up to 2 MiB of pages for ever, and did so after some hundred deploys; the file is small and local.
_CACHE_KIB = 256
# The code of a journal that is sound, but was written by another version of the agent.
OTHER_SCHEMA = "journal-schema"


def open_journal(path: Path) -> Journal:
    """Open or create the journal for writing; Broken where that cannot be.

    Its code is `journal-damaged` only where what the file holds is unreadable: the caller sets it aside. A journal that
    cannot be reached (locked, no right, disk full) or that another version wrote is sound, and left as it is.
    """
    db = _connect(path, str(path), check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=TRUNCATE")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        _check_version(path, version or SCHEMA_VERSION)
        if version != 0:
            _check_content(path, db)
    except sqlite3.Error as error:
        db.close()
        raise Broken(f"cannot use the journal {path}: {error}", code=code_of(error)) from error
    except UnicodeDecodeError as error:  # sqlite3, where a message would quote spoiled names
        db.close()
        raise Broken(f"cannot use the journal {path}: it is damaged", code="journal-damaged") from error
    except Broken:
        db.close()
        raise
    return Journal(db)


def open_readonly(path: Path) -> Journal:
    """Open the journal for reading beside a running agent; Broken where there is none."""
    db = _connect_readonly(path)
    try:
        db.execute("SELECT 1 FROM meta LIMIT 1")
        _check_version(path, db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        db.close()
        raise Broken(f"cannot read the journal {path}: {error}; has the agent run here?", code="journal") from error
    except Broken:
        db.close()
        raise
    return Journal(db, readonly=True)


def trouble_in(path: Path) -> str:
    """Return what is wrong with the journal at `path`, read beside a running agent; empty where all of it is sound."""
    db = _connect_readonly(path)
    try:
        _check_version(path, db.execute("PRAGMA user_version").fetchone()[0])
        _check_content(path, db)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    except Broken as error:
        return str(error)
    finally:
        db.close()
    return ""


def _connect(path: Path, database: str, *, uri: bool = False, check_same_thread: bool = True) -> sqlite3.Connection:
    try:
        return sqlite3.connect(database, uri=uri, isolation_level=None, timeout=10, check_same_thread=check_same_thread)
    except sqlite3.Error as error:
        raise Broken(f"cannot open the journal {path}: {error}; has the agent run here?", code="journal") from error


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Connect so that nothing can be written.

    An agent that was killed within a commit leaves half of it in the file. SQLite undoes that at the next read, which
    only a writer may: only then, and only for that, the file is opened for writing.
    """
    uri = absolute(path).as_uri()
    db = _connect(path, f"{uri}?mode=ro", uri=True)
    try:
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except sqlite3.Error as error:
        if primary(error) != sqlite3.SQLITE_READONLY:
            return db  # what is wrong is said by the first that reads
        db.close()
        db = _connect(path, f"{uri}?mode=rw", uri=True)
        db.execute("PRAGMA query_only=ON")
    return db


def _check_version(path: Path, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise Broken(
            f"cannot use the journal {path}: schema {version}, this agent knows {SCHEMA_VERSION}",
            code=OTHER_SCHEMA,
        )


def _check_content(path: Path, db: sqlite3.Connection) -> None:
    """Read everything once: SQLite's own check sees torn pages, not a flipped bit inside a text."""
    trouble = db.execute("PRAGMA quick_check").fetchone()[0]
    if trouble == "ok":
        trouble = _unreadable(db)
    if trouble:
        raise Broken(f"cannot use the journal {path}: it is damaged ({trouble})", code="journal-damaged")


def _unreadable(db: sqlite3.Connection) -> str:
    """Return what cannot be read as what it should be, or nothing."""
    journal = Journal(db)
    try:
        int(journal.meta().get("state_revision", "0"))
        for read in (journal.desired, journal.transactions, journal.failures, journal.app_states):
            read()
        for slot in ("current", "previous"):
            journal.deployed(slot)
        for (body,) in db.execute("SELECT body FROM event"):
            event_from_text(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""
