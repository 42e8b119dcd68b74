"""The table of a rollout's states, and docs/rollout-states.md that is generated from it."""

from pathlib import Path

import pytest

from towpath.errors import InputError
from towpath_server.domain.model import RolloutState
from towpath_server.domain.rollout_table import TABLE, Act, Row, can, diagram, index, next_state, ordered

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rollout-states.md"
ORDERS = (Act.PAUSE, Act.RESUME, Act.ADVANCE, Act.HALT, Act.RETRY, Act.CANCEL, Act.UNDO)


def expected() -> str:
    rows = "\n".join(
        f"| {state} | {', '.join(f'`{act}`' for act in ORDERS if can(state, act)) or '-'} |" for state in RolloutState
    )
    return f"""# The states of a rollout

A rollout moves an assignment's hosts to its release (docs/rollouts.md). This page is generated from
`towpath_server.domain.rollout_table` (`tests/unit/server_domain/test_rollout_table.py` prints it where it is out of date).
`towpath undeploy` makes every state `removed`; that arrow is left out.

```mermaid
{diagram()}
```

| state | what an operator may order |
|---|---|
{rows}

`finish`, `expire`, `breach`, `take back` and `return` are the server's own findings; `supersede` is a newer deploy of the same
rule, and `restore` is that newer one being taken back or cancelled.
"""


def test_the_page_is_current() -> None:
    """docs/rollout-states.md is what the table gives; where it is not, the message is the text to save there."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert page == expected(), f"docs/rollout-states.md is out of date; save this there:\n{expected()}"


def test_the_table_has_no_second_row_and_leaves_no_state_out() -> None:
    """Two rows for one act, or a state that nothing reaches, are faults of the table that are found at import."""
    with pytest.raises(ValueError, match="two rows for rolling and pause"):
        index([*TABLE, Row(RolloutState.ROLLING, Act.PAUSE, RolloutState.DONE)])
    with pytest.raises(ValueError, match="no row for cancelled"):
        index([row for row in TABLE if RolloutState.CANCELLED not in (row.source, row.target)])


def test_every_state_but_removed_can_end() -> None:
    """Whatever happens, a newer deploy or an undeploy gets a rollout out of the way."""
    for state in RolloutState:
        assert can(state, Act.REMOVE) is (state is not RolloutState.REMOVED)
        assert can(state, Act.SUPERSEDE) is (state not in (RolloutState.SUPERSEDED, RolloutState.REMOVED))


def test_a_transition_without_a_row_is_a_bug_and_an_order_without_one_is_a_line_with_the_way_out() -> None:
    """The tick never asks for what the table lacks; a person who does is told what would be possible."""
    assert next_state(RolloutState.HALTED, Act.RESUME) is RolloutState.ROLLING
    with pytest.raises(ValueError, match="no transition from done by finish"):
        next_state(RolloutState.DONE, Act.FINISH)
    assert ordered(RolloutState.ROLLING, Act.PAUSE, "x") is RolloutState.PAUSED
    with pytest.raises(InputError, match="cannot advance hello 1 in dev: it is paused; resume it first") as caught:
        ordered(RolloutState.PAUSED, Act.ADVANCE, "hello 1 in dev")
    assert caught.value.code == "impossible"


def test_what_counts_for_hosts() -> None:
    """Active states own what their rule matches, leaving ones what they let in, the two last nothing."""
    active = {state for state in RolloutState if state.active}
    leaving = {state for state in RolloutState if state.leaving}
    assert active == {RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE, RolloutState.HALTED}
    assert leaving == {RolloutState.REVERTING, RolloutState.REVERTED, RolloutState.CANCELLED}
    assert {state for state in RolloutState if state.returning} == leaving - {RolloutState.CANCELLED}
