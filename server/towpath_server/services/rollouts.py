"""Rollouts: rows to a view, the domain's decision, decision to rows.

`tick` is the only place where a host is admitted, withdrawn or sent back (a deploy and an operator's act withdraw who
has not switched). It reads, decides and writes in one transaction on the storage thread, so limits hold however many
hosts sync at the same time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from towpath.reports import AppState
from towpath_server.domain import gates, hosts, returning, rolling
from towpath_server.domain.assignment import matches, owner, resolve
from towpath_server.domain.manifests import blocked
from towpath_server.domain.model import (
    Assignment,
    Host,
    HostStatus,
    OnBreach,
    ReportedApp,
    Retreat,
    RolloutState,
    Setting,
)
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import Decision, HostView, RolloutView, Standing, standing
from towpath_server.ports import Transaction
from towpath_server.services import ordering
from towpath_server.services.context import Context

_TICKED = (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.REVERTING)


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything about one environment that decisions read, in one pass over the rows."""

    name: str
    now_unix_ms: int
    hosts: tuple[Host, ...]
    assignments: tuple[Assignment, ...]
    admitted: dict[str, set[str]]
    reported: dict[tuple[str, str], ReportedApp]
    retreats: dict[str, dict[str, Retreat]]
    settings: tuple[Setting, ...] = ()

    def of_app(self, app: str) -> list[Assignment]:
        """Return the assignments of one app."""
        return [one for one in self.assignments if one.app == app]

    def bound(self, host: Host) -> set[str]:
        """Return the ids of the assignments that let the host in, or from which it is on its way back."""
        leaving = {of for of, them in self.retreats.items() if host.id in them and not them[host.id].arrived_unix_ms}
        return self.admitted.get(host.id, set()) | leaving

    def owner(self, host: Host, app: str) -> Assignment | None:
        """Return the assignment whose rollout decides about this host."""
        return owner(self.of_app(app), host, self.bound(host))

    def runs(self, host: Host) -> dict[str, Assignment]:
        """Return app to assignment that the host runs."""
        return resolve(self.assignments, self.admitted[host.id], host)

    def covered(self, one: Assignment) -> list[Host]:
        """Return the hosts that an assignment is about: owned while it is active, else those it let in or took back."""
        if one.state.active:
            rivals = self.of_app(one.app)
            return [
                host
                for host in self.hosts
                if matches(one, host) and (mine := owner(rivals, host, self.bound(host))) and mine.id == one.id
            ]
        back = self.retreats.get(one.id, {})
        return [
            host for host in self.hosts if matches(one, host) and (one.id in self.admitted[host.id] or host.id in back)
        ]


def load(context: Context, tx: Transaction, name: str) -> Environment:
    """Return the environment's rows. Revoked hosts are not part of it."""
    hosts = tuple(host for host in tx.hosts(name) if host.status is HostStatus.ACTIVE)
    ids = {host.id for host in hosts}
    assignments = tuple(tx.assignments(environment=name))
    return Environment(
        name,
        context.clock.now_unix_ms(),
        hosts,
        assignments,
        tx.admitted_to(ids),
        {(one.host_id, one.state.app): one for one in tx.app_states() if one.host_id in ids},
        {one.id: tx.retreats(one.id) for one in assignments if one.state.returning},
        tuple(tx.settings(name)),
    )


def view(context: Context, tx: Transaction, place: Environment, one: Assignment) -> RolloutView:
    """Return an assignment as its rollout is decided on."""
    admitted_at = tx.admissions(one.id)
    back = place.retreats.get(one.id, {})
    known = context.release(tx, one.app, one.version)
    target = _target(place, one)
    views = []
    for host in place.covered(one):
        reported = place.reported.get((host.id, one.app))
        runs = place.runs(host)
        why = blocked(known, host, runs, place.settings) if known is not None else "the release is not stored here"
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
                labels=host.labels,
                retreat=back.get(host.id),
                back_blocked=_back_blocked(context, tx, place, host, target),
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
        fleet=sum(1 for host in place.hosts if matches(one, host)) if one.state.returning else 0,
        waves=one.waves,
        wave=one.wave,
        wave_done_unix_ms=one.wave_done_unix_ms,
        max_failure_share=one.max_failure_share,
        on_breach=one.on_breach,
        excused=frozenset(one.excused),
        resumed_unix_ms=one.resumed_unix_ms,
        approvers=one.approvers,
        approvals=one.approvals,
        metrics=one.metrics,
        trails=context.trails.get((one.id, one.wave), {}),
        entry=ordering.entry(tx, one, place.now_unix_ms, lambda name: _active_views(context, tx, name, one.app)),
    )


def _active_views(context: Context, tx: Transaction, name: str, app: str) -> list[tuple[Assignment, RolloutView]]:
    """Return the active rules of an app in another environment, each as its rollout is decided on."""
    place = load(context, tx, name)
    return [(one, view(context, tx, place, one)) for one in place.of_app(app) if one.state.active]


def _target(place: Environment, one: Assignment) -> Assignment | None:
    """Return what the hosts of `one` go back to, or would on a breach; None where that is nothing."""
    if one.state.returning:
        return counting_before(place.of_app(one.app), one)
    return returning.predecessor(place.of_app(one.app), one) if one.on_breach is OnBreach.REVERT else None


