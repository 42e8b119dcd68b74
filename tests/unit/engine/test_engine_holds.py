"""Holds of a host: their time never goes back, they end by themselves, and each refusal names the way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.holds import MAX_HOLD_MS, MAX_HOLDS, Hold
from towpath_agent.engine.holds import hold_time, lifted, live, placed

NOW = 1_700_000_000_000
ALL = Hold("", "ana", "audit week", NOW, NOW + 10_000)
HELLO = Hold("hello", "bo", "the till is open", NOW, NOW + 5_000)


@given(st.lists(st.tuples(st.integers(0, 2**41), st.integers(0, 10_000)), min_size=1, max_size=20))
def test_the_time_of_holds_never_goes_back_and_never_stands_still(steps: list[tuple[int, int]]) -> None:
    """Whatever the wall clock does, T grows at least as fast as monotonic time: no hold lasts longer than was meant."""
    last = 0
    for wall, passed in steps:
        now = hold_time(wall, last, passed)
        assert now >= last + passed
        assert now >= wall
        last = now


def test_a_hold_ends_by_itself_and_not_a_millisecond_later() -> None:
    """In force before its end; the whole host comes first in the list."""
    assert live([HELLO, ALL], NOW + 4_999) == (ALL, HELLO)
    assert live([HELLO, ALL], NOW + 5_000) == (ALL,)
    assert live([HELLO, ALL], NOW + 10_000) == ()


def test_a_new_hold_takes_the_place_of_the_one_on_the_same_app() -> None:
    """Hold again to make it longer or shorter; holds on other apps stay, those that are over go."""
    longer = placed([ALL, HELLO], app="hello", by="bo", reason="still open", for_ms=60_000, now_unix_ms=NOW + 4_000)
    assert longer == (ALL, Hold("hello", "bo", "still open", NOW + 4_000, NOW + 64_000))
    assert placed([ALL], app="hello", by="bo", reason="x", for_ms=1_000, now_unix_ms=NOW + 20_000)[0].app == "hello"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"for_ms": 999}, "cannot hold for 999ms: 1s to 30d are allowed"),
        ({"for_ms": -5}, "cannot hold for 0ms"),
        ({"for_ms": MAX_HOLD_MS + 1}, "hold again before it ends"),
        ({"reason": ""}, "cannot use an empty reason"),
        ({"by": ""}, "cannot use an empty name"),
    ],
)
def test_a_hold_that_would_last_for_ever_or_says_nothing_is_refused(fields: dict[str, object], message: str) -> None:
    """The length is bounded on both sides, and others must be able to read who and why."""
    good = {"app": "hello", "by": "ana", "reason": "x", "for_ms": 60_000, "now_unix_ms": NOW}
    with pytest.raises(InputError, match=message):
        placed([], **{**good, **fields})


def test_there_is_a_most_of_holds() -> None:
    """Beyond it the whole host is to be held; replacing one of them is no new one."""
    many = [Hold(f"a{n}", "ana", "x", NOW, NOW + 10_000) for n in range(MAX_HOLDS)]
    with pytest.raises(InputError, match="hold the whole host instead"):
        placed(many, app="one-more", by="ana", reason="x", for_ms=60_000, now_unix_ms=NOW)
    assert len(placed(many, app="a0", by="ana", reason="x", for_ms=60_000, now_unix_ms=NOW)) == MAX_HOLDS


def test_a_release_ends_one_hold_or_all() -> None:
    """Of an app its own; without an app every one."""
    assert lifted([ALL, HELLO], "hello") == ((ALL,), (HELLO,))
    assert lifted([ALL, HELLO], "") == ((), (ALL, HELLO))


def test_a_release_of_what_is_not_held_says_what_is_in_the_way() -> None:
    """An app cannot be taken out of a hold on the whole host; that one is named with the command that ends it."""
    with pytest.raises(
        InputError, match=r"the whole host is held by ana .*: audit week; end that: towpath-agent release"
    ):
        lifted([ALL], "hello")
    with pytest.raises(InputError, match="cannot release hello: nothing holds it"):
        lifted([], "hello")
    with pytest.raises(InputError, match="cannot release the host: nothing holds it"):
        lifted([], "")
