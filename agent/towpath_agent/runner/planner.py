"""Applies the plan: what the engine decides of the desired set and of what stands here becomes transactions.

Not handled here: the decisions (`engine.planning`, `engine.admission`), driving what was opened (`runner.driving`).
"""

from collections.abc import Callable
from dataclasses import replace

from towpath.selfupdate import AGENT_APP
from towpath.status import State
from towpath.wire import decode_release
from towpath_agent.engine import selfupdate, slots
from towpath_agent.engine.planning import Open, Step, Wish, plan
from towpath_agent.engine.table import Outcome, can
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.desired import refused_apps
from towpath_agent.runner.ending import Ending
from towpath_agent.runner.holding import Holding
from towpath_agent.runner.reporting import Reporter
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.telling import Teller
from towpath_agent.runner.underway import Underway
from towpath_agent.system.clock import Clock


class Planner:
    """Opens and supersedes the transactions of one host."""

    def __init__(
        self,
        *,
        journal: Journal,
        underway: Underway,
        sets: Sets,
        ending: Ending,
        holding: Holding,
        reporter: Reporter,
        teller: Teller,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        """Take what a plan is made of."""
        self._journal, self._underway, self._sets, self._ending = journal, underway, sets, ending
        self._holding, self._reporter, self._teller, self._clock = holding, reporter, teller, clock
        self._new_id = new_id
        self._objections = sets.known_objections()

    def not_admitted(self) -> dict[str, dict[str, str | int]]:
        """Return the apps of the manifest that do not move: refused by verification, or objected to on this host."""
        return {**self._objections, **refused_apps(self._journal)}

    def object_to(self, desired: dict[str, Deployed]) -> None:
        """Judge the manifest as a whole by what stands on the host now; told at the next plan."""
        self._objections = self._sets.object_to(
            desired,
            self._underway.current,
            failures=self._journal.failures(),
            refused=refused_apps(self._journal),
            now_unix_ms=self._clock.now_unix_ms(),
        )
        self._sets.remember_objections(self._objections)

    def plan(self) -> None:
        """Open, adopt and supersede, as the desired set and what stands here ask for."""
        desired = self._journal.desired()
        if desired is None:
            return
        self._underway.superseded.clear()
        self.object_to({it.wish.app: it for it in desired})
        self._teller.refusals(self.not_admitted())
        decisions = plan(
            [it.wish for it in desired],
            current={app: it.wish for app, it in self._underway.current.items()},
            opened={
                app: Open(tx.wish, tx.state)
                for app, tx in self._underway.transactions.items()
                if tx.state is not State.CONFIRMED
            },
            failures=self._journal.failures(),
            refused=set(self.not_admitted()),
            now_unix_ms=self._clock.now_unix_ms(),
            held=lambda app: self._holding.covering(app) is not None or self._agent_moves(app),
        )
        releases = {it.wish.app: it.release for it in desired}
        for decision in decisions:
            app = decision.wish.app
            if decision.step is Step.SUPERSEDE:
                self._underway.superseded[app] = decision.reason
            elif decision.step is Step.ADOPT:
                previous = self._journal.deployed("previous").get(app)
                self._journal.set_current(app, Deployed(decision.wish, self._underway.current[app].release), previous)
                self._underway.reload()
            elif app not in self._underway.superseded:
                self._begin(decision.wish, releases.get(app, b""))
        self._underway.superseded = self._sets.spread(self._underway.superseded)
        for app in self._underway.superseded:
            # One that goes back already does so at its own pace: else it would be retried without a pause.
            if can(self._underway.transactions[app].state, Outcome.SUPERSEDED):
                self._underway.again.pop(app, None)

    def _agent_moves(self, app: str) -> bool:
        """Return whether `app` may not begin because the agent itself is on the move."""
        own = self._underway.transactions.get(AGENT_APP)
        return app != AGENT_APP and own is not None and selfupdate.moves(own.state)

    def _begin(self, wish: Wish, release: bytes) -> None:
        if (
            wish.app in self._underway.transactions
        ):  # in probation: what replaces it ends its watch, and that of its set
            for confirmed in self._ending.with_mates(self._underway.transactions[wish.app]):
                self._ending.end(confirmed)
        old = self._underway.current.get(wish.app)
        if wish.sha256:
            old_release = decode_release(old.release) if old is not None else None
            slot = slots.choose(wish, decode_release(release), old.wish if old is not None else None, old_release)
            wish = replace(wish, slot=slot)
        tx = Transaction(
            id=self._new_id(),
            wish=wish,
            release=release,
            old=old,
            begun_unix_ms=self._clock.now_unix_ms(),
        )
        self._journal.put_transaction(tx, self._teller.transition(tx))
        self._reporter.happened()
        self._underway.transactions[wish.app] = tx
        self._underway.again.pop(wish.app, None)
        self._teller.log(f"{wish.app}: {tx.state} {wish.version or 'removal'}")
