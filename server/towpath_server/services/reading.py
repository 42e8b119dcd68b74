"""What operators look at: hosts, status, why, audit. Reads only."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.holds import Hold
from towpath.names import check_app
from towpath.parameters import Value, parse_value
from towpath.reports import AppState, Event
from towpath_server.domain import budgets, gates, rolling, timing, why
from towpath_server.domain import hosts as host_rules
from towpath_server.domain.model import Assignment, AuditEntry, Host, Setting
from towpath_server.domain.settings import Origin, origins
from towpath_server.domain.standing import Phase, Standing, standing
from towpath_server.ports import Transaction
from towpath_server.services import deploying, evidence, restoring, rollouts, steering
from towpath_server.services.context import Context
from towpath_server.services.hosting import find_host

SHOWN_EVENTS = 50
# How far back the last failure of an app is looked for; other apps of the host may have much to say meanwhile.
SEARCHED_EVENTS = 500
DEFAULT_AUDIT = 100
MAX_AUDIT = 10_000


@dataclass(frozen=True, slots=True)
class HostCard:
    """A host with what only the running server knows; parameters typed where a release declares them.

    `parameters` are those of its labels and environment too; `origins` says by `app.name` what sets each.
    """

    host: Host
    online: bool
    last_seen_unix_ms: int
    parameters: dict[str, Value]
    holds: tuple[Hold, ...]
    origins: dict[str, str]


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One app on one host: what runs, what should, and why they differ."""

    host: str
    environment: str
    app: str
    current: str
    desired: str
    state: str
    health: str
    reason: str


def _known_origins(host: Host, app: str, settings: Sequence[Setting]) -> dict[str, Origin]:
    """Return what sets an app's parameters on a host; where its labels disagree, what it sets itself."""
    try:
        return origins(host, app, settings)
    except InputError:
        return origins(host, app, ())


def card(context: Context, tx: Transaction, host: Host, settings: Sequence[Setting]) -> HostCard:
    """Return what is shown of a host; `settings` are those of its environment, at least."""
    now = context.clock.now_unix_ms()
    parameters: dict[str, Value] = dict(host.parameters)
    where: dict[str, str] = {}
    for app in {name.partition(".")[0] for name in host.parameters} | {one.app for one in settings}:
        known = context.releases(tx, app)
        found = _known_origins(host, app, settings)
        texts = {name: one.text for name, one in found.items()}
        parameters.update({f"{app}.{name}": text for name, text in texts.items()})
        where.update({f"{app}.{name}": one.where for name, one in found.items()})
        for parameter in known[-1].release.parameters if known else ():
            if parameter.name in texts:
                # A text of before the first publish may not fit: deploy refuses it, here it is shown as it is.
                with contextlib.suppress(InputError):
                    parameters[f"{app}.{parameter.name}"] = parse_value(parameter, texts[parameter.name])
    online = context.presence.online(host, now)
    holds = host_rules.holds_in_force(host, online=online, now_unix_ms=now)
    return HostCard(host, online, context.presence.last_seen_unix_ms(host, now), parameters, holds, where)


def hosts(context: Context) -> list[HostCard]:
    """Return all hosts, revoked ones too."""
    with context.storage.transaction() as tx:
        settings = tx.settings()
        return [card(context, tx, host, settings) for host in tx.hosts()]


def host(context: Context, name: str) -> tuple[HostCard, list[AppState], list[Event]]:
    """Return a host, what it reported about its apps, and its newest events."""
    with context.storage.transaction() as tx:
        found = find_host(tx, name)
        states = [one.state for one in tx.app_states(host_id=found.id)]
        return card(context, tx, found, tx.settings(found.environment)), states, tx.events(found.id, SHOWN_EVENTS)


def assignment(context: Context, assignment_id: str) -> tuple[rollouts.Picture, dict[str, evidence.Failure]]:
    """Return an assignment (by id or the beginning of one), its hosts and waves, and by host id how hosts failed it.

    InputError `not-found`.
    """
    with context.storage.transaction() as tx:
        one = steering.find(tx, assignment_id)
        picture = rollouts.picture(context, tx, rollouts.load(context, tx, one.environment), one)
        return picture, evidence.of_failed(tx, picture)


def list_rollouts(context: Context, app: str, environment: str, *, history: bool) -> list[rollouts.Picture]:
    """Return the rollouts that count for a host, newest first; those of the past too where `history`."""
    with context.storage.transaction() as tx:
        found = tx.assignments(app=app or None, environment=environment or None, removed=history)
        places = {name: rollouts.load(context, tx, name) for name in {one.environment for one in found}}
        if environment:
            deploying.check_known(tx, rollouts.load(context, tx, environment), environment)
        return [
            rollouts.picture(context, tx, places[one.environment], one)
            for one in found
            if history or one.state.active or one.state.leaving
        ]


def status(context: Context, app: str) -> list[StatusRow]:
    """Return a row for each app that runs or should run on an active host, of one app where `app` is not empty."""
    if app:
        check_app(app)
    rows: list[StatusRow] = []
    with context.storage.transaction() as tx:
        if app and not tx.releases(app) and not tx.app_states(app=app):
            raise InputError(f"cannot show {app}: no release of it is published", code="not-found")
        for name in sorted({one.environment for one in tx.hosts()}):
            place = rollouts.load(context, tx, name)
            apps = sorted({one.app for one in place.assignments} | {key[1] for key in place.reported})
            for each in apps if not app else [app]:
                rows += _rows(context, tx, place, each)
    return sorted(rows, key=lambda row: (row.host, row.app))


