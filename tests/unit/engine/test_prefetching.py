"""What is fetched ahead and what keeps it waiting: the order of the bars, a day's bytes, who begins when. Pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath_agent.engine.prefetching import DAY_MS, SPREAD_SYNCS, Outlook, Spent, allowed, bar, begin_delay_s, to_drop

NOW = 1_800_000_000_000
GIB = 2**30
GOOD: dict[str, Any] = {
    "moving": False,
    "held": "",
    "lacking": GIB,
    "needed": 3 * GIB,
    "free": 3 * GIB,
    "spent": Spent(NOW, GIB),
    "day_bytes": 2 * GIB,
}


def why(**fields: Any) -> str:
    return bar(Outlook(**{**GOOD, **fields}))


def test_what_nothing_bars_is_fetched() -> None:
    """Exactly enough disk and exactly what is left of the day are enough."""
    assert why() == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"moving": True, "held": "held", "free": 0, "lacking": 9 * GIB}, "a change of this host goes first"),
        ({"held": "held by ana until noon: the till is open", "free": 0}, "held by ana until noon: the till is open"),
        ({"free": 3 * GIB - 1, "lacking": 9 * GIB}, "not enough disk: it needs 3.0 GiB free, 3.0 GiB are"),
        ({"lacking": GIB + 1}, "this host fetched 1.0 GiB ahead today: at most 2.0 GiB a day"),
        ({"lacking": 3 * GIB}, "3.0 GiB are more than this host fetches ahead: at most 2.0 GiB a day"),
        ({"day_bytes": 0, "spent": Spent()}, "1.0 GiB are more than this host fetches ahead: nothing"),
    ],
)
def test_the_first_bar_is_said(fields: dict[str, Any], said: str) -> None:
    """A change goes first, then the person on the host, then its disk, then its limit of a day."""
    assert why(**fields) == said


def test_the_limit_is_said_as_people_read_it() -> None:
    """None at all is a limit too."""
    assert (allowed(0), allowed(GIB)) == ("nothing", "at most 1.0 GiB a day")


def test_a_day_begins_with_the_first_look_after_the_last_one() -> None:
    """What was spent counts for a day; a clock that was set back begins a new one, and so cannot lock the host out."""
    spent = Spent(NOW, 5).plus(2)
    assert spent == Spent(NOW, 7)
    assert spent.at(NOW) == spent.at(NOW + DAY_MS - 1) == spent
    assert spent.at(NOW + DAY_MS) == Spent(NOW + DAY_MS)
    assert spent.at(NOW - 1) == Spent(NOW - 1)


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 3600))
def test_a_fleet_begins_spread_over_some_syncs(chance: float, interval_s: float) -> None:
    """From at once to so many intervals between syncs: whoever draws low begins early."""
    assert 0 <= begin_delay_s(chance, interval_s) <= SPREAD_SYNCS * interval_s
    assert begin_delay_s(0.5, 60.0) == 150.0


def test_what_serves_nobody_any_more_is_dropped() -> None:
    """Not what is announced still, nor what became due: the change finds it."""
    assert to_drop({b"a", b"b", b"c"}, [b"a"], {b"b", b"x"}) == {b"c"}
    assert to_drop((), (), ()) == frozenset()
