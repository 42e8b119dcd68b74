"""docs/states.md is generated from the table."""

from pathlib import Path

from towpath.status import State
from towpath_agent.engine.table import action_of, diagram

PAGE = Path(__file__).resolve().parents[3] / "docs" / "states.md"


def expected() -> str:
    rows = "\n".join(f"| {state} | `{action_of(state)}` |" for state in State)
    return f"""# The states of a transaction

One transaction is one attempt to move one app on one host. A state is a fact that the agent's journal holds; it is
committed before the action of that state begins, and every action may be done again. After a crash the agent finds the
state and does its action again; there is no other list. This page is generated from `towpath_agent.engine.table`
(`tests/unit/engine/test_states_page.py` prints it where it is out of date).

```mermaid
{diagram()}
```

| state | its one action |
|---|---|
{rows}

Each arrow is named by the action and its outcome: `done`; `failed`; `superseded`, the host should run something else by
now; `set_failed`, another one that moves together with it failed (`docs/sets.md`); `lost`, the app is no longer running though nobody stopped it. An action that is not finished has no outcome, and
the state stays. From Confirmed the app is watched on during probation and may still be reverted.
"""


def test_the_page_is_current() -> None:
    """docs/states.md is what the table gives; where it is not, the message is the text to save there."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert page == expected(), f"docs/states.md is out of date; save this there:\n{expected()}"
