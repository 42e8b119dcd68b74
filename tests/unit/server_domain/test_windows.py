"""Times of the week against the clocks of real zones: over midnight, over every change, and where a zone is unknown."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.instants import instant, moment_ms, zone
from towpath.windows import Window, parse_moment, parse_window
from towpath_server.domain.windows import frozen_until, moment, next_opening, open_until

BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> int:
    """Return Unix milliseconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def opens(text: str, at: str) -> str:
    return moment(next_opening(parse_window(text), utc(at)))


def closes(text: str, at: str, *, widest: bool = False) -> str:
    until = open_until(parse_window(text), utc(at), widest=widest)
    return moment(until) if until else "shut"


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    """Mon-Fri 22:00-04:00 is open on Saturday at three, and not on Monday at three."""
    text = "Mon-Fri 22:00-04:00 Europe/Berlin"
    assert closes(text, "2026-11-28T02:00") == "2026-11-28 03:00:00Z", "Saturday, 3:00 in Berlin"
    assert closes(text, "2026-11-30T02:00") == "shut", "Monday, 3:00 in Berlin"
    assert closes(text, "2026-11-30T21:00") == "2026-12-01 03:00:00Z", "the first moment is in"
    assert closes(text, "2026-12-01T03:00") == "shut", "the last is out"
    assert opens(text, "2026-11-28T03:00") == "2026-11-30 21:00:00Z"
    assert opens(text, "2026-11-30T22:00") == "2026-11-30 22:00:00Z", "open is now"


def test_the_clocks_of_the_zone_count_in_summer_and_in_winter() -> None:
    """22:00 in Berlin is 21:00Z in winter and 20:00Z in summer."""
    assert opens("22:00-23:00 Europe/Berlin", "2026-01-10T00:00") == "2026-01-10 21:00:00Z"
    assert opens("22:00-23:00 Europe/Berlin", "2026-07-10T00:00") == "2026-07-10 20:00:00Z"


def test_a_night_with_a_change_of_the_clocks_is_an_hour_shorter_or_longer() -> None:
    """The same words are seven hours in spring and nine in autumn: 22:00 and 06:00 are what the clocks show."""
    for day, hours in (("2026-03-28", 7), ("2026-10-24", 9), ("2026-11-28", 8)):
        begin = next_opening(parse_window("22:00-06:00 Europe/Berlin"), utc(f"{day}T12:00"))
        assert open_until(parse_window("22:00-06:00 Europe/Berlin"), begin) - begin == hours * 3_600_000


def test_a_time_that_the_clocks_skip_is_the_moment_of_the_skip() -> None:
    """On 29 March 2026 Berlin goes from 02:00 to 03:00 at 01:00Z; what lies inside whole is empty on that day."""
    assert instant(datetime(2026, 3, 29, 2, 30), BERLIN) == utc("2026-03-29T01:00")  # noqa: DTZ001 - a clock's face
    assert instant(datetime(2026, 3, 29, 2, 30), BERLIN, second=True) == utc("2026-03-29T01:00")  # noqa: DTZ001
    assert closes("02:30-05:00 Europe/Berlin", "2026-03-29T01:00") == "2026-03-29 03:00:00Z"
    assert closes("02:30-05:00 Europe/Berlin", "2026-03-29T00:59") == "shut"
    assert closes("01:00-02:30 Europe/Berlin", "2026-03-29T00:59") == "2026-03-29 01:00:00Z"
    assert opens("02:10-02:50 Europe/Berlin", "2026-03-28T12:00") == "2026-03-30 00:10:00Z"


def test_a_time_that_the_clocks_show_twice_is_the_first_and_the_end_of_a_freeze_the_second() -> None:
    """On 25 October 2026 Berlin shows 02:30 at 00:30Z and at 01:30Z."""
    assert closes("01:00-02:30 Europe/Berlin", "2026-10-25T00:00") == "2026-10-25 00:30:00Z"
    assert closes("01:00-02:30 Europe/Berlin", "2026-10-25T00:00", widest=True) == "2026-10-25 01:30:00Z"
    assert closes("02:30-04:00 Europe/Berlin", "2026-10-25T00:30") == "2026-10-25 03:00:00Z"
    both = [moment_ms(parse_moment("2026-10-25T02:30 Europe/Berlin"), second=late) for late in (False, True)]
    assert both == [utc("2026-10-25T00:30"), utc("2026-10-25T01:30")]


