"""What the host says about itself: the state of its apps, kept durable, and the reports that wait for a server."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from towpath.errors import Refusal, Unavailable
from towpath.reports import MAX_EVENTS_PER_REPORT, AppState, Prefetch, PrefetchState, Transfer
from towpath.status import Health, State, Verdict
from towpath_agent.engine import pacing
from towpath_agent.engine.health import HealthVerdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.ports import Server
from towpath_agent.system.clock import Clock

_LIVE = (State.SWITCHED, State.WATCHING)
# What may change of an app without its state being a new one.
_BESIDE: dict[str, Any] = {"since_unix_ms": 0, "prefetch": None, "transfer": None}


def app_states(
    *,
    desired: Mapping[str, Wish],
    current: Mapping[str, Deployed],
    previous: Mapping[str, Deployed],
    opened: Mapping[str, Transaction],
    failures: Mapping[str, Failure],
    refused: Mapping[str, Mapping[str, str | int]],
    health: Mapping[str, HealthVerdict],
    prefetch: Mapping[str, Prefetch],
    transfers: Mapping[str, Transfer],
) -> list[AppState]:
    """Return the state of every app that the host runs, should run, failed to run or fetches ahead, by name. Pure."""
    states = []
    for app in sorted(set(current) | set(opened) | set(desired) | set(refused) | set(prefetch)):
        it, tx, wish = current.get(app), opened.get(app), desired.get(app)
        verdict = health.get(app)
        state = AppState(
            app=app,
            current_version=it.wish.version if it else "",
            current_sha256=it.wish.sha256 if it else b"",
            previous_version=previous[app].wish.version if app in previous else "",
            desired_version=wish.version if wish else "",
            desired_sha256=wish.sha256 if wish else b"",
            state=State.CONFIRMED if it else State.PLANNED,
            health=verdict.health if verdict else Health.UNKNOWN,
            verdict=Verdict.SUCCEEDED if it else Verdict.NONE,
            reason=verdict.reason if verdict and verdict.health is Health.UNHEALTHY else "",
            generation=it.wish.generation if it else 0,
            parameters=it.wish.parameters if it else {},
            prefetch=prefetch.get(app),
        )
        failure = failures.get(app)
        if tx is not None and tx.state is not State.CONFIRMED:
            state = _under_way(state, tx)
        elif app in refused:
            no = refused[app]
            state = replace(
                state,
                desired_version=str(no["version"]),
                desired_sha256=bytes.fromhex(str(no["sha256"])),
                verdict=Verdict.REFUSED,
                reason=str(no["message"]),
                generation=int(no["generation"]),
            )
        elif wish is not None and failure is not None and _answers(failure, wish, it):
            state = replace(
                state,
                state=State.REVERTED,
                verdict=failure.verdict,
                reason=failure.reason,
                generation=failure.wish.generation,
            )
        states.append(replace(state, transfer=_travelling(state, transfers.get(app))))
    return states


def _travelling(state: AppState, transfer: Transfer | None) -> Transfer | None:
    """Return what travels for the app, where it is being fetched, or fetched ahead; what was told may be over."""
    ahead = state.prefetch
    if ahead is not None and ahead.state is PrefetchState.FETCHING:
        return transfer
    return transfer if state.state is State.FETCHING else None


def _answers(failure: Failure, wish: Wish, current: Deployed | None) -> bool:
    if current is not None and wish.same_as(current.wish):
        return False
    return wish.same_as(failure.wish) and wish.generation == failure.wish.generation


def _under_way(state: AppState, tx: Transaction) -> AppState:
    if tx.state in _LIVE:
        state = replace(
            state,
            current_version=tx.wish.version,
            current_sha256=tx.wish.sha256,
            health=Health.STARTING if tx.wish.sha256 else Health.UNKNOWN,
            parameters=tx.wish.parameters,
        )
    return replace(
        state,
        desired_version=tx.wish.version,
        desired_sha256=tx.wish.sha256,
        state=tx.state,
        verdict=tx.verdict,
        reason=tx.reason,
        generation=tx.wish.generation,
    )


class Reporter:
    """Keeps the state durable and sends what the server does not have yet."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Continue where the journal stands."""
        self._journal, self._clock = journal, clock
        self._states = {state.app: state for state in journal.app_states()}
        self.revision = int(journal.meta().get("state_revision", "0"))
        self._sent_revision = -1
        self._has_events = True
        self.delivered = False  # the server has acknowledged something since the agent began
        self._failures = 0
        self._again_s = 0.0

    def update(self, states: list[AppState], now_unix_ms: int) -> None:
        """Take the state as it is now; a change raises the revision."""
        stamped = {}
        for state in states:
            old = self._states.get(state.app)
            same = old is not None and replace(old, **_BESIDE) == replace(state, **_BESIDE)
            since = old.since_unix_ms if old is not None and same else now_unix_ms
            stamped[state.app] = replace(state, since_unix_ms=since)
        if stamped != self._states:
            self.revision += 1
            self._journal.set_app_states(list(stamped.values()), self.revision)
            self._states = stamped

    def happened(self) -> None:
        """Note that the journal holds an event that was not sent yet."""
        self._has_events = True

    def server_knows(self, revision: int | None) -> None:
        """Take what a sync answered: a server that was restored from a backup is told everything again."""
        if revision is not None and revision != self.revision:
            self._sent_revision = -1

    def due_s(self) -> float | None:
        """Return when to send (monotonic), or None where there is nothing to say."""
        if self._sent_revision == self.revision and not self._has_events:
            return None
        return self._again_s

    def flush(self, server: Server) -> None:
        """Send what is due. A server that is away costs nothing but time; what it did not commit is kept."""
        due = self.due_s()
        if due is None or self._clock.monotonic() < due:
            return
        try:
            while True:
                events = self._journal.outbox(MAX_EVENTS_PER_REPORT)
                revision = self.revision
                acknowledged = server.report(events, list(self._states.values()), revision)
                known = {event.id for event in events}
                self._journal.acknowledge([i for i in acknowledged if i in known])
                self._sent_revision = revision
                self.delivered = True
                if len(events) < MAX_EVENTS_PER_REPORT or not known & set(acknowledged):
                    break
        except (Unavailable, Refusal):
            self._failures += 1
            self._again_s = self._clock.monotonic() + pacing.backoff_s(self._failures, 0.5, pacing.MAX_RETRY_S)
            return
        self._failures, self._again_s = 0, 0.0
        self._has_events = bool(self._journal.outbox(1))
        if self._has_events:
            self._again_s = self._clock.monotonic() + pacing.FIRST_RETRY_S
