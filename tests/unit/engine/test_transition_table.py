"""The transition table: complete, without contradictions, and never a dead end."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.status import State
from towpath_agent.engine.table import TABLE, Action, Outcome, Row, action_of, can, diagram, index, next_state

ENDS = {State.CONFIRMED, State.REVERTED}
EDGES = {(row.source, row.target) for row in TABLE}


def reachable(starts: set[State], edges: set[tuple[State, State]]) -> set[State]:
    found = set(starts)
    while more := {target for source, target in edges if source in found} - found:
        found |= more
    return found


def test_every_state_is_reachable_from_planned() -> None:
    """No state is only on paper."""
    assert reachable({State.PLANNED}, EDGES) == set(State)


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
def test_every_state_under_way_can_reach_an_end(state: State) -> None:
    """From each state that is no end, Stuck included, there is a way to Confirmed or Reverted."""
    assert reachable({state}, EDGES) & ENDS


@pytest.mark.parametrize("state", [state for state in State if state is not State.REVERTED])
def test_every_state_can_still_go_back(state: State) -> None:
    """Whatever was reached, Confirmed in its probation included, Reverted can follow."""
    assert State.REVERTED in reachable({state}, EDGES)


def test_a_confirmed_transaction_only_reverts_and_a_reverted_one_rests() -> None:
    """Nothing follows Reverted; only a failure during probation follows Confirmed."""
    assert {target for source, target in EDGES if source is State.REVERTED} == set()
    assert {target for source, target in EDGES if source is State.CONFIRMED} == {State.REVERTING}


def test_every_state_has_exactly_one_action() -> None:
    """After a crash the state alone says what to do, so it has one action and no more."""
    expected = {
        State.PLANNED: Action.RESERVE,
        State.FETCHING: Action.STAGE,
        State.STAGED: Action.PREPARE,
        State.PREPARED: Action.AWAIT_SET,
        State.SWITCHING: Action.SWITCH,
        State.SWITCHED: Action.START,
        State.WATCHING: Action.WATCH,
        State.CONFIRMED: Action.GUARD,
        State.REVERTING: Action.UNDO,
        State.REVERTED: Action.REST,
        State.STUCK: Action.UNDO,
    }
    assert {state: action_of(state) for state in State} == expected
    for state in State:
        assert {row.action for row in TABLE if row.source is state} <= {action_of(state)}


def test_a_good_transaction_passes_the_states_in_order() -> None:
    """Done after done leads from Planned to Confirmed through every state of a good one."""
    states = [State.PLANNED]
    while states[-1] is not State.CONFIRMED:
        states.append(next_state(states[-1], action_of(states[-1]), Outcome.DONE))
    assert " ".join(states) == "Planned Fetching Staged Prepared Switching Switched Watching Confirmed"


@pytest.mark.parametrize("state", [state for state in State if state not in (State.REVERTED, State.STUCK)])
def test_a_failure_anywhere_leads_through_reverting_to_reverted(state: State) -> None:
    """A failure is undone; one of undoing itself is Stuck, which tries again until it is Reverted."""
    if state is not State.REVERTING:
        assert next_state(state, action_of(state), Outcome.FAILED) is State.REVERTING
    assert next_state(State.REVERTING, Action.UNDO, Outcome.DONE) is State.REVERTED
    assert next_state(State.REVERTING, Action.UNDO, Outcome.FAILED) is State.STUCK
    assert next_state(State.STUCK, Action.UNDO, Outcome.FAILED) is State.STUCK
    assert next_state(State.STUCK, Action.UNDO, Outcome.DONE) is State.REVERTED


def test_only_before_the_switch_or_while_watching_can_a_transaction_be_superseded() -> None:
    """Between intent to switch and start there is no turning aside, only forward or back."""
    superseded = {state for state in State if can(state, Outcome.SUPERSEDED)}
    assert superseded == {state for state in State if state.before_switch} | {State.WATCHING}
    for state in superseded:
        assert next_state(state, action_of(state), Outcome.SUPERSEDED) is State.REVERTING


def test_an_app_that_is_lost_while_watched_is_started_again() -> None:
    """Lost leads back to Switched, whose action counts attempts; nowhere else is there anything to lose."""
    assert [state for state in State if can(state, Outcome.LOST)] == [State.WATCHING]
    assert next_state(State.WATCHING, Action.WATCH, Outcome.LOST) is State.SWITCHED


@given(st.sampled_from(State), st.sampled_from(Action), st.sampled_from(Outcome))
def test_next_state_is_the_table_and_nothing_else(state: State, action: Action, outcome: Outcome) -> None:
    """A row of the table gives its target; everything else is a bug and says so, with all three words."""
    rows = [row for row in TABLE if (row.source, row.action, row.outcome) == (state, action, outcome)]
    assert can(state, outcome) == any((row.source, row.outcome) == (state, outcome) for row in TABLE)
    if rows:
        assert [next_state(state, action, outcome)] == [row.target for row in rows]
    else:
        with pytest.raises(ValueError, match=f"no transition from {state} by {action} with {outcome}"):
            next_state(state, action, outcome)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.source}-{row.outcome}")
def test_a_duplicate_row_is_rejected(row: Row) -> None:
    """The same row twice, or one with another target, is no table."""
    for extra in (row, replace(row, target=State.STUCK)):
        with pytest.raises(ValueError, match=f"two rows for {row.source} and {row.outcome}"):
            index([*TABLE, extra])


def test_two_actions_for_a_state_are_rejected() -> None:
    """A state whose rows disagree about its action is no table, nor is one that gives a resting state something to do."""
    with pytest.raises(ValueError, match="two actions for Switching"):
        index([*TABLE, Row(State.SWITCHING, Action.STAGE, Outcome.LOST, State.STUCK)])
    with pytest.raises(ValueError, match="two actions for Reverted"):
        index([*TABLE, Row(State.REVERTED, Action.UNDO, Outcome.DONE, State.STUCK)])


def test_a_state_without_action_is_rejected() -> None:
    """Each state must be a source: after a crash in another one nobody would know what to do."""
    with pytest.raises(ValueError, match="no action for Fetching, Stuck"):
        index([row for row in TABLE if row.source not in (State.STUCK, State.FETCHING)])


def test_index_gives_what_the_questions_are_answered_from() -> None:
    """The index of the table holds each row's action and target."""
    actions, targets = index(TABLE)
    assert actions == {state: action_of(state) for state in State}
    assert targets == {(row.source, row.outcome): row.target for row in TABLE}


def test_the_diagram_draws_every_row_once() -> None:
    """The Mermaid diagram has a line for each row, the beginning and both ends."""
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert sorted(lines[1:]) == sorted(
        [f"    {row.source} --> {row.target}: {row.action} {row.outcome}" for row in TABLE]
        + ["    [*] --> Planned", "    Confirmed --> [*]", "    Reverted --> [*]"]
    )
