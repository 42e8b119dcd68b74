"""THE rollout decision: who may move to a release now, who is told to stay, and whether the rollout goes on.

    rolling --every online host finished--> done          done --failures--> halted
    rolling --more than max_failures failed, or one inconclusive--> halted

Rules, each a named test:
- healthy only by the host's own report: running digest, Confirmed, healthy, succeeded, for this generation; or it ran
  the identical release already and is healthy. "Admitted" is never success.
- failed: the host reported Reverted, Stuck or refused for this generation, or it was silent in flight past the progress
  deadline. The server's own downtime is nobody's silence (`observed_since_unix_ms`).
- inconclusive (the previous release fails its probes too): the world is broken. It holds the rollout, blames no
  release.
- a breach halts in the same tick, also in the last hosts and after `done`; hosts in flight that have not switched are
  told to stay. A halt ends only with a new deploy; a host that failed may be told to try again by its own person.
- at most `max_unavailable` in flight; a host that confirmed and then fell ill holds its slot, and so does one that a
  superseded assignment left between two releases.
- offline hosts neither block nor count; they are admitted when they come back.
- hosts that a person on the host holds neither block nor count: one that was let in and has not switched is withdrawn,
  one past the switch finishes, and each is admitted in its turn when the hold ends, with a whole deadline.
- who is first follows hash(assignment, host): not always the same hosts, and neighbours by name are spread.

Pure: the caller applies the decision in the transaction in which it read the view, one rollout at a time.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from towpath.quantity import format_duration
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import RolloutState

DEFAULT_UNAVAILABLE_SHARE = 4
_NAMED_IN_REASON = 3


class Phase(StrEnum):
    """Where one host stands in a rollout."""

    WAITING = "waiting"
    HELD = "held"
    IN_FLIGHT = "in_flight"
    HEALTHY = "healthy"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class HostView:
    """What is known of one matching host. `blocked`: why it cannot be admitted (a parameter is missing), or empty.

    `held`: its own hold on the app, as people read it, or empty; `released_unix_ms`: when the last one ended.
    """

    host_id: str
    name: str
    online: bool
    admitted_unix_ms: int | None = None
    state: AppState | None = None
    progress_unix_ms: int = 0
    blocked: str = ""
    held: str = ""
    released_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class RolloutView:
    """An assignment and its matching hosts. `max_unavailable` 0: a quarter of them, at least one."""

    assignment: str
    generation: int
    release_sha256: bytes
    state: RolloutState
    reason: str
    max_unavailable: int
    max_failures: int
    progress_deadline_ms: int
    observed_since_unix_ms: int
    hosts: tuple[HostView, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One host's phase, and the reason for people."""

    phase: Phase
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write down: host ids to admit and to withdraw, and where the assignment stands now."""

    state: RolloutState
    reason: str
    admit: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()


def limit(view: RolloutView) -> int:
    """Return how many hosts may be in flight at once."""
    return view.max_unavailable or max(1, len(view.hosts) // DEFAULT_UNAVAILABLE_SHARE)


def order(assignment: str, host_id: str) -> bytes:
    """Return the sort key that spreads hosts differently in every rollout."""
    return hashlib.sha256(f"{assignment}\0{host_id}".encode()).digest()


def standing(view: RolloutView, host: HostView, now_unix_ms: int) -> Standing:
    """Return where `host` stands at `now_unix_ms`."""
    state = host.state
    if state is not None and _ended_badly(view, state):
        if state.verdict is Verdict.INCONCLUSIVE:
            return Standing(Phase.INCONCLUSIVE, state.reason or "the previous release fails its probes too")
        return Standing(Phase.FAILED, state.reason or f"the host reported {state.state}")
    if host.admitted_unix_ms is None and not host.online:
        return Standing(Phase.OFFLINE, "offline; it catches up when it comes back")
    if state is not None and _proven(view, state):
        return Standing(Phase.HEALTHY, "runs it and is healthy")
    if host.held and (host.admitted_unix_ms is None or _may_stay(view, host)):
        return Standing(Phase.HELD, host.held)
    if host.admitted_unix_ms is None:
        return Standing(Phase.WAITING, host.blocked or "waits for its turn")
    since = max(host.admitted_unix_ms, view.observed_since_unix_ms, host.released_unix_ms)
    answers = state is not None and state.generation == view.generation
    if answers:
        since = max(since, host.progress_unix_ms)
    silent_ms = now_unix_ms - since
    where = f"in {state.state}" if state is not None and answers else "no report yet"
    if silent_ms > view.progress_deadline_ms and not _fell_ill_later(view, state):
        return Standing(Phase.FAILED, f"silent for {format_duration(silent_ms)}, {where}")
    return Standing(Phase.IN_FLIGHT, where if host.online else f"{where}, offline")


def _ended_badly(view: RolloutView, state: AppState) -> bool:
    if state.generation != view.generation:
        return False
    return state.state in (State.REVERTED, State.STUCK) or state.verdict in (
        Verdict.FAILED,
        Verdict.REFUSED,
        Verdict.INCONCLUSIVE,
    )


def _proven(view: RolloutView, state: AppState) -> bool:
    if state.current_sha256 != view.release_sha256 or state.health is not Health.HEALTHY:
        return False
    if state.generation == view.generation:
        return state.state is State.CONFIRMED and state.verdict is Verdict.SUCCEEDED
    return state.state.ended


def _fell_ill_later(view: RolloutView, state: AppState | None) -> bool:
    """Return True for a host that confirmed in a rollout that is done: an alarm, but no verdict on the release."""
    return (
        view.state is RolloutState.DONE
        and state is not None
        and state.generation == view.generation
        and state.state is State.CONFIRMED
    )


def _busy(host: HostView) -> bool:
    """Return True where an older assignment has the host between two releases: it is unavailable without being ours."""
    state = host.state
    return state is not None and state.state in (State.SWITCHING, State.SWITCHED, State.WATCHING, State.REVERTING)


def _may_stay(view: RolloutView, host: HostView) -> bool:
    """Return True where the host was admitted and, as far as it has said, touched nothing that runs."""
    if host.admitted_unix_ms is None:
        return False
    state = host.state
    if state is None:
        return True
    if _ended_badly(view, state) or _proven(view, state):
        return False
    return state.generation != view.generation or state.state.before_switch


def decide(view: RolloutView, now_unix_ms: int) -> Decision:
    """Return what is to be done for `view` at `now_unix_ms`."""
    if not view.state.active:
        return Decision(view.state, view.reason)
    hosts = sorted(view.hosts, key=lambda host: order(view.assignment, host.host_id))
    standings = [(host, standing(view, host, now_unix_ms)) for host in hosts]
    halt = view.reason if view.state is RolloutState.HALTED else _breach(view, standings)
    if halt or view.state is RolloutState.HALTED:
        # Only in the tick of the breach: who moves later was told to by a person on the host (`towpath-agent retry`).
        return Decision(RolloutState.HALTED, halt, withdraw=() if view.state is RolloutState.HALTED else stay(view))
    count = {phase: sum(1 for _, where in standings if where.phase is phase) for phase in Phase}
    finished = count[Phase.HEALTHY] > 0 and not count[Phase.WAITING] and not count[Phase.IN_FLIGHT]
    state = RolloutState.DONE if finished or view.state is RolloutState.DONE else RolloutState.ROLLING
    held = [host for host, where in standings if where.phase is Phase.HELD]
    kept = tuple(host.host_id for host in held if host.admitted_unix_ms is not None)
    admit = _admit(view, standings, count[Phase.IN_FLIGHT])
    return Decision(state, _progress(count, standings), admit=admit, withdraw=kept)


def stay(view: RolloutView) -> tuple[str, ...]:
    """Return the hosts that can still be told to stay on what they have."""
    return tuple(host.host_id for host in view.hosts if _may_stay(view, host))


def _admit(view: RolloutView, standings: list[tuple[HostView, Standing]], in_flight: int) -> tuple[str, ...]:
    """Return who moves now: hosts that run it already take no slot; hosts that are down anyway go first."""
    newcomers = [
        (host, where) for host, where in standings if host.admitted_unix_ms is None and host.online and not host.blocked
    ]
    identical = [host.host_id for host, where in newcomers if where.phase is Phase.HEALTHY]
    turn = [host for host, where in newcomers if where.phase is Phase.WAITING]
    busy = [host.host_id for host in turn if _busy(host)]
    calm = [host.host_id for host in turn if not _busy(host)]
    between = sum(1 for host, where in standings if where.phase in (Phase.WAITING, Phase.HELD) and _busy(host))
    slots = max(0, limit(view) - in_flight)
    return tuple(identical + busy[:slots] + calm[: max(0, slots - between)])


def _breach(view: RolloutView, standings: list[tuple[HostView, Standing]]) -> str:
    """Return why the rollout halts, or an empty text."""
    failed = [(host, where) for host, where in standings if where.phase is Phase.FAILED]
    unclear = [(host, where) for host, where in standings if where.phase is Phase.INCONCLUSIVE]
    finished = len(failed) + len(unclear) + sum(1 for _, where in standings if where.phase is Phase.HEALTHY)
    if len(failed) > view.max_failures:
        return f"{len(failed)} of {finished} finished hosts failed, {view.max_failures} allowed: {_named(failed)}"
    if failed and len(failed) == len(standings):
        return f"every host failed, {len(failed)} of {len(standings)}: {_named(failed)}"
    if unclear:
        return f"inconclusive on {len(unclear)} of {finished} finished hosts: {_named(unclear)}"
    return ""


def _named(standings: list[tuple[HostView, Standing]]) -> str:
    shown = [f"{host.name}: {where.reason}" for host, where in standings[:_NAMED_IN_REASON]]
    more = len(standings) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _progress(count: dict[Phase, int], standings: list[tuple[HostView, Standing]]) -> str:
    parts = [f"{count[Phase.HEALTHY]} of {len(standings)} hosts healthy"]
    shown = (Phase.IN_FLIGHT, Phase.WAITING, Phase.HELD, Phase.FAILED, Phase.OFFLINE)
    parts += [f"{count[phase]} {phase.replace('_', ' ')}" for phase in shown if count[phase]]
    blocked = [(host, Standing(Phase.WAITING, host.blocked)) for host, where in standings if host.blocked]
    if blocked:
        parts.append(f"blocked: {_named(blocked)}")
    return ", ".join(parts) if standings else "no host matches yet"
