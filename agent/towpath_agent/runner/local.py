"""What people on the host may tell the running agent: hold, release, revert, retry, explain. The main thread does it.

Rules: a command either does all that its answer says, durably, or changes nothing and says why in one line. What is
done goes the ways that are there: a revert is the way of a failed probation, whenever it is asked for, so the same undo
and the same probes prove it, and the failure memory keeps the release that was left from coming back.
Not handled here: who may (`control.listener`), what a hold does to the plan (`engine.planning`).
"""

from dataclasses import asdict
from typing import TYPE_CHECKING

from towpath.errors import Broken, InputError, TowpathError
from towpath.holds import check_line
from towpath.names import check_app
from towpath.selfupdate import AGENT_APP
from towpath.status import State
from towpath.wire import decode_release
from towpath_agent.control.protocol import Answer, Request
from towpath_agent.engine.explaining import chain
from towpath_agent.engine.table import Outcome, can
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.desired import refused_apps
from towpath_agent.runner.explaining import check_known, gather, known_apps
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.holding import Holding

if TYPE_CHECKING:
    from towpath_agent.runner.agent import Agent

_GOING_BACK = (State.REVERTING, State.STUCK, State.REVERTED)


class Local:
    """Commands of one agent."""

    def __init__(
        self, agent: "Agent", journal: Journal, holding: Holding, floors: FloorsFile, actions: Actions
    ) -> None:
        """Act on `agent` and its parts, in its thread."""
        self._agent, self._journal, self._holding = agent, journal, holding
        self._floors, self._actions = floors, actions

    def do(self, request: Request, by: str) -> Answer | TowpathError:
        """Carry out one request; an error is an answer too."""
        try:
            match request.command:
                case "sync":
                    return self._sync()
                case "explain":
                    return self._explain(request.app)
                case "hold":
                    return self._hold(request, by)
                case "release":
                    return self._release(request.app, by)
                case "revert":
                    return self._revert(request.app, request.reason, by)
                case "bundle":
                    return self._bundle(request.path, by)
                case "retry":
                    return self._retry(request.app, by)
                case _:
                    return InputError(f"cannot do {request.command[:40]!r}: this agent does not know it")
        except TowpathError as error:
            return error
        except OSError as error:
            return Broken(f"cannot {request.command} {request.app}: {error}")
        except Exception as error:  # noqa: BLE001 - a bug in a command must not end the agent
            return Broken(f"cannot {request.command} {request.app}: {type(error).__name__}: {error}", code="bug")

    def _explain(self, app: str) -> Answer:
        agent = self._agent
        facts = gather(self._journal, app, self._holding.now(), agent.live(app))
        return Answer(data={"app": app, "reasons": [asdict(reason) for reason in chain(facts)]})

    def _sync(self) -> Answer:
        live = self._agent.live("")
        return Answer(data={"synced": self._agent.synced, "trouble": live.sync_trouble})

    # -- holds

    def _hold(self, request: Request, by: str) -> Answer:
        agent, app = self._agent, request.app
        if app:
            check_app(app)
        hold = self._holding.place(app=app, by=by, reason=request.reason, for_ms=request.for_ms)
        agent.tell("hold", app, hold.text, "held")
        lines = [f"{app or 'all apps of this host'}: {hold.text}"]
        if app and app not in known_apps(self._journal):
            lines.append(f"note: this host has no {app} yet")
        lines += [_effect(tx) for tx in agent.transactions.values() if not tx.state.ended and hold.covers(tx.app)]
        return Answer(tuple(lines), {"hold": asdict(hold)})

    def _release(self, app: str, by: str) -> Answer:
        if app:
            check_app(app)
        ended = self._holding.lift(app)
        for hold in ended:
            self._agent.tell("hold", hold.app, f"released by {by}; was {hold.text}", "released")
        lines = [f"{hold.app or 'all apps of this host'}: released" for hold in ended]
        return Answer((*lines, *self._still_held(app)), {"released": [asdict(hold) for hold in ended]})

    def _still_held(self, app: str) -> list[str]:
        """Return a line where `app` (empty: none) stays held by a wider hold."""
        hold = self._holding.covering(app) if app else None
        return [] if hold is None else [f"note: {app} stays {hold.text}"]

    # -- a bundle

    def _bundle(self, path: str, by: str) -> Answer:
        """Believe a bundle; what it asks for begins at once, as after a sync."""
        manifest = self._agent.bundles.take(path, by)
        current, refused = self._journal.deployed("current"), refused_apps(self._journal)
        lines, apps = [], []
        if manifest is None:
            lines.append("its server has said more since, and that counts; what it wants is taken out of the bundle")
            wanted = [(it.wish.app, it.wish.version, it.wish.sha256) for it in self._journal.desired() or []]
        else:
            wanted = [(it.app, it.version, it.release_sha256) for it in manifest.apps]
        for app, version, sha256 in wanted:
            here = current.get(app)
            apps.append({"app": app, "version": version, "sha256": sha256.hex()})
            if app in refused:
                lines.append(f"{app}: {version} is refused: {refused[app]['code']}: {refused[app]['message']}")
            elif here is not None and here.wish.sha256 == sha256:
                lines.append(f"{app}: {version} runs here already")
            else:
                lines.append(f"{app}: {version} is to run; see: towpath-agent explain {app}")
                lines += self._still_held(app)
        self._agent.hurry_all()
        return Answer(tuple(lines), {"apps": apps, "refused": {app: no["code"] for app, no in refused.items()}})

    # -- going back, and trying again

    def _revert(self, app: str, reason: str, by: str) -> Answer:
        agent = self._agent
        check_known(self._journal, app, "revert")
        said = f"reverted by {by} on the host" + (f": {check_line(reason, 'reason')}" if reason.strip() else "")
        tx = agent.transactions.get(app)
        if tx is not None and tx.state in _GOING_BACK:
            raise InputError(f"cannot revert {app}: it is going back already ({tx.state})", code="under-way")
        if tx is not None and tx.state is not State.CONFIRMED:
            return self._give_up(tx, said)
        tx, previous = self._confirmed(app, tx)
        self._check_previous(app, previous)
        agent.turn_back(tx, said)
        line = f"{app}: goes back from {tx.wish.version} to {previous.wish.version}; see: towpath-agent history {app}"
        note = f"{tx.wish.version} is not applied again until told: towpath-agent retry {app}"
        return Answer((line, note), {"app": app, "from": tx.wish.version, "to": previous.wish.version})

    def _give_up(self, tx: Transaction, said: str) -> Answer:
        if not can(tx.state, Outcome.FAILED):
            raise InputError(f"cannot revert {tx.app}: it is {tx.state}; try again in a moment", code="under-way")
        what = tx.wish.version or "its removal"
        to = tx.old.wish.version if tx.old is not None else ""
        early = tx.state.before_switch
        self._agent.turn_back(tx, said)
        how = f"{to or 'nothing'} goes on running" if early else f"{to or 'nothing'} comes back"
        lines = (
            f"{tx.app}: {what} is given up in {tx.state}; {how}",
            f"{what} is not applied again until told: towpath-agent retry {tx.app}",
        )
        return Answer(lines, {"app": tx.app, "from": what, "to": to})

    def _confirmed(self, app: str, tx: Transaction | None) -> tuple[Transaction, Deployed]:
        """Return the transaction that made current live, made up again where it is long forgotten, and its old."""
        if tx is not None and tx.old is not None and tx.wish.sha256:
            return tx, tx.old
        current, previous = (self._journal.deployed(slot).get(app) for slot in ("current", "previous"))
        if current is None:
            raise InputError(f"cannot revert {app}: nothing of it runs", code="no-previous")
        if previous is None:
            raise InputError(
                f"cannot revert {app}: there is nothing to go back to from {current.wish.version}; stop it with: "
                f"towpath undeploy {app}, or hold it: towpath-agent hold {app}",
                code="no-previous",
            )
        return _as_confirmed(current, previous), previous

    def _check_previous(self, app: str, previous: Deployed) -> None:
        """Refuse where going back would fail or break a trust decision: nothing was touched yet."""
        version = previous.wish.version
        floor = self._floors.floors.releases.get(app, 0)
        if decode_release(previous.release).counter < floor:
            raise InputError(
                f"cannot revert {app} to {version}: the publisher has withdrawn it (rollback floor {floor}); deploy "
                "another release",
                code="rollback",
            )
        if not self._actions.is_whole(previous):
            raise InputError(
                f"cannot revert {app} to {version}: its tree on this host is damaged; deploy {version} from the server",
                code="damaged",
            )

    def _retry(self, app: str, by: str) -> Answer:
        agent = self._agent
        check_known(self._journal, app, "retry")
        refused = refused_apps(self._journal).get(app)
        tx, failure = agent.transactions.get(app), self._journal.failures().get(app)
        if tx is not None and tx.state in (State.FETCHING, State.STUCK):
            agent.hurry(tx)
            doing = "fetches" if tx.state is State.FETCHING else "goes back"
            return Answer((f"{app}: {doing} again now", *self._still_held(app)), {"app": app})
        if tx is not None and tx.state is not State.CONFIRMED:
            raise InputError(f"cannot retry {app}: it is under way already ({tx.state})", code="under-way")
        if failure is not None:
            for name in (app, *(mate.app for mate in failure.mates)):  # what failed as a set is tried again as a set
                self._journal.forget_failure(name)
            what = failure.wish.version or "its removal"
            agent.tell("retry", app, f"told by {by} to try {what} again; it had {failure.verdict}: {failure.reason}")
            line = f"{app}: {what} is tried again where the server still wants it; see: towpath-agent explain {app}"
            return Answer((line, *self._still_held(app)), {"app": app, "version": failure.wish.version})
        pardoned = agent.pardon() if app == AGENT_APP else ""
        if pardoned:
            agent.tell("retry", app, f"told by {by} to put {pardoned} on trial again")
            return Answer((f"{app}: {pardoned} is put on trial again", *self._still_held(app)), {"app": app})
        if refused is not None:
            raise InputError(
                f"cannot retry {app}: this host refuses {refused['version']}: {refused['code']}: {refused['message']}; "
                "only another release or manifest can change that",
                code="refused",
            )
        raise InputError(
            f"cannot retry {app}: nothing of it failed; see: towpath-agent explain {app}", code="no-failure"
        )


def _as_confirmed(current: Deployed, previous: Deployed) -> Transaction:
    """Return a transaction as it was when `current` took over from `previous`, to be turned back; not kept yet.

    Its id is of what it goes back from: asked twice, it is the same transaction.
    """
    return Transaction(
        id=f"revert-{current.wish.app}-{current.wish.generation}-{current.wish.sha256.hex()[:16]}",
        wish=current.wish,
        release=current.release,
        old=previous,
        state=State.CONFIRMED,
        touched=True,
    )


def _effect(tx: Transaction) -> str:
    what = tx.wish.version or "its removal"
    if tx.state.before_switch:
        return f"{tx.app}: {what} stays {tx.state} and goes on afterwards"
    return f"{tx.app}: {what} is past its switch ({tx.state}) and finishes: confirmed, or back"
