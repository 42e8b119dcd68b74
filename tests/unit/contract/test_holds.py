"""Holds: what people may type, what they read, and what the wire lets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError, Refusal
from towpath.holds import MAX_HOLDS, MAX_TEXT_CHARS, MAX_UNIX_MS, Hold, check_line, covering
from towpath.v1 import types_pb2 as pb
from towpath.wire.holds import from_holds, to_hold

HOLD = Hold("hello", "ana", "the till is open", 1_700_000_000_000, 1_700_007_200_000)
TIMES = st.integers(0, MAX_UNIX_MS)
LINES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=MAX_TEXT_CHARS)
HOLDS = st.builds(Hold, st.sampled_from(["", "hello", "web"]), LINES, LINES, TIMES, TIMES)


def test_a_hold_reads_the_same_everywhere() -> None:
    """Who, until when in UTC, and why."""
    assert HOLD.text == "held by ana until 2023-11-15 00:13:20Z: the till is open"
    assert Hold("", "a", "b", 0, MAX_UNIX_MS).text == "held by a until 9999-12-31 23:59:59Z: b"


def test_a_hold_without_an_app_covers_every_app() -> None:
    """The longest that covers an app is the one that counts for it."""
    everything = Hold("", "bo", "audit", 0, 1)
    assert everything.covers("hello")
    assert HOLD.covers("hello")
    assert not HOLD.covers("web")
    assert covering([everything, HOLD], "hello") is HOLD
    assert covering([everything, HOLD], "web") is everything
    assert covering([HOLD], "web") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot use an empty reason: say why"),
        ("  \n ", "cannot use an empty reason"),
        ("x" * (MAX_TEXT_CHARS + 1), "at most 200"),
        ("a\nb", "one line of printable text"),
        ("\x1b[31mred", "one line of printable text"),
    ],
)
def test_a_text_that_others_will_read_is_one_printable_line(text: str, message: str) -> None:
    """Empty, long and unprintable texts are named; blanks around a good one are dropped."""
    with pytest.raises(InputError, match=message):
        check_line(text, "reason")
    assert check_line("  the till is open ", "reason") == "the till is open"


@given(st.lists(HOLDS, max_size=3, unique_by=lambda hold: hold.app))
def test_holds_survive_the_wire(holds: list[Hold]) -> None:
    """What a host says is what the server keeps, by app."""
    assert from_holds([to_hold(hold) for hold in holds]) == tuple(sorted(holds, key=lambda hold: hold.app))


@pytest.mark.parametrize(
    "messages",
    [
        [pb.Hold(app="../x", by="a", reason="b")],
        [pb.Hold(by="", reason="b")],
        [pb.Hold(by="a", reason="b\x1b[31m")],
        [pb.Hold(by="a", reason="b", until_unix_ms=-1)],
        [pb.Hold(by="a", reason="b", until_unix_ms=MAX_UNIX_MS + 1)],
        [pb.Hold(by="a", reason="b", since_unix_ms=-1)],
        [pb.Hold(by="a", reason="b"), pb.Hold(by="a", reason="c")],
        [pb.Hold(app=f"a{n}", by="a", reason="b") for n in range(MAX_HOLDS + 1)],
    ],
)
def test_a_strange_hold_is_refused_as_garbled(messages: list[pb.Hold]) -> None:
    """Names, texts, times and numbers that no agent of ours sends are refused under one code."""
    with pytest.raises(Refusal, match=r"^cannot read (a|the) hold") as caught:
        from_holds(messages)
    assert caught.value.code == "garbled"
