"""The tables of state.db, and every read and write of them. Every write is one commit.

Not here: opening and checking the file (`journal.opening`), what the texts in it look like (`journal.texts`).
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from towpath.errors import Broken
from towpath.reports import AppState, Event
from towpath_agent.engine.planning import Failure
from towpath_agent.errors import DiskFull
from towpath_agent.journal.records import Deployed, Transaction
from towpath_agent.journal.texts import (
    app_state_from_text,
    app_state_to_text,
    event_from_text,
    event_to_text,
    failure_from_text,
    failure_to_text,
    transaction_from_text,
    transaction_to_text,
    wish_from_text,
    wish_to_text,
)

Row = tuple[Any, ...]
T = TypeVar("T")
SCHEMA_VERSION = 1
# Reports wait on disk for a server that is away; beyond this the oldest acknowledged ones go first, then the oldest.
MAX_EVENTS = 5_000

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE desired (app TEXT PRIMARY KEY, wish TEXT NOT NULL, release BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE deployed (
    app TEXT NOT NULL, slot TEXT NOT NULL CHECK (slot IN ('current', 'previous')),
    wish TEXT NOT NULL, release BLOB NOT NULL, PRIMARY KEY (app, slot)
) WITHOUT ROWID;
CREATE TABLE txn (
    id TEXT PRIMARY KEY, app TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL,
    release BLOB NOT NULL, old_release BLOB NOT NULL, begun_unix_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE failure (app TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE app_state (app TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0
);
"""


