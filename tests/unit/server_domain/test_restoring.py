"""A database from a backup: what shows it, what does not, and what is said."""

import pytest

from fakes.rows import NOW
from towpath_server.domain.model import Ahead, Gap
from towpath_server.domain.restoring import MAX_LOST_GENERATIONS, after, gap, lost, notice

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def test_a_start_after_what_was_reserved_leaves_a_gap_and_no_host_in_it() -> None:
    """Stopped for an hour: what was given out before lies below it, what is given out from now on above."""
    found = gap(NOW, NOW + HOUR_MS)
    assert found == Gap(NOW, NOW + HOUR_MS)
    assert not lost([found], NOW)
    assert not lost([found], NOW + HOUR_MS)


@pytest.mark.parametrize(
    ("reserved", "first"),
    [(0, NOW), (NOW, NOW + 1), (NOW + MINUTE_MS, NOW + MINUTE_MS + 1)],
    ids=["a new database", "started at once", "a clock that was set back, or another server at work"],
)
def test_no_number_is_missing(reserved: int, first: int) -> None:
    """Then no host can be in a gap."""
    assert gap(reserved, first) is None


def test_a_host_that_was_told_something_after_the_backup_is_seen_in_the_gap() -> None:
    """Whichever of several stops it belongs to; a host that never accepted anything says nothing."""
    gaps = [Gap(NOW, NOW + HOUR_MS), Gap(NOW + 2 * HOUR_MS, NOW + 3 * HOUR_MS)]
    assert lost(gaps, NOW + 1)
    assert lost(gaps, NOW + 3 * HOUR_MS - 1)
    assert not lost(gaps, NOW + HOUR_MS + 1), "between the two a server of this database was at work"
    assert not lost(gaps, 0)
    assert not lost([], NOW + 1)


def ahead(name: str, environment: str = "dev") -> Ahead:
    return Ahead(f"id-{name}", name, environment, NOW, NOW)


def test_the_notice_names_hosts_environments_and_the_way_out() -> None:
    """One line, however many they are; nothing where there is none."""
    assert notice([]) is None
    one = notice([ahead("h1")])
    assert one is not None
    assert one.fact == (
        "a host follows orders that this database knows nothing of (h1): was it restored from a backup? "
        "Nobody in dev is moved until that is settled"
    )
    assert (one.until_unix_ms, one.command) == (0, "towpath restored show")
    many = notice([ahead(f"h{n}", "staging" if n else "dev") for n in range(9)])
    assert many is not None
    assert many.fact.startswith("9 hosts follow orders that this database knows nothing of (h0, h1, h2 ...): ")
    assert "Nobody in dev, staging is moved" in many.fact


def test_no_generation_comes_twice_and_no_host_pushes_them_to_the_end() -> None:
    """What a host has heard of counts; what it makes up counts little."""
    assert after(7, []) == 7
    assert after(7, [3, 5]) == 7
    assert after(7, [3, 12]) == 12
    assert after(7, [2**63 - 1]) == 7 + MAX_LOST_GENERATIONS
