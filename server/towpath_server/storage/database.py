"""Rows in SQLite: the connection, its durability, its schema version, and transactions.

Rules:
- WAL with synchronous FULL: what was committed survives a power cut, so a report may be acknowledged after the commit.
- Every transaction begins IMMEDIATE: a read that decides and the write that follows are one, and two writers cannot
  both read first.
- The schema is brought to its newest version at opening (Alembic, inside the package), after a copy of the older one
  was made beside it (`towpath.db.schema-0005`): that is what there is to go back to. A database of a newer Towpath is
  refused, not touched.
Used from one thread at a time; the server runs it in one of its own.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from towpath.errors import Broken
from towpath_server.options import give_to_owner
from towpath_server.ports import Transaction
from towpath_server.storage.bulk import from_json
from towpath_server.storage.copying import BUSY_TIMEOUT_S, copy_database, revision, sync
from towpath_server.storage.rows import SqlTransaction

MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(path: Path) -> Engine:
    """Return an engine on the database file at `path`, with our durability and transactions."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        json_deserializer=from_json,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin by itself, late and deferred
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _scripts() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to `revision`; CommandError where the database is of a revision that is not known here."""
    config = _scripts()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def head_revision() -> str:
    """Return the newest revision of the schema."""
    return ScriptDirectory.from_config(_scripts()).get_current_head() or ""


def known_revisions() -> set[str]:
    """Return every revision that this Towpath can read."""
    return {one.revision for one in ScriptDirectory.from_config(_scripts()).walk_revisions()}


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An older database was brought to this schema: from which revision, and where the copy of it is."""

    before: str
    after: str
    copy: Path


def _keep_copy(path: Path) -> Upgrade | None:
    """Copy a database of an older schema before it is changed; return what is about to happen."""
    before, after = revision(path) if path.exists() else "", head_revision()
    if before in ("", after) or before not in known_revisions():
        return None
    copy = path.with_name(f"{path.name}.schema-{before}")
    temporary = copy.with_name(f".{copy.name}.part")
    temporary.unlink(missing_ok=True)
    copy_database(path, temporary)
    give_to_owner(temporary)
    temporary.replace(copy)
    sync(path.parent)
    return Upgrade(before, after, copy)


@contextmanager
def looking(path: Path) -> Iterator[Transaction]:
    """Yield a transaction that only looks at a database of this schema, whoever writes to it meanwhile."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        ),
        json_deserializer=from_json,
    )
    try:
        with engine.connect() as connection:
            yield SqlTransaction(connection)
    except DBAPIError as error:
        raise Broken(f"cannot read {path}: {error.orig}; put back a backup of it") from error
    finally:
        engine.dispose()


class SqlStorage:
    """`ports.Storage` on one SQLite file. `upgraded`: what opening it changed, None for nothing."""

    def __init__(self, path: Path) -> None:
        """Open (and where needed create or upgrade) the database; Broken where it cannot be used."""
        self._path = path
        if not path.exists() and path.parent.is_dir():
            path.touch(0o600)  # its side files get the mode that it has when they are made
        self.upgraded = _keep_copy(path)
        self._engine = open_engine(path)
        try:
            migrate(self._engine)
        except CommandError as error:
            self._engine.dispose()
            raise Broken(f"cannot open {path}: {error}; a newer Towpath wrote it, run that one") from error
        except DBAPIError as error:
            self._engine.dispose()
            raise Broken(f"cannot open {path}: {error.orig}; put back a backup of it") from error
        path.chmod(0o600)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `ports.Storage`."""
        try:
            with self._engine.begin() as connection:
                yield SqlTransaction(connection)
        except DBAPIError as error:
            raise Broken(f"cannot use {self._path}: {error.orig}") from error

    def close(self) -> None:
        """See `ports.Storage`."""
        self._engine.dispose()
