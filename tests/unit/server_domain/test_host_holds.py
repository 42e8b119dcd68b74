"""What a host's own holds mean to the server: whom to believe about their time, and when they ended."""

from dataclasses import replace

from fakes.rows import NOW, host
from towpath.holds import Hold
from towpath_server.domain.hosts import held, holds_in_force, released_unix_ms, with_holds

ALL = Hold("", "ana", "audit week", NOW - 10, NOW + 1_000)
HELLO = Hold("hello", "bo", "the till is open", NOW - 10, NOW + 2_000)
LAPSED = Hold("", "ana", "audit week", NOW - 10, NOW)


def test_a_hold_on_the_host_or_on_the_app_counts_and_the_longest_is_shown() -> None:
    """A hold on all apps covers each; of two the one that lasts longer is the reason."""
    row = host(holds=(ALL, HELLO))
    assert held(row, "hello", online=True, now_unix_ms=NOW) == HELLO
    assert held(row, "other", online=True, now_unix_ms=NOW) == ALL
    assert held(host(), "hello", online=True, now_unix_ms=NOW) is None


def test_an_online_host_is_believed_about_its_holds_whatever_its_clock_says() -> None:
    """It says so at every sync; the server's own clock judges only hosts that say nothing."""
    row = host(holds=(LAPSED,))
    assert holds_in_force(row, online=True, now_unix_ms=NOW) == (LAPSED,)
    assert holds_in_force(row, online=False, now_unix_ms=NOW) == ()
    assert holds_in_force(row, online=False, now_unix_ms=NOW - 1) == (LAPSED,)


def test_the_end_of_a_hold_is_remembered() -> None:
    """When a sync no longer names one, that is the time; of an offline host it is the time that was set."""
    row = with_holds(host(), (ALL, HELLO), NOW)
    assert (row.holds, row.released_unix_ms) == ((ALL, HELLO), 0)
    assert with_holds(row, (ALL, HELLO), NOW + 5) is row
    longer = with_holds(row, (ALL, replace(HELLO, until_unix_ms=NOW + 9_000)), NOW + 5)
    assert longer.released_unix_ms == 0, "a longer hold has not ended"
    ended = with_holds(row, (ALL,), NOW + 7)
    assert (ended.holds, ended.released_unix_ms) == ((ALL,), NOW + 7)
    assert released_unix_ms(ended, online=True, now_unix_ms=NOW + 99_000) == NOW + 7
    assert released_unix_ms(ended, online=False, now_unix_ms=NOW + 99_000) == ALL.until_unix_ms
