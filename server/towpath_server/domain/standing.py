"""Where each host of a rollout stands: healthy, failed, in flight, waiting, held, offline, or on its way back.

Rules, each a named test:
- healthy only by the host's own report: running digest, Confirmed, healthy, succeeded, for this generation; or it ran
  the identical release already and is healthy. "Admitted" is never success.
- failed: the host reported Reverted, Stuck or refused for this generation, or it was silent in flight past the progress
  deadline. Downtime of the server, a hold of the host and a pause of the rollout are nobody's silence.
- a newcomer to a rollout that is done waits for the next one, where the policy says so: it neither blocks nor counts.
- a host that a bundle was made for was let in, and nobody knows when it will hear of it: while it is offline it neither
  blocks nor counts, and its silence begins with its first word about the release.
- inconclusive: the previous release fails its probes too, so the world is broken and not the release.
- a host that goes back is back when it reports that something else than this release runs, ended and healthy, or that
  it has nothing of the app. One that a bundle takes back is away as one that a bundle lets in.

Pure. Not handled here: what follows from it (`domain.rolling`, `domain.gates`, `domain.returning`).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from towpath.budgets import Budget
from towpath.metrics import Metric
from towpath.quantity import format_duration
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath.waves import Wave
from towpath_server.domain.approval import Approval
from towpath_server.domain.metric import Trail
from towpath_server.domain.model import Newcomers, OnBreach, Retreat, RolloutState, Timing
from towpath_server.domain.timing import Bar, said

DEFAULT_UNAVAILABLE_SHARE = 4
# When a host was let in that only a bundle tells of it: some day.
CARRIED_UNIX_MS = 2**53 - 1
_NUMBER = re.compile(r"[0-9]+")
_DIGITS = 63  # no label's value is longer
_BAD_VERDICTS = (Verdict.FAILED, Verdict.REFUSED, Verdict.INCONCLUSIVE)


class Phase(StrEnum):
    """Where one host stands in a rollout."""

    WAITING = "waiting"
    HELD = "held"
    IN_FLIGHT = "in_flight"
    HEALTHY = "healthy"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    OFFLINE = "offline"
    NEWCOMER = "newcomer"
    GOING_BACK = "going_back"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class HostView:
    """What is known of one matching host. `blocked`: why it cannot be admitted (a parameter is missing), or empty.

    `held`: its own hold on the app, as people read it, or empty; `released_unix_ms`: when the last one ended.
    `retreat`: that it was told to go back, or None; `back_blocked`: why it could not run what it would go back to.
    `bars`: what of the calendar bars it alone. `expected`: it is offline only as far as this server knows; it was there
    when a server was last up, and this one has not heard it yet.
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
    labels: Mapping[str, str] = field(default_factory=dict)
    retreat: Retreat | None = None
    back_blocked: str = ""
    bars: tuple[Bar, ...] = ()
    expected: bool = False

    @property
    def carried(self) -> bool:
        """Return whether a bundle lets it in."""
        return self.admitted_unix_ms == CARRIED_UNIX_MS

    @property
    def carried_back(self) -> bool:
        """Return whether a bundle takes it back."""
        return self.retreat is not None and self.retreat.at_unix_ms == CARRIED_UNIX_MS

    @property
    def unreached(self) -> bool:
        """Return whether a bundle lets it in, and it is away: what becomes of it, its reports will say."""
        return self.carried and not self.online


@dataclass(frozen=True, slots=True)
class RolloutView:
    """An assignment and its hosts, as decisions read it. `max_unavailable` 0: a quarter of `fleet`, at least one.

    `fleet` is how many hosts the rule matches; `hosts` may be fewer, where another assignment counts for some.
    `bars`: why nobody may be admitted now, `some_bars`: why some may not, each of whom has his own (`domain.timing`).
    `trails`: what the metrics of the newest open wave said, by name. `entry`: why nobody may move yet, or empty.
    `asking_since_unix_ms`: from when on this server has asked for metrics; None: another one on the database does.
    `others`: how many hosts that run the app by other rules are unavailable, by label and value (`domain.budgets`).
    """

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
    fleet: int = 0
    waves: tuple[Wave, ...] = ()
    wave: int = 0
    wave_done_unix_ms: int = 0
    max_failure_share: int = 0
    on_breach: OnBreach = OnBreach.HALT
    excused: frozenset[str] = frozenset()
    resumed_unix_ms: int = 0
    bars: tuple[Bar, ...] = ()
    some_bars: tuple[Bar, ...] = ()
    timing: Timing = field(default_factory=Timing)
    offline_wait_ms: int = 0
    newcomers: Newcomers = Newcomers.JOIN
    roster: frozenset[str] | None = None
    approvers: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    metrics: tuple[Metric, ...] = ()
    asking_since_unix_ms: int | None = 0
    trails: Mapping[str, Trail] = field(default_factory=dict)
    entry: str = ""
    budgets: tuple[Budget, ...] = ()
    others: Mapping[tuple[str, str], int] = field(default_factory=dict)
    order_label: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One host's phase, and the reason for people."""

    phase: Phase
    reason: str


