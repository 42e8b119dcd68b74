"""What is committed as one when a transaction reaches its next state: the state, what it means for its set, the events.

Rules: a set is confirmed whole, begins to go back whole, and is sealed before the first of it switches; a crash finds
all of it or nothing. What the next state is stands in `engine.table`, what a set is in `engine.sets`.
"""

from dataclasses import replace

from towpath.status import State, Verdict
from towpath_agent.journal import Journal, Transaction
from towpath_agent.runner.result import Result
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.telling import Teller
from towpath_agent.system.clock import Clock


class Commits:
    """Writes transitions to the journal."""

    def __init__(self, journal: Journal, sets: Sets, teller: Teller, clock: Clock) -> None:
        """Take what a transition is made of."""
        self._journal, self._sets, self._teller, self._clock = journal, sets, teller, clock

    def put(self, tx: Transaction, new: Transaction, result: Result) -> list[Transaction]:
        """Commit that `tx` became `new`, and why; return all that changed with it, `new` first."""
        event = self._teller.transition(new, reason=result.reason, evidence=result.evidence)
        changed = [new]
        if new.state is State.CONFIRMED:
            now = self._clock.now_unix_ms()
            verdict = Verdict.SUCCEEDED
            changed += [
                replace(mate, state=new.state, verdict=verdict, reason="", confirmed_unix_ms=now)
                for mate in self._sets.mates(tx.app)
            ]
            self._journal.confirm(new, event, *((mate, self._teller.transition(mate)) for mate in changed[1:]))
        elif new.state is State.SWITCHING:
            changed = self._sets.sealed(new)
            self._journal.put_transactions([(it, event if it.app == tx.app else None) for it in changed])
        elif new.state is State.REVERTING and tx.state is not State.STUCK:
            wishes = {it.wish.app: it.wish for it in self._journal.desired() or []}
            changed = self._sets.failing(tx, new, wishes)
            told = [event, *(self._teller.transition(mate, reason=mate.reason) for mate in changed[1:])]
            self._journal.put_transactions(list(zip(changed, told, strict=True)))
        elif new.state is State.REVERTED and new.touched:
            kept = self._journal.deployed("previous").get(tx.app)
            same = kept is not None and tx.old is not None and kept.wish.sha256 == tx.old.wish.sha256
            self._journal.revert(new, event, None if same else kept)
        else:
            self._journal.put_transaction(new, event)
        return changed
