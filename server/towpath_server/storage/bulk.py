"""Rows that a tick reads by the thousand, made into dataclasses straight from what the driver gives.

SQLAlchemy makes the query; its rows, which know their columns by name, would cost half of a tick.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import JSON, Boolean, Connection, Select, Table, select

from towpath.holds import Hold
from towpath.reports import AppState, Prefetch, PrefetchState, Transfer
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import Host, HostStatus, ReportedApp
from towpath_server.storage import schema

T = TypeVar("T")
Convert = Callable[[Any], object]


def from_json(text: str) -> Any:
    """Return what a JSON column holds. Most are empty, and a tick reads thousands of them."""
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


def _by_type(column: Any) -> Convert | None:
    return from_json if isinstance(column.type, JSON) else bool if isinstance(column.type, Boolean) else None


class Reader(Generic[T]):
    """Reads rows of `table` as `kind`, whose fields are columns; `how` converts what the driver gives for a field.

    `first` are columns that are not fields; they come before the object.
    """

    def __init__(self, kind: type[T], table: Table, first: tuple[str, ...] = (), **how: Convert) -> None:
        names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
        self.table = table
        self._kind = kind
        self._first = len(first)
        self._columns = [table.c[name] for name in (*first, *names)]
        converts = [(at, how.get(name) or _by_type(table.c[name])) for at, name in enumerate(names)]
        self._converts = [(at, convert) for at, convert in converts if convert is not None]

    def query(self) -> Select[Any]:
        """Return a query of all rows, to be narrowed."""
        return select(*self._columns)

    def rows(self, connection: Connection, query: Select[Any]) -> Iterator[tuple[tuple[Any, ...], T]]:
        """Yield for each row of `query` its first columns and its object."""
        result = connection.execute(query)
        given = cast("Any", result.cursor).fetchall()  # a query has a cursor
        result.close()
        number, converts, kind = self._first, self._converts, self._kind
        for row in given:
            values = list(row[number:])
            for at, convert in converts:
                values[at] = convert(values[at])
            yield row[:number], kind(*values)


def _holds(text: str) -> tuple[Hold, ...]:
    return tuple(Hold(**one) for one in json.loads(text)) if text != "[]" else ()


def _parameters(text: str) -> Mapping[str, object]:
    if text == "{}":
        return {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}


def _prefetch(text: str | None) -> Prefetch | None:
    if text is None:
        return None
    known = json.loads(text)
    return Prefetch(known["version"], bytes.fromhex(known["sha256"]), PrefetchState(known["state"]), known["reason"])


def _transfer(text: str | None) -> Transfer | None:
    return Transfer(**json.loads(text)) if text is not None else None


# By what the column holds: to call an enum costs more than the rest of a field.
_HOSTS = Reader(Host, schema.hosts, status={str(one): one for one in HostStatus}.__getitem__, holds=_holds)
_STATES = Reader(
    AppState,
    schema.app_states,
    ("host_id", "progress_unix_ms"),
    state={str(one): one for one in State}.__getitem__,
    health={str(one): one for one in Health}.__getitem__,
    verdict={str(one): one for one in Verdict}.__getitem__,
    parameters=_parameters,
    prefetch=_prefetch,
    transfer=_transfer,
)


def select_hosts() -> Select[Any]:
    """Return a query of hosts, to be narrowed for `hosts`."""
    return _HOSTS.query()


def hosts(connection: Connection, query: Select[Any]) -> Iterator[Host]:
    """Yield the hosts of a narrowed `select_hosts`."""
    return (host for _, host in _HOSTS.rows(connection, query))


def select_states() -> Select[Any]:
    """Return a query of what hosts reported, to be narrowed for `states`."""
    return _STATES.query()


def states(connection: Connection, query: Select[Any]) -> Iterator[ReportedApp]:
    """Yield what hosts reported, of a narrowed `select_states`."""
    return (ReportedApp(host_id, state, at) for (host_id, at), state in _STATES.rows(connection, query))
