# ruff: noqa: D102 - the promises are those of ports.Transaction
"""Queries about rollouts: assignments, who was let in or sent back, and when nobody moves. See `storage.rows`."""

from collections.abc import Collection

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from towpath.errors import InputError
from towpath_server.domain.model import (
    Assignment,
    CalendarEntry,
    Retreat,
    RolloutState,
)
from towpath_server.ports import GENERATION
from towpath_server.storage import records, schema
from towpath_server.storage.base import Rows, among


class RolloutRows(Rows):
    """The part of `ports.Transaction` that is about rollouts."""

    def add_assignment(self, assignment: Assignment) -> None:
        self._add(schema.assignments, assignment, f"assignment {assignment.id}")
        self._rules_changed()
        if self.number(GENERATION) < assignment.generation:
            self.put_number(GENERATION, assignment.generation)

    def put_assignment_state(self, assignment_id: str, state: RolloutState, reason: str) -> None:
        table = schema.assignments
        self._connection.execute(
            update(table).where(table.c.id == assignment_id).values(state=str(state), reason=reason)
        )
        self._rules_changed()

    def put_assignment(self, assignment: Assignment) -> None:
        table = schema.assignments
        try:
            done = self._connection.execute(
                update(table).where(table.c.id == assignment.id).values(records.columns(assignment))
            )
        except IntegrityError as error:
            raise InputError(
                f"cannot change assignment {assignment.id}: its generation is taken", code="exists"
            ) from error
        if done.rowcount == 0:
            raise InputError(f"cannot change assignment {assignment.id}: there is none with its id", code="not-found")
        self._rules_changed()
        if self.number(GENERATION) < assignment.generation:
            self.put_number(GENERATION, assignment.generation)

    def assignment(self, assignment_id: str) -> Assignment | None:
        row = self._one(select(schema.assignments).where(schema.assignments.c.id == assignment_id))
        return records.assignment(row) if row is not None else None

    def assignments(
        self, *, environment: str | None = None, app: str | None = None, removed: bool = False
    ) -> list[Assignment]:
        table = schema.assignments
        query = select(table).order_by(table.c.generation.desc())
        if environment is not None:
            query = query.where(table.c.environment == environment)
        if app is not None:
            query = query.where(table.c.app == app)
        if not removed:
            query = query.where(table.c.state != str(RolloutState.REMOVED))
        return [records.assignment(row) for row in self._all(query)]

    def next_generation(self) -> int:
        value = self.number(GENERATION) + 1
        self.put_number(GENERATION, value)
        return value

    def admit(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        rows = [{"assignment_id": assignment_id, "host_id": one, "at_unix_ms": at_unix_ms} for one in host_ids]
        if rows:
            self._connection.execute(sqlite_insert(schema.admissions).on_conflict_do_nothing(), rows)
            self._touched(host_ids)

    def withdraw(self, assignment_id: str, host_ids: Collection[str]) -> None:
        table = schema.admissions
        mine = table.c.assignment_id == assignment_id
        self._connection.execute(delete(table).where(mine, among(table.c.host_id, host_ids)))
        self._touched(host_ids)

    def admissions(self, assignment_id: str) -> dict[str, int]:
        table = schema.admissions
        rows = self._all(select(table).where(table.c.assignment_id == assignment_id))
        return {row.host_id: row.at_unix_ms for row in rows}

    def admitted_to(self, host_ids: Collection[str]) -> dict[str, set[str]]:
        table = schema.admissions
        result: dict[str, set[str]] = {host_id: set() for host_id in host_ids}
        for row in self._of(table, "host_id", host_ids):
            result[row.host_id].add(row.assignment_id)
        return result

    def retreat(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        rows = [
            {"assignment_id": assignment_id, "host_id": one, "at_unix_ms": at_unix_ms, "arrived_unix_ms": 0}
            for one in host_ids
        ]
        if rows:
            self._connection.execute(sqlite_insert(schema.retreats).on_conflict_do_nothing(), rows)
            self._touched(host_ids)

    def arrive(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        table = schema.retreats
        mine = table.c.assignment_id == assignment_id
        here = update(table).where(mine, among(table.c.host_id, host_ids))
        self._connection.execute(here.values(arrived_unix_ms=at_unix_ms))
        self._touched(host_ids)

    def retreats(self, assignment_id: str) -> dict[str, Retreat]:
        table = schema.retreats
        rows = self._all(select(table).where(table.c.assignment_id == assignment_id))
        return {row.host_id: records.loaded(Retreat, row) for row in rows}

    def add_calendar_entry(self, entry: CalendarEntry) -> None:
        self._add(schema.calendar, entry, f"calendar entry {entry.id}")

    def remove_calendar_entry(self, entry_id: str) -> None:
        self._connection.execute(delete(schema.calendar).where(schema.calendar.c.id == entry_id))

    def calendar(self) -> list[CalendarEntry]:
        table = schema.calendar
        return [records.entry(row) for row in self._all(select(table).order_by(table.c.created_unix_ms, table.c.id))]
