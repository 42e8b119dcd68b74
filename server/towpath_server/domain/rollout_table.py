"""The one transition table of a rollout: in which state it may hear which act, and what it is then.

Acts are the tick's own findings, what operators order, and what a newer rollout does to this one. An operator's act
without a row is refused in one line (`refuse`). docs/rollout-states.md is generated from this table.

Not handled here: when a finding is one (`domain.rolling`, `domain.returning`), and what an act does to hosts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from towpath.errors import InputError
from towpath_server.domain.model import RolloutState


class Act(StrEnum):
    """What happens to a rollout."""

    FINISH = "finish"  # every wave has passed its gate
    EXPIRE = "expire"  # its time is over, and not everybody was let in
    BREACH = "breach"  # a failure limit, or an inconclusive host
    TAKE_BACK = "take back"  # a failure limit, and the policy is to revert
    RETURN = "return"  # nobody is left on the way back
    PAUSE = "pause"
    RESUME = "resume"
    ADVANCE = "advance"
    APPROVE = "approve"
    HALT = "halt"
    RETRY = "retry"
    CANCEL = "cancel"
    UNDO = "undo"
    SUPERSEDE = "supersede"  # a newer deploy of the same rule
    RESTORE = "restore"  # what superseded it was taken back or cancelled
    REMOVE = "remove"  # undeploy


@dataclass(frozen=True, slots=True)
class Row:
    """In `source`, `act` makes it `target`."""

    source: RolloutState
    act: Act
    target: RolloutState


S, A = RolloutState, Act

TABLE: tuple[Row, ...] = (
    Row(S.ROLLING, A.FINISH, S.DONE),
    Row(S.ROLLING, A.EXPIRE, S.CANCELLED),
    Row(S.ROLLING, A.BREACH, S.HALTED),
    Row(S.ROLLING, A.TAKE_BACK, S.REVERTING),
    Row(S.ROLLING, A.PAUSE, S.PAUSED),
    Row(S.ROLLING, A.ADVANCE, S.ROLLING),
    Row(S.ROLLING, A.APPROVE, S.ROLLING),
    Row(S.ROLLING, A.HALT, S.HALTED),
    Row(S.ROLLING, A.RETRY, S.ROLLING),
    Row(S.ROLLING, A.CANCEL, S.CANCELLED),
    Row(S.ROLLING, A.UNDO, S.REVERTING),
    Row(S.ROLLING, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.ROLLING, A.REMOVE, S.REMOVED),
    Row(S.PAUSED, A.EXPIRE, S.CANCELLED),
    Row(S.PAUSED, A.BREACH, S.HALTED),
    Row(S.PAUSED, A.TAKE_BACK, S.REVERTING),
    Row(S.PAUSED, A.RESUME, S.ROLLING),
    Row(S.PAUSED, A.APPROVE, S.PAUSED),
    Row(S.PAUSED, A.HALT, S.HALTED),
    Row(S.PAUSED, A.CANCEL, S.CANCELLED),
    Row(S.PAUSED, A.UNDO, S.REVERTING),
    Row(S.PAUSED, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.PAUSED, A.REMOVE, S.REMOVED),
    Row(S.DONE, A.BREACH, S.HALTED),
    Row(S.DONE, A.HALT, S.HALTED),
    Row(S.DONE, A.RETRY, S.ROLLING),
    Row(S.DONE, A.UNDO, S.REVERTING),
    Row(S.DONE, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.DONE, A.REMOVE, S.REMOVED),
    Row(S.HALTED, A.RESUME, S.ROLLING),
    Row(S.HALTED, A.RETRY, S.ROLLING),
    Row(S.HALTED, A.CANCEL, S.CANCELLED),
    Row(S.HALTED, A.UNDO, S.REVERTING),
    Row(S.HALTED, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.HALTED, A.REMOVE, S.REMOVED),
    Row(S.REVERTING, A.RETURN, S.REVERTED),
    Row(S.REVERTING, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.REVERTING, A.REMOVE, S.REMOVED),
    Row(S.REVERTED, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.REVERTED, A.REMOVE, S.REMOVED),
    Row(S.CANCELLED, A.SUPERSEDE, S.SUPERSEDED),
    Row(S.CANCELLED, A.REMOVE, S.REMOVED),
    Row(S.SUPERSEDED, A.RESTORE, S.DONE),
    Row(S.SUPERSEDED, A.REMOVE, S.REMOVED),
)

_WAY_OUT = {
    S.ROLLING: "it goes on by itself",
    S.PAUSED: "resume it first",
    S.DONE: "deploy another release, or undo it",
    S.HALTED: "resume, retry, cancel or undo it",
    S.REVERTING: "deploy a release instead",
    S.REVERTED: "deploy a release instead",
    S.CANCELLED: "deploy a release instead",
    S.SUPERSEDED: "a newer one counts for its hosts",
    S.REMOVED: "the app was undeployed",
}


def index(rows: Iterable[Row]) -> dict[tuple[RolloutState, Act], RolloutState]:
    """Return (state, act) to state; ValueError for a duplicate row and for a state that can neither go nor be met."""
    targets: dict[tuple[RolloutState, Act], RolloutState] = {}
    met = {RolloutState.ROLLING}
    for row in rows:
        if (row.source, row.act) in targets:
            raise ValueError(f"two rows for {row.source} and {row.act}")
        targets[row.source, row.act] = row.target
        met |= {row.source, row.target}
    missing = set(RolloutState) - met
    if missing:
        raise ValueError(f"no row for {', '.join(sorted(missing))}")
    return targets


_TARGETS = index(TABLE)


def can(state: RolloutState, act: Act) -> bool:
    """Return whether the table has a row."""
    return (state, act) in _TARGETS


def next_state(state: RolloutState, act: Act) -> RolloutState:
    """Return the state that follows; ValueError where there is no row (a bug: operators' acts are asked first)."""
    if not can(state, act):
        raise ValueError(f"no transition from {state} by {act}")
    return _TARGETS[state, act]


def ordered(state: RolloutState, act: Act, what: str) -> RolloutState:
    """Return the state after an operator's act on `what`; InputError `impossible` where there is no row."""
    if not can(state, act):
        raise InputError(f"cannot {act} {what}: it is {state}; {_WAY_OUT[state]}", code="impossible")
    return _TARGETS[state, act]


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> rolling"]
    lines += [f"    {row.source} --> {row.target}: {row.act}" for row in TABLE if row.act is not Act.REMOVE]
    return "\n".join(lines)
