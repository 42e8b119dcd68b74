"""The agent's recovery record: what was intended, what runs, what failed, what is still to be reported.

SQLite with synchronous=FULL: a commit that returned survives a power cut. The state of a transaction is committed
BEFORE its action begins. An unreadable journal is set aside, not repaired: `runner.recovery` rebuilds what matters from
facts.
Not here: decisions (`engine`), trust floors (`runner.floors`: they must outlive a lost journal).
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from towpath.errors import Broken
from towpath.parameters import Value
from towpath.reports import AppState, Event, fit
from towpath.status import Health, State, Verdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.errors import DiskFull
from towpath_agent.system.files import absolute

SCHEMA_VERSION = 1
# Reports wait on disk for a server that is away; beyond this the oldest acknowledged ones go first, then the oldest.
MAX_EVENTS = 5_000
# SQLite would keep up to 2 MiB of pages for ever, and did so after some hundred deploys; the file is small and local.
_CACHE_KIB = 256

_SCHEMA = """
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


@dataclass(frozen=True, slots=True)
class Deployed:
    """A wish that is live, with the signed release bytes that say how to run, probe and stop it."""

    wish: Wish
    release: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """One attempt to move one app: from `old` (None: first install) to `wish` (empty digest: removal)."""

    id: str
    wish: Wish
    release: bytes
    old: Deployed | None
    state: State = State.PLANNED
    touched: bool = False  # the switch was begun: undoing means going back, not just tidying up
    attempts: int = 0
    tries: int = 0  # of an undo that does not succeed
    verdict: Verdict = Verdict.NONE
    reason: str = ""
    code: str = ""
    retry_after_s: float | None = None
    begun_unix_ms: int = 0
    confirmed_unix_ms: int = 0  # probation counts from here
    handed: bool = False  # the hook `handover` of the new release may have run: going back must run the old one's
    seal: str = ""  # the set that it moves with; "" before the first of the set switches
    mates: tuple[Wish, ...] = ()  # once it failed: what should have run of the apps that move with it

    @property
    def app(self) -> str:
        """Return the app that moves."""
        return self.wish.app


def _wish_to_json(wish: Wish) -> dict[str, object]:
    return {
        "app": wish.app,
        "sha256": wish.sha256.hex(),
        "version": wish.version,
        "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in wish.parameters.items()},
        "generation": wish.generation,
        "slot": wish.slot,
    }


def _parameters(raw: Mapping[str, object]) -> dict[str, Value]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}  # type: ignore[misc]


def wish_to_text(wish: Wish) -> str:
    """Return `wish` as JSON text."""
    return json.dumps(_wish_to_json(wish), sort_keys=True)


def wish_from_text(text: str) -> Wish:
    """Return the wish in JSON text that `wish_to_text` wrote."""
    raw = json.loads(text)
    return Wish(
        app=raw["app"],
        sha256=bytes.fromhex(raw["sha256"]),
        version=raw["version"],
        parameters=_parameters(raw["parameters"]),
        generation=raw["generation"],
        slot=raw.get("slot", 0),  # journals and records of the first version have none
    )


def _wishes(raw: Mapping[str, list[str]]) -> tuple[Wish, ...]:
    """Return the wishes of a set; a journal that was written before there were sets has none."""
    return tuple(wish_from_text(text) for text in raw.get("mates", ()))


_BODY_FIELDS = (
    "touched",
    "attempts",
    "tries",
    "verdict",
    "reason",
    "code",
    "retry_after_s",
    "confirmed_unix_ms",
    "handed",
)


