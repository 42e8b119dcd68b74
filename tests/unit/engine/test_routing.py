"""Whether a host asks its site's relay or the server: rests after failures, long ones after lies."""

from towpath_agent.engine import routing
from towpath_agent.engine.routing import Way


def test_a_way_that_failed_rests_longer_each_time_up_to_a_limit() -> None:
    """15 s, 30 s, 60 s ... and never more than ten minutes; then it is usable again."""
    way, rests = Way(), []
    for _ in range(9):
        way = routing.failed(way, 1000.0, 1.0)
        rests.append(way.rests_until_s - 1000.0)
    assert rests == [15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0]
    assert not way.usable(1599.9)
    assert way.usable(1600.0)


def test_chance_spreads_a_sites_hosts() -> None:
    """Half of the rest is drawn, so that a relay that is back is not met by everybody at once."""
    assert routing.failed(Way(), 0.0, 0.0).rests_until_s == 7.5
    assert routing.failed(Way(), 0.0, 0.5).rests_until_s == 11.25


def test_success_forgets_failures() -> None:
    """The next failure is a first one."""
    assert routing.worked() == Way()
    assert routing.worked().usable(0.0)


def test_a_lie_rests_for_an_hour() -> None:
    """Wrong bytes are worse than none."""
    way = routing.lied(Way(), 100.0)
    assert not way.usable(3699.0)
    assert way.usable(3700.0)


def test_where_the_other_way_is_broken_too_it_is_tried_at_once() -> None:
    """Nothing was learned of this one; what it failed with before is kept."""
    way = routing.no_worse(routing.failed(Way(), 100.0, 1.0), 101.0)
    assert way.usable(101.0)
    assert routing.failed(way, 101.0, 1.0).rests_until_s == 131.0


def test_only_what_breaks_a_way_counts() -> None:
    """A server's own words are the same on every way."""
    assert "rate-limit" not in routing.BROKEN
    assert "closed" not in routing.BROKEN
    assert {"unavailable", "deadline", "slow-retrieval", "cut-off"} == routing.BROKEN
