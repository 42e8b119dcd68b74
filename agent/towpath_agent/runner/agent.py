"""The agent's loop: sync, plan, drive transactions through the table, keep what runs healthy, report.

One thread calls `tick`. The state of a transaction is committed before the action of that state begins, so a crash at
any instruction resumes by doing that action again. Deciding stands in `engine`, acting in `runner.actions`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from towpath.errors import TowpathError, Unavailable
from towpath.reports import Event
from towpath.status import Health, State, Verdict
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.planning import Failure, Open, Step, Wish, plan
from towpath_agent.engine.table import Action, Outcome, action_of, can, next_state
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.actions import Actions, Result
from towpath_agent.runner.desired import Desired, refused_apps
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.reporting import Reporter, app_states
from towpath_agent.runner.steady import Steady
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
        self._last_trouble = ""
        self._refused = refused_apps(journal)
        self._hinted = threading.Event()
        self.stopping = threading.Event()
        self.wake = threading.Event()

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
        if self._hinted.is_set() or self._clock.monotonic() >= self._sync_at_s:
            self._sync()
        self._plan()
        self._say()
        for app in sorted(self._transactions):
            self._drive(app)
        for app in sorted(self._transactions):  # the last of a set to be prepared lets the others switch
            if self._transactions[app].state is State.PREPARED:
                self._again.pop(app, None)
                self._drive(app)
        self._keep_healthy()
        self._plan()  # a transaction that ended may make room for the next
        self._say()
        return self._delay()

    def _delay(self) -> float:
        now = self._clock.monotonic()
        if any(not self._again.get(app) for app, tx in self._transactions.items() if tx.state is not State.CONFIRMED):
            return 0.0
        due = [self._sync_at_s, now + MAX_TICK_S, *self._again.values(), *self._steady.due_times()]
        report = self._reporter.due_s()
        if report is not None:
            due.append(report)
        return max(0.0, min(due) - now)

    # -- what should run

    def _sync(self) -> None:
        self._hinted.clear()
        try:
            changed = self._desired.sync(self._reporter.revision)
        except TowpathError as error:
            self._sync_failures += 1
            if not isinstance(error, Unavailable):
                self._trouble(error)
        else:
            if changed:
                self._log("desired state changed")
                self._tell_refused()
            self._sync_failures = 0
            self._last_trouble = ""
            self._reporter.server_knows(self._desired.known_state_revision)
        delay = pacing.sync_delay_s(self._sync_failures, self._chance.uniform(), self._sync_interval_s)
        self._sync_at_s = self._clock.monotonic() + delay

    def _trouble(self, error: TowpathError) -> None:
        """Report a refused manifest under the attack's name, once and not at every try."""
        line = f"{error.code}: {error}"
        self._log(line)
        if line != self._last_trouble:
            self._last_trouble = line
            self._add_event(self._event("refusal", reason=str(error), code=error.code))

    def _tell_refused(self) -> None:
        """Report each app that was refused under the attack's name; the rest of the manifest goes on."""
        refused = refused_apps(self._journal)
        for app, no in refused.items():
            if self._refused.get(app) != no:
                self._log(f"{app}: refused {no['version']}: {no['code']}: {no['message']}")
                self._add_event(
                    replace(
                        self._event("refusal", reason=str(no["message"]), code=str(no["code"])),
                        app=app,
                        version=str(no["version"]),
                        release_sha256=bytes.fromhex(str(no["sha256"])),
                        verdict=Verdict.REFUSED.value,
                    )
                )
        self._refused = refused

    def _plan(self) -> None:
        desired = self._journal.desired()
        if desired is None:
            return
        self._superseded.clear()
        decisions = plan(
            [it.wish for it in desired],
            current={app: it.wish for app, it in self._current.items()},
            opened={
                app: Open(tx.wish, tx.state)
                for app, tx in self._transactions.items()
                if tx.state is not State.CONFIRMED
            },
            failures=self._journal.failures(),
            refused=set(refused_apps(self._journal)),
            now_unix_ms=self._clock.now_unix_ms(),
        )
        releases = {it.wish.app: it.release for it in desired}
        for decision in decisions:
            app = decision.wish.app
            if decision.step is Step.SUPERSEDE:
                self._superseded[app] = decision.reason
                self._again.pop(app, None)
            elif decision.step is Step.ADOPT:
                previous = self._journal.deployed("previous").get(app)
                self._journal.set_current(app, Deployed(decision.wish, self._current[app].release), previous)
                self._reload()
            elif app not in self._superseded:
                self._begin(decision.wish, releases.get(app, b""))

    def _begin(self, wish: Wish, release: bytes) -> None:
        confirmed = self._transactions.pop(wish.app, None)
        if confirmed is not None:  # in probation: what replaces it ends its watch
            self._journal.drop_transaction(confirmed.id)
            self._actions.forget(confirmed.id)
        tx = Transaction(
            id=self._chance.new_id(),
            wish=wish,
            release=release,
            old=self._current.get(wish.app),
            begun_unix_ms=self._clock.now_unix_ms(),
        )
        self._journal.put_transaction(tx, self._transition(tx))
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
            action = action_of(tx.state)
            if app in self._superseded and can(tx.state, Outcome.SUPERSEDED):
                result = Result(Outcome.SUPERSEDED, self._superseded[app], "superseded", verdict=Verdict.SUPERSEDED)
            else:
                if self._again.get(app, 0.0) > self._clock.monotonic():
                    return
                result = self._actions.perform(
                    action,
                    tx,
                    server=self._desired.server,
                    others=[t for t in self._transactions.values() if t.state is not State.CONFIRMED],
                    interrupted=lambda: self._interrupted(app),
                )
            self._say_notes()
            if result.attempts is not None:
                tx = replace(tx, attempts=result.attempts)
            if result.outcome is None:
                if app in self._superseded and can(tx.state, Outcome.SUPERSEDED):
                    continue
                soon = self._clock.monotonic() + pacing.FIRST_RETRY_S
                self._again[app] = result.again_s if result.again_s is not None else soon
                return
            self._again.pop(app, None)
            self._advance(tx, action, result)

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
        event = self._transition(new, reason=result.reason, evidence=result.evidence)
        if state is State.CONFIRMED:
            self._journal.confirm(new, event)
        elif state is State.REVERTED and new.touched:
            kept = self._journal.deployed("previous").get(tx.app)
            same = kept is not None and tx.old is not None and kept.wish.sha256 == tx.old.wish.sha256
            self._journal.revert(new, event, None if same else kept)
        else:
            self._journal.put_transaction(new, event)
        self._reporter.happened()
        self._transactions[tx.app] = new
        self._log(f"{tx.app}: {state} {tx.wish.version or 'removal'} {result.reason}".rstrip())
        if state.ended:
            self._hand_over(new)

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
                self._add_event(self._event("cleanup", tx=tx, reason=f"cannot clean up: {error}", code="cleanup"))
            self._say_notes()
            self._settled.add(tx.id)
            self._rest()
            if all(other.state is State.CONFIRMED for other in self._transactions.values()):
                self._actions.prune_store()
        probation = decode_release(tx.release).health.probation_ms if tx.wish.sha256 else 0
        if self._clock.now_unix_ms() >= tx.confirmed_unix_ms + probation:
            self._end(tx)

    def _finish_reverted(self, tx: Transaction) -> None:
        if tx.verdict is not Verdict.SUPERSEDED:
            retry = None
            if tx.retry_after_s is not None:
                retry = self._clock.now_unix_ms() + round(tx.retry_after_s * 1000)
            self._journal.remember_failure(Failure(tx.wish, tx.reason, tx.verdict, retry))
        self._end(tx)

    def _end(self, tx: Transaction) -> None:
        self._actions.clear_staging(tx.id)
        self._journal.drop_transaction(tx.id)
        self._actions.forget(tx.id)
        self._settled.discard(tx.id)
        self._transactions.pop(tx.app, None)
        self._again.pop(tx.app, None)
        self._rest()

    def _interrupted(self, app: str) -> bool:
        """Ask in mid-fetch whether to go on: a newer manifest may want something else."""
        if self._hinted.is_set():
            self._sync()
            self._plan()
        return app in self._superseded or self.stopping.is_set()

    # -- what runs already

    def _keep_healthy(self) -> None:
        """Repair drift and, in probation, go back where the app falls ill."""
        moving = {
            app
            for app, tx in self._transactions.items()
            if tx.state is not State.CONFIRMED and not tx.state.before_switch
        }
        self._steady.keep({app: it for app, it in self._current.items() if app not in moving})
        for app, reason, evidence in self._steady.take_notes():
            self._log(f"{app}: {reason}")
            it = self._current[app].wish
            self._add_event(
                Event(
                    id=self._chance.new_id(),
                    at_unix_ms=self._clock.now_unix_ms(),
                    kind="drift",
                    app=app,
                    version=it.version,
                    release_sha256=it.sha256,
                    reason=reason,
                    evidence=evidence,
                )
            )
        for app, tx in list(self._transactions.items()):
            verdict = self._steady.verdicts.get(app)
            ill = verdict is not None and verdict.health is Health.UNHEALTHY
            # Without anything to go back to, an ill app is better than none.
            if verdict is not None and ill and tx.state is State.CONFIRMED and tx.old is not None:
                reason = f"fell ill during probation: {verdict.reason}"
                result = Result(Outcome.FAILED, reason, "probation", verdict.evidence)
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
                refused=refused_apps(self._journal),
                health=self._steady.verdicts,
            ),
            self._clock.now_unix_ms(),
        )
        self._reporter.flush(self._desired.server)

    def _say_notes(self) -> None:
        while self._actions.notes:
            tx, code, reason, evidence = self._actions.notes.pop(0)
            self._log(f"{tx.app}: {reason}")
            self._add_event(self._event("note", tx=tx, reason=reason, code=code, evidence=evidence))

    def _add_event(self, event: Event) -> None:
        self._journal.add_event(event)
        self._reporter.happened()

    def _transition(self, tx: Transaction, reason: str = "", evidence: str = "") -> Event:
        return self._event("transition", tx=tx, reason=reason, code=tx.code, evidence=evidence)

    def _event(
        self, kind: str, *, tx: Transaction | None = None, reason: str = "", code: str = "", evidence: str = ""
    ) -> Event:
        return Event(
            id=self._chance.new_id(),
            at_unix_ms=self._clock.now_unix_ms(),
            kind=kind,
            app=tx.app if tx else "",
            transaction=tx.id if tx else "",
            state=tx.state.value if tx else "",
            version=tx.wish.version if tx else "",
            release_sha256=tx.wish.sha256 if tx else b"",
            verdict=tx.verdict.value if tx else "",
            reason=reason,
            code=code,
            evidence=evidence,
        )