class Journal:
    """All reads and writes of state.db. One writer (the agent); readers open it read-only."""

    def __init__(self, connection: sqlite3.Connection, *, readonly: bool = False) -> None:
        """Wrap an open connection; use `open_journal` or `open_readonly`."""
        self._db = connection
        # What was read since the last commit: the loop asks the same at each tick, and mostly nothing changed.
        self._seen: dict[tuple[str, tuple[object, ...]], list[tuple[str, ...]]] = {}
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
            if _primary(error) == sqlite3.SQLITE_FULL:
                raise DiskFull(f"cannot write the journal: {error}; free some space, it will be tried again") from error
            raise Broken(f"cannot write the journal: {error}", code="journal") from error
        finally:
            cursor.close()
            self._seen.clear()
            if self._db.in_transaction:  # whatever it was that came between: all of it, or nothing
                self._db.rollback()

    def _all(self, query: str, values: Sequence[object] = ()) -> list[tuple[str, ...]]:
        key = (query, tuple(values))
        rows = self._seen.get(key)
        if rows is None:
            try:
                rows = self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise Broken(f"cannot read the journal: {error}", code=_code_of(error)) from error
            if not self._readonly:  # there another process writes
                self._seen[key] = rows
        return rows

    # -- small facts

    def meta(self) -> dict[str, str]:
        """Return every small fact: state_revision, generation of the desired set, and so on."""
        return dict(self._all("SELECT key, value FROM meta"))  # type: ignore[arg-type]

    def set_meta(self, **values: str) -> None:
        """Store small facts."""
        with self._commit() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    # -- what should run, what runs

    def desired(self) -> list[Deployed] | None:
        """Return the last accepted desired set, or None where none was ever accepted."""
        if "desired" not in self.meta():
            return None
        rows = self._all("SELECT wish, release FROM desired ORDER BY app")
        return [Deployed(wish_from_text(wish), bytes(release)) for wish, release in rows]  # type: ignore[arg-type]

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
        rows = self._all("SELECT app, wish, release FROM deployed WHERE slot = ?", (slot,))
        return {app: Deployed(wish_from_text(wish), bytes(release)) for app, wish, release in rows}  # type: ignore[arg-type]

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
        rows = self._all(
            "SELECT id, state, body, release, old_release, begun_unix_ms FROM txn ORDER BY begun_unix_ms, id"
        )
        return [self._transaction(row) for row in rows]

    @staticmethod
    def _transaction(row: tuple[str, ...]) -> Transaction:
        tx_id, state, body, release, old_release, begun = row
        raw = json.loads(body)
        old = raw.pop("old")
        wish = wish_from_text(raw.pop("wish"))
        raw["mates"] = _wishes(raw)
        raw["verdict"] = Verdict(raw["verdict"])
        return Transaction(
            id=tx_id,
            wish=wish,
            release=bytes(release),  # type: ignore[arg-type]
            old=None if old is None else Deployed(wish_from_text(old), bytes(old_release)),  # type: ignore[arg-type]
            state=State(state),
            begun_unix_ms=int(begun),
            **raw,
        )

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
        body = {name: getattr(tx, name) for name in _BODY_FIELDS}
        body["old"] = None if tx.old is None else wish_to_text(tx.old.wish)
        body["wish"] = wish_to_text(tx.wish)
        body["seal"] = tx.seal
        body["mates"] = [wish_to_text(wish) for wish in tx.mates]
        old_release = b"" if tx.old is None else tx.old.release
        cursor.execute(
            "INSERT OR REPLACE INTO txn VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                tx.id,
                tx.app,
                tx.state.value,
                json.dumps(body, sort_keys=True),
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
        result = {}
        for app, body in self._all("SELECT app, body FROM failure"):
            raw = json.loads(body)
            wish = wish_from_text(raw["wish"])
            mates = _wishes(raw)
            result[app] = Failure(wish, raw["reason"], Verdict(raw["verdict"]), raw["retry_unix_ms"], mates)
        return result

    def remember_failure(self, failure: Failure) -> None:
        """Remember a failure across restarts; the newest of an app counts."""
        body = {
            "wish": wish_to_text(failure.wish),
            "reason": failure.reason,
            "verdict": failure.verdict.value,
            "retry_unix_ms": failure.retry_unix_ms,
            "mates": [wish_to_text(wish) for wish in failure.mates],
        }
        with self._commit() as cursor:
            cursor.execute("INSERT OR REPLACE INTO failure VALUES (?, ?)", (failure.wish.app, json.dumps(body)))

    def forget_failure(self, app: str) -> None:
        """Forget that something of `app` failed: somebody said to try it again."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM failure WHERE app = ?", (app,))

    # -- what is reported

    def app_states(self) -> list[AppState]:
        """Return the last known state of every app, by name."""
        return [_app_state(json.loads(body)) for (body,) in self._all("SELECT body FROM app_state ORDER BY app")]

    def set_app_states(self, states: Sequence[AppState], revision: int) -> None:
        """Replace the whole state and its revision as one."""
        with self._commit() as cursor:
            cursor.execute("DELETE FROM app_state")
            cursor.executemany(
                "INSERT INTO app_state VALUES (?, ?)", [(s.app, json.dumps(_app_state_to_json(s))) for s in states]
            )
            cursor.execute("INSERT OR REPLACE INTO meta VALUES ('state_revision', ?)", (str(revision),))

    def add_event(self, event: Event) -> None:
        """Keep an event until the server acknowledges it, and as history after."""
        with self._commit() as cursor:
            self._put_event(cursor, event)

    @staticmethod
    def _put_event(cursor: sqlite3.Cursor, event: Event) -> None:
        event = fit(event)
        raw = {f.name: getattr(event, f.name) for f in fields(event)}
        raw["release_sha256"] = event.release_sha256.hex()
        cursor.execute("INSERT OR IGNORE INTO event (id, body) VALUES (?, ?)", (event.id, json.dumps(raw)))
        cursor.execute(
            "DELETE FROM event WHERE number IN (SELECT number FROM event ORDER BY acknowledged, number DESC"
            " LIMIT -1 OFFSET ?)",
            (MAX_EVENTS,),
        )

    def events(self, limit: int = 200) -> list[Event]:
        """Return the newest `limit` events, oldest of them first."""
        rows = self._all("SELECT body FROM event ORDER BY number DESC LIMIT ?", (limit,))
        return [_event(body) for (body,) in reversed(rows)]

    def outbox(self, limit: int) -> list[Event]:
        """Return the oldest `limit` events that no server has acknowledged."""
        rows = self._all("SELECT body FROM event WHERE acknowledged = 0 ORDER BY number LIMIT ?", (limit,))
        return [_event(body) for (body,) in rows]

    def acknowledge(self, ids: Sequence[str]) -> None:
        """Mark events as committed by the server."""
        with self._commit() as cursor:
            cursor.executemany("UPDATE event SET acknowledged = 1 WHERE id = ?", [(i,) for i in ids])


def _event(body: str) -> Event:
    raw = json.loads(body)
    raw["release_sha256"] = bytes.fromhex(raw["release_sha256"])
    return Event(**raw)


_DIGESTS = ("current_sha256", "desired_sha256")


def _app_state_to_json(state: AppState) -> dict[str, object]:
    raw: dict[str, object] = {f.name: getattr(state, f.name) for f in fields(state)}
    for name in _DIGESTS:
        raw[name] = getattr(state, name).hex()
    raw["parameters"] = {k: list(v) if isinstance(v, tuple) else v for k, v in state.parameters.items()}
    return raw


def _app_state(raw: dict[str, object]) -> AppState:
    state = AppState(**raw)  # type: ignore[arg-type]
    return replace(
        state,
        current_sha256=bytes.fromhex(str(raw["current_sha256"])),
        desired_sha256=bytes.fromhex(str(raw["desired_sha256"])),
        state=State(state.state),
        health=Health(state.health),
        verdict=Verdict(state.verdict),
        parameters=_parameters(state.parameters),
    )


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
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        _check_version(path, version or SCHEMA_VERSION)
        if version != 0:
            _check_content(path, db)
    except sqlite3.Error as error:
        db.close()
        raise Broken(f"cannot use the journal {path}: {error}", code=_code_of(error)) from error
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
        if _primary(error) != sqlite3.SQLITE_READONLY:
            return db  # what is wrong is said by the first that reads
        db.close()
        db = _connect(path, f"{uri}?mode=rw", uri=True)
        db.execute("PRAGMA query_only=ON")
    return db


def _check_version(path: Path, version: int) -> None:
    if version != SCHEMA_VERSION:
        raise Broken(
            f"cannot use the journal {path}: schema {version}, this agent knows {SCHEMA_VERSION}", code="journal"
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
            _event(body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


# Bytes that are no database, or tables that are missing; every other trouble is the machine's, not the file's.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)


def _code_of(error: sqlite3.Error) -> str:
    return "journal-damaged" if _primary(error) in _DAMAGED else "journal"


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF
