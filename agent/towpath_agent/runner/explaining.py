"""Collects the facts of one app for `engine.explaining`: from the journal, whether an agent runs or not."""

from towpath.errors import InputError
from towpath.holds import covering
from towpath.names import check_app
from towpath.status import Health, State
from towpath.wire import decode_release
from towpath_agent.engine import selfupdate
from towpath_agent.engine.explaining import Facts, Live, Underway
from towpath_agent.engine.holds import live
from towpath_agent.engine.planning import Wish
from towpath_agent.journal import Journal, Transaction
from towpath_agent.runner import announced
from towpath_agent.runner.desired import assignments, refused_apps
from towpath_agent.runner.holding import kept_holds

_NOT_READY = (State.PLANNED, State.FETCHING, State.STAGED)


def known_apps(journal: Journal) -> set[str]:
    """Return every app that the journal says something about."""
    apps = {it.wish.app for it in journal.desired() or []} | set(journal.deployed("current"))
    apps |= {tx.app for tx in journal.transactions()} | set(journal.failures()) | set(refused_apps(journal))
    return apps | set(announced.states(journal))


def check_known(journal: Journal, app: str, doing: str) -> None:
    """Return where the journal knows `app`; InputError names those that it knows otherwise."""
    apps = known_apps(journal)
    if check_app(app) not in apps:
        known = f"it has {', '.join(sorted(apps))}" if apps else "it has none yet"
        raise InputError(f"cannot {doing} {app}: this host has no such app; {known}", code="not-found")


def gather(journal: Journal, app: str, now_unix_ms: int, running: Live | None) -> Facts:
    """Return what is known of `app`; InputError `not-found` where nothing is. `now_unix_ms` is T of `engine.holds`."""
    check_known(journal, app, "explain")
    desired = journal.desired()
    wishes = {it.wish.app: it.wish for it in desired or []}
    states = {state.app: state for state in journal.app_states()}
    transactions = {tx.app: tx for tx in journal.transactions()}
    tx, holds = transactions.get(app), kept_holds(journal) or ((), 0)
    return Facts(
        app=app,
        now_unix_ms=now_unix_ms,
        accepted=desired is not None,
        wish=wishes.get(app),
        assignment=assignments(journal).get(app, ""),
        refused=refused_apps(journal).get(app),
        current=_wish(journal, "current", app),
        previous=_wish(journal, "previous", app),
        prefetch=announced.states(journal).get(app),
        health=states[app].health if app in states else Health.UNKNOWN,
        health_reason=states[app].reason if app in states and states[app].health is Health.UNHEALTHY else "",
        hold=covering(live(holds[0], now_unix_ms), app),
        underway=None if tx is None else _underway(tx),
        waits_for=tuple(sorted(other.app for other in transactions.values() if other.state in _NOT_READY))
        if tx is not None and tx.state is State.PREPARED
        else (),
        agent_waits=selfupdate.waits(
            app,
            {it.app: it.state for it in transactions.values()},
            server_answers=running is None or not running.sync_failures,
        ),
        failure=journal.failures().get(app),
        live=running,
    )


def _wish(journal: Journal, slot: str, app: str) -> Wish | None:
    found = journal.deployed(slot).get(app)
    return found.wish if found is not None else None


def _underway(tx: Transaction) -> Underway:
    probation = decode_release(tx.release).health.probation_ms if tx.wish.sha256 else 0
    return Underway(
        wish=tx.wish,
        state=tx.state,
        reason=tx.reason,
        attempts=tx.attempts,
        old_version=tx.old.wish.version if tx.old is not None else "",
        probation_until_unix_ms=tx.confirmed_unix_ms + probation,
    )
