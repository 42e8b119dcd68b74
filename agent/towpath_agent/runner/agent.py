"""The agent's loop: sync, plan, drive transactions through the table, keep what runs healthy, report.

One thread calls `tick`, which lets the parts do what is due, in this order: people (`runner.local`), the server
(`runner.pull`), the plan (`runner.planner`), transactions (`runner.driving`), what runs (`runner.steady`), reports.
Deciding stands in `engine`, acting in `runner.actions`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from towpath.selfupdate import AGENT_APP
from towpath.status import Health, State
from towpath_agent.control.desk import Desk
from towpath_agent.control.protocol import Contact
from towpath_agent.engine import pacing, selfupdate
from towpath_agent.engine.explaining import Live
from towpath_agent.engine.prefetching import DEFAULT_DAY_BYTES
from towpath_agent.engine.table import Action, Outcome, action_of
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.bundles import Bundles
from towpath_agent.runner.commits import Commits
from towpath_agent.runner.desired import Desired, refused_apps
from towpath_agent.runner.drift import previous_ids
from towpath_agent.runner.driving import Driving
from towpath_agent.runner.ending import Ending
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.holding import Holding
from towpath_agent.runner.local import Local
from towpath_agent.runner.planner import Planner
from towpath_agent.runner.prefetch import Prefetching
from towpath_agent.runner.pull import Pull
from towpath_agent.runner.reporting import Reporter, app_states
from towpath_agent.runner.result import Result
from towpath_agent.runner.sets import Sets
from towpath_agent.runner.steady import Steady
from towpath_agent.runner.telling import Teller
from towpath_agent.runner.underway import Underway
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
        prefetch_day_bytes: int = DEFAULT_DAY_BYTES,
    ) -> None:
        """Resume where the journal stands. `rest` is called when a change is over.

        `prefetch_day_bytes`: what is fetched ahead in a day at most, 0: nothing.
        """
        self._journal, self._desired, self._actions = journal, desired, actions
        self._steady, self._clock = steady, clock
        self._reporter = Reporter(journal, clock)
        self._underway = Underway(journal)
        self._sets = Sets(journal, self._underway.transactions, actions.gone_back)
        actions.may_prove = self._sets.may_prove
        self._teller = Teller(
            journal,
            self._reporter,
            clock,
            new_id=chance.new_id,
            log=log,
            refused={**self._sets.known_objections(), **refused_apps(journal)},
        )
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self.holding = Holding(journal, clock)
        desired.holds = lambda: self.holding.holds
        self._pull = Pull(
            desired=desired,
            reporter=self._reporter,
            teller=self._teller,
            clock=clock,
            uniform=chance.uniform,
            interval_s=sync_interval_s,
        )
        ending = Ending(
            journal=journal,
            underway=self._underway,
            actions=actions,
            sets=self._sets,
            steady=steady,
            floors=floors,
            teller=self._teller,
            clock=clock,
            rest=rest,
        )
        self._planner = Planner(
            journal=journal,
            underway=self._underway,
            sets=self._sets,
            ending=ending,
            holding=self.holding,
            reporter=self._reporter,
            teller=self._teller,
            clock=clock,
            new_id=chance.new_id,
        )
        self._driving = Driving(
            journal=journal,
            underway=self._underway,
            actions=actions,
            sets=self._sets,
            commits=Commits(journal, self._sets, self._teller, clock),
            planner=self._planner,
            ending=ending,
            holding=self.holding,
            reporter=self._reporter,
            teller=self._teller,
            clock=clock,
            desired=desired,
            stopping=self.stopping.is_set,
            interrupted=self._interrupted,
            waits=self.waits,
        )
        self._prefetching = Prefetching(
            journal=journal,
            site=actions.site,
            server=lambda: desired.server,
            kinds=actions.staging,
            holding=self.holding,
            underway=self._underway,
            teller=self._teller,
            transfers=actions.staging.transfers,
            clock=clock,
            uniform=chance.uniform,
            interval_s=sync_interval_s,
            upkeep=self._upkeep,
            say=self._say,
            day_bytes=prefetch_day_bytes,
        )
        actions.staging.transfers.say = self._say
        actions.keeps, actions.staging.make_room = self._prefetching.keeps, self._prefetching.make_room
        self.desk = Desk(self.wake.set)
        self.bundles = Bundles(desired, journal, actions.site.files, self._teller)
        self._local = Local(self, journal, self.holding, floors, actions)
        self._told = False
        self.works: Callable[[], None] = lambda: None  # called in mid-fetch: the agent is up, however long that takes
        self.on_trial = False  # a launcher waits for it to prove itself
        self.pardon: Callable[[], str] = str  # forget that a version of the agent itself was given up; say which
        if self.holding.damaged:
            log("the holds in the journal could not be read and are dropped")

    # -- from other threads

    def hint(self) -> None:
        """Take a hint that something changed: sync as soon as possible. Safe from any thread."""
        self._pull.hint()
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
        if self._pull.hinted or self._clock.monotonic() >= self._pull.due_s:
            self._pull.sync()
        self._planner.plan()
        self._say()
        for app in sorted(self._underway.transactions):
            self._driving.drive(app)
        self._driving.drive_waiting()
        self._keep_healthy()
        self._planner.plan()  # a transaction that ended may make room for the next
        self._say()
        if not self.on_trial:
            self._prefetching.step()
        self.bundles.settle()
        return self._delay()

    def _delay(self) -> float:
        now = self._clock.monotonic()
        if any(
            not self._underway.again.get(app)
            for app, tx in self._underway.transactions.items()
            if tx.state is not State.CONFIRMED
        ):
            return 0.0
        due = [self._pull.due_s, now + MAX_TICK_S, *self._underway.again.values(), *self._steady.due_times()]
        ahead = None if self.on_trial else self._prefetching.due_s()
        if ahead is not None:
            due.append(ahead)
        report = self._reporter.due_s()
        if report is not None:
            due.append(report)
        hold_s = self.holding.seconds_left()
        if hold_s is not None:
            due.append(now + hold_s)
        return max(0.0, min(due) - now)

    def _interrupted(self, app: str) -> bool:
        """Ask in mid-fetch whether to go on: a newer manifest may want something else, a person may want another."""
        self.works()
        self._serve(only_looks=True)
        if self._pull.hinted:
            self._pull.sync()
            self._planner.plan()
        return app in self._underway.superseded or self.stopping.is_set() or self.desk.waiting

    def _upkeep(self) -> bool:
        """Between two pieces of what is fetched ahead: do what is due, and say whether the loop itself must turn."""
        self.works()
        self._serve(only_looks=True)
        now = self._clock.monotonic()
        if self._pull.hinted or now >= self._pull.due_s:
            self._pull.sync()
            self._planner.plan()
        if any(due <= now for due in self._steady.due_times()):
            self._keep_healthy()
            self._say()
        return self.stopping.is_set() or self.desk.waiting or self.holding.seconds_left() == 0

    # -- the agent itself as an app of its host

    def waits(self, app: str) -> str:
        """Return why `app` may not switch now because the agent changes, or would; empty where it may."""
        states = {it.app: it.state for it in self._underway.transactions.values()}
        return selfupdate.waits(app, states, server_answers=self._pull.failures == 0)

    @property
    def own_state(self) -> State | None:
        """Return the state of the transaction of the agent itself, None where there is none."""
        tx = self._underway.transactions.get(AGENT_APP)
        return tx.state if tx is not None else None

    @property
    def unproven(self) -> str:
        """Return what this agent has not done yet since it began, of what proves one; empty where it has done all."""
        if not self.synced:
            return f"it has not synced yet{': ' if self._pull.trouble else ''}{self._pull.trouble}"
        return "" if self._reporter.delivered else "it has not reported yet"

    # -- what a person on the host says; `runner.local` decides, in this thread

    def _serve(self, *, only_looks: bool = False) -> None:
        for ticket in self.desk.take(only_looks=only_looks):
            ticket.close(self._local.do(ticket.request, ticket.by))

    def _follow(self) -> None:
        """Go on at once after what a person did, and let the server know: first where apps stand, then of holds."""
        self._told = False
        self._underway.again.clear()
        self._say()
        self.hint()

    def tell(self, kind: str, app: str, reason: str, code: str = "") -> None:
        """Log and report what a person did, what of it is over, or what this agent found at its start."""
        self._teller.word(kind, app, reason, code)
        self._told = True

    @property
    def synced(self) -> bool:
        """Return whether the server has answered since this agent began."""
        return self._pull.synced

    @property
    def contact(self) -> Contact:
        """Return how it is with the server. Safe from any thread."""
        return self._pull.contact

    @property
    def _sync_failures(self) -> int:
        return self._pull.failures

    @property
    def transactions(self) -> Mapping[str, Transaction]:
        """Return app to its transaction that is kept, confirmed ones in probation too."""
        return self._underway.transactions

    def turn_back(self, tx: Transaction, reason: str) -> None:
        """Send a transaction the way of a failure, by a person's decision; its probation may be long over."""
        self._underway.transactions[tx.app] = tx
        self._underway.again.pop(tx.app, None)
        self._driving.advance(tx, action_of(tx.state), Result(Outcome.FAILED, reason, "reverted-on-host"))

    def hurry_all(self) -> None:
        """Go on at once with what waits to be fetched: there is another way now."""
        for tx in self._underway.transactions.values():
            if tx.state is State.FETCHING:
                self.hurry(tx)

    def hurry(self, tx: Transaction) -> None:
        """Do the action of `tx` now, whatever it waits for."""
        self._actions.staging.hurry(tx.id)
        self._underway.again.pop(tx.app, None)

    def live(self, app: str) -> Live:
        """Return what only the running agent knows of `app`."""
        now = self._clock.monotonic()
        again = self._underway.again.get(app)
        restarts, restart_at = self._steady.restarts(app)
        return Live(
            again_in_s=max(0.0, again - now) if again is not None else None,
            restarts=restarts,
            restart_in_s=max(0.0, restart_at - now),
            sync_failures=self._pull.failures,
            sync_trouble=self._pull.trouble,
            sync_in_s=max(0.0, self._pull.due_s - now),
        )

    # -- what runs already

    def _keep_healthy(self) -> None:
        """Repair drift and, in probation, go back where the app falls ill."""
        moving = {
            app
            for app, tx in self._underway.transactions.items()
            if tx.state is not State.CONFIRMED and not tx.state.before_switch
        }
        previous = previous_ids(self._journal.deployed("previous"))
        self._steady.keep({app: it for app, it in self._underway.current.items() if app not in moving}, previous)
        for app, note in self._steady.take_notes():
            self._teller.drift(app, self._underway.current[app].wish, note)
        for app in list(self._underway.transactions):
            tx = self._underway.transactions[app]
            verdict = self._steady.verdicts.get(app)
            ill = verdict is not None and verdict.health is Health.UNHEALTHY
            # Without anything to go back to, an ill app is better than none.
            if verdict is None or not ill or tx.state is not State.CONFIRMED or tx.old is None:
                continue
            if self._sets.may_return(tx, self._underway.current):
                reason = f"fell ill during probation: {verdict.reason}"
                evidence = self._actions.evidence(Deployed(tx.wish, tx.release), verdict)
                result = Result(Outcome.FAILED, reason, "probation", evidence)
                self._driving.advance(tx, Action.GUARD, result)
                self._driving.drive(app)

    # -- what is said

    def _say(self) -> None:
        self._reporter.update(
            app_states(
                desired={it.wish.app: it.wish for it in self._journal.desired() or []},
                current=self._underway.current,
                previous=self._journal.deployed("previous"),
                opened=self._underway.transactions,
                failures=self._journal.failures(),
                refused=self._planner.not_admitted(),
                health=self._steady.verdicts,
                prefetch=self._prefetching.states,
                transfers=self._actions.staging.transfers.told,
            ),
            self._clock.now_unix_ms(),
        )
        self._reporter.flush(self._desired.server)
