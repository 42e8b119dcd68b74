"""Reports on the wire: equal on both sides, capped on both sides."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.errors import Refusal
from towpath.quantity import MAX_SIZE
from towpath.reports import (
    MAX_EVIDENCE_CHARS,
    MAX_REASON_CHARS,
    AppState,
    Event,
    Prefetch,
    PrefetchState,
    Transfer,
    fit,
    more_came,
)
from towpath.status import Health, State, Verdict
from towpath.v1 import types_pb2 as pb
from towpath.wire.reports import MAX_ID_CHARS, from_app_state, from_event, to_app_state, to_event

NAME, DIGEST = st.text(max_size=MAX_ID_CHARS), st.binary(max_size=32)
U64, I64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
COUNT = st.integers(0, MAX_SIZE)
REASON = st.text(max_size=MAX_REASON_CHARS)
VALUES: Any = st.one_of(st.text(max_size=9), I64, st.booleans(), st.lists(st.text(max_size=5), max_size=2).map(tuple))

STATES = st.builds(
    AppState,
    app=NAME,
    current_version=NAME,
    current_sha256=DIGEST,
    desired_version=NAME,
    desired_sha256=DIGEST,
    previous_version=NAME,
    state=st.sampled_from(State),
    health=st.sampled_from(Health),
    verdict=st.sampled_from(Verdict),
    reason=REASON,
    generation=U64,
    since_unix_ms=I64,
    parameters=st.dictionaries(st.text(max_size=9), VALUES, max_size=3),
    prefetch=st.none() | st.builds(Prefetch, NAME, DIGEST, st.sampled_from(PrefetchState), REASON),
    transfer=st.none() | st.builds(Transfer, NAME, COUNT, COUNT, st.booleans(), COUNT, COUNT, st.booleans()),
)
EVENTS = st.builds(
    Event,
    id=st.text(min_size=1, max_size=MAX_ID_CHARS),
    at_unix_ms=I64,
    kind=NAME,
    app=NAME,
    transaction=NAME,
    state=NAME,
    version=NAME,
    release_sha256=DIGEST,
    verdict=NAME,
    reason=REASON,
    code=NAME,
    evidence=st.text(max_size=200),
)


@settings(max_examples=50)
@given(STATES)
def test_a_state_comes_back_equal(state: AppState) -> None:
    """What a host says about an app is what its server reads."""
    assert from_app_state(pb.AppState.FromString(to_app_state(state).SerializeToString())) == state


@settings(max_examples=50)
@given(EVENTS)
def test_an_event_comes_back_equal(event: Event) -> None:
    """What a host tells is what its server reads."""
    assert from_event(pb.ReportEvent.FromString(to_event(event).SerializeToString())) == event


def test_the_generated_reports_cover_every_field() -> None:
    """A new field must be added to the strategies above: this count reminds."""
    assert (len(fields(AppState)), len(fields(Event))) == (15, 12)


def test_numbers_of_a_transfer_are_capped() -> None:
    """A host that says more bytes than there are does not make a server add them up."""
    message = to_app_state(AppState("a", transfer=Transfer("v" * 999, 1, 2)))
    message.transfer.total = 2**64 - 1
    transfer = from_app_state(message).transfer
    assert transfer is not None
    assert (transfer.total, len(transfer.version)) == (MAX_SIZE, MAX_ID_CHARS)


def test_a_transfer_is_told_as_people_read_it() -> None:
    """Bytes, of how many, how fast, how long still; what cannot be told is not."""
    known = Transfer("1.1.0", 12 * 2**20, 48 * 2**20, rate=256 * 2**10, remaining_ms=144_000)
    assert known.text == "12.0 MiB of 48.0 MiB, 256.0 KiB/s, 2m left"
    guessed = Transfer("1.1.0", 100, 1000, about=True, delta=True)
    assert guessed.text == "100 B of about 1000 B of a delta, 0 B/s"
    assert Transfer("1.1.0", 999, 1000, rate=10, remaining_ms=1).text.endswith(", 1s left")


@pytest.mark.parametrize(
    ("before", "now", "came"),
    [
        (None, None, False),
        (None, Transfer("1", 0, 9), True),
        (Transfer("1", 3, 9), None, False),
        (Transfer("1", 3, 9), Transfer("1", 3, 9), False),
        (Transfer("1", 3, 9), Transfer("1", 4, 9), True),
        (Transfer("1", 3, 9), Transfer("2", 0, 9), True),
    ],
)
def test_whether_more_came_can_be_told(before: Transfer | None, now: Transfer | None, *, came: bool) -> None:
    """Bytes of the same release that grew, or of another one."""
    assert more_came(before, now) is came


def test_long_texts_are_cut_before_they_travel() -> None:
    """A host sends at most so many characters: the first of a reason, the first and the last of the evidence."""
    event = to_event(Event("1", 0, "k", reason="r" * 9000, evidence="first" + "e" * 9000 + "last"))
    assert event.reason == "r" * MAX_REASON_CHARS
    assert len(event.evidence) == MAX_EVIDENCE_CHARS
    assert event.evidence.startswith("firste")
    assert event.evidence.endswith("elast")
    assert "e\n[...]\ne" in event.evidence
    fits = Event("1", 0, "k", reason="r" * MAX_REASON_CHARS, evidence="e" * MAX_EVIDENCE_CHARS)
    assert fit(fits) is fits
    assert len(fit(Event("1", 0, "k", reason="r" * 9000, evidence="e")).reason) == MAX_REASON_CHARS
    assert to_app_state(AppState("a", reason="r" * 9000)).reason == "r" * MAX_REASON_CHARS


def test_a_server_keeps_no_more_than_the_caps_of_a_hostile_event() -> None:
    """Every text of an event that arrives is cut, whatever the host sent."""
    texts = dict.fromkeys("kind app transaction state version verdict reason code evidence".split(), "x" * 9000)
    event = from_event(pb.ReportEvent(id="1", release_sha256=bytes(99), **texts))  # type: ignore[arg-type]
    caps = {"reason": MAX_REASON_CHARS, "evidence": MAX_EVIDENCE_CHARS}
    assert {name: len(getattr(event, name)) for name in texts} == {n: caps.get(n, MAX_ID_CHARS) for n in texts}
    assert len(event.release_sha256) == 32


def test_a_server_keeps_no_more_than_the_caps_of_a_hostile_state() -> None:
    """Every text of a state that arrives is cut, whatever the host sent."""
    names = dict.fromkeys("app current_version desired_version previous_version reason".split(), "x" * 9000)
    raw = pb.AppState(
        current_sha256=bytes(99),
        desired_sha256=bytes(99),
        state="Planned",
        health="unknown",
        **names,  # type: ignore[arg-type]
    )
    state = from_app_state(raw)
    assert {len(getattr(state, name)) for name in names if name != "reason"} == {MAX_ID_CHARS}
    assert len(state.reason) == MAX_REASON_CHARS
    assert (len(state.current_sha256), len(state.desired_sha256)) == (32, 32)


@pytest.mark.parametrize("field", ["state", "health", "verdict"])
def test_a_word_that_is_none_of_ours_is_garbled(field: str) -> None:
    """A state, health or verdict that this version does not know is refused, in a line of bounded length."""
    message = to_app_state(AppState("a"))
    setattr(message, field, "x" * 5000)
    with pytest.raises(Refusal, match="^cannot read a report") as caught:
        from_app_state(message)
    assert caught.value.code == "garbled"
    assert len(str(caught.value)) < 200


def test_an_empty_parameter_is_garbled() -> None:
    """A parameter value that holds nothing is the host's fault, under the same name."""
    message = to_app_state(AppState("a"))
    message.parameters["p"].SetInParent()
    with pytest.raises(Refusal) as caught:
        from_app_state(message)
    assert caught.value.code == "garbled"


@pytest.mark.parametrize("event_id", ["", "x" * (MAX_ID_CHARS + 1)])
def test_an_event_without_a_usable_id_is_garbled(event_id: str) -> None:
    """The id makes sending twice harmless, so an event must have one, and it is never cut."""
    with pytest.raises(Refusal, match="without a usable id") as caught:
        from_event(pb.ReportEvent(id=event_id))
    assert caught.value.code == "garbled"
    assert from_event(pb.ReportEvent(id="x" * MAX_ID_CHARS)).id == "x" * MAX_ID_CHARS