Standings = list[tuple[HostView, Standing]]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write down: where the assignment stands now, and host ids.

    `admit` moves to the release, `withdraw` takes an admission back from who has not switched, `retreat` sends back to
    what there was, `arrived` is who got there. `roster`: who may still come in, None where that is as it was.
    `waits_for_time`: a host waits for nothing but the clock.
    """

    state: RolloutState
    reason: str
    admit: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    wave: int = 0
    wave_done_unix_ms: int = 0
    retreat: tuple[str, ...] = ()
    arrived: tuple[str, ...] = ()
    roster: tuple[str, ...] | None = None
    waits_for_time: bool = False


def limit(view: RolloutView, hosts: int | None = None) -> int:
    """Return how many hosts may be in flight at once; `hosts`: how many there are, where `view` does not hold them."""
    count = len(view.hosts) if hosts is None else hosts
    return view.max_unavailable or max(1, max(count, view.fleet) // DEFAULT_UNAVAILABLE_SHARE)


def order(view: RolloutView, host: HostView) -> bytes:
    """Return the sort key of a host: by hash, spread differently in every rollout; or by a label's value, then by hash.

    Numbers in a value count as numbers: rack2 goes before rack10. Who lacks the label goes last.
    """
    spread = hashlib.sha256(f"{view.assignment}\0{host.host_id}".encode()).digest()
    if not view.order_label:
        return spread
    value = host.labels.get(view.order_label, "")
    named = _NUMBER.sub(lambda found: found[0].zfill(_DIGITS), value)
    return b"\1".join((named.encode() or b"\x7f", spread))


def in_order(view: RolloutView) -> list[HostView]:
    """Return the hosts in the rollout's own order."""
    return sorted(view.hosts, key=lambda host: order(view, host))


def standing(view: RolloutView, host: HostView, now_unix_ms: int) -> Standing:
    """Return where `host` stands at `now_unix_ms`."""
    if view.state.returning:
        return _standing_back(view, host, now_unix_ms)
    state = host.state
    if state is not None and ended_badly(view, state):
        if state.verdict is Verdict.INCONCLUSIVE:
            return Standing(Phase.INCONCLUSIVE, state.reason or "the previous release fails its probes too")
        return Standing(Phase.FAILED, state.reason or f"the host reported {state.state}")
    if host.admitted_unix_ms is None and view.roster is not None and host.host_id not in view.roster:
        return Standing(Phase.NEWCOMER, "came after this rollout was done; waits for the next one")
    if host.admitted_unix_ms is None and not host.online:
        return Standing(Phase.OFFLINE, "offline; it catches up when it comes back")
    if state is not None and _proven(view, state):
        return Standing(Phase.HEALTHY, "runs it and is healthy")
    if host.unreached:
        return Standing(Phase.OFFLINE, "offline; a bundle was made for it, and its reports have not come yet")
    if host.held and (host.admitted_unix_ms is None or may_stay(view, host)):
        return Standing(Phase.HELD, host.held)
    if host.admitted_unix_ms is None:
        return Standing(Phase.WAITING, host.blocked or said((*view.bars, *host.bars)) or "waits for its turn")
    answers = _answers(view, state)
    where = _where(state) if state is not None and answers else "no report yet"
    if host.carried and not answers:
        return Standing(Phase.IN_FLIGHT, where)
    silent_ms = now_unix_ms - _heard_unix_ms(view, host)
    if silent_ms > view.progress_deadline_ms and not _fell_ill_later(view, state):
        return Standing(Phase.FAILED, f"silent for {format_duration(silent_ms)}, {where}")
    return Standing(Phase.IN_FLIGHT, where if host.online else f"{where}, offline")


def _where(state: AppState) -> str:
    travels = f", {state.transfer.text}" if state.transfer is not None else ""
    return f"in {state.state}{travels}"


