"""The one transition table of a transaction: one attempt to move one app on one host.

A state is a fact that the journal holds. Each state has ONE action, which is safe to repeat; the action's outcome names
the next state, which is journalled before its own action begins. So recovery needs no second list: after a crash, find
the state and do its action again.

    Planned --reserve--> Fetching --stage--> Staged --prepare--> Prepared --await_set--> Switching --switch--> Switched
    --start--> Watching --watch--> Confirmed; a failure leads through Reverting --undo--> Reverted, or Stuck.

Not handled here: what an action does (`runner.actions`), or which transaction to open (`engine.planning`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from towpath.status import State


class Action(StrEnum):
    """What a state asks the runner to do. Every one is idempotent."""

    RESERVE = "reserve"
    STAGE = "stage"
    PREPARE = "prepare"
    AWAIT_SET = "await_set"
    SWITCH = "switch"
    START = "start"
    WATCH = "watch"
    GUARD = "guard"
    UNDO = "undo"
    REST = "rest"


class Outcome(StrEnum):
    """How an action ended. An action that is not finished yet has no outcome, and the state stays."""

    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"  # the host should run something else by now
    SET_FAILED = "set_failed"  # another one that moves together with it failed
    LOST = "lost"  # the app is no longer running, though nobody stopped it


@dataclass(frozen=True, slots=True)
class Row:
    """In `source`, `action` ended with `outcome`: `target` is the fact now."""

    source: State
    action: Action
    outcome: Outcome
    target: State


S, A, O = State, Action, Outcome  # noqa: E741 - the table is read by eye, in columns

TABLE: tuple[Row, ...] = (
    Row(S.PLANNED, A.RESERVE, O.DONE, S.FETCHING),
    Row(S.PLANNED, A.RESERVE, O.FAILED, S.REVERTING),
    Row(S.PLANNED, A.RESERVE, O.SET_FAILED, S.REVERTING),
    Row(S.PLANNED, A.RESERVE, O.SUPERSEDED, S.REVERTING),
    Row(S.FETCHING, A.STAGE, O.DONE, S.STAGED),
    Row(S.FETCHING, A.STAGE, O.FAILED, S.REVERTING),
    Row(S.FETCHING, A.STAGE, O.SET_FAILED, S.REVERTING),
    Row(S.FETCHING, A.STAGE, O.SUPERSEDED, S.REVERTING),
    Row(S.STAGED, A.PREPARE, O.DONE, S.PREPARED),
    Row(S.STAGED, A.PREPARE, O.FAILED, S.REVERTING),
    Row(S.STAGED, A.PREPARE, O.SET_FAILED, S.REVERTING),
    Row(S.STAGED, A.PREPARE, O.SUPERSEDED, S.REVERTING),
    Row(S.PREPARED, A.AWAIT_SET, O.DONE, S.SWITCHING),
    Row(S.PREPARED, A.AWAIT_SET, O.FAILED, S.REVERTING),
    Row(S.PREPARED, A.AWAIT_SET, O.SET_FAILED, S.REVERTING),
    Row(S.PREPARED, A.AWAIT_SET, O.SUPERSEDED, S.REVERTING),
    Row(S.SWITCHING, A.SWITCH, O.DONE, S.SWITCHED),
    Row(S.SWITCHING, A.SWITCH, O.FAILED, S.REVERTING),
    Row(S.SWITCHING, A.SWITCH, O.SET_FAILED, S.REVERTING),
    Row(S.SWITCHED, A.START, O.DONE, S.WATCHING),
    Row(S.SWITCHED, A.START, O.FAILED, S.REVERTING),
    Row(S.SWITCHED, A.START, O.SET_FAILED, S.REVERTING),
    Row(S.WATCHING, A.WATCH, O.DONE, S.CONFIRMED),
    Row(S.WATCHING, A.WATCH, O.FAILED, S.REVERTING),
    Row(S.WATCHING, A.WATCH, O.SET_FAILED, S.REVERTING),
    Row(S.WATCHING, A.WATCH, O.SUPERSEDED, S.REVERTING),
    Row(S.WATCHING, A.WATCH, O.LOST, S.SWITCHED),
    Row(S.CONFIRMED, A.GUARD, O.FAILED, S.REVERTING),  # ill during probation
    Row(S.CONFIRMED, A.GUARD, O.SET_FAILED, S.REVERTING),
    Row(S.REVERTING, A.UNDO, O.DONE, S.REVERTED),
    Row(S.REVERTING, A.UNDO, O.FAILED, S.STUCK),
    Row(S.STUCK, A.UNDO, O.DONE, S.REVERTED),
    Row(S.STUCK, A.UNDO, O.FAILED, S.STUCK),
)

# A reverted transaction has nothing left to do; it has no row, so its action stands here.
_RESTING: Mapping[State, Action] = {S.REVERTED: A.REST}


def index(rows: Iterable[Row]) -> tuple[dict[State, Action], dict[tuple[State, Outcome], State]]:
    """Return state to action, and (state, outcome) to state; ValueError for a duplicate or contradictory row."""
    actions: dict[State, Action] = dict(_RESTING)
    targets: dict[tuple[State, Outcome], State] = {}
    for row in rows:
        if (row.source, row.outcome) in targets:
            raise ValueError(f"two rows for {row.source} and {row.outcome}")
        if actions.setdefault(row.source, row.action) is not row.action:
            raise ValueError(f"two actions for {row.source}")
        targets[row.source, row.outcome] = row.target
    missing = set(State) - set(actions)
    if missing:
        raise ValueError(f"no action for {', '.join(sorted(missing))}")
    return actions, targets


_ACTIONS, _TARGETS = index(TABLE)


def action_of(state: State) -> Action:
    """Return what to do in `state`, at first as after a crash."""
    return _ACTIONS[state]


def next_state(state: State, action: Action, outcome: Outcome) -> State:
    """Return the state that follows; ValueError where the table has no such row (a bug, never a user's fault)."""
    if _ACTIONS[state] is not action or (state, outcome) not in _TARGETS:
        raise ValueError(f"no transition from {state} by {action} with {outcome}")
    return _TARGETS[state, outcome]


def can(state: State, outcome: Outcome) -> bool:
    """Return whether an action in `state` may end with `outcome`."""
    return (state, outcome) in _TARGETS


def diagram() -> str:
    """Return the table as a Mermaid state diagram; docs/states.md is generated from it."""
    lines = ["stateDiagram-v2", "    [*] --> Planned"]
    lines += [f"    {row.source} --> {row.target}: {row.action} {row.outcome}" for row in TABLE]
    lines += ["    Confirmed --> [*]", "    Reverted --> [*]"]
    return "\n".join(lines)
