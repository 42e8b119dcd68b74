"""Takes one transaction through the table: perform the action of its state, commit the next state, go on.

The state of a transaction is committed before the action of that state begins, so a crash at any instruction resumes
by doing that action again. Not handled here: which transactions there are (`runner.planner`), how they end
(`runner.ending`), what an action does (`runner.actions`).
"""

from collections.abc import Callable
from dataclasses import replace

from towpath.status import State, Verdict
from towpath_agent.engine import pacing
from towpath_agent.engine.table import Action, Outcome, action_of, next_state
from towpath_agent.journal import Journal, Transaction
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.commits import Commits
from towpath_agent.runner.desired import Desired
from towpath_agent.runner.ending import Ending
from towpath_agent.runner.holding import Holding
from towpath_agent.runner.planner import Planner
from towpath_agent.runner.reporting import Reporter
from towpath_agent.runner.result import Result
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.telling import Teller
from towpath_agent.runner.underway import Underway
from towpath_agent.system.clock import Clock

# The loop wakes what is held when the hold is over; this is only how long it looks away at most.
HELD_S = 60.0
# The same of what waits for the agent's own sake: the end of another transaction wakes it.
AGENT_S = 5.0


class Driving:
    """Drives the transactions of one host."""

    def __init__(
        self,
        *,
        journal: Journal,
        underway: Underway,
        actions: Actions,
        sets: Sets,
        commits: Commits,
        planner: Planner,
        ending: Ending,
        holding: Holding,
        reporter: Reporter,
        teller: Teller,
        clock: Clock,
        desired: Desired,
        stopping: Callable[[], bool],
        interrupted: Callable[[str], bool],
        waits: Callable[[str], str],
    ) -> None:
        """`interrupted` is asked in mid-fetch, with the app, whether to leave off.

        `waits` tells why an app that is prepared may not switch for the sake of the agent itself; empty where it may.
        """
        self._journal, self._underway, self._actions, self._sets = journal, underway, actions, sets
        self._commits, self._planner, self._ending, self._holding = commits, planner, ending, holding
        self._reporter, self._teller, self._clock, self._desired = reporter, teller, clock, desired
        self._stopping, self._interrupted, self._waits = stopping, interrupted, waits

    def drive_waiting(self) -> None:
        """Let go on what waits for others of its set or in its order, as long as one step makes room for another."""
        for _ in list(self._underway.transactions):
            before = {app: tx.state for app, tx in self._underway.transactions.items()}
            for app in sorted(self._underway.transactions):
                tx = self._underway.transactions.get(app)
                if tx is not None and tx.state in (State.PREPARED, State.REVERTING):
                    self._underway.again.pop(app, None)
                    self.drive(app)
            if before == {app: tx.state for app, tx in self._underway.transactions.items()}:
                return

    def drive(self, app: str) -> None:
        """Take the transaction of `app` as far as it goes now."""
        while not self._stopping():
            tx = self._underway.transactions.get(app)
            if tx is None or tx.state is State.CONFIRMED:
                if tx is not None:
                    self._ending.settle(tx)
                return
            if tx.state is State.REVERTED:
                self._ending.finish_reverted(tx)
                return
            if tx.state.before_switch and self._holding.covering(app) is not None:
                self._underway.again[app] = self._clock.monotonic() + HELD_S  # `_follow` wakes it when the hold is over
                return
            action = action_of(tx.state)
            if self._may_supersede(app):
                result = Result(
                    Outcome.SUPERSEDED, self._underway.superseded[app], "superseded", verdict=Verdict.SUPERSEDED
                )
            else:
                if self._underway.again.get(app, 0.0) > self._clock.monotonic():
                    return
                result = self._act(action, tx)
            self._teller.notes(self._actions.notes)
            if result.attempts is not None:
                tx = replace(tx, attempts=result.attempts)
            if result.handed and not tx.handed:
                tx = self._underway.transactions[app] = replace(tx, handed=True)
            if result.outcome is None:
                if self._may_supersede(app):
                    continue
                soon = self._clock.monotonic() + pacing.FIRST_RETRY_S
                self._underway.again[app] = result.again_s if result.again_s is not None else soon
                return
            self._underway.again.pop(app, None)
            self.advance(tx, action, result)

    def _may_supersede(self, app: str) -> bool:
        return app in self._underway.superseded and self._sets.may_supersede(app)

    def _act(self, action: Action, tx: Transaction) -> Result:
        """Perform `action`, where the set of `tx` lets it."""
        if action is Action.AWAIT_SET:
            desired = {it.wish.app: it for it in self._journal.desired() or []}
            self._planner.object_to(desired)  # what had to come first may have failed since the last plan
            result = self._sets.await_set(tx, desired)
            why = self._waits(tx.app) if result.outcome is Outcome.DONE else ""
            return Result(None, why, again_s=self._clock.monotonic() + AGENT_S) if why else result
        if action is Action.UNDO and not self._sets.may_go_back(tx.app):
            return Result(None)
        result = self._actions.perform(
            action,
            tx,
            server=self._desired.source,
            others=[t for t in self._underway.transactions.values() if t.state is not State.CONFIRMED],
            interrupted=lambda: self._interrupted(tx.app),
        )
        if action is Action.WATCH:
            whole = self._sets.proves(tx, healthy=result.outcome is Outcome.DONE)
            if result.outcome is Outcome.DONE and not whole:  # healthy, and watched on until its whole set is
                return Result(None, handed=result.handed)
        return result

    def advance(self, tx: Transaction, action: Action, result: Result) -> None:
        """Commit the next state of `tx` before its action begins."""
        outcome = result.outcome
        assert outcome is not None  # noqa: S101 - callers ask only for results that ended
        state = next_state(tx.state, action, outcome)
        new = replace(tx, state=state)
        if state in (State.REVERTING, State.STUCK) and tx.state not in (State.REVERTING, State.STUCK):
            new = replace(
                new, reason=result.reason, code=result.code, verdict=result.verdict, retry_after_s=result.retry_after_s
            )
        elif state is State.SWITCHING:
            new = replace(new, touched=True)
        elif state is State.STUCK:
            new = replace(new, tries=tx.tries + 1, reason=f"cannot go back: {result.reason}; was: {tx.reason}"[:900])
            delay = pacing.backoff_s(new.tries, pacing.UNDO_RETRY_S, pacing.MAX_UNDO_RETRY_S)
            self._underway.again[tx.app] = self._clock.monotonic() + delay
            if tx.state is State.STUCK:
                new = replace(new, reason=tx.reason)
        elif state is State.REVERTED:
            new = replace(new, verdict=result.verdict, reason=result.reason or tx.reason)
        elif state is State.CONFIRMED:
            new = replace(new, verdict=Verdict.SUCCEEDED, reason="", confirmed_unix_ms=self._clock.now_unix_ms())
        changed = self._commits.put(tx, new, result)
        self._reporter.happened()
        for it in changed:
            self._underway.transactions[it.app] = it
            if it.state is state:
                reason = result.reason if it.app == tx.app else it.reason
                self._teller.log(f"{it.app}: {state} {it.wish.version or 'removal'} {reason}".rstrip())
            if it.app != tx.app:
                self._underway.again.pop(it.app, None)
        if state.ended:
            for it in changed:
                self._ending.hand_over(it)
