"""Rollouts: rows to a view, the domain's decision, decision to rows.

`tick` is the only place where a host is admitted or withdrawn (a deploy withdraws what it supersedes). It reads,
decides and writes in one transaction on the storage thread, so limits hold however many hosts sync at the same time.
"""

from collections.abc import Collection
from dataclasses import dataclass

from towpath.reports import AppState
from towpath_server.domain import hosts, rolling
from towpath_server.domain.assignment import matches, owner, resolve
from towpath_server.domain.manifests import blocked
from towpath_server.domain.model import Assignment, Host, HostStatus, ReportedApp, RolloutState
from towpath_server.domain.rolling import HostView, RolloutView, Standing
from towpath_server.ports import Transaction
from towpath_server.services.context import Context


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything about one environment that decisions read, in one pass over the rows."""

    name: str
    now_unix_ms: int
    hosts: tuple[Host, ...]
    assignments: tuple[Assignment, ...]
    admitted: dict[str, set[str]]
    reported: dict[tuple[str, str], ReportedApp]

    def of_app(self, app: str) -> list[Assignment]:
        """Return the assignments of one app."""
        return [one for one in self.assignments if one.app == app]

    def owner(self, host: Host, app: str) -> Assignment | None:
        """Return the assignment whose rollout decides about this host."""
        return owner(self.of_app(app), host)

    def runs(self, host: Host) -> dict[str, Assignment]:
        """Return app to assignment that the host runs."""
        return resolve(self.assignments, self.admitted[host.id], host)

    def covered(self, one: Assignment) -> list[Host]:
        """Return the hosts that an assignment is about: owned while it is active, else those it had let in."""
        if one.state.active:
            rivals = self.of_app(one.app)
            return [host for host in self.hosts if (mine := owner(rivals, host)) is not None and mine.id == one.id]
        return [host for host in self.hosts if matches(one, host) and one.id in self.admitted[host.id]]


def load(context: Context, tx: Transaction, name: str) -> Environment:
    """Return the environment's rows. Revoked hosts are not part of it."""
    hosts = tuple(host for host in tx.hosts(name) if host.status is HostStatus.ACTIVE)
    ids = {host.id for host in hosts}
    return Environment(
        name,
        context.clock.now_unix_ms(),
        hosts,
        tuple(tx.assignments(environment=name)),
        tx.admitted_to(ids),
        {(one.host_id, one.state.app): one for one in tx.app_states() if one.host_id in ids},
    )


def view(context: Context, tx: Transaction, place: Environment, one: Assignment) -> RolloutView:
    """Return an assignment as its rollout is decided on."""
    admitted_at = tx.admissions(one.id)
    known = context.release(tx, one.app, one.version)
    views = []
    for host in place.covered(one):
        reported = place.reported.get((host.id, one.app))
        why = blocked(known, host, place.runs(host)) if known is not None else "the release is not stored here"
        online, now = context.presence.online(host, place.now_unix_ms), place.now_unix_ms
        held = hosts.held(host, one.app, online=online, now_unix_ms=now)
        views.append(
            HostView(
                host_id=host.id,
                name=host.name,
                online=online,
                admitted_unix_ms=admitted_at.get(host.id),
                state=reported.state if reported is not None else None,
                progress_unix_ms=reported.progress_unix_ms if reported is not None else 0,
                blocked=why,
                held=held.text if held is not None else "",
                released_unix_ms=hosts.released_unix_ms(host, online=online, now_unix_ms=now),
            )
        )
    return RolloutView(
        assignment=one.id,
        generation=one.generation,
        release_sha256=one.release_sha256,
        state=one.state,
        reason=one.reason,
        max_unavailable=one.max_unavailable,
        max_failures=one.max_failures,
        progress_deadline_ms=one.progress_deadline_ms,
        observed_since_unix_ms=context.started_unix_ms,
        hosts=tuple(views),
    )


def tick(context: Context, environments: Collection[str]) -> bool:
    """Decide the rollouts of these environments once; return True where one of them is still rolling."""
    rolling_on = False
    changed: set[str] = set()
    with context.storage.transaction() as tx:
        for name in environments:
            place = load(context, tx, name)
            for one in place.assignments:
                if one.state.active:
                    state = _decide(context, tx, place, one, changed)
                    rolling_on = rolling_on or state is RolloutState.ROLLING
    context.changed(changed)
    return rolling_on


def _decide(context: Context, tx: Transaction, place: Environment, one: Assignment, changed: set[str]) -> RolloutState:
    decision = rolling.decide(view(context, tx, place, one), place.now_unix_ms)
    if decision.admit:
        tx.admit(one.id, decision.admit, place.now_unix_ms)
    if decision.withdraw:
        tx.withdraw(one.id, decision.withdraw)
    if (decision.state, decision.reason) != (one.state, one.reason):
        tx.put_assignment_state(one.id, decision.state, decision.reason)
    changed.update(decision.admit, decision.withdraw)
    return decision.state


@dataclass(frozen=True, slots=True)
class Progress:
    """One host of a rollout, for people and for `deploy --wait`."""

    host: Host
    online: bool
    admitted: bool
    standing: Standing
    state: AppState | None


def progress(context: Context, tx: Transaction, one: Assignment) -> list[Progress]:
    """Return where each host of the assignment stands, sorted by name."""
    place = load(context, tx, one.environment)
    rows = {host.id: host for host in place.hosts}
    seen = view(context, tx, place, one)
    return [
        Progress(
            rows[each.host_id],
            each.online,
            each.admitted_unix_ms is not None,
            rolling.standing(seen, each, place.now_unix_ms),
            each.state,
        )
        for each in seen.hosts
    ]


def busy_environments(context: Context) -> set[str]:
    """Return the environments that hold a rollout which goes on."""
    with context.storage.transaction() as tx:
        return {one.environment for one in tx.assignments() if one.state is RolloutState.ROLLING}
