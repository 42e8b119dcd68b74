"""Which server decides: the lease, without any wall clock."""

from dataclasses import replace

from towpath_server.domain.leasing import LIFE_MS, RENEW_MS, Claim, claim, given_back
from towpath_server.domain.model import Lease

ONE, TWO = Claim("one", "seat-1"), Claim("two", "seat-2")


def test_nobodys_lease_is_taken_at_once_and_renewed_now_and_then() -> None:
    """The first server decides with epoch 1; it writes again only when the renewal is due."""
    one, row = claim(ONE, None, 0)
    assert row == Lease("one", "seat-1", 1, 1)
    assert claim(one, row, RENEW_MS - 1) == (one, None)
    later, renewed = claim(one, row, RENEW_MS)
    assert (later.epoch, renewed) == (1, Lease("one", "seat-1", 1, 2))


def test_another_servers_lease_is_taken_only_when_it_stood_still_for_its_whole_life() -> None:
    """A renewal that is seen starts the wait anew, and waiting counts from when the row was first seen."""
    row = Lease("one", "seat-1", 4, 7)
    two, written = claim(TWO, row, 50_000)
    assert (two.epoch, written) == (0, None)
    assert claim(two, row, 50_000 + LIFE_MS - 1) == (two, None)
    again, written = claim(two, replace(row, beat=8), 50_000 + LIFE_MS)
    assert (again.epoch, written) == (0, None)
    taken, written = claim(two, row, 50_000 + LIFE_MS)
    assert (taken.epoch, written) == (5, Lease("two", "seat-2", 5, 1))


def test_a_server_that_slept_past_its_lease_finds_another_epoch_and_stops() -> None:
    """Whatever it believed: the row in the deciding transaction says who decides; it waits like any other then."""
    one, _ = claim(ONE, None, 0)
    taken = Lease("two", "seat-2", 2, 1)
    slept, written = claim(one, taken, 1)
    assert (slept.epoch, written) == (0, None)
    assert claim(slept, taken, LIFE_MS)[0].epoch == 0
    assert claim(slept, taken, 1 + LIFE_MS)[0].epoch == 3


def test_the_same_name_with_another_epoch_is_not_this_servers() -> None:
    """A database that was put back from a backup may hold an older lease of this very server."""
    one, row = claim(ONE, None, 0)
    assert row is not None
    assert claim(replace(one, seat="", epoch=9), row, 1)[0].epoch == 0


def test_a_server_that_was_killed_is_followed_at_once_by_the_next_on_its_folder() -> None:
    """Who holds the folder's lock knows that the former holder is dead; without a seat nobody knows it."""
    row = Lease("dead", "seat-1", 3, 9)
    assert claim(ONE, row, 0)[0].epoch == 4
    assert claim(replace(ONE, seat=""), replace(row, seat=""), 0)[0].epoch == 0


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    """A server that ends lets the next one decide; one that does not hold the lease gives nothing back."""
    one, row = claim(ONE, None, 0)
    assert row is not None
    free = given_back(one, row)
    assert free == Lease("", "", 1, 1)
    assert claim(TWO, free, 0)[0].epoch == 2
    assert given_back(TWO, row) is None
    assert given_back(one, None) is None
    assert given_back(one, replace(row, epoch=2)) is None
