"""Calls that know no deadline, made beside the caller."""

import threading
from pathlib import Path

import pytest

from towpath_agent.system import beside
from towpath_agent.system.clock import Deadline, SystemClock


def soon(seconds: float = 5.0) -> Deadline:
    return Deadline(SystemClock(), seconds)


def test_the_answer_or_the_error_of_the_call_comes_back() -> None:
    """As if it had been called here."""
    assert beside.ask("an answer", lambda: 42, soon()) == 42
    with pytest.raises(FileNotFoundError):
        beside.ask("an error", lambda: Path("/no/such/file").read_bytes(), soon())


def test_a_call_that_hangs_is_left_at_the_deadline_and_not_joined_by_another() -> None:
    """The same thing is not asked again while it hangs; another one is, and once it ended so is this."""
    release, calls = threading.Event(), []

    def hang() -> str:
        calls.append(1)
        release.wait(60)
        return "late"

    for _ in range(3):
        with pytest.raises(TimeoutError, match="^timed out: "):
            beside.ask("a mount", hang, soon(0.05))
    assert len(calls) == 1
    assert beside.ask("another mount", lambda: "fine", soon()) == "fine"
    release.set()
    assert beside.ask("a mount", hang, soon()) == "late"
    assert len(calls) == 2
