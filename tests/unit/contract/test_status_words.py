"""The words that hosts report: stable on the wire and on disk."""

from towpath.status import Health, State, Verdict


def test_words_are_stable() -> None:
    """Journals, databases and messages hold these very words."""
    assert " ".join(State) == (
        "Planned Fetching Staged Prepared Switching Switched Watching Confirmed Reverting Reverted Stuck"
    )
    assert " ".join(Health) == "healthy unhealthy starting unknown"
    assert " ".join(Verdict) == " succeeded failed inconclusive superseded refused"


def test_only_confirmed_and_reverted_end() -> None:
    """Stuck is not an end: undoing goes on."""
    assert {state for state in State if state.ended} == {State.CONFIRMED, State.REVERTED}


def test_up_to_prepared_nothing_that_runs_was_touched() -> None:
    """A transaction can be told to stay until it is Prepared, not while it is Switching."""
    assert [state for state in State if state.before_switch] == [
        State.PLANNED,
        State.FETCHING,
        State.STAGED,
        State.PREPARED,
    ]