class Journal:
    """All reads and writes of state.db. One writer (the agent); readers open it read-only."""

    def __init__(self, connection: sqlite3.Connection, *, readonly: bool = False) -> None:
        """Wrap an open connection; use `open_journal` or `open_readonly`."""
        self._db = connection
        # What was read since the last commit: the loop asks the same at each tick, and mostly nothing changed. What is
        # kept is frozen, and who asks gets a list or a dict of its own.
        self._seen: dict[tuple[str, tuple[object, ...]], tuple[Any, ...]] = {}
        self._readonly = readonly

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Cursor]:
        self._seen.clear()
        cursor = self._db.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            yield cursor
            cursor.execute("COMMIT")
        except sqlite3.Error as error:
            if primary(error) == sqlite3.SQLITE_FULL:
                raise DiskFull(f"cannot write the journal: {error}; free some space, it will be tried again") from error
            raise Broken(f"cannot write the journal: {error}", code="journal") from error
        finally:
            cursor.close()
            self._seen.clear()
            if self._db.in_transaction:  # whatever it was that came between: all of it, or nothing
                self._db.rollback()

    def _all(self, read: Callable[[Row], T], query: str, values: Sequence[object] = ()) -> tuple[T, ...]:
        """Return what `read` makes of each row; one query is always read by the same function."""
        key = (query, tuple(values))
        found = self._seen.get(key)
        if found is None:
            try:
                rows = self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise Broken(f"cannot read the journal: {error}", code=code_of(error)) from error
            found = tuple(map(read, rows))
            if not self._readonly:  # there another process writes
                self._seen[key] = found
        return found

    # -- small facts

    def meta(self) -> dict[str, str]:
        """Return every small fact: state_revision, generation of the desired set, and so on."""
        return dict(self._all(_pair, "SELECT key, value FROM meta"))

    def set_meta(self, **values: str) -> None:
        """Store small facts."""
        with self._commit() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    # -- what should run, what runs

    def desired(self) -> list[Deployed] | None:
        """Return the last accepted desired set, or None where none was ever accepted."""
        if "desired" not in self.meta():
            return None
        return list(self._all(_deployed, "SELECT wish, release FROM desired ORDER BY app"))

    def set_desired(self, apps: Sequence[Deployed], fingerprint: str) -> None:
        """Replace the desired set as one; `fingerprint` tells whether a later manifest says the same."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM desired")
            cursor.executemany(
                "INSERT INTO desired VALUES (?, ?, ?)",
                [(app.wish.app, wish_to_text(app.wish), app.release) for app in apps],
            )
            cursor.execute("INSERT OR REPLACE INTO meta VALUES ('desired', ?)", (fingerprint,))

    def deployed(self, slot: str) -> dict[str, Deployed]:
        """Return app to what stands in slot 'current' or 'previous'."""
        query = "SELECT wish, release, app FROM deployed WHERE slot = ?"
        return dict(self._all(lambda row: (row[2], _deployed(row)), query, (slot,)))

    def set_current(self, app: str, current: Deployed | None, previous: Deployed | None) -> None:
        """Record what is live and what is kept to return to, as one."""
        with self._commit() as cursor:
            self._put_deployed(cursor, app, current, previous)

    @staticmethod
    def _put_deployed(cursor: sqlite3.Cursor, app: str, current: Deployed | None, previous: Deployed | None) -> None:
        cursor.execute("DELETE FROM deployed WHERE app = ?", (app,))
        for slot, it in (("current", current), ("previous", previous)):
            if it is not None:
                cursor.execute(
                    "INSERT INTO deployed VALUES (?, ?, ?, ?)", (app, slot, wish_to_text(it.wish), it.release)
                )

    # -- transactions

    def transactions(self) -> list[Transaction]:
        """Return every transaction that is still kept, oldest first."""
        query = "SELECT id, state, body, release, old_release, begun_unix_ms FROM txn ORDER BY begun_unix_ms, id"
        return list(self._all(_transaction, query))

    def put_transaction(self, tx: Transaction, event: Event | None = None) -> None:
        """Commit the state of `tx`, and the event that tells of it, as one."""
        self.put_transactions([(tx, event)])

    def put_transactions(self, pairs: Sequence[tuple[Transaction, Event | None]]) -> None:
        """Commit the states of several transactions, and the events that tell of them, as one."""
        with self._commit() as cursor:
            for tx, event in pairs:
                self._put_transaction(cursor, tx)
                if event is not None:
                    self._put_event(cursor, event)

    @staticmethod
    def _put_transaction(cursor: sqlite3.Cursor, tx: Transaction) -> None:
        old_release = b"" if tx.old is None else tx.old.release
        cursor.execute(
            "INSERT OR REPLACE INTO txn VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                tx.id,
                tx.app,
                tx.state.value,
                transaction_to_text(tx),
                tx.release,
                old_release,
                tx.begun_unix_ms,
            ),
        )

    def confirm(self, tx: Transaction, event: Event, *mates: tuple[Transaction, Event]) -> None:
        """Commit that `tx` is confirmed, with its whole set: each new current and previous, and the events, as one."""
        kept = self.deployed("previous")
        with self._commit() as cursor:
            for it, its_event in ((tx, event), *mates):
                new = Deployed(it.wish, it.release) if it.wish.sha256 else None
                same_bits = it.old is not None and it.old.wish.sha256 == it.wish.sha256
                previous = kept.get(it.app) if same_bits else it.old
                self._put_transaction(cursor, it)
                self._put_event(cursor, its_event)
                self._put_deployed(cursor, it.app, new, previous if new is not None else None)
                cursor.execute("DELETE FROM failure WHERE app = ?", (it.app,))

    def revert(self, tx: Transaction, event: Event, previous: Deployed | None) -> None:
        """Commit that `tx` is reverted: what stood before is current again, and the event, as one."""
        with self._commit() as cursor:
            self._put_transaction(cursor, tx)
            self._put_event(cursor, event)
            self._put_deployed(cursor, tx.app, tx.old, previous if tx.old is not None else None)

    def drop_transaction(self, tx_id: str) -> None:
        """Forget a transaction that ended and was cleaned up; its events stay as history."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM txn WHERE id = ?", (tx_id,))

    # -- failure memory

    def failures(self) -> dict[str, Failure]:
        """Return app to the failure that is remembered of it."""
        return dict(self._all(lambda row: (row[0], failure_from_text(row[1])), "SELECT app, body FROM failure"))

    def remember_failure(self, failure: Failure) -> None:
        """Remember a failure across restarts; the newest of an app counts."""
        values = (failure.wish.app, failure_to_text(failure))
        with self._commit() as cursor:
            cursor.execute("INSERT OR REPLACE INTO failure VALUES (?, ?)", values)

    def forget_failure(self, app: str) -> None:
        """Forget that something of `app` failed: somebody said to try it again."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM failure WHERE app = ?", (app,))

    # -- what is reported

    def app_states(self) -> list[AppState]:
        """Return the last known state of every app, by name."""
        return list(self._all(lambda row: app_state_from_text(row[0]), "SELECT body FROM app_state ORDER BY app"))

    def set_app_states(self, states: Sequence[AppState], revision: int) -> None:
        """Replace the whole state and its revision as one."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM app_state")
            cursor.executemany("INSERT INTO app_state VALUES (?, ?)", [(s.app, app_state_to_text(s)) for s in states])
            cursor.execute("INSERT OR REPLACE INTO meta VALUES ('state_revision', ?)", (str(revision),))

    def add_event(self, event: Event) -> None:
        """Keep an event until the server acknowledges it, and as history after."""
        with self._commit() as cursor:
            self._put_event(cursor, event)

    @staticmethod
    def _put_event(cursor: sqlite3.Cursor, event: Event) -> None:
        cursor.execute("INSERT OR IGNORE INTO event (id, body) VALUES (?, ?)", (event.id, event_to_text(event)))
        cursor.execute(
            "DELETE FROM event WHERE number IN (SELECT number FROM event ORDER BY acknowledged, number DESC"
            " LIMIT -1 OFFSET ?)",
            (MAX_EVENTS,),
        )

    def events(self, limit: int = 200) -> list[Event]:
        """Return the newest `limit` events, oldest of them first."""
        return list(reversed(self._all(_event, "SELECT body FROM event ORDER BY number DESC LIMIT ?", (limit,))))

    def outbox(self, limit: int) -> list[Event]:
        """Return the oldest `limit` events that no server has acknowledged."""
        query = "SELECT body FROM event WHERE acknowledged = 0 ORDER BY number LIMIT ?"
        return list(self._all(_event, query, (limit,)))

    def acknowledge(self, ids: Sequence[str]) -> None:
        """Mark events as committed by the server."""
        with self._commit() as cursor:
            cursor.executemany("UPDATE event SET acknowledged = 1 WHERE id = ?", [(i,) for i in ids])


def _pair(row: Row) -> tuple[str, str]:
    key, value = row
    return key, value


def _deployed(row: Row) -> Deployed:
    return Deployed(wish_from_text(row[0]), bytes(row[1]))


def _transaction(row: Row) -> Transaction:
    tx_id, state, body, release, old_release, begun = row
    return transaction_from_text(tx_id, state, body, (bytes(release), bytes(old_release)), int(begun))


def _event(row: Row) -> Event:
    return event_from_text(row[0])


# Bytes that are no database, or tables that are missing; every other trouble is the machine's, not the file's.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)


def code_of(error: sqlite3.Error) -> str:
    """Return the code of what could not be read: damaged only where what the file holds is at fault."""
    return "journal-damaged" if primary(error) in _DAMAGED else "journal"


def primary(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
