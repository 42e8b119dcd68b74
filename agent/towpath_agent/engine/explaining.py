"""Why an app runs what it runs on this host: the chain of facts, each with the command that would change it. Pure.

The order is that of the decision: what should run, what runs, what a person holds, what is under way, what failed, and
whether anybody works on it. Not handled here: where facts come from (`runner.explaining`), the server's side of it
(`towpath why`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from towpath.holds import Hold
from towpath.quantity import format_duration
from towpath.reports import Prefetch
from towpath.status import Health, State
from towpath_agent.engine.planning import Failure, Wish


@dataclass(frozen=True, slots=True)
class Reason:
    """One fact, and the command that would change it (or show more)."""

    fact: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Underway:
    """A transaction that is kept: open, or confirmed and in probation until `probation_until_unix_ms`."""

    wish: Wish
    state: State
    reason: str = ""
    attempts: int = 0
    old_version: str = ""
    probation_until_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class Live:
    """What only the running agent knows. Seconds from now; None: not waiting."""

    again_in_s: float | None = None
    restarts: int = 0
    restart_in_s: float = 0.0
    sync_failures: int = 0
    sync_trouble: str = ""
    sync_in_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the chain is made of. `live` None: no agent runs. `waits_for`: apps of its set, not ready yet.

    `agent_waits`: why it may not switch now because the agent itself changes, or is to.
    """

    app: str
    now_unix_ms: int
    accepted: bool = True
    wish: Wish | None = None
    assignment: str = ""
    refused: Mapping[str, str | int] | None = None
    current: Wish | None = None
    health: Health = Health.UNKNOWN
    health_reason: str = ""
    previous: Wish | None = None
    prefetch: Prefetch | None = None
    hold: Hold | None = None
    underway: Underway | None = None
    waits_for: tuple[str, ...] = ()
    agent_waits: str = ""
    failure: Failure | None = None
    live: Live | None = None


def chain(facts: Facts) -> tuple[Reason, ...]:
    """Return the reasons, first cause first."""
    return (
        *_desired(facts),
        *_runs(facts),
        *_prefetch(facts),
        *_hold(facts),
        *_underway(facts),
        *_failure(facts),
        *_conclusion(facts),
        *_agent(facts),
    )


