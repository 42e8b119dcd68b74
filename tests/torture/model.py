"""What must happen, computed from the engine's own table: the states that a transaction must be reported in.

Pure. A walk begins in Planned and takes the table's row for each outcome. An outcome is `done` unless something is
wrong: an ill release fails in Watching; a fault that struck the action of a state fails that state, where the table lets
it fail; a crash changes nothing, for every state was committed before its action began, except that

- an app that a reboot stopped is `lost` where it was being watched;
- an app whose start took the agent down MAX_ATTEMPTS times fails.

A failure that trying again can help (disk full) is tried again: one more walk. Nothing here knows which calls an action
makes: which state a fault struck is what the harness saw (`Hit`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torture.situations import Goal
from towpath.status import State
from towpath_agent.engine.table import Outcome, action_of, can, next_state

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that struck the action of `state`. `outcome` is how the action has to end; `retryable`: tried again."""

    app: str
    state: State
    outcome: Outcome
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """The chains that must be reported, one per attempt, and the version that runs in the end ("": none)."""

    chains: tuple[tuple[State, ...], ...]
    version: str


def expect(goal: Goal, hits: Sequence[Hit]) -> Expected:
    """Return what must be reported of an app that is hit by `hits`, in that order."""
    left = list(hits)
    chains = []
    while True:
        chain, retry = _walk(goal, left)
        chains.append(tuple(chain))
        if chain[-1] is State.CONFIRMED:
            return Expected(tuple(chains), goal.new)
        if not retry:
            return Expected(tuple(chains), goal.old)


def _walk(goal: Goal, left: list[Hit]) -> tuple[list[State], bool]:
    state, chain, retry = State.PLANNED, [State.PLANNED], False
    while not state.ended:
        outcome = Outcome.FAILED if state is State.WATCHING and goal.ill else Outcome.DONE
        if left and left[0].state is state and can(state, left[0].outcome):
            hit = left.pop(0)
            outcome = hit.outcome
            # What fails on the way back says nothing about the release.
            retry = retry or (hit.retryable and state not in (State.REVERTING, State.STUCK))
        state = next_state(state, action_of(state), outcome)
        chain.append(state)
        if len(chain) > _LONGEST:
            raise AssertionError(f"the table leads in circles: {chain[:20]}")
    return chain, retry
