"""Which deltas are made and which go."""

from hypothesis import given
from hypothesis import strategies as st

from towpath_server.domain.deltas import (
    MOST_UNASKED,
    SMALLEST_FULL_BYTES,
    Kept,
    Pair,
    outdone,
    ready,
    surplus,
    too_large,
    unasked,
    worthless,
)


def name(number: int) -> bytes:
    return number.to_bytes(32)


def test_what_most_hosts_run_comes_first_and_rare_ones_ask_for_theirs() -> None:
    """Sorted by hosts, then by name so that two servers agree; never from a release to itself."""
    running = [name(1)] * 3 + [name(2)] * 5 + [name(9)] * 100 + [name(3)] * 3
    assert [pair.old for pair in unasked(running, name(9))] == [name(2), name(1), name(3)]
    assert {pair.new for pair in unasked(running, name(9))} == {name(9)}
    assert len(unasked(map(name, range(100)), name(1000))) == MOST_UNASKED
    assert unasked([], name(1)) == []


def test_who_can_open_archives_gets_the_delta_that_does_and_everybody_else_never() -> None:
    """Also where the plain one is the smaller one: the bytes of a fetch that was cut off are of the first one made."""
    plain, opened = Pair(name(1), name(2)), Pair(name(1), name(2), opened=True)
    assert ready(opened, {plain: 5, opened: 9}.get) == (opened, 9)
    assert ready(opened, {plain: 5}.get) == (plain, 5)
    assert ready(plain, {plain: 5, opened: 4}.get) == (plain, 5)
    assert ready(plain, {opened: 4}.get) is None
    assert ready(opened, {Pair(name(3), name(2)): 4}.get) is None


def test_a_plain_delta_that_is_no_longer_leaves_the_other_without_a_use() -> None:
    """Both are made; the one that sees into archives is the first, and may turn out not to be worth it."""
    plain, opened = Pair(name(1), name(2)), Pair(name(1), name(2), opened=True)
    assert outdone(plain, 5, {opened: 5}.get)
    assert not outdone(plain, 5, {opened: 4}.get)
    assert not outdone(plain, 5, {plain: 5}.get)
    assert not outdone(opened, 5, {opened: 5, plain: 4}.get)


def test_a_release_of_one_packet_gets_no_delta() -> None:
    """What one piece of a fetch brings costs one round trip either way."""
    assert "only 16383 bytes" in worthless(SMALLEST_FULL_BYTES - 1)
    assert worthless(SMALLEST_FULL_BYTES) == ""


def test_releases_that_are_too_large_are_not_tried() -> None:
    """And the setting that says so is named."""
    assert "delta_largest is 9" in too_large(10, 9)
    assert too_large(9, 9) == ""


def kept(number: int, size: int, used: int) -> Kept:
    return Kept(Pair(name(number), name(0)), size, used)


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    """Only as many as needed."""
    here = [kept(1, 10, 300), kept(2, 10, 100), kept(3, 10, 200)]
    assert surplus(here, 10, 40) == []
    assert surplus(here, 11, 40) == [here[1].pair]
    assert surplus(here, 25, 40) == [here[1].pair, here[2].pair]
    assert surplus(here, 100, 40) == [here[1].pair, here[2].pair, here[0].pair]
    assert surplus([], 100, 40) == []


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 5)), max_size=12), st.integers(0, 100), st.integers(0, 300)
)
def test_after_pruning_everything_fits_and_no_more_went_than_needed(
    sizes: list[tuple[int, int]], more: int, space: int
) -> None:
    """Where the new one alone is larger than the space, all others go."""
    here = [kept(number, size, used) for number, (size, used) in enumerate(sizes)]
    gone = surplus(here, more, space)
    size_of = {one.pair: one.size for one in here}
    left = sum(size_of.values()) - sum(size_of[pair] for pair in gone)
    assert left + more <= space or left == 0
    if gone:
        assert left + size_of[gone[-1]] + more > space
