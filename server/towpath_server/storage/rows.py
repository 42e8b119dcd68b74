# ruff: noqa: D102 - the promises are those of ports.Transaction
"""Rows to dataclasses and back, and every query. One method per promise of `ports.Transaction`, in its order."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from towpath.errors import InputError
from towpath.holds import Hold
from towpath.metrics import Metric
from towpath.reports import AppState, Event
from towpath.status import Health, State, Verdict
from towpath.waves import Wave
from towpath.windows import Window
from towpath_server.domain.approval import Approval
from towpath_server.domain.hosts import ONLINE_MS
from towpath_server.domain.model import (
    Assignment,
    AuditEntry,
    CalendarEntry,
    EnrolmentToken,
    EntryKind,
    EnvironmentRule,
    Host,
    HostStatus,
    Lease,
    Newcomers,
    OnBreach,
    PublishedRelease,
    ReportedApp,
    Retreat,
    RolloutState,
    Setting,
    Timing,
    TokenUse,
)
from towpath_server.storage import schema

T = TypeVar("T")
_IN_CHUNK = 500
_GENERATION = "generation"
_CHANGE = "change"
_RULES = "rules"
_DECIDER = "rollouts"


@cache
def _places(kind: Hashable, columns: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Return the fields of `kind` with where their columns stand in a row; looking each up by name costs the most."""
    return tuple((one.name, columns.index(one.name)) for one in fields(kind) if one.name in columns)  # type: ignore[arg-type]


def _load(kind: type[T], row: Row[Any], /, **converted: object) -> T:
    values = {name: row[place] for name, place in _places(kind, row._fields)}  # type: ignore[arg-type]
    values.update(converted)
    return kind(**values)


def _host(row: Row[Any]) -> Host:
    return _load(Host, row, status=HostStatus(row.status), holds=tuple(Hold(**hold) for hold in row.holds))


def _assignment(row: Row[Any]) -> Assignment:
    return _load(
        Assignment,
        row,
        state=RolloutState(row.state),
        on_breach=OnBreach(row.on_breach),
        waves=tuple(Wave(**{**wave, "metrics": tuple(wave.get("metrics", ()))}) for wave in row.waves),
        excused=tuple(row.excused),
        timing=_timing(row.timing),
        newcomers=Newcomers(row.newcomers),
        roster=tuple(row.roster) if row.roster is not None else None,
        approvers=tuple(row.approvers),
        approvals=tuple(Approval(**one) for one in row.approvals),
        metrics=tuple(Metric(**one) for one in row.metrics),
    )


def _timing(known: Mapping[str, Any]) -> Timing:
    return Timing(**{**known, "windows": tuple(_window(one) for one in known.get("windows", ()))})


def _window(known: Mapping[str, Any]) -> Window:
    return Window(**{**known, "days": tuple(known["days"])})


def _entry(row: Row[Any]) -> CalendarEntry:
    weekly = _window(row.weekly) if row.weekly is not None else None
    return _load(CalendarEntry, row, kind=EntryKind(row.kind), weekly=weekly)


def _reported(row: Row[Any]) -> ReportedApp:
    parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in row.parameters.items()}
    state = _load(
        AppState,
        row,
        state=State(row.state),
        health=Health(row.health),
        verdict=Verdict(row.verdict),
        parameters=parameters,
    )
    return ReportedApp(row.host_id, state, row.progress_unix_ms)


def _plain(row: Any) -> dict[str, Any]:
    """Return a dataclass as column values: enums as text."""
    return {
        name: str(value) if isinstance(value, StrEnum) else dict(value) if _is_map(value) else value
        for name, value in asdict(row).items()
    }


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _chunks(values: Iterable[str]) -> Iterable[list[str]]:
    everything = list(values)
    for start in range(0, len(everything), _IN_CHUNK):
        yield everything[start : start + _IN_CHUNK]