def _clock(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _in(seconds: float) -> str:
    return f"in {format_duration(round(seconds * 1000))}" if seconds > 0 else "now"


def _name(wish: Wish | None) -> str:
    return wish.version or "its removal" if wish is not None else "nothing"


def _desired(facts: Facts) -> list[Reason]:
    if facts.refused is not None:
        no = facts.refused
        return [
            Reason(
                f"the server wants {facts.app} {no['version']}, which this host refuses: {no['code']}: {no['message']}",
                "towpath release list " + facts.app,
            )
        ]
    if not facts.accepted:
        return [Reason("this host has never accepted a manifest: it does not know what should run")]
    if facts.wish is None:
        return [Reason(f"the server's manifest does not name {facts.app}: nothing of it should run")]
    rule = f"assignment {facts.assignment}, " if facts.assignment else ""
    given = ", ".join(f"{name}={facts.wish.parameters[name]}" for name in sorted(facts.wish.parameters))
    parameters = f", with {given}" if given else ""
    return [
        Reason(
            f"the server wants {facts.app} {facts.wish.version} ({rule}generation {facts.wish.generation}){parameters}"
        )
    ]


def _runs(facts: Facts) -> list[Reason]:
    reasons = []
    if facts.current is None:
        reasons.append(Reason("nothing of it runs"))
    else:
        why = f": {facts.health_reason}" if facts.health_reason else ""
        reasons.append(Reason(f"it runs {facts.current.version}, {facts.health}{why}"))
    if facts.previous is not None:
        reasons.append(Reason(f"it keeps {facts.previous.version} to go back to", f"towpath-agent revert {facts.app}"))
    return reasons


def _prefetch(facts: Facts) -> list[Reason]:
    return [] if facts.prefetch is None else [Reason(facts.prefetch.text)]


def _hold(facts: Facts) -> list[Reason]:
    if facts.hold is None:
        return []
    release = f"towpath-agent release {facts.hold.app}".rstrip()
    what = "nothing new begins, what has not switched stays where it is, what has finishes, and what runs is kept up"
    return [Reason(f"{facts.hold.text}; {what}", release)]


def _underway(facts: Facts) -> list[Reason]:
    tx = facts.underway
    if tx is None:
        return []
    if tx.state is State.CONFIRMED:
        until = f"until {_clock(tx.probation_until_unix_ms)} it is in probation"
        back = f"if it falls ill, {tx.old_version} comes back" if tx.old_version else "it has nothing to go back to"
        return [Reason(f"{_name(tx.wish)} is confirmed; {until}: {back}")]
    attempts = f", started {tx.attempts} times" if tx.attempts > 1 else ""
    because = f" because {tx.reason}" if tx.reason else ""
    reasons = [Reason(f"under way: {_name(tx.wish)} is {tx.state}{attempts}{because}")]
    if facts.hold is not None and tx.state.before_switch:
        return reasons
    if facts.waits_for:
        reasons.append(Reason(f"it waits for the rest of its set: {', '.join(facts.waits_for)}"))
    if facts.agent_waits and tx.state is State.PREPARED:
        reasons.append(Reason(f"it waits: {facts.agent_waits}"))
    again = facts.live.again_in_s if facts.live is not None else None
    if again is not None:
        retry = f"towpath-agent retry {facts.app}" if tx.state in (State.FETCHING, State.STUCK) else ""
        reasons.append(Reason(f"it goes on {_in(again)}", retry))
    return reasons


def _failure(facts: Facts) -> list[Reason]:
    failure = facts.failure
    if failure is None:
        return []
    retry = f"towpath-agent retry {facts.app}"
    what = f"{_name(failure.wish)} (generation {failure.wish.generation}) {failure.verdict} here: {failure.reason}"
    if facts.wish is None or not failure.blocks(facts.wish, facts.now_unix_ms):
        return [Reason(f"remembered, but no longer in the way: {what}")]
    if failure.retry_unix_ms is not None:
        return [Reason(f"{what}; it is tried again at {_clock(failure.retry_unix_ms)}", retry)]
    return [Reason(f"{what}; it is not tried again until told", retry)]


def _conclusion(facts: Facts) -> list[Reason]:
    """Say where it leads, for a reader who wants only that: nothing to do, or what comes next."""
    if facts.refused is not None or not facts.accepted:
        return []
    if facts.underway is not None and facts.underway.state is not State.CONFIRMED:
        return []
    wish = facts.wish if facts.wish is not None else Wish(facts.app)
    if wish.same_as(facts.current):
        return [Reason("so it is as it should be")]
    if facts.failure is not None and facts.failure.blocks(wish, facts.now_unix_ms):
        return []
    when = ", when the hold is over" if facts.hold is not None else ""
    when += f", but not now: {facts.agent_waits}" if facts.agent_waits else ""
    return [Reason(f"so {_name(wish)} is next{when}")]


def _agent(facts: Facts) -> list[Reason]:
    live = facts.live
    if live is None:
        said = "no agent runs here: nothing changes and nothing is repaired until one does"
        return [Reason(said, "towpath-agent run")]
    reasons = []
    if live.restarts:
        wait = f", again {_in(live.restart_in_s)} at the earliest" if live.restart_in_s > 0 else ""
        reasons.append(Reason(f"it stopped by itself and was started again {live.restarts} times{wait}"))
    if live.sync_failures:
        reasons.append(
            Reason(
                f"the server did not answer {live.sync_failures} times in a row ({live.sync_trouble}); the agent asks "
                f"again {_in(live.sync_in_s)}, and keeps up what it knows",
                "towpath-agent doctor",
            )
        )
    return reasons
