"""Rows in SQLite: the connection, its durability, its schema version, and transactions.

Rules:
- WAL with synchronous FULL: what was committed survives a power cut, so a report may be acknowledged after the commit.
- Every transaction begins IMMEDIATE: a read that decides and the write that follows are one, and two writers cannot
  both read first.
- The schema is brought to its newest version at opening (Alembic, inside the package); a database of a newer Towpath is
  refused, not touched.
Used from one thread at a time; the server runs it in one of its own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from towpath.errors import Broken
from towpath_server.ports import Transaction
from towpath_server.storage.rows import SqlTransaction

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10


def _from_json(text: str) -> Any:
    """Return what a JSON column holds. Most are empty, and a tick reads thousands of them."""
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


def open_engine(path: Path) -> Engine:
    """Return an engine on the database file at `path`, with our durability and transactions."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        json_deserializer=_from_json,
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


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to `revision`; CommandError where the database is of a revision that is not known here."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def head_revision() -> str | None:
    """Return the newest revision of the schema."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config).get_current_head()


class SqlStorage:
    """`ports.Storage` on one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open (and where needed create or upgrade) the database; Broken where it cannot be used."""
        self._path = path
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