class SqlTransaction:
    """`ports.Transaction` on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._change = 0
        self._ruled = False

    def _touched(self, host_ids: Iterable[str]) -> None:
        """Mark hosts as changed by this transaction."""
        for chunk in _chunks(host_ids):
            self._connection.execute(
                update(schema.hosts).where(schema.hosts.c.id.in_(chunk)).values(change=self._this_change())
            )

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
            self._connection.execute(insert(table).values({**_plain(row), **more}))
        except IntegrityError as error:
            raise InputError(f"cannot add {what}: it is there already", code="exists") from error

    def add_host(self, host: Host) -> None:
        self._add(schema.hosts, host, f"host {host.name}", change=self._this_change())

    def put_host(self, host: Host) -> None:
        try:
            done = self._connection.execute(
                update(schema.hosts)
                .where(schema.hosts.c.id == host.id)
                .values({**_plain(host), "change": self._this_change()})
            )
        except IntegrityError as error:
            raise InputError(f"cannot name a host {host.name}: another one has that name", code="exists") from error
        if done.rowcount == 0:
            raise InputError(f"cannot change host {host.name}: there is none with its id", code="not-found")

    def host(self, host_id: str) -> Host | None:
        row = self._one(select(schema.hosts).where(schema.hosts.c.id == host_id))
        return _host(row) if row is not None else None

    def host_named(self, name: str) -> Host | None:
        row = self._one(select(schema.hosts).where(schema.hosts.c.name == name))
        return _host(row) if row is not None else None

    def host_with_key(self, key_sha256: bytes) -> Host | None:
        row = self._one(select(schema.hosts).where(schema.hosts.c.key_sha256 == key_sha256))
        return _host(row) if row is not None else None

    def hosts(self, environment: str | None = None) -> list[Host]:
        query = select(schema.hosts).order_by(schema.hosts.c.name)
        if environment is not None:
            query = query.where(schema.hosts.c.environment == environment)
        return [_host(row) for row in self._all(query)]

    def put_seen(self, seen: Mapping[str, int]) -> None:
        table = schema.hosts
        for host_id, at in seen.items():
            mine = update(table).where(table.c.id == host_id)
            if self._connection.execute(
                mine.where(table.c.last_seen_unix_ms < at, table.c.last_seen_unix_ms > at - ONLINE_MS).values(
                    last_seen_unix_ms=at
                )
            ).rowcount:
                continue
            back = mine.where(table.c.last_seen_unix_ms <= at - ONLINE_MS)
            self._connection.execute(back.values(last_seen_unix_ms=at, change=self._this_change()))

    def add_token(self, token: EnrolmentToken) -> None:
        self._add(schema.tokens, token, f"token {token.id}")

    def token(self, token_id: str) -> EnrolmentToken | None:
        row = self._one(select(schema.tokens).where(schema.tokens.c.id == token_id))
        return _load(EnrolmentToken, row) if row is not None else None

    def spend_token(self, token_id: str) -> bool:
        table = schema.tokens
        done = self._connection.execute(
            update(table).where(table.c.id == token_id, table.c.uses_left > 0).values(uses_left=table.c.uses_left - 1)
        )
        return done.rowcount == 1

    def put_token_use(self, use: TokenUse) -> None:
        values = asdict(use)
        statement = sqlite_insert(schema.token_uses).values(values)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["token_id", "key_sha256"], set_=values)
        )

    def token_use(self, token_id: str, key_sha256: bytes) -> TokenUse | None:
        table = schema.token_uses
        row = self._one(select(table).where(table.c.token_id == token_id, table.c.key_sha256 == key_sha256))
        return _load(TokenUse, row) if row is not None else None

    def put_metadata(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            statement = sqlite_insert(schema.metadata_files).values(name=name, data=data)
            self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"data": data}))

    def metadata(self, name: str) -> bytes | None:
        row = self._one(select(schema.metadata_files.c.data).where(schema.metadata_files.c.name == name))
        return bytes(row.data) if row is not None else None

    def metadata_names(self) -> list[str]:
        return [row.name for row in self._all(select(schema.metadata_files.c.name).order_by("name"))]

    def remove_metadata(self, names: Collection[str]) -> None:
        for chunk in _chunks(names):
            self._connection.execute(delete(schema.metadata_files).where(schema.metadata_files.c.name.in_(chunk)))

    def add_release(self, release: PublishedRelease) -> None:
        self._add(schema.releases, release, f"release {release.app} {release.version}")

    def release(self, app: str, version: str) -> PublishedRelease | None:
        table = schema.releases
        row = self._one(select(table).where(table.c.app == app, table.c.version == version))
        return _load(PublishedRelease, row) if row is not None else None

    def releases(self, app: str | None = None) -> list[PublishedRelease]:
        query = select(schema.releases).order_by(schema.releases.c.app, schema.releases.c.counter)
        if app is not None:
            query = query.where(schema.releases.c.app == app)
        return [_load(PublishedRelease, row) for row in self._all(query)]

    def add_assignment(self, assignment: Assignment) -> None:
        self._add(schema.assignments, assignment, f"assignment {assignment.id}")
        self._rules_changed()
        if self.number(_GENERATION) < assignment.generation:
            self.put_number(_GENERATION, assignment.generation)

    def put_assignment_state(self, assignment_id: str, state: RolloutState, reason: str) -> None:
        table = schema.assignments
        self._connection.execute(
            update(table).where(table.c.id == assignment_id).values(state=str(state), reason=reason)
        )
        self._rules_changed()

    def put_assignment(self, assignment: Assignment) -> None:
        table = schema.assignments
        try:
            done = self._connection.execute(update(table).where(table.c.id == assignment.id).values(_plain(assignment)))
        except IntegrityError as error:
            raise InputError(
                f"cannot change assignment {assignment.id}: its generation is taken", code="exists"
            ) from error
        if done.rowcount == 0:
            raise InputError(f"cannot change assignment {assignment.id}: there is none with its id", code="not-found")
        self._rules_changed()
        if self.number(_GENERATION) < assignment.generation:
            self.put_number(_GENERATION, assignment.generation)

    def assignment(self, assignment_id: str) -> Assignment | None:
        row = self._one(select(schema.assignments).where(schema.assignments.c.id == assignment_id))
        return _assignment(row) if row is not None else None

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
        return [_assignment(row) for row in self._all(query)]

    def next_generation(self) -> int:
        value = self.number(_GENERATION) + 1
        self.put_number(_GENERATION, value)
        return value

    def admit(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        rows = [{"assignment_id": assignment_id, "host_id": one, "at_unix_ms": at_unix_ms} for one in host_ids]
        if rows:
            self._connection.execute(sqlite_insert(schema.admissions).on_conflict_do_nothing(), rows)
            self._touched(host_ids)

    def withdraw(self, assignment_id: str, host_ids: Collection[str]) -> None:
        table = schema.admissions
        for chunk in _chunks(host_ids):
            self._connection.execute(
                delete(table).where(table.c.assignment_id == assignment_id, table.c.host_id.in_(chunk))
            )
        self._touched(host_ids)

    def admissions(self, assignment_id: str) -> dict[str, int]:
        table = schema.admissions
        rows = self._all(select(table).where(table.c.assignment_id == assignment_id))
        return {row.host_id: row.at_unix_ms for row in rows}

    def admitted_to(self, host_ids: Collection[str]) -> dict[str, set[str]]:
        table = schema.admissions
        result: dict[str, set[str]] = {host_id: set() for host_id in host_ids}
        for chunk in _chunks(host_ids):
            for row in self._all(select(table).where(table.c.host_id.in_(chunk))):
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
        for chunk in _chunks(host_ids):
            self._connection.execute(
                update(table)
                .where(table.c.assignment_id == assignment_id, table.c.host_id.in_(chunk))
                .values(arrived_unix_ms=at_unix_ms)
            )
        self._touched(host_ids)

    def retreats(self, assignment_id: str) -> dict[str, Retreat]:
        table = schema.retreats
        rows = self._all(select(table).where(table.c.assignment_id == assignment_id))
        return {row.host_id: _load(Retreat, row) for row in rows}

    def change(self) -> int:
        return self.number(_CHANGE)

    def changed_hosts(self, environment: str, since: int) -> list[str]:
        table = schema.hosts
        query = select(table.c.id).where(table.c.environment == environment, table.c.change > since)
        return [row.id for row in self._all(query)]

    def rules(self) -> int:
        return self.number(_RULES)

    def _of(self, table: Table, column: str, ids: Collection[str]) -> Iterable[Row[Any]]:
        for chunk in _chunks(ids):
            yield from self._all(select(table).where(table.c[column].in_(chunk)))

    def hosts_of(self, host_ids: Collection[str]) -> list[Host]:
        return [_host(row) for row in self._of(schema.hosts, "id", host_ids)]

    def admissions_of(self, host_ids: Collection[str]) -> dict[str, dict[str, int]]:
        result: dict[str, dict[str, int]] = {host_id: {} for host_id in host_ids}
        for row in self._of(schema.admissions, "host_id", host_ids):
            result[row.host_id][row.assignment_id] = row.at_unix_ms
        return result

    def retreats_of(self, host_ids: Collection[str]) -> list[Retreat]:
        return [_load(Retreat, row) for row in self._of(schema.retreats, "host_id", host_ids)]

    def app_states_of(self, host_ids: Collection[str]) -> list[ReportedApp]:
        return [_reported(row) for row in self._of(schema.app_states, "host_id", host_ids)]

    def stamp(self) -> int:
        return int(self._connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def lease(self) -> Lease | None:
        row = self._one(select(schema.leases).where(schema.leases.c.name == _DECIDER))
        return _load(Lease, row) if row is not None else None

    def put_lease(self, lease: Lease) -> None:
        values = asdict(lease)
        statement = sqlite_insert(schema.leases).values(name=_DECIDER, **values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def add_calendar_entry(self, entry: CalendarEntry) -> None:
        self._add(schema.calendar, entry, f"calendar entry {entry.id}")

    def remove_calendar_entry(self, entry_id: str) -> None:
        self._connection.execute(delete(schema.calendar).where(schema.calendar.c.id == entry_id))

    def calendar(self) -> list[CalendarEntry]:
        table = schema.calendar
        return [_entry(row) for row in self._all(select(table).order_by(table.c.created_unix_ms, table.c.id))]

    def add_events(self, host_id: str, events: Sequence[Event]) -> int:
        added = 0
        for one in events:
            statement = sqlite_insert(schema.events).values(host_id=host_id, **asdict(one))
            added += self._connection.execute(statement.on_conflict_do_nothing()).rowcount
        return added

    def events(self, host_id: str, limit: int) -> list[Event]:
        table = schema.events
        query = select(table).where(table.c.host_id == host_id).order_by(table.c.position.desc()).limit(limit)
        return [_load(Event, row) for row in reversed(self._all(query))]

    def prune_events(self, host_id: str, keep: int) -> None:
        table = schema.events
        newest = (
            select(table.c.position).where(table.c.host_id == host_id).order_by(table.c.position.desc()).limit(keep)
        )
        self._connection.execute(
            delete(table).where(table.c.host_id == host_id, table.c.position.not_in(newest.scalar_subquery()))
        )

    def replace_app_states(self, host_id: str, states: Iterable[ReportedApp]) -> None:
        self._connection.execute(delete(schema.app_states).where(schema.app_states.c.host_id == host_id))
        for one in states:
            values = {
                **asdict(one.state),
                "state": str(one.state.state),
                "health": str(one.state.health),
                "verdict": str(one.state.verdict),
                "parameters": dict(one.state.parameters),
                "host_id": host_id,
                "progress_unix_ms": one.progress_unix_ms,
            }
            self._connection.execute(insert(schema.app_states).values(values))
        self._touched([host_id])

    def app_states(self, host_id: str | None = None, app: str | None = None) -> list[ReportedApp]:
        table = schema.app_states
        query = select(table).order_by(table.c.host_id, table.c.app)
        if host_id is not None:
            query = query.where(table.c.host_id == host_id)
        if app is not None:
            query = query.where(table.c.app == app)
        return [_reported(row) for row in self._all(query)]

    def add_audit(self, entry: AuditEntry) -> None:
        self._connection.execute(insert(schema.audit).values(asdict(entry)))

    def audit(self, limit: int) -> list[AuditEntry]:
        query = select(schema.audit).order_by(schema.audit.c.position.desc()).limit(limit)
        return [_load(AuditEntry, row) for row in reversed(self._all(query))]

    def put_environment(self, rule: EnvironmentRule) -> None:
        values = asdict(rule)
        statement = sqlite_insert(schema.environments).values(values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def environments(self) -> list[EnvironmentRule]:
        rows = self._all(select(schema.environments).order_by(schema.environments.c.name))
        return [_load(EnvironmentRule, row) for row in rows]

    def put_setting(self, setting: Setting) -> None:
        values = asdict(setting)
        statement = sqlite_insert(schema.settings).values(values)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["environment", "label", "app", "name"], set_=values)
        )

    def remove_setting(self, setting: Setting) -> None:
        table = schema.settings
        self._connection.execute(
            delete(table).where(
                table.c.environment == setting.environment,
                table.c.label == setting.label,
                table.c.app == setting.app,
                table.c.name == setting.name,
            )
        )

    def settings(self, environment: str | None = None) -> list[Setting]:
        table = schema.settings
        query = select(table).order_by(table.c.environment, table.c.app, table.c.name, table.c.label)
        if environment is not None:
            query = query.where(table.c.environment == environment)
        return [_load(Setting, row) for row in self._all(query)]

    def number(self, name: str) -> int:
        row = self._one(select(func.max(schema.numbers.c.value).label("value")).where(schema.numbers.c.name == name))
        return int(row.value) if row is not None and row.value is not None else 0

    def put_number(self, name: str, value: int) -> None:
        statement = sqlite_insert(schema.numbers).values(name=name, value=value)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