def counting_before(assignments: Sequence[Assignment], one: Assignment) -> Assignment | None:
    """Return the newest active assignment of the same rule that is older than `one`."""
    older = (
        it
        for it in assignments
        if it.state.active and it.generation < one.generation and dict(it.selector) == dict(one.selector)
    )
    return max(older, key=lambda it: it.generation, default=None)


def _back_blocked(context: Context, tx: Transaction, place: Environment, host: Host, target: Assignment | None) -> str:
    """Return why the host could not run `target`: it was let into it once, or the release has to fit."""
    if target is None or target.id in place.admitted[host.id]:
        return ""
    known = context.release(tx, target.app, target.version)
    if known is None:
        return "its release is not stored here"
    return blocked(known, host, place.runs(host), place.settings)


def tick(context: Context, environments: Collection[str]) -> bool:
    """Decide the rollouts of these environments once; return True where time alone may change one of them."""
    again = False
    changed: set[str] = set()
    with context.storage.transaction() as tx:
        for name in environments:
            place = load(context, tx, name)
            for one in place.assignments:
                if one.state.active or one.state.returning:
                    state = _decide(context, tx, place, one, changed)
                    again = again or state in _TICKED
    context.changed(changed)
    return again


def _decide(context: Context, tx: Transaction, place: Environment, one: Assignment, changed: set[str]) -> RolloutState:
    decision = rolling.decide(view(context, tx, place, one), place.now_unix_ms)
    if decision.admit:
        tx.admit(one.id, decision.admit, place.now_unix_ms)
    if decision.withdraw:
        tx.withdraw(one.id, decision.withdraw)
    after = _after(one, decision, place.now_unix_ms)
    if decision.state is RolloutState.REVERTING and one.state is not RolloutState.REVERTING:
        restore(tx, place, one, place.now_unix_ms, other_release=True)
    if decision.retreat:
        send_back(tx, place.name, one, decision.retreat, place.now_unix_ms)
    if decision.arrived:
        tx.arrive(one.id, decision.arrived, place.now_unix_ms)
    if after != one:
        tx.put_assignment(after)
    changed.update(decision.admit, decision.withdraw, decision.retreat)
    return decision.state


def _after(one: Assignment, decision: Decision, now_unix_ms: int) -> Assignment:
    done = one.done_unix_ms
    if decision.state is RolloutState.DONE:
        done = done or now_unix_ms
    elif decision.state is not one.state:
        done = 0  # a breach after all: nobody shall be brought back to it
    return replace(
        one,
        state=decision.state,
        reason=decision.reason,
        wave=decision.wave,
        wave_done_unix_ms=decision.wave_done_unix_ms,
        done_unix_ms=done,
        entered_unix_ms=one.entered_unix_ms or (now_unix_ms if decision.admit else 0),
    )


def restore(
    tx: Transaction, place: Environment, one: Assignment, now_unix_ms: int, *, other_release: bool
) -> Assignment | None:
    """Let what was done for this rule before `one` count again, and return it; None where there is nothing."""
    before = returning.predecessor(place.of_app(one.app), one, other_release=other_release)
    if before is None:
        return None
    state = next_state(before.state, Act.RESTORE)
    reason = f"counts again instead of {one.version}, generation {one.generation}"
    tx.put_assignment(replace(before, state=state, reason=reason, resumed_unix_ms=now_unix_ms))
    return before


def send_back(tx: Transaction, environment: str, one: Assignment, ids: Sequence[str], now_unix_ms: int) -> None:
    """Tell hosts to go back from `one`: to what counts for its rule now, else to what they were admitted to before."""
    rule = [
        it for it in tx.assignments(environment=environment, app=one.app) if dict(it.selector) == dict(one.selector)
    ]
    target = counting_before(rule, one)
    for it in rule:
        if it.id == one.id or (target is not None and it.generation > target.generation):
            tx.withdraw(it.id, ids)
    if target is not None:
        tx.admit(target.id, ids, now_unix_ms)
    tx.retreat(one.id, ids, now_unix_ms)


@dataclass(frozen=True, slots=True)
class Progress:
    """One host of a rollout, for people and for `deploy --wait`. `wave`: the number of its wave, from 0."""

    host: Host
    online: bool
    admitted: bool
    standing: Standing
    state: AppState | None
    wave: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A rollout as people look at it."""

    assignment: Assignment
    hosts: list[Progress]
    waves: list[gates.WaveCount]


def picture(context: Context, tx: Transaction, place: Environment, one: Assignment) -> Picture:
    """Return where each host and each wave of the assignment stands, hosts sorted by name."""
    rows = {host.id: host for host in place.hosts}
    seen = view(context, tx, place, one)
    standings = [(each, standing(seen, each, place.now_unix_ms)) for each in seen.hosts]
    waves, numbers = gates.counts(seen, standings, place.now_unix_ms)
    found = [
        Progress(
            rows[each.host_id],
            each.online,
            each.admitted_unix_ms is not None,
            where,
            each.state,
            numbers[each.host_id],
        )
        for each, where in standings
    ]
    return Picture(one, found, waves)


def busy_environments(context: Context) -> set[str]:
    """Return the environments that hold a rollout which time alone may change."""
    with context.storage.transaction() as tx:
        return {one.environment for one in tx.assignments() if one.state in _TICKED}
