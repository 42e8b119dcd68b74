# ruff: noqa: D102 - the promises are those of ports.Transaction
"""What queries stand on: one connection, numbers, and which hosts and rules a transaction changed."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from towpath.errors import InputError
from towpath_server.storage import records, schema

_CHANGE = "change"
_RULES = "rules"


def among(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Return that `column` is one of `values`, however many: as one parameter, where a list of them costs by each."""
    listed = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(listed.c.value))


class Rows:
    """One transaction on one connection: what every query stands on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._change = 0
        self._ruled = False

    def _touched(self, host_ids: Iterable[str]) -> None:
        """Mark hosts as changed just now."""
        change = self._this_change()
        self._connection.execute(update(schema.hosts).where(among(schema.hosts.c.id, host_ids)).values(change=change))

    def _this_change(self) -> int:
        if not self._change:
            self._change = self.number(_CHANGE) + 1
            self.put_number(_CHANGE, self._change)
        return self._change

    def _rules_changed(self) -> None:
        if not self._ruled:
            self._ruled = True
            self.put_number(_RULES, self.number(_RULES) + 1)

    def _one(self, query: Select[Any]) -> Row[Any] | None:
        return self._connection.execute(query).first()

    def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._connection.execute(query).all()

    def _add(self, table: Table, row: object, what: str, **more: int) -> None:
        try:
            self._connection.execute(insert(table).values({**records.columns(row), **more}))
        except IntegrityError as error:
            raise InputError(f"cannot add {what}: it is there already", code="exists") from error

    def _of(self, table: Table, column: str, ids: Collection[str]) -> Sequence[Row[Any]]:
        return self._all(select(table).where(among(table.c[column], ids)))

    # Who has read a number is told of what comes after it, also of what the same transaction does: the next one is new.

    def change(self) -> int:
        self._change = 0
        return self.number(_CHANGE)

    def rules(self) -> int:
        self._ruled = False
        return self.number(_RULES)

    def number(self, name: str) -> int:
        row = self._one(select(func.max(schema.numbers.c.value).label("value")).where(schema.numbers.c.name == name))
        return int(row.value) if row is not None and row.value is not None else 0

    def put_number(self, name: str, value: int) -> None:
        statement = sqlite_insert(schema.numbers).values(name=name, value=value)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
