"""What a host fetches in a second at most: what is written, when which rate counts, and what is owed."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath_agent.engine.maxrate import CREDIT_S, Debt, MaxRate, objections, parse_max_rate, rate_at

KIB, MIB = 2**10, 2**20
NIGHT = "256KiB/s; daily 22:00-06:00 local full"


def at(text: str, limit: str, zone: str = "UTC", local: str = "UTC") -> int:
    """Return the rate that counts when the clocks of `zone` show `text`, on a host whose own zone is `local`."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return rate_at(parse_max_rate(limit), int(moment.timestamp() * 1000), lambda _: ZoneInfo(local))


def test_one_rate_counts_always() -> None:
    """Without windows there is nothing to look at."""
    assert parse_max_rate("256KiB/s") == MaxRate(256 * KIB)
    assert at("2026-11-27T03:00", "64kbit/s") == 8000
    assert at("2026-11-27T03:00", "full") == 0


@pytest.mark.parametrize(
    ("clock", "rate"),
    [
        ("2026-11-27T21:59:59", 256 * KIB),
        ("2026-11-27T22:00", 0),
        ("2026-11-28T00:00", 0),
        ("2026-11-28T05:59:59", 0),
        ("2026-11-28T06:00", 256 * KIB),
    ],
)
def test_full_speed_at_night(clock: str, rate: int) -> None:
    """A window over midnight is open on both sides of it, to the minute."""
    assert at(clock, NIGHT) == rate


def test_the_night_is_that_of_the_host() -> None:
    """`local` is the zone of the host; a named zone is the same everywhere."""
    assert at("2026-11-27T22:30", NIGHT, zone="Asia/Tokyo", local="Asia/Tokyo") == 0
    assert at("2026-11-27T22:30", NIGHT, zone="UTC", local="Asia/Tokyo") == 256 * KIB
    assert at("2026-11-27T22:30", NIGHT.replace("local", "Asia/Tokyo"), zone="Asia/Tokyo") == 0


def test_a_window_belongs_to_the_day_on_which_it_begins() -> None:
    """Friday's night ends on Saturday; Saturday has none of its own."""
    weekdays = "1MiB/s; Mon-Fri 22:00-06:00 local full"
    assert at("2026-11-28T05:00", weekdays) == 0
    assert at("2026-11-28T23:00", weekdays) == MIB
    assert at("2026-11-30T05:00", weekdays) == MIB
    assert at("2026-11-30T22:00", weekdays) == 0


def test_of_several_open_windows_the_first_counts() -> None:
    """The order is the operator's."""
    written = "64KiB/s; Mon-Fri 08:00-18:00 UTC 16KiB/s; daily 00:00-24:00 UTC 1MiB/s"
    assert at("2026-11-27T09:00", written) == 16 * KIB
    assert at("2026-11-27T19:00", written) == MIB
    assert at("2026-11-28T09:00", written) == MIB


def test_what_is_shown_can_be_read_again() -> None:
    """The text says everything."""
    limit = parse_max_rate("64KiB/s; Mon-Fri 08:00-18:00 Europe/Berlin 16KiB/s; Sat-Sun 00:00-24:00 local full")
    assert limit.text == "64.0KiB/s; Mon-Fri 08:00-18:00 Europe/Berlin 16.0KiB/s; Sat-Sun 00:00-24:00 local full"
    assert parse_max_rate(limit.text) == limit


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "as a rate: write a number .*; or full for no limit"),
        ("fast", "as a rate"),
        ("1MiB", "as a rate"),
        ("0B/s", "at least 1B/s, .*; or full for no limit"),
        ("1MiB/s; at night full", "as a window"),
        ("1MiB/s; daily 22:00-06:00 full", "as a window"),
        ("1MiB/s; daily 22:00-06:00 local", "as a window"),
        ("1MiB/s; daily 22:00-06:00 local fast", "as a rate"),
        ("1MiB/s; daily 22:00-06:00 Europe/Atlantis full", "this host knows none"),
        ("1MiB/s;", "as a window"),
        ("1MiB/s" + "; daily 22:00-06:00 UTC full" * 21, "at most 20"),
    ],
)
def test_anything_else_is_refused(text: str, why: str) -> None:
    """One line that says what is wrong."""
    with pytest.raises(InputError, match=why):
        parse_max_rate(text)