@dataclass(frozen=True, slots=True)
class Owned:
    """Which assignment decides about a host, where the host stands there, and in which wave."""

    assignment: Assignment
    standing: Standing
    wave: int
    waves: list[gates.WaveCount]
    bars: tuple[timing.Bar, ...]
    nobody_left: bool


def _standings(context: Context, tx: Transaction, place: rollouts.Environment, app: str) -> dict[str, Owned]:
    """Return host id to its owner and where it stands there."""
    result = {}
    for one in place.of_app(app):
        if one.state.active or one.state.leaving:
            seen = rollouts.view(context, tx, place, one)
            standings = [(each, standing(seen, each, place.now_unix_ms)) for each in seen.hosts]
            waves, numbers = gates.counts(seen, standings, place.now_unix_ms)
            standings, lost = budgets.explained(seen, standings), rolling.nobody_left(standings)
            mine = {host.id for host in place.covered(one) if (own := place.owner(host, app)) and own.id == one.id}
            for each, where in standings:
                if each.host_id in mine:
                    bars = (*seen.bars, *each.bars)
                    result[each.host_id] = Owned(one, where, numbers[each.host_id], waves, bars, lost)
    return result


def _rows(context: Context, tx: Transaction, place: rollouts.Environment, app: str) -> list[StatusRow]:
    standings = _standings(context, tx, place, app)
    rows = []
    for each in place.hosts:
        runs = place.runs(each).get(app)
        found = place.reported.get((each.id, app))
        owned = standings.get(each.id)
        if runs is None and found is None and owned is None:
            continue
        state = found.state if found is not None else None
        online, now = context.presence.online(each, place.now_unix_ms), place.now_unix_ms
        held = host_rules.held(each, app, online=online, now_unix_ms=now)
        rows.append(
            StatusRow(
                host=each.name,
                environment=each.environment,
                app=app,
                current=state.current_version if state is not None else "",
                desired=runs.version if runs is not None else "",
                state=str(state.state) if state is not None else "",
                health=str(state.health) if state is not None else "unknown",
                reason=_with_hold(held, _reason(online, runs, state, owned)),
            )
        )
    return rows


def _with_hold(held: Hold | None, reason: str) -> str:
    """Return the reason of a row; a hold is said first, and once."""
    if held is None or held.text in reason:
        return reason
    return f"{held.text}; {reason}" if reason else held.text


def _reason(online: bool, runs: Assignment | None, state: AppState | None, owned: Owned | None) -> str:
    if owned is None:
        return state.reason if state is not None and state.reason else "not assigned: to be removed"
    one, where = owned.assignment, owned.standing
    reported = state.reason if state is not None else ""
    if runs is None or runs.id != one.id:
        return f"{one.version} is {one.state}, this host {where.reason}"
    if reported:
        return reported
    if not online:
        return "offline"
    return "" if where.phase is Phase.HEALTHY else where.reason


def explain(context: Context, host_name: str, app: str) -> Sequence[why.Reason]:
    """Return the chain of reasons for one app on one host."""
    check_app(app)
    with context.storage.transaction() as tx:
        found = find_host(tx, host_name)
        place = rollouts.load(context, tx, found.environment)
        here = any(each.id == found.id for each in place.hosts)
        owned = _standings(context, tx, place, app).get(found.id)
        runs = place.runs(found).get(app) if here else None
        reported = place.reported.get((found.id, app))
        online = context.presence.online(found, place.now_unix_ms)
        events = [
            one
            for one in tx.events(found.id, SEARCHED_EVENTS)
            if (one.app, one.kind) == (app, "transition") and one.evidence
        ]
        return why.chain(
            why.Facts(
                host=found,
                app=app,
                online=online,
                assignments=tx.assignments(app=app),
                owner=owned.assignment if owned is not None else None,
                standing=owned.standing if owned is not None else None,
                wave=owned.wave if owned is not None else 0,
                waves=owned.waves if owned is not None else (),
                bars=owned.bars if owned is not None else (),
                admitted=owned is not None and owned.assignment.id in place.admitted.get(found.id, {}),
                runs=runs,
                parameters=_known_origins(found, app, place.settings),
                reported=reported.state if reported is not None else None,
                held=host_rules.held(found, app, online=online, now_unix_ms=place.now_unix_ms),
                notices=place.notices,
                nobody_left=owned is not None and owned.nobody_left,
                now_unix_ms=place.now_unix_ms,
                failure=events[-1] if events else None,
            )
        )


def notice(context: Context) -> str:
    """Return what concerns everything that is shown, or an empty text."""
    with context.storage.transaction() as tx:
        return restoring.notice(tx)


def audit(context: Context, limit: int) -> list[AuditEntry]:
    """Return the newest entries of the audit log, newest last; `limit` 0 means 100."""
    with context.storage.transaction() as tx:
        return tx.audit(min(limit or DEFAULT_AUDIT, MAX_AUDIT))