def test_a_day_that_a_zone_skips_whole_has_no_window() -> None:
    """Samoa went from 29 to 31 December 2011: the window of that Friday is empty, the next is a week later."""
    assert opens("Fri 10:00-12:00 Pacific/Apia", "2011-12-29T12:00") == "2012-01-05 20:00:00Z"


def test_a_weekly_freeze_that_touches_itself_is_said_as_one() -> None:
    """Friday 15:00 to midnight, and the whole weekend: until Monday."""
    weekend = parse_window("Sat-Sun 00:00-24:00 UTC")
    assert moment(frozen_until(weekend, utc("2026-11-28T10:00"))) == "2026-11-30 00:00:00Z"
    assert frozen_until(weekend, utc("2026-11-30T00:00")) == 0
    assert frozen_until(parse_window("00:00-24:00 UTC"), utc("2026-11-28T10:00")) > utc("2026-12-10T00:00")


@pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "localtime", "../etc/passwd", "Nowhere"])
def test_an_unknown_zone_is_one_line(name: str) -> None:
    """A folder, an escape and the machine's own zone too."""
    with pytest.raises(InputError, match="this server knows none of that name"):
        zone(name)


def test_an_offset_is_a_zone_without_changes() -> None:
    """+01:00 is an hour ahead of UTC all year, -03:30 behind it."""
    assert moment_ms(parse_moment("2026-07-01T12:00+01:00")) == utc("2026-07-01T11:00")
    assert moment_ms(parse_moment("2026-07-01T12:00-03:30")) == utc("2026-07-01T15:30")
    assert moment_ms(parse_moment("2026-07-01 12:00:05Z")) == utc("2026-07-01T12:00:05")


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59 America/New_York",
        "9999-12-31T23:59-00:01",
        "0001-01-01T00:00 Europe/Berlin",
        "0001-01-01T00:00+14:00",
    ],
)
def test_a_time_beyond_the_first_and_the_last_year_is_one_line(text: str) -> None:
    """Its clocks show it, and UTC has no such year; the last minute that it has is a time as any other."""
    for second in (False, True):
        with pytest.raises(InputError, match=r"^cannot use time .*: in UTC it is not within the years 1 to 9999$"):
            moment_ms(parse_moment(text), second=second)
    assert moment_ms(parse_moment("9999-12-31T23:59Z")) == 253_402_300_740_000
    assert moment_ms(parse_moment("0001-01-01T00:00Z"), second=True) == -62_135_596_800_000


ZONES = st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"])
WINDOWS = st.builds(
    Window,
    st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    st.integers(0, 1439),
    st.integers(1, 1440),
    ZONES,
).filter(lambda window: window.opens != window.closes)


@settings(max_examples=300)
@given(WINDOWS, st.integers(0, 40 * 365 * 1440))
def test_open_is_what_the_clocks_on_the_wall_say(window: Window, minutes: int) -> None:
    """Away from changes of the clocks, a window is open where the wall clock and the weekday say so, and only there."""
    now = datetime(1995, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    ms = int(now.timestamp() * 1000)
    clocks = ZoneInfo(window.zone)
    around = {(now + timedelta(hours=hours)).astimezone(clocks).utcoffset() for hours in range(-30, 31, 2)}
    wall = now.astimezone(clocks)
    minute = wall.hour * 60 + wall.minute
    today, yesterday = wall.weekday() in window.days, (wall.weekday() - 1) % 7 in window.days
    if window.opens < window.closes:
        says = today and window.opens <= minute < window.closes
    else:
        says = (today and minute >= window.opens) or (yesterday and minute < window.closes)
    if len(around) == 1:
        assert bool(open_until(window, ms)) is says
    opening = next_opening(window, ms)
    assert open_until(window, opening) > opening >= ms
    if opening > ms:
        assert not open_until(window, ms)
        assert not open_until(window, opening - 60_000), "it opens then, not before"
