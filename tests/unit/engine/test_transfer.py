"""How far what travels is: the total becomes exact, the rate is of lately, and telling is rare."""

import pytest

from towpath_agent.engine.transfer import LEAST_TELL_S, MOST_TELL_S, Tracker

KIB = 1024
A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def begun(done: int = 0) -> Tracker:
    """Two objects of 100 and 300 KiB, of which nothing has come."""
    it = Tracker("1.1.0", 0.0, done)
    it.expect({A: 100 * KIB, B: 300 * KIB}, 400 * KIB)
    return it


def test_what_has_not_begun_is_taken_to_come_as_it_is() -> None:
    """Before the first byte nobody knows how well it compresses."""
    seen = begun().seen(0.0)
    assert (seen.done, seen.total, seen.about) == (0, 400 * KIB, True)
    assert (seen.rate, seen.remaining_ms) == (0, 0)


def test_the_total_becomes_exact_as_objects_begin() -> None:
    """What comes after is taken to compress as what came before; when the last has begun nothing is guessed."""
    it = begun()
    it.begins(A, 0, 50 * KIB)
    assert (it.seen(0).total, it.seen(0).about) == (200 * KIB, True)
    it.came(50 * KIB, 1.0)
    it.begins(B, 0, 30 * KIB)
    seen = it.seen(1.0)
    assert (seen.done, seen.total, seen.about) == (50 * KIB, 80 * KIB, False)
    it.came(30 * KIB, 2.0)
    assert (it.seen(2.0).done, it.seen(2.0).total) == (80 * KIB, 80 * KIB)


def test_of_a_delta_the_delta_is_what_travels() -> None:
    """A release of 400 KiB comes as 7."""
    it = begun()
    it.begins(C, 0, 7 * KIB, delta=True)
    it.came(2 * KIB, 1.0)
    seen = it.seen(1.0)
    assert (seen.done, seen.total, seen.about, seen.delta) == (2 * KIB, 7 * KIB, False, True)
    assert seen.remaining_ms == 2500


def test_an_attempt_that_goes_on_counts_what_came_before() -> None:
    """After a cut, or a restart of the agent, the bytes that are here are done, each once."""
    it = begun(done=60 * KIB)
    it.begins(B, 60 * KIB, 300 * KIB)
    assert it.seen(0).done == 60 * KIB
    it.came(40 * KIB, 1.0)
    it.expect({A: 100 * KIB, B: 300 * KIB}, 400 * KIB)
    it.begins(B, 100 * KIB, 300 * KIB)
    assert (it.seen(1.0).done, it.seen(1.0).total) == (100 * KIB, 400 * KIB)
    unknown = begun()
    unknown.begins(B, 60 * KIB, 300 * KIB)
    assert unknown.seen(0).done == 60 * KIB


def test_an_object_that_nobody_expected_is_only_counted() -> None:
    """A release's index comes before its objects are known."""
    it = Tracker("1.1.0", 0.0)
    it.begins(C, 0, 10)
    it.came(10, 1.0)
    assert (it.seen(1.0).done, it.seen(1.0).total) == (10, 10)


def test_the_rate_is_that_of_lately() -> None:
    """A line that got slower is told as slow within seconds, and one that stands still soon as such."""
    it = begun()
    it.begins(B, 0, 10**9)
    for second in range(1, 21):
        it.came(1_000_000, float(second))
    assert it.seen(20.0).rate == pytest.approx(1_000_000, rel=0.01)
    for second in range(21, 51):
        it.came(10_000, float(second))
    assert it.seen(50.0).rate == pytest.approx(10_000, rel=6)
    assert it.seen(200.0).rate < 100


def test_many_pieces_in_a_second_are_one_sample() -> None:
    """How pieces are cut makes no rate."""
    it = begun()
    it.begins(B, 0, 10**9)
    for step in range(1, 101):
        it.came(1000, step / 10)
    assert it.seen(10.0).rate == pytest.approx(10_000, rel=0.02)


def test_what_stops_has_no_rate_and_no_end() -> None:
    """A line that is down is not told as if it went on."""
    it = begun()
    it.begins(B, 0, 10**6)
    it.came(1000, 1.0)
    it.stops(2.0)
    assert (it.seen(2.0).rate, it.seen(2.0).remaining_ms, it.seen(2.0).done) == (0, 0, 1000)


def tells(seconds: int, rate: int, size: int) -> int:
    """Return how often a fetch of `size` bytes is told in so many seconds."""
    it, count = Tracker("1", 0.0), 0
    it.begins(A, 0, size)
    for step in range(1, seconds * 4 + 1):
        it.came(rate // 4, step / 4)
        count += it.is_due(step / 4)
    return count


def test_a_short_fetch_is_not_told() -> None:
    """What is over in five seconds is told by being over."""
    assert tells(4, 1000, 4000) == 0


def test_telling_costs_a_report_every_few_seconds_at_most() -> None:
    """Every five seconds where the end is near, every minute where it is hours away."""
    assert tells(60, 1000, 60_000) <= 60 / LEAST_TELL_S
    assert 8 <= tells(600, 1000, 10**9) <= 600 / MOST_TELL_S + 1
