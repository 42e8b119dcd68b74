"""Rollouts: rows to the view that is decided on, and to the picture that people look at.

Not handled here: when they are decided, and what is written then (`services.ticking`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from towpath.reports import AppState
from towpath_server.domain import budgets, gates, hosts, restoring, returning, timing
from towpath_server.domain.assignment import matches, owner, resolve
from towpath_server.domain.manifests import blocked
from towpath_server.domain.model import (
    Assignment,
    CalendarEntry,
    Host,
    HostStatus,
    OnBreach,
    ReportedApp,
    Retreat,
    RolloutState,
    Setting,
)
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import CARRIED_UNIX_MS, HostView, Phase, RolloutView, Standing, standing
from towpath_server.ports import Transaction
from towpath_server.services import ordering
from towpath_server.services.context import Context

TICKED = (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.REVERTING)


@dataclass(frozen=True)
class Environment:
    """Everything about one environment that decisions read, in one pass over the rows."""

    name: str
    now_unix_ms: int
    hosts: tuple[Host, ...]
    assignments: tuple[Assignment, ...]
    admitted: dict[str, dict[str, int]]
    reported: dict[tuple[str, str], ReportedApp]
    retreats: dict[str, dict[str, Retreat]]
    calendar: tuple[CalendarEntry, ...] = ()
    settings: tuple[Setting, ...] = ()
    notices: tuple[timing.Bar, ...] = ()

    @cached_property
    def _by_id(self) -> dict[str, Assignment]:
        return {one.id: one for one in self.assignments}

    @cached_property
    def _counting(self) -> dict[str, list[Assignment]]:
        """App to those of its assignments that a host may belong to; history is left out, it only grows."""
        found: dict[str, list[Assignment]] = {}
        for one in self.assignments:
            if one.state.active or one.state.leaving:
                found.setdefault(one.app, []).append(one)
        return found

    def of_app(self, app: str) -> list[Assignment]:
        """Return the assignments of one app."""
        return [one for one in self.assignments if one.app == app]

    def bound(self, host: Host) -> set[str]:
        """Return the ids of the assignments that let the host in, or from which it is on its way back."""
        leaving = {of for of, them in self.retreats.items() if host.id in them and not them[host.id].arrived_unix_ms}
        return leaving.union(self.admitted.get(host.id, ()))

    def owner(self, host: Host, app: str) -> Assignment | None:
        """Return the assignment whose rollout decides about this host."""
        return owner(self._counting.get(app, ()), host, self.bound(host))

    def runs(self, host: Host) -> dict[str, Assignment]:
        """Return app to assignment that the host runs."""
        mine = self.admitted[host.id]
        return resolve((self._by_id[one] for one in mine if one in self._by_id), mine, host)

    def unavailable(self, host: Host, app: str, *, online: bool) -> bool:
        """Return whether a host counts against budgets of rollouts that are not about it."""
        reported, told = self.reported.get((host.id, app)), self.runs(host).get(app)
        back = [them[host.id] for of, them in self.retreats.items() if host.id in them and self._by_id[of].app == app]
        return budgets.unavailable_elsewhere(
            reported.state if reported is not None else None,
            told,
            leaving=any(not one.arrived_unix_ms and (online or one.at_unix_ms != CARRIED_UNIX_MS) for one in back),
            unreached=told is not None and not online and self.admitted[host.id][told.id] == CARRIED_UNIX_MS,
        )

    def covers(self, one: Assignment, host: Host) -> bool:
        """Return whether an assignment is about a host: owned while it is active, else let in or taken back by it."""
        if not matches(one, host):
            return False
        if one.state.active:
            if self._alone(one):
                return True
            mine = self.owner(host, one.app)
            return mine is not None and mine.id == one.id
        return one.id in self.admitted[host.id] or host.id in self.retreats.get(one.id, {})

    def _alone(self, one: Assignment) -> bool:
        """Return whether no other assignment of the app decides about any host."""
        return len(self._counting[one.app]) == 1

    def covered(self, one: Assignment) -> list[Host]:
        """Return the hosts that an assignment is about."""
        return [host for host in self.hosts if self.covers(one, host)]


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
        tx.admissions_of(ids),
        {(one.host_id, one.state.app): one for one in tx.app_states() if one.host_id in ids},
        {one.id: tx.retreats(one.id) for one in assignments if one.state.returning},
        calendar(tx, name),
        tuple(tx.settings(name)),
        notices(tx, name),
    )


def notices(tx: Transaction, name: str) -> tuple[timing.Bar, ...]:
    """Return what bars everything in an environment: hosts there know more than the database."""
    found = restoring.notice([one for one in tx.ahead() if one.environment == name])
    return (found,) if found is not None else ()


def calendar(tx: Transaction, name: str) -> tuple[CalendarEntry, ...]:
    """Return the freezes and windows that concern an environment."""
    return tuple(entry for entry in tx.calendar() if entry.environment in ("", name))


def view(context: Context, tx: Transaction, place: Environment, one: Assignment) -> RolloutView:
    """Return an assignment as its rollout is decided on."""
    look = Look(context, tx, place, one)
    hosts_seen = tuple(look.at(host) for host in place.covered(one))
    whole = head(context, tx, place, one, fleet(place, one))
    return replace(whole, hosts=hosts_seen, others=others(context, place, one).count)


def fleet(place: Environment, one: Assignment) -> int:
    """Return how many hosts the rule matches, where that is more than the rollout is about."""
    return sum(1 for host in place.hosts if matches(one, host)) if one.state.returning else 0


def head(context: Context, tx: Transaction, place: Environment, one: Assignment, count: int) -> RolloutView:
    """Return an assignment as its rollout is decided on, without its hosts; `count` is its `fleet`."""
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
        hosts=(),
        fleet=count,
        waves=one.waves,
        wave=one.wave,
        wave_done_unix_ms=one.wave_done_unix_ms,
        max_failure_share=one.max_failure_share,
        on_breach=one.on_breach,
        excused=frozenset(one.excused),
        resumed_unix_ms=one.resumed_unix_ms,
        bars=(*place.notices, *timing.bars(one, place.calendar, place.now_unix_ms)),
        some_bars=timing.some_bars(one, place.calendar, place.now_unix_ms),
        timing=one.timing,
        offline_wait_ms=one.offline_wait_ms,
        newcomers=one.newcomers,
        roster=frozenset(one.roster) if one.roster is not None else None,
        approvers=one.approvers,
        approvals=one.approvals,
        metrics=one.metrics,
        trails=context.trails.get((one.id, one.wave), {}),
        asking_since_unix_ms=context.asking_since_unix_ms if context.claim.decides else None,
        entry=ordering.entry(tx, one, place.now_unix_ms, lambda name: _active_views(context, tx, name, one.app)),
        budgets=one.budgets,
        order_label=one.order_label,
    )


def others(context: Context, place: Environment, one: Assignment, moved: Collection[str] = ()) -> budgets.Others:
    """Return the unavailable hosts of the app that `one` is not about; `moved` were told something just now."""
    found = budgets.Others()
    for host in place.hosts if one.budgets else ():
        online = context.presence.online(host, place.now_unix_ms)
        if not place.covers(one, host) and (host.id in moved or place.unavailable(host, one.app, online=online)):
            found.put(host.id, budgets.cells(one.budgets, host.labels))
    return found


def _active_views(context: Context, tx: Transaction, name: str, app: str) -> list[tuple[Assignment, RolloutView]]:
    """Return the active rules of an app in another environment, each as its rollout is decided on."""
    place = load(context, tx, name)
    return [(one, view(context, tx, place, one)) for one in place.of_app(app) if one.state.active]


class Look:
    """What one rollout knows of a host, from the rows of `place`."""

    def __init__(self, context: Context, tx: Transaction, place: Environment, one: Assignment) -> None:
        self._context = context
        self._tx = tx
        self._place = place
        self._one = one
        self._known = context.release(tx, one.app, one.version)
        self._target = _target(place, one)
        self._back = place.retreats.get(one.id, {})

    def at(self, host: Host) -> HostView:
        """Return what is known of `host` now."""
        context, place, one = self._context, self._place, self._one
        reported = place.reported.get((host.id, one.app))
        why = "the release is not stored here"
        if self._known is not None:
            needs = self._known.release.requires_apps
            why = blocked(self._known, host, place.runs(host) if needs else (), place.settings)
        online, now = context.presence.online(host, place.now_unix_ms), place.now_unix_ms
        held = hosts.held(host, one.app, online=online, now_unix_ms=now)
        return HostView(
            host_id=host.id,
            name=host.name,
            online=online,
            admitted_unix_ms=place.admitted[host.id].get(one.id),
            state=reported.state if reported is not None else None,
            progress_unix_ms=reported.progress_unix_ms if reported is not None else 0,
            blocked=why,
            held=held.text if held is not None else "",
            released_unix_ms=hosts.released_unix_ms(host, online=online, now_unix_ms=now),
            labels=host.labels,
            retreat=self._back.get(host.id),
            back_blocked=_back_blocked(context, self._tx, place, host, self._target),
            bars=timing.host_bars(one, place.calendar, host.labels, now),
            expected=hosts.expected(host, heard_unix_ms=context.heard_unix_ms),
        )


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
    """Tell hosts to go back from `one`: to what counts for its rule now, else to what they were admitted to before.

    `now_unix_ms` is CARRIED_UNIX_MS where a bundle tells them.
    """
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
    bars: tuple[timing.Bar, ...] = ()


def picture(context: Context, tx: Transaction, place: Environment, one: Assignment) -> Picture:
    """Return where each host and each wave of the assignment stands, hosts sorted by name."""
    rows = {host.id: host for host in place.hosts}
    seen = view(context, tx, place, one)
    standings = [(each, standing(seen, each, place.now_unix_ms)) for each in seen.hosts]
    waves, numbers = gates.counts(seen, standings, place.now_unix_ms)
    standings = budgets.explained(seen, standings)
    found = [
        Progress(rows[it.host_id], it.online, it.admitted_unix_ms is not None, where, it.state, numbers[it.host_id])
        for it, where in standings
    ]
    waiting = [each for each, where in standings if where.phase is Phase.WAITING]
    moves = one.state in (RolloutState.ROLLING, RolloutState.DONE) and waiting
    bars = timing.all_bars(seen.bars, [each.bars for each in waiting]) if moves else place.notices
    return Picture(one, found, waves, bars)


def busy_environments(context: Context) -> set[str]:
    """Return the environments that hold a rollout which time alone may change."""
    with context.storage.transaction() as tx:
        return {one.environment for one in tx.assignments() if one.state in TICKED} | context.cache.waiting
