"""Which version of the agent runs: what is put on trial, kept, left, and when anything may move."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.status import State
from towpath_agent.engine.selfupdate import (
    Own,
    Pointer,
    Step,
    after_round,
    apply,
    begin,
    deserves_another,
    dropped,
    from_bytes,
    moves,
    to_bytes,
    uncounted,
    waits,
)

OLD, NEW = "1.0.0-a", "1.1.0-b"
TRIAL = Pointer(current=OLD, trying=NEW, deadline_s=35.0, starts=1)
NEWCOMER = Own(release=NEW, trial=True, pointer=TRIAL, current=OLD, state=State.WATCHING)
GONE_BACK = Own(release=OLD, trial=False, pointer=replace(TRIAL, failed="it died"), current=OLD, state=None)
KEPT = Own(release=OLD, trial=False, pointer=Pointer(current=OLD, starts=2), current=OLD, state=None)


@given(
    st.builds(
        Pointer, st.text(), st.text(), st.floats(0, 1e6), st.integers(0, 99), st.text(max_size=99), st.text(max_size=99)
    )
)
def test_what_is_written_is_read_again(pointer: Pointer) -> None:
    """Every pointer survives its file."""
    assert from_bytes(to_bytes(pointer)) == pointer


def test_a_garbled_file_says_nothing() -> None:
    """Cut anywhere, of another shape, or of other types: None, never an error."""
    whole = to_bytes(TRIAL)
    assert {from_bytes(whole[:end]) for end in range(len(whole))} == {None}
    for text in (b"[]", b"{}", b"7", b'"x"', b"\xff", whole.replace(b"35.0", b'"soon"'), whole.replace(b"35.0", b"[]")):
        assert from_bytes(text) is None, text


def test_a_new_release_is_put_on_trial_with_a_deadline_of_its_own() -> None:
    """What ran stays what comes back; the launcher's deadline is later than the release's own, which can say why."""
    assert begin(Pointer(current=OLD, starts=3), NEW, 20_000) == Pointer(current=OLD, trying=NEW, deadline_s=35.0)
    assert TRIAL.on_trial == NEW
    assert replace(TRIAL, failed="it died").on_trial == ""


def test_what_ran_before_the_trial_needs_none() -> None:
    """Going back to what ran is no trial: it is what the launcher would start anyway."""
    assert begin(Pointer(current=OLD, starts=3), OLD, 20_000) == Pointer(current=OLD)


def test_what_goes_back_on_its_trial_leaves_the_mark_that_its_launcher_would() -> None:
    """So that what ran before keeps the copy of the journal and goes back once more where it needs it. Once is enough."""
    gone = begin(TRIAL, OLD, 20_000, "it cannot speak")
    assert gone == replace(TRIAL, starts=0, failed="it cannot speak")
    assert begin(gone, OLD, 20_000, "asked again") == gone
    assert begin(TRIAL, OLD, 20_000).failed == "it went back by itself"
    assert len(begin(TRIAL, OLD, 20_000, "x" * 100_000).failed) == 900


def test_what_is_not_wanted_any_more_is_off_its_trial() -> None:
    """Only the one that is named is dropped."""
    assert dropped(replace(TRIAL, failed="it died"), NEW) == Pointer(current=OLD, starts=1)
    assert dropped(TRIAL, OLD) == TRIAL


def test_a_start_that_ends_by_no_fault_of_its_files_is_taken_back_from_what_is_kept() -> None:
    """Of that very release, and never below none; on trial it counts, so that one that takes no settings goes back."""
    assert uncounted(Pointer(current=OLD, starts=2), OLD) == Pointer(current=OLD, starts=1)
    for left in (Pointer(current=OLD), Pointer(current=NEW, starts=2), TRIAL, replace(TRIAL, failed="it died")):
        assert uncounted(left, OLD) == left


@pytest.mark.parametrize(
    ("own", "step"),
    [
        (replace(KEPT, release=""), Step.STAY),
        (replace(KEPT, release="", current=NEW), Step.STAY),
        (NEWCOMER, Step.STAY),
        *((replace(NEWCOMER, state=state), Step.STAY) for state in (State.SWITCHING, State.SWITCHED, State.REVERTING)),
        (replace(NEWCOMER, state=State.STUCK, current=NEW), Step.STAY),
        (replace(NEWCOMER, state=State.CONFIRMED, current=NEW), Step.KEEP),
        (replace(NEWCOMER, state=None, current=NEW), Step.KEEP),
        (replace(NEWCOMER, state=None), Step.STAY),
        (replace(NEWCOMER, state=State.REVERTED, current=""), Step.LEAVE),
        (replace(NEWCOMER, state=None, current=""), Step.LEAVE),
        (replace(KEPT, state=State.PLANNED, current=""), Step.LEAVE),
        (KEPT, Step.SETTLE),
        (replace(KEPT, state=State.PREPARED), Step.SETTLE),
        (replace(KEPT, pointer=Pointer(current=OLD)), Step.STAY),
        (replace(KEPT, pointer=Pointer(current=NEW, starts=1)), Step.STAY),
        (replace(GONE_BACK, release="", current=""), Step.FORGET),
        (replace(GONE_BACK, state=State.REVERTED), Step.FORGET),
        (replace(GONE_BACK, state=State.REVERTING), Step.STAY),
        (replace(GONE_BACK, release="", current=NEW), Step.STAY),
    ],
)
def test_after_a_round_the_agent_knows_what_to_do_about_itself(own: Own, step: Step) -> None:
    """Kept once confirmed, left where it is not wanted, else as it is; nothing in the middle of its own transaction.

    A mark is of no use once what it names does not run by the journal either.
    """
    assert after_round(own) is step


def test_only_what_was_confirmed_on_its_trial_deserves_another() -> None:
    """Its own transaction confirmed it, and it is what the launcher gave up, on a trial: after that, it waits for a person."""
    marked = replace(TRIAL, failed="it had not reported within 35s")
    assert deserves_another(marked, NEW, State.CONFIRMED)
    assert not deserves_another(TRIAL, NEW, State.CONFIRMED)
    assert not deserves_another(replace(marked, deadline_s=0.0), NEW, State.CONFIRMED)
    assert not deserves_another(marked, OLD, State.CONFIRMED)
    for state in (None, State.SWITCHED, State.WATCHING, State.REVERTING):
        assert not deserves_another(marked, NEW, state)


def test_what_each_step_writes() -> None:
    """Kept and settled: it runs, with no starts. Left: the packaged one, with a mark where it was on trial."""
    assert apply(Step.STAY, TRIAL, NEW) == TRIAL
    assert apply(Step.SETTLE, Pointer(current=OLD, starts=2), OLD) == Pointer(current=OLD)
    assert apply(Step.KEEP, TRIAL, NEW) == Pointer(current=NEW)
    assert apply(Step.LEAVE, Pointer(current=NEW), NEW) == Pointer()
    left = apply(Step.LEAVE, TRIAL, NEW, "it cannot speak")
    assert left == replace(TRIAL, current="", starts=0, failed="it cannot speak")
    assert apply(Step.FORGET, left, "") == Pointer()


@pytest.mark.parametrize("state", list(State))
def test_nothing_else_switches_while_the_agent_moves(state: State) -> None:
    """From its switch until its end, the way back included; one that is stuck does not stop a host for ever."""
    moving = state in (State.SWITCHING, State.SWITCHED, State.WATCHING, State.REVERTING)
    states = {"towpath-agent": state, "hello": State.PREPARED}
    assert moves(state) is moving
    assert waits("hello", states, server_answers=True) == (f"the agent's own update is {state}" if moving else "")
    assert not waits("hello", {"hello": State.PREPARED}, server_answers=False)


@pytest.mark.parametrize("state", list(State))
def test_the_agent_does_not_switch_during_another_apps_transaction(state: State) -> None:
    """Incident 17: it waits for all that is under way. What is stuck may be so until a newer agent comes."""
    states = {"towpath-agent": State.PREPARED, "hello": state}
    over = state in (State.CONFIRMED, State.REVERTED, State.STUCK)
    said = waits("towpath-agent", states, server_answers=True)
    assert said == ("" if over else "the agent is not changed while others are: hello")


def test_the_agent_does_not_switch_while_it_could_not_be_kept() -> None:
    """A new agent must report to be kept, so that it does not begin while the server is away."""
    states = {"towpath-agent": State.PREPARED}
    assert "the server does not answer" in waits("towpath-agent", states, server_answers=False)
    assert not waits("towpath-agent", states, server_answers=True)
