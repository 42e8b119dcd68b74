"""How long to wait: spread, growing, bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath_agent.engine import pacing
from towpath_agent.engine.pacing import (
    FIRST_RETRY_S,
    MAX_WATCH_RETRY_S,
    backoff_s,
    fetch_delay_s,
    sync_delay_s,
    watch_delay_s,
)

CHANCE = st.floats(0, 1, exclude_max=True)


def test_back_off_doubles_from_the_first_to_the_most() -> None:
    """The first wait is `first_s`, each next one twice as long, and none longer than `most_s`."""
    assert [backoff_s(tries, 0.5, 10.0) for tries in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff_s(0, 0.5, 10.0) == 0.5
    assert backoff_s(20, 1.0, 2.0**40) == 2.0**19


def test_back_off_never_overflows() -> None:
    """A host that failed for years still waits `most_s`, as a float."""
    assert backoff_s(10**9, 0.5, 60) == 60.0
    assert isinstance(backoff_s(10**9, 1, 60), float)
    assert backoff_s(10**9, 1.0, 2.0**40) == 2.0**30


def test_a_fetch_that_is_tried_again_is_spread_over_the_second_half_of_its_wait() -> None:
    """Hosts behind one line that broke come back one after the other, and none at once."""
    assert [fetch_delay_s(3, chance, 0.5, 30.0) for chance in (0.0, 0.5, 1.0)] == [1.0, 1.5, 2.0]
    assert fetch_delay_s(100, 1.0, 0.5, 30.0) == 30.0


def test_without_failures_a_sync_follows_after_the_interval_give_or_take_ten_percent() -> None:
    """The jitter spans 20 % of the interval, around it."""
    assert sync_delay_s(0, 0.0) == pytest.approx(0.9 * pacing.SYNC_INTERVAL_S)
    assert sync_delay_s(0, 0.5) == pytest.approx(pacing.SYNC_INTERVAL_S)
    assert sync_delay_s(0, 1.0) == pytest.approx(1.1 * pacing.SYNC_INTERVAL_S)
    assert sync_delay_s(0, 0.5, 10.0) == pytest.approx(10.0)


@given(CHANCE, st.floats(1, 600))
def test_hosts_that_start_together_do_not_stay_in_step(chance: float, interval_s: float) -> None:
    """Each draws its own delay within the interval's tenth on either side."""
    assert 0.9 * interval_s <= sync_delay_s(0, chance, interval_s) <= 1.1 * interval_s


def test_after_failures_the_whole_delay_is_drawn() -> None:
    """Full jitter: between the first retry and the back-off on top, evenly, so nobody meets at a server that is back."""
    for failures in (1, 3, 5, 50):
        most = backoff_s(failures, pacing.FIRST_RETRY_S, pacing.MAX_RETRY_S)
        delays = [sync_delay_s(failures, n / 10) for n in range(11)]
        assert delays == pytest.approx([pacing.FIRST_RETRY_S + most * n / 10 for n in range(11)])


@given(st.integers(1, 10**6), CHANCE, st.floats(0.5, 600))
def test_a_failed_sync_is_tried_again_soon_but_never_at_once(failures: int, chance: float, interval_s: float) -> None:
    """The delay is at least the first retry, and at most that and an interval, or a minute where that is less."""
    delay = sync_delay_s(failures, chance, interval_s)
    assert pacing.FIRST_RETRY_S <= delay <= pacing.FIRST_RETRY_S + min(pacing.MAX_RETRY_S, interval_s)


def test_thousands_of_hosts_come_back_spread_over_the_minute() -> None:
    """After a long outage the delays of a fleet fill the minute evenly instead of bunching."""
    delays = [sync_delay_s(20, n / 6000) for n in range(6000)]
    per_second = [
        sum(1 for delay in delays if second <= delay - pacing.FIRST_RETRY_S < second + 1) for second in range(60)
    ]
    assert max(per_second) <= 101
    assert min(per_second) >= 99


def test_a_stream_of_hints_is_opened_again_within_seconds_at_first_and_more_seldom_later() -> None:
    """Whoever only restarts a server has all hosts back within seconds; one that stays away is asked ever more seldom."""
    assert watch_delay_s(0, 0.999) <= FIRST_RETRY_S
    assert [watch_delay_s(failures, 1.0) for failures in (1, 2, 3, 4, 25)] == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert watch_delay_s(26, 1.0) == MAX_WATCH_RETRY_S
    assert watch_delay_s(26, 0.0) == 0.0