def due_unix_ms(view: RolloutView, host: HostView, phase: Phase) -> int | None:
    """Return when time alone takes a host out of the `phase` that it is in; None where it never does."""
    carried = host.carried_back if view.state.returning else host.carried
    if carried and not _answers(view, host.state):
        return None
    if phase is Phase.GOING_BACK or (phase is Phase.IN_FLIGHT and not _fell_ill_later(view, host.state)):
        return _heard_unix_ms(view, host) + view.progress_deadline_ms + 1
    return None


def _answers(view: RolloutView, state: AppState | None) -> bool:
    """Return True where what the host says is about what it was told last."""
    if state is None:
        return False
    return (state.generation == view.generation) is not view.state.returning


def _heard_unix_ms(view: RolloutView, host: HostView) -> int:
    """Return since when the silence of a host that was told to move counts."""
    back = host.retreat if view.state.returning else None
    told = back.at_unix_ms if back is not None else host.admitted_unix_ms or 0
    if told == CARRIED_UNIX_MS:
        told = 0
    progress = host.progress_unix_ms if _answers(view, host.state) else 0
    return max(told, progress, view.observed_since_unix_ms, view.resumed_unix_ms, host.released_unix_ms)


def ended_badly(view: RolloutView, state: AppState) -> bool:
    """Return True where the host said that this release failed on it."""
    if state.generation != view.generation:
        return False
    return state.state in (State.REVERTED, State.STUCK) or state.verdict in _BAD_VERDICTS


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


def busy(host: HostView) -> bool:
    """Return True where the host is between two releases: unavailable, whoever caused it."""
    return host.state is not None and between(host.state)


def between(state: AppState) -> bool:
    """Return True for what a host says that is between two releases."""
    return state.state in (State.SWITCHING, State.SWITCHED, State.WATCHING, State.REVERTING)


def may_stay(view: RolloutView, host: HostView) -> bool:
    """Return True where the host was admitted and, as far as it has said, touched nothing that runs."""
    if host.admitted_unix_ms is None:
        return False
    state = host.state
    if state is None:
        return True
    if ended_badly(view, state) or _proven(view, state):
        return False
    return state.generation != view.generation or state.state.before_switch


def stay(view: RolloutView) -> tuple[str, ...]:
    """Return the hosts that can still be told to stay on what they have."""
    return tuple(host.host_id for host in view.hosts if may_stay(view, host))


def untouched(view: RolloutView, host: HostView) -> bool:
    """Return True where the release does not run on the host and nothing is under way: going back changes nothing."""
    state = host.state
    return state is None or (state.current_sha256 != view.release_sha256 and not busy(host))


def _standing_back(view: RolloutView, host: HostView, now_unix_ms: int) -> Standing:
    """Return where a host stands in a rollout that is taken back."""
    if host.retreat is None:
        if not host.online:
            return Standing(Phase.OFFLINE, "offline; it goes back when it comes back")
        if host.back_blocked:
            return Standing(Phase.FAILED, f"cannot go back: {host.back_blocked}")
        if host.held and not busy(host) and not untouched(view, host):
            return Standing(Phase.HELD, host.held)
        return Standing(Phase.WAITING, "waits for its turn to go back")
    state = host.state
    arrived = host.retreat.arrived_unix_ms or (state is not None and is_back(view, state))
    if host.carried_back and not host.online and not arrived:
        return Standing(Phase.OFFLINE, "offline; a bundle takes it back, and its reports have not come yet")
    if arrived or state is None:
        return Standing(
            Phase.BACK, f"runs {state.current_version} again" if state and state.current_version else "has none of it"
        )
    if state.generation != view.generation and (state.state is State.STUCK or state.verdict in _BAD_VERDICTS):
        return Standing(Phase.FAILED, f"cannot go back: {state.reason or state.state}")
    silent_ms = now_unix_ms - _heard_unix_ms(view, host)
    told = _answers(view, state) or not host.carried_back
    if told and silent_ms > view.progress_deadline_ms:
        return Standing(Phase.FAILED, f"cannot go back: silent for {format_duration(silent_ms)}, in {state.state}")
    return Standing(Phase.GOING_BACK, f"goes back, in {state.state}")


def is_back(view: RolloutView, state: AppState) -> bool:
    """Return True where the host said that it runs something else again, or nothing."""
    if state.current_sha256 == view.release_sha256 or not state.state.ended:
        return False
    return state.health is Health.HEALTHY or not state.current_sha256
