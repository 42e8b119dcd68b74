"""The agent's loop: sync, plan, drive transactions through the table, keep what runs healthy, report.

One thread calls `tick`. The state of a transaction is committed before the action of that state begins, so a crash at
any instruction resumes by doing that action again. Deciding stands in `engine`, acting in `runner.actions`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from towpath.errors import TowpathError, Unavailable
from towpath.status import Health, State, Verdict
from towpath.wire import decode_release
from towpath_agent.control.desk import Desk
from towpath_agent.engine import pacing, slots
from towpath_agent.engine.explaining import Live
from towpath_agent.engine.planning import Failure, Open, Step, Wish, plan, to_remember
from towpath_agent.engine.table import Action, Outcome, action_of, can, next_state
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.commits import Commits
from towpath_agent.runner.desired import Desired, refused_apps
from towpath_agent.runner.drift import previous_ids
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.holding import Holding
from towpath_agent.runner.local import Local
from towpath_agent.runner.reporting import Reporter, app_states
from towpath_agent.runner.result import Result
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.steady import Steady
from towpath_agent.runner.telling import Teller
from towpath_agent.system.clock import Clock

MAX_TICK_S = 60.0


@dataclass(frozen=True, slots=True)
class Chance:
    """Randomness, handed in: a uniform number in [0, 1) for jitter, and unique ids."""

    uniform: Callable[[], float]
    new_id: Callable[[], str]


class Agent:
    """Owns the transactions of one host."""

    def __init__(
        self,
        *,
        journal: Journal,
        desired: Desired,
        floors: FloorsFile,
        actions: Actions,
        steady: Steady,
        clock: Clock,
        chance: Chance,
        sync_interval_s: float = pacing.SYNC_INTERVAL_S,
        log: Callable[[str], None] = lambda _line: None,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        """Resume where the journal stands. `rest` is called when a change is over."""
        self._journal, self._desired, self._floors = journal, desired, floors
        self._actions, self._steady, self._clock, self._chance = actions, steady, clock, chance
        self._sync_interval_s, self._log, self._rest = sync_interval_s, log, rest
        self._reporter = Reporter(journal, clock)
        self._transactions = {tx.app: tx for tx in journal.transactions()}
        self._current = journal.deployed("current")
        self._again: dict[str, float] = {}
        self._superseded: dict[str, str] = {}
        self._settled: set[str] = set()
        self._sync_failures = 0
        self._sync_at_s = clock.monotonic()
        self._sync_said, self.synced = "", False
        self._sets = Sets(journal, self._transactions, actions.gone_back)
        actions.may_prove = self._sets.may_prove
        self._objections = self._sets.known_objections()
        self._teller = Teller(
            journal, self._reporter, clock, new_id=chance.new_id, log=log, refused=self._not_admitted()
        )
        self._commits = Commits(journal, self._sets, self._teller, clock)
        self._hinted = threading.Event()
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self.holding = Holding(journal, clock)
        desired.holds = lambda: self.holding.holds
        self.desk = Desk(self.wake.set)
        self._local = Local(self, journal, self.holding, floors, actions)
        self._told = False
        if self.holding.damaged:
            log("the holds in the journal could not be read and are dropped")

    # -- from other threads

    def hint(self) -> None:
        """Take a hint that something changed: sync as soon as possible. Safe from any thread."""
        self._hinted.set()
        self.wake.set()

    def stop(self) -> None:
        """End the loop soon, without touching what runs. Safe from any thread and from signal handlers."""
        self.stopping.set()
        self.wake.set()

    # -- the loop

    def run(self) -> None:
        """Tick until stopped."""
        while not self.stopping.is_set():
            delay = self.tick()
            self._clock.wait(self.wake, delay)
            self.wake.clear()

    def tick(self) -> float:
        """Do all that is due; return seconds until something may be due again."""
        self._serve()
        for hold in self.holding.expire():
            self.tell("hold", hold.app, f"it is over; was {hold.text}", "expired")
        if self._told:
            self._follow()
        if self._hinted.is_set() or self._clock.monotonic() >= self._sync_at_s:
            self._sync()
        self._plan()
        self._say()
        for app in sorted(self._transactions):
            self._drive(app)
        self._drive_waiting()
        self._keep_healthy()
        self._plan()  # a transaction that ended may make room for the next
        self._say()
        return self._delay()

    def _drive_waiting(self) -> None:
        """Let go on what waits for others of its set or in its order, as long as one step makes room for another."""
        for _ in list(self._transactions):
            before = {app: tx.state for app, tx in self._transactions.items()}
            for app in sorted(self._transactions):
                tx = self._transactions.get(app)
                if tx is not None and tx.state in (State.PREPARED, State.REVERTING):
                    self._again.pop(app, None)
                    self._drive(app)
            if before == {app: tx.state for app, tx in self._transactions.items()}:
                return

    def _delay(self) -> float:
        now = self._clock.monotonic()
        if any(not self._again.get(app) for app, tx in self._transactions.items() if tx.state is not State.CONFIRMED):
            return 0.0
        due = [self._sync_at_s, now + MAX_TICK_S, *self._again.values(), *self._steady.due_times()]
        report = self._reporter.due_s()
        if report is not None:
            due.append(report)
        hold_s = self.holding.seconds_left()
        if hold_s is not None:
            due.append(now + hold_s)
        return max(0.0, min(due) - now)

    # -- what should run

    def _sync(self) -> None:
        self._hinted.clear()
        try:
            changed = self._desired.sync(self._reporter.revision)
        except TowpathError as error:
            self._sync_failures += 1
            self._sync_said = str(error)
            if not isinstance(error, Unavailable):
                self._teller.trouble(error)
        else:
            if changed:
                self._log("desired state changed")
            self._sync_failures, self._sync_said, self.synced = 0, "", True
            self._teller.no_trouble()
            self._reporter.server_knows(self._desired.known_state_revision)
        delay = pacing.sync_delay_s(self._sync_failures, self._chance.uniform(), self._sync_interval_s)
        self._sync_at_s = self._clock.monotonic() + delay

    def _not_admitted(self) -> dict[str, dict[str, str | int]]:
        """Return the apps of the manifest that do not move: refused by verification, or objected to on this host."""
        return {**self._objections, **refused_apps(self._journal)}

    def _object(self, desired: dict[str, Deployed]) -> None:
        """Judge the manifest as a whole by what stands on the host now; told at the next plan."""
        self._objections = self._sets.object_to(
            desired,
            self._current,
            failures=self._journal.failures(),
            refused=refused_apps(self._journal),
            now_unix_ms=self._clock.now_unix_ms(),
        )
        self._sets.remember_objections(self._objections)

    def _plan(self) -> None:
        desired = self._journal.desired()
        if desired is None:
            return
        self._superseded.clear()
        self._object({it.wish.app: it for it in desired})
        self._teller.refusals(self._not_admitted())
        decisions = plan(
            [it.wish for it in desired],
            current={app: it.wish for app, it in self._current.items()},
            opened={
                app: Open(tx.wish, tx.state)
                for app, tx in self._transactions.items()
                if tx.state is not State.CONFIRMED
            },
            failures=self._journal.failures(),
            refused=set(self._not_admitted()),
            now_unix_ms=self._clock.now_unix_ms(),
            held=lambda app: self.holding.covering(app) is not None,
        )
        releases = {it.wish.app: it.release for it in desired}
        for decision in decisions:
            app = decision.wish.app
            if decision.step is Step.SUPERSEDE:
                self._superseded[app] = decision.reason
            elif decision.step is Step.ADOPT:
                previous = self._journal.deployed("previous").get(app)
                self._journal.set_current(app, Deployed(decision.wish, self._current[app].release), previous)
                self._reload()
            elif app not in self._superseded:
                self._begin(decision.wish, releases.get(app, b""))
        self._superseded = self._sets.spread(self._superseded)
        for app in self._superseded:
            # One that goes back already does so at its own pace: else it would be retried without a pause.
            if can(self._transactions[app].state, Outcome.SUPERSEDED):
                self._again.pop(app, None)

    def _begin(self, wish: Wish, release: bytes) -> None:
        if wish.app in self._transactions:  # in probation: what replaces it ends its watch, and that of its set
            for confirmed in self._with_mates(self._transactions[wish.app]):
                self._end(confirmed)
        old = self._current.get(wish.app)
        if wish.sha256:
            old_release = decode_release(old.release) if old is not None else None
            slot = slots.choose(wish, decode_release(release), old.wish if old is not None else None, old_release)
            wish = replace(wish, slot=slot)
        tx = Transaction(
            id=self._chance.new_id(),
            wish=wish,
            release=release,
            old=old,
            begun_unix_ms=self._clock.now_unix_ms(),
        )
        self._journal.put_transaction(tx, self._teller.transition(tx))
        self._reporter.happened()
        self._transactions[wish.app] = tx
        self._again.pop(wish.app, None)
        self._log(f"{wish.app}: {tx.state} {wish.version or 'removal'}")

    # -- one transaction

    def _drive(self, app: str) -> None:
        """Take the transaction of `app` as far as it goes now."""
        while not self.stopping.is_set():
            tx = self._transactions.get(app)
            if tx is None or tx.state is State.CONFIRMED:
                if tx is not None:
                    self._settle(tx)
                return
            if tx.state is State.REVERTED:
                self._finish_reverted(tx)
                return
            if tx.state.before_switch and self.holding.covering(app) is not None:
                self._again[app] = self._clock.monotonic() + MAX_TICK_S  # `_follow` wakes it when the hold is over
                return
            action = action_of(tx.state)
            if self._may_supersede(app):
                result = Result(Outcome.SUPERSEDED, self._superseded[app], "superseded", verdict=Verdict.SUPERSEDED)
            else:
                if self._again.get(app, 0.0) > self._clock.monotonic():
                    return
                result = self._act(action, tx)
            self._say_notes()
            if result.attempts is not None:
                tx = replace(tx, attempts=result.attempts)
            if result.handed and not tx.handed:
                tx = self._transactions[app] = replace(tx, handed=True)
            if result.outcome is None:
                if self._may_supersede(app):
                    continue
                soon = self._clock.monotonic() + pacing.FIRST_RETRY_S
                self._again[app] = result.again_s if result.again_s is not None else soon
                return
            self._again.pop(app, None)
            self._advance(tx, action, result)

    def _may_supersede(self, app: str) -> bool:
        return app in self._superseded and self._sets.may_supersede(app)

    def _act(self, action: Action, tx: Transaction) -> Result:
        """Perform `action`, where the set of `tx` lets it."""
        if action is Action.AWAIT_SET:
            desired = {it.wish.app: it for it in self._journal.desired() or []}
            self._object(desired)  # what had to come first may have failed since the last plan
            return self._sets.await_set(tx, desired)
        if action is Action.UNDO and not self._sets.may_go_back(tx.app):
            return Result(None)
        result = self._actions.perform(
            action,
            tx,
            server=self._desired.server,
            others=[t for t in self._transactions.values() if t.state is not State.CONFIRMED],
            interrupted=lambda: self._interrupted(tx.app),
        )
        if action is Action.WATCH:
            whole = self._sets.proves(tx, healthy=result.outcome is Outcome.DONE)
            if result.outcome is Outcome.DONE and not whole:  # healthy, and watched on until its whole set is
                return Result(None, handed=result.handed)
        return result

    def _advance(self, tx: Transaction, action: Action, result: Result) -> None:
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
            self._again[tx.app] = self._clock.monotonic() + delay
            if tx.state is State.STUCK:
                new = replace(new, reason=tx.reason)
        elif state is State.REVERTED:
            new = replace(new, verdict=result.verdict, reason=result.reason or tx.reason)
        elif state is State.CONFIRMED:
            new = replace(new, verdict=Verdict.SUCCEEDED, reason="", confirmed_unix_ms=self._clock.now_unix_ms())
        changed = self._commits.put(tx, new, result)
        self._reporter.happened()
        for it in changed:
            self._transactions[it.app] = it
            if it.state is state:
                reason = result.reason if it.app == tx.app else it.reason
                self._log(f"{it.app}: {state} {it.wish.version or 'removal'} {reason}".rstrip())
            if it.app != tx.app:
                self._again.pop(it.app, None)
        if state.ended:
            for it in changed:
                self._hand_over(it)

    def _hand_over(self, tx: Transaction) -> None:
        """After an end: what runs now is kept healthy by the steady watch, which need not prove it again."""
        self._reload()
        watch = self._actions.take_watch(tx.id)
        it = self._current.get(tx.app)
        if watch is not None and it is not None and watch.deployed == it:
            self._steady.adopt(tx.app, watch)

    def _reload(self) -> None:
        self._current = self._journal.deployed("current")

    def _settle(self, tx: Transaction) -> None:
        if tx.id not in self._settled:
            if tx.wish.sha256:
                self._floors.raise_release(tx.app, decode_release(tx.release).rollback_floor)
            try:
                self._actions.settle(tx)
            except Exception as error:  # noqa: BLE001 - the release runs: no trouble of clean-up may end the agent
                self._teller.note(tx, reason=f"cannot clean up: {error}", code="cleanup", kind="cleanup")
            self._say_notes()
            self._settled.add(tx.id)
            self._rest()
            if all(other.state is State.CONFIRMED for other in self._transactions.values()):
                self._actions.prune_store()
        # A set stays one until the last of it has passed its probation.
        if all(self._clock.now_unix_ms() >= it.confirmed_unix_ms + _probation_ms(it) for it in self._with_mates(tx)):
            self._end(tx)

    def _with_mates(self, tx: Transaction) -> list[Transaction]:
        return [tx, *self._sets.mates(tx.app)]

    def _finish_reverted(self, tx: Transaction) -> None:
        if tx.verdict not in (Verdict.SUPERSEDED, Verdict.REFUSED):
            retry = None
            if tx.retry_after_s is not None:
                retry = self._clock.now_unix_ms() + round(tx.retry_after_s * 1000)
            failure = Failure(tx.wish, tx.reason, tx.verdict, retry, tx.mates)
            wish = next((it.wish for it in self._journal.desired() or [] if it.wish.app == tx.app), None)
            if to_remember(failure, self._journal.failures().get(tx.app), wish, self._clock.now_unix_ms()):
                self._journal.remember_failure(failure)
        self._actions.settle_reverted(tx)
        self._say_notes()
        self._end(tx)

    def _end(self, tx: Transaction) -> None:
        self._actions.clear_staging(tx.id)
        self._journal.drop_transaction(tx.id)
        self._actions.forget(tx.id)
        self._sets.forget(tx.id)
        self._settled.discard(tx.id)
        self._transactions.pop(tx.app, None)
        self._again.pop(tx.app, None)
        self._rest()

    def _interrupted(self, app: str) -> bool:
        """Ask in mid-fetch whether to go on: a newer manifest may want something else, a person may want another."""
        self._serve(only_looks=True)
        if self._hinted.is_set():
            self._sync()
            self._plan()
        return app in self._superseded or self.stopping.is_set() or self.desk.waiting

    # -- what a person on the host says; `runner.local` decides, in this thread

    def _serve(self, *, only_looks: bool = False) -> None:
        for ticket in self.desk.take(only_looks=only_looks):
            ticket.close(self._local.do(ticket.request, ticket.by))

    def _follow(self) -> None:
        """Go on at once after what a person did, and let the server know: first where apps stand, then of holds."""
        self._told = False
        self._again.clear()
        self._say()
        self.hint()

    def tell(self, kind: str, app: str, reason: str, code: str = "") -> None:
        """Log and report what a person did, or what of it is over."""
        self._teller.word(kind, app, reason, code)
        self._told = True

    @property
    def transactions(self) -> Mapping[str, Transaction]:
        """Return app to its transaction that is kept, confirmed ones in probation too."""
        return self._transactions

    def turn_back(self, tx: Transaction, reason: str) -> None:
        """Send a transaction the way of a failure, by a person's decision; its probation may be long over."""
        self._transactions[tx.app] = tx
        self._again.pop(tx.app, None)
        self._advance(tx, action_of(tx.state), Result(Outcome.FAILED, reason, "reverted-on-host"))

    def hurry(self, tx: Transaction) -> None:
        """Do the action of `tx` now, whatever it waits for."""
        self._actions.hurry(tx.id)
        self._again.pop(tx.app, None)

    def live(self, app: str) -> Live:
        """Return what only the running agent knows of `app`."""
        now = self._clock.monotonic()
        again = self._again.get(app)
        restarts, restart_at = self._steady.restarts(app)
        return Live(
            again_in_s=max(0.0, again - now) if again is not None else None,
            restarts=restarts,
            restart_in_s=max(0.0, restart_at - now),
            sync_failures=self._sync_failures,
            sync_trouble=self._sync_said,
            sync_in_s=max(0.0, self._sync_at_s - now),
        )

    # -- what runs already

    def _keep_healthy(self) -> None:
        """Repair drift and, in probation, go back where the app falls ill."""
        moving = {
            app
            for app, tx in self._transactions.items()
            if tx.state is not State.CONFIRMED and not tx.state.before_switch
        }
        previous = previous_ids(self._journal.deployed("previous"))
        self._steady.keep({app: it for app, it in self._current.items() if app not in moving}, previous)
        for app, note in self._steady.take_notes():
            self._teller.drift(app, self._current[app].wish, note)
        for app in list(self._transactions):
            tx = self._transactions[app]
            verdict = self._steady.verdicts.get(app)
            ill = verdict is not None and verdict.health is Health.UNHEALTHY
            # Without anything to go back to, an ill app is better than none.
            if verdict is None or not ill or tx.state is not State.CONFIRMED or tx.old is None:
                continue
            if self._sets.may_return(tx, self._current):
                reason = f"fell ill during probation: {verdict.reason}"
                evidence = self._actions.evidence(Deployed(tx.wish, tx.release), verdict)
                result = Result(Outcome.FAILED, reason, "probation", evidence)
                self._advance(tx, Action.GUARD, result)
                self._drive(app)

    # -- what is said

    def _say(self) -> None:
        self._reporter.update(
            app_states(
                desired={it.wish.app: it.wish for it in self._journal.desired() or []},
                current=self._current,
                previous=self._journal.deployed("previous"),
                opened=self._transactions,
                failures=self._journal.failures(),
                refused=self._not_admitted(),
                health=self._steady.verdicts,
            ),
            self._clock.now_unix_ms(),
        )
        self._reporter.flush(self._desired.server)

    def _say_notes(self) -> None:
        while self._actions.notes:
            tx, code, reason, evidence = self._actions.notes.pop(0)
            self._teller.note(tx, reason=reason, code=code, evidence=evidence)


def _probation_ms(tx: Transaction) -> int:
    return decode_release(tx.release).health.probation_ms if tx.wish.sha256 else 0
