"""How a transaction ends: what runs is handed to the steady watch, failures are remembered, what is left is tidied up.

Not handled here: what is committed with the end (`runner.commits`), what is deleted (`runner.cleanup`).
"""

from collections.abc import Callable

from towpath.status import State, Verdict
from towpath.wire import decode_release
from towpath_agent.engine.planning import Failure, to_remember
from towpath_agent.journal import Journal, Transaction
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.steady import Steady
from towpath_agent.runner.telling import Teller
from towpath_agent.runner.underway import Underway
from towpath_agent.system.clock import Clock


class Ending:
    """Ends transactions; `rest` is called when a change is over."""

    def __init__(
        self,
        *,
        journal: Journal,
        underway: Underway,
        actions: Actions,
        sets: Sets,
        steady: Steady,
        floors: FloorsFile,
        teller: Teller,
        clock: Clock,
        rest: Callable[[], None],
    ) -> None:
        """Take what an end touches."""
        self._journal, self._underway, self._actions, self._sets = journal, underway, actions, sets
        self._steady, self._floors, self._teller, self._clock, self._rest = steady, floors, teller, clock, rest
        self._settled: set[str] = set()

    def hand_over(self, tx: Transaction) -> None:
        """After an end: what runs now is kept healthy by the steady watch, which need not prove it again."""
        self._underway.reload()
        watch = self._actions.take_watch(tx.id)
        it = self._underway.current.get(tx.app)
        if watch is not None and it is not None and watch.deployed == it:
            self._steady.adopt(tx.app, watch)

    def settle(self, tx: Transaction) -> None:
        """Tidy up once after a confirmation, and drop `tx` when the probation of its whole set is over."""
        if tx.id not in self._settled:
            if tx.wish.sha256:
                self._floors.raise_release(tx.app, decode_release(tx.release).rollback_floor)
            try:
                self._actions.settle(tx)
            except Exception as error:  # noqa: BLE001 - the release runs: no trouble of clean-up may end the agent
                self._teller.note(tx, reason=f"cannot clean up: {error}", code="cleanup", kind="cleanup")
            self._teller.notes(self._actions.notes)
            self._settled.add(tx.id)
            if all(other.state is State.CONFIRMED for other in self._underway.transactions.values()):
                self._actions.prune_store()
            self._rest()
        # A set stays one until the last of it has passed its probation.
        if all(self._clock.now_unix_ms() >= it.confirmed_unix_ms + _probation_ms(it) for it in self.with_mates(tx)):
            self.end(tx)

    def with_mates(self, tx: Transaction) -> list[Transaction]:
        """Return `tx` and the rest of its set."""
        return [tx, *self._sets.mates(tx.app)]

    def finish_reverted(self, tx: Transaction) -> None:
        """Remember what failed, tidy up, and drop `tx`."""
        if tx.verdict not in (Verdict.SUPERSEDED, Verdict.REFUSED):
            retry = None
            if tx.retry_after_s is not None:
                retry = self._clock.now_unix_ms() + round(tx.retry_after_s * 1000)
            failure = Failure(tx.wish, tx.reason, tx.verdict, retry, tx.mates)
            wish = next((it.wish for it in self._journal.desired() or [] if it.wish.app == tx.app), None)
            if to_remember(failure, self._journal.failures().get(tx.app), wish, self._clock.now_unix_ms()):
                self._journal.remember_failure(failure)
        self._actions.settle_reverted(tx)
        self._teller.notes(self._actions.notes)
        self.end(tx)

    def end(self, tx: Transaction) -> None:
        """Drop `tx`: it is over."""
        self._actions.clear_staging(tx.id)
        self._journal.drop_transaction(tx.id)
        self._actions.forget(tx)
        self._sets.forget(tx.id)
        self._settled.discard(tx.id)
        self._underway.transactions.pop(tx.app, None)
        self._underway.again.pop(tx.app, None)
        self._rest()


def _probation_ms(tx: Transaction) -> int:
    return decode_release(tx.release).health.probation_ms if tx.wish.sha256 else 0
