"""A database that was put back from a backup: hosts that know more keep what they have until a person has settled it.

What decides whether it is so is `domain.restoring`. While it is so for an environment, syncs there are answered with
"keep what you have" and `services.ticking` decides nothing there; deploys, publishing and everything else of operators
work, so that what was lost can be said again first.
"""

from dataclasses import dataclass

from towpath.errors import InputError
from towpath.holds import check_line
from towpath_server.domain import restoring
from towpath_server.domain.model import Ahead, Host
from towpath_server.ports import Transaction
from towpath_server.services import rollouts
from towpath_server.services.context import Act, Context, acting, audited

SERVER = "server"
ACT = "restored.notice"


def follow(context: Context, tx: Transaction) -> None:
    """Take what the database says into memory, where syncs look."""
    rows = tx.ahead()
    context.cache.gaps = tuple(tx.gaps())
    context.cache.ahead = {one.host_id: one for one in rows}
    context.cache.behind = frozenset(one.environment for one in rows)


def is_new(context: Context, host: Host, accepted: int) -> bool:
    """Return whether a host says for the first time that it knows more. Reads memory only."""
    return host.id not in context.cache.ahead and restoring.lost(context.cache.gaps, accepted)


def heard(context: Context, host_id: str, accepted: int) -> None:
    """Write down that a host knows more than this database, and tell the others of its environment."""
    with context.storage.transaction() as tx:
        host = tx.host(host_id)
        if host is None or not restoring.lost(tx.gaps(), accepted):
            return
        first = host.environment not in {one.environment for one in tx.ahead()}
        tx.put_ahead(Ahead(host.id, host.name, host.environment, accepted, context.clock.now_unix_ms()))
        if first:
            act = Act(tx, f"environment/{host.environment}")
            found = restoring.notice([one for one in tx.ahead() if one.environment == host.environment])
            act.detail = f"{found.fact}; {found.command}" if found is not None else ""
            audited(context, SERVER, ACT, act)
        follow(context, tx)
    context.hints.due(host.environment)


def keep(context: Context, host: Host) -> str:
    """Return why a host keeps what it has, an empty text where it does not. Reads memory only."""
    if host.environment not in context.cache.behind:
        return ""
    return (
        "the server's database is older than what hosts know: restored from a backup? towpath restored show says more"
    )


def notice(tx: Transaction) -> str:
    """Return what concerns everything that is shown to people, or an empty text."""
    found = restoring.notice(tx.ahead())
    return f"{found.fact}; see: {found.command}" if found is not None else ""


@dataclass(frozen=True, slots=True)
class Row:
    """An app on a host of an environment in question: what it runs, what it would be told to run."""

    host: str
    environment: str
    ahead: bool
    app: str
    current: str
    desired: str


def shown(context: Context) -> list[Row]:
    """Return every app on every host where hosts know more than the database; empty: nowhere."""
    rows = []
    with context.storage.transaction() as tx:
        ahead = {one.host_id: one for one in tx.ahead()}
        for name in sorted({one.environment for one in ahead.values()}):
            place = rollouts.load(context, tx, name)
            for host in place.hosts:
                wanted = {app: one.version for app, one in place.runs(host).items()} | _again(place, host)
                runs = {app: it.state.current_version for (of, app), it in place.reported.items() if of == host.id}
                for app in sorted(wanted.keys() | runs.keys()):
                    facts = (app, runs.get(app, ""), wanted.get(app, ""))
                    rows.append(Row(host.name, name, host.id in ahead, *facts))
    return rows


def _again(place: rollouts.Environment, host: Host) -> dict[str, str]:
    """Return the apps of a host whose newest rollout asks for the very release that the host runs."""
    return {
        one.app: one.version for one in place.assignments if one.state.active and _runs(place, host, one.app, one.id)
    }


def _runs(place: rollouts.Environment, host: Host, app: str, assignment_id: str) -> bool:
    one, found = place.owner(host, app), place.reported.get((host.id, app))
    if one is None or found is None or one.id != assignment_id:
        return False
    return found.state.current_sha256 == one.release_sha256


def accept(context: Context, actor: str, reason: str) -> int:
    """Let the database count again; return how many hosts had known more. InputError where none had.

    Who runs what its newest rollout asks for is let into it, so that nobody goes back and forth.
    """
    hosts: set[str] = set()
    with acting(context, actor, "restored.accept", "database") as act:
        tx = act.tx
        ahead = tx.ahead()
        if not ahead:
            raise InputError("cannot accept a restored database: no host has said that it knows more than this one")
        for name in sorted({one.environment for one in ahead}):
            place = rollouts.load(context, tx, name)
            for one in place.assignments:
                if one.state.active:
                    same = [host.id for host in place.hosts if _runs(place, host, one.app, one.id)]
                    tx.admit(one.id, same, context.clock.now_unix_ms())
            hosts.update(host.id for host in place.hosts)
            act.environments.add(name)
        tx.clear_ahead()
        act.detail = f"{len(ahead)} hosts had known more: {check_line(reason, 'reason')}"
    with context.storage.transaction() as tx:
        follow(context, tx)
    context.changed(hosts)  # only now are they answered
    return len(ahead)
