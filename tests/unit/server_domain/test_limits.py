"""How often one caller may call."""

from towpath_server.domain.limits import Rate, take


def test_a_burst_passes_and_then_one_call_each_interval() -> None:
    """Three at once, the fourth waits; one interval later one more passes; after a long rest a burst, not more."""
    rate, due = Rate(interval_ms=100, burst=3), 0.0

    def passed(now: float, calls: int = 10) -> int:
        nonlocal due
        count = 0
        for _ in range(calls):
            after = take(rate, due, now)
            if after is not None:
                due, count = after, count + 1
        return count

    assert passed(1_000) == 3
    assert passed(1_099) == 0
    assert passed(1_100) == 1
    assert passed(9_000) == 3