def test_what_came_is_owed_until_time_has_paid_it_off() -> None:
    """1000 bytes at 100 a second are ten seconds."""
    debt = Debt(0.0, 5.0).after(5.0, 100, 1000)
    assert debt.wait_s(100) == 10.0
    assert debt.after(9.0, 100).wait_s(100) == 6.0
    assert debt.after(15.0, 100).wait_s(100) == 0.0


def test_a_new_rate_counts_for_what_is_owed() -> None:
    """Where the night begins nothing is owed any more; where it ends, what comes from then on."""
    debt = Debt(0.0, 0.0).after(0.0, 100, 100_000)
    assert debt.wait_s(0) == 0.0
    free = debt.after(1.0, 0, 5000)
    assert free == Debt(0.0, 1.0)
    assert free.after(1.0, 100, 200).wait_s(100) == 2.0


def test_silence_earns_only_a_moment() -> None:
    """What did not come for an hour must not come as a burst."""
    assert Debt(0.0, 0.0).after(3600.0, 1000) == Debt(-CREDIT_S * 1000, 3600.0)


def test_clocks_that_go_back_pay_nothing() -> None:
    """Monotonic time does not; another machine's might."""
    assert Debt(500.0, 10.0).after(9.0, 100) == Debt(500.0, 9.0)


@given(
    rate=st.integers(1, 10**8),
    pieces=st.lists(st.tuples(st.integers(0, 256 * KIB), st.floats(0, 0.2)), min_size=1, max_size=60),
)
def test_no_transfer_is_faster_than_its_limit(rate: int, pieces: list[tuple[int, float]]) -> None:
    """Whatever the pieces, and however late each wait ends: bytes without the last piece fit the time and the credit."""
    now, came, debt = 100.0, 0, Debt(0.0, 100.0)
    for size, late in pieces:
        debt = debt.after(now, rate, size)
        assert came <= rate * (now - 100.0 + CREDIT_S) + 1e-6 * rate + 1
        came += size
        now += debt.wait_s(rate) + late


def test_a_limit_below_the_least_rate_of_a_server_is_contradictory() -> None:
    """It harms nothing, but it is not what anybody meant."""
    found = objections(parse_max_rate("1MiB/s; daily 08:00-18:00 local 512B/s"), KIB, None)
    assert len(found) == 1
    assert "512B/s" in found[0]
    assert objections(parse_max_rate("1MiB/s; daily 08:00-18:00 local full"), KIB, None) == []
    assert objections(parse_max_rate("full"), KIB, None) == []


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ("daily 00:00-24:00 local", "Mon-Fri 08:00-18:00 local", True),
        ("daily 20:00-08:00 local", "Mon 22:00-06:00 local", True),
        ("daily 20:00-08:00 local", "Mon 22:00-09:00 local", False),
        ("Mon-Fri 08:00-18:00 local", "daily 09:00-17:00 local", False),
        ("daily 08:00-18:00 local", "daily 09:00-17:00 UTC", False),
        ("daily 09:00-17:00 local", "daily 08:00-18:00 local", False),
    ],
)
def test_a_window_that_another_covers_never_counts(first: str, second: str, never: bool) -> None:
    """The first one that is open counts, so a second one inside of it is a mistake."""
    found = objections(parse_max_rate(f"1MiB/s; {first} full; {second} 2MiB/s"), KIB, None)
    assert bool(found) is never


def test_a_daily_amount_that_cannot_come_is_contradictory() -> None:
    """Of two limits one can never be reached."""
    assert "max_prefetch_bytes" in objections(parse_max_rate("1KiB/s"), KIB, 2**30)[0]
    assert objections(parse_max_rate("1MiB/s"), KIB, 2**30) == []
    assert objections(parse_max_rate(NIGHT), KIB, 2**50) == []


def test_a_host_that_changes_its_offset_keeps_its_night() -> None:
    """The host's zone is asked for at each look."""
    summer, winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
    moment = int(datetime(2026, 11, 27, 20, 30, tzinfo=UTC).timestamp() * 1000)
    assert rate_at(parse_max_rate(NIGHT), moment, lambda _: summer) == 0
    assert rate_at(parse_max_rate(NIGHT), moment, lambda _: winter) == 256 * KIB
