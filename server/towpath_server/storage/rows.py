# ruff: noqa: D102 - the promises are those of ports.Transaction
"""Every other query. One method per promise of `ports.Transaction`; what a row becomes is `records` and `bulk`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from towpath.errors import InputError
from towpath.reports import Event
from towpath_server.domain.hosts import ONLINE_MS
from towpath_server.domain.model import (
    Ahead,
    AuditEntry,
    EnrolmentToken,
    EnvironmentRule,
    Gap,
    Host,
    Lease,
    PublishedRelease,
    ReportedApp,
    Retreat,
    Setting,
    TokenUse,
)
from towpath_server.storage import bulk, records, schema
from towpath_server.storage.base import among
from towpath_server.storage.rollout_rows import RolloutRows

_DECIDER = "rollouts"


class SqlTransaction(RolloutRows):
    """`ports.Transaction` on one connection."""

    def add_host(self, host: Host) -> None:
        self._add(schema.hosts, host, f"host {host.name}", change=self._this_change())

    def put_host(self, host: Host) -> None:
        try:
            done = self._connection.execute(
                update(schema.hosts)
                .where(schema.hosts.c.id == host.id)
                .values({**records.columns(host), "change": self._this_change()})
            )
        except IntegrityError as error:
            raise InputError(f"cannot name a host {host.name}: another one has that name", code="exists") from error
        if done.rowcount == 0:
            raise InputError(f"cannot change host {host.name}: there is none with its id", code="not-found")

    def host(self, host_id: str) -> Host | None:
        return self._host(schema.hosts.c.id == host_id)

    def host_named(self, name: str) -> Host | None:
        return self._host(schema.hosts.c.name == name)

    def host_with_key(self, key_sha256: bytes) -> Host | None:
        return self._host(schema.hosts.c.key_sha256 == key_sha256)

    def _host(self, where: ColumnElement[bool]) -> Host | None:
        return next(bulk.hosts(self._connection, bulk.select_hosts().where(where)), None)

    def hosts(self, environment: str | None = None) -> list[Host]:
        query = bulk.select_hosts().order_by(schema.hosts.c.name)
        if environment is not None:
            query = query.where(schema.hosts.c.environment == environment)
        return list(bulk.hosts(self._connection, query))

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
        return records.loaded(EnrolmentToken, row) if row is not None else None

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
        return records.loaded(TokenUse, row) if row is not None else None

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
        table = schema.metadata_files
        self._connection.execute(delete(table).where(among(table.c.name, names)))

    def add_release(self, release: PublishedRelease) -> None:
        self._add(schema.releases, release, f"release {release.app} {release.version}")

    def release(self, app: str, version: str) -> PublishedRelease | None:
        table = schema.releases
        row = self._one(select(table).where(table.c.app == app, table.c.version == version))
        return records.loaded(PublishedRelease, row) if row is not None else None

    def releases(self, app: str | None = None) -> list[PublishedRelease]:
        query = select(schema.releases).order_by(schema.releases.c.app, schema.releases.c.counter)
        if app is not None:
            query = query.where(schema.releases.c.app == app)
        return [records.loaded(PublishedRelease, row) for row in self._all(query)]

    def changed_hosts(self, environment: str, since: int) -> list[str]:
        table = schema.hosts
        query = select(table.c.id).where(table.c.environment == environment, table.c.change > since)
        return [row.id for row in self._all(query)]

    def hosts_of(self, host_ids: Collection[str]) -> list[Host]:
        return list(bulk.hosts(self._connection, bulk.select_hosts().where(among(schema.hosts.c.id, host_ids))))

    def admissions_of(self, host_ids: Collection[str]) -> dict[str, dict[str, int]]:
        result: dict[str, dict[str, int]] = {host_id: {} for host_id in host_ids}
        for row in self._of(schema.admissions, "host_id", host_ids):
            result[row.host_id][row.assignment_id] = row.at_unix_ms
        return result

    def retreats_of(self, host_ids: Collection[str]) -> list[Retreat]:
        return [records.loaded(Retreat, row) for row in self._of(schema.retreats, "host_id", host_ids)]

    def app_states_of(self, host_ids: Collection[str]) -> list[ReportedApp]:
        query = bulk.select_states().where(among(schema.app_states.c.host_id, host_ids))
        return list(bulk.states(self._connection, query))

    def stamp(self) -> int:
        return int(self._connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def lease(self) -> Lease | None:
        row = self._one(select(schema.leases).where(schema.leases.c.name == _DECIDER))
        return records.loaded(Lease, row) if row is not None else None

    def put_lease(self, lease: Lease) -> None:
        values = asdict(lease)
        statement = sqlite_insert(schema.leases).values(name=_DECIDER, **values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def add_events(self, host_id: str, events: Sequence[Event]) -> int:
        added = 0
        for one in events:
            statement = sqlite_insert(schema.events).values(host_id=host_id, **asdict(one))
            added += self._connection.execute(statement.on_conflict_do_nothing()).rowcount
        return added

    def events(self, host_id: str, limit: int) -> list[Event]:
        table = schema.events
        query = select(table).where(table.c.host_id == host_id).order_by(table.c.position.desc()).limit(limit)
        return [records.loaded(Event, row) for row in reversed(self._all(query))]

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
                "prefetch": records.prefetch_column(one.state.prefetch),
                "transfer": asdict(one.state.transfer) if one.state.transfer is not None else None,
                "host_id": host_id,
                "progress_unix_ms": one.progress_unix_ms,
            }
            self._connection.execute(insert(schema.app_states).values(values))
        self._touched([host_id])

    def app_states(self, host_id: str | None = None, app: str | None = None) -> list[ReportedApp]:
        table = schema.app_states
        query = bulk.select_states().order_by(table.c.host_id, table.c.app)
        if host_id is not None:
            query = query.where(table.c.host_id == host_id)
        if app is not None:
            query = query.where(table.c.app == app)
        return list(bulk.states(self._connection, query))

    def add_audit(self, entry: AuditEntry) -> None:
        self._connection.execute(insert(schema.audit).values(asdict(entry)))

    def audit(self, limit: int) -> list[AuditEntry]:
        query = select(schema.audit).order_by(schema.audit.c.position.desc()).limit(limit)
        return [records.loaded(AuditEntry, row) for row in reversed(self._all(query))]

    def put_environment(self, rule: EnvironmentRule) -> None:
        values = asdict(rule)
        statement = sqlite_insert(schema.environments).values(values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def environments(self) -> list[EnvironmentRule]:
        rows = self._all(select(schema.environments).order_by(schema.environments.c.name))
        return [records.loaded(EnvironmentRule, row) for row in rows]

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
        return [records.loaded(Setting, row) for row in self._all(query)]

    def add_gap(self, gap: Gap, keep: int) -> None:
        table = schema.gaps
        self._connection.execute(sqlite_insert(table).values(asdict(gap)).on_conflict_do_nothing())
        newest = select(table.c.before).order_by(table.c.before.desc()).limit(keep)
        self._connection.execute(delete(table).where(table.c.before.not_in(newest.scalar_subquery())))

    def gaps(self) -> list[Gap]:
        return [records.loaded(Gap, row) for row in self._all(select(schema.gaps).order_by(schema.gaps.c.before))]

    def put_ahead(self, ahead: Ahead) -> None:
        values = asdict(ahead)
        statement = sqlite_insert(schema.ahead).values(values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["host_id"], set_=values))

    def ahead(self) -> list[Ahead]:
        return [records.loaded(Ahead, row) for row in self._all(select(schema.ahead).order_by(schema.ahead.c.name))]

    def forget_ahead(self, host_id: str) -> None:
        self._connection.execute(delete(schema.ahead).where(schema.ahead.c.host_id == host_id))

    def clear_ahead(self) -> None:
        self._connection.execute(delete(schema.gaps))
        self._connection.execute(delete(schema.ahead))
