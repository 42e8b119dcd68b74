"""Times of the week and moments as people write them."""

from datetime import datetime

import pytest

from towpath.errors import InputError
from towpath.windows import Moment, Window, parse_moment, parse_window, parse_windows, parse_zone


@pytest.mark.parametrize(
    ("text", "window", "again"),
    [
        ("Mon-Fri 22:00-04:00 Europe/Berlin", Window((0, 1, 2, 3, 4), 1320, 240, "Europe/Berlin"), ""),
        ("Sat-Mon 1:00-24:00 UTC", Window((0, 5, 6), 60, 1440, "UTC"), "Mon,Sat-Sun 01:00-24:00 UTC"),
        ("wed 09:00-0:00 UTC", Window((2,), 540, 1440, "UTC"), "Wed 09:00-24:00 UTC"),
        ("00:00-24:00 Etc/GMT+3", Window((0, 1, 2, 3, 4, 5, 6), 0, 1440, "Etc/GMT+3"), "daily 00:00-24:00 Etc/GMT+3"),
        ("daily 08:00-09:00 UTC", Window((0, 1, 2, 3, 4, 5, 6), 480, 540, "UTC"), ""),
        ("Mon,Wed,Fri-Sun 08:00-09:00 UTC", Window((0, 2, 4, 5, 6), 480, 540, "UTC"), ""),
    ],
)
def test_a_window_is_read_and_written(text: str, window: Window, again: str) -> None:
    """What is written is read again as the same."""
    assert parse_window(text) == window
    assert window.text == (again or text)
    assert parse_window(window.text) == window


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "write DAYS HH:MM-HH:MM ZONE"),
        ("Mon 22:00-04:00", "write DAYS HH:MM-HH:MM ZONE"),
        ("Moon 22:00-04:00 UTC", "'Moon' is no day"),
        ("Mon-Fro 22:00-04:00 UTC", "'Fro' is no day"),
        ("Mon, 22:00-04:00 UTC", "'' is no day"),
        ("Mon 25:00-04:00 UTC", "25:00 is no time of a day"),
        ("Mon 22:00-04:60 UTC", "04:60 is no time of a day"),
        ("Mon 22:00-24:01 UTC", "24:01 is no time of a day"),
        ("Mon 22:00-22:00 UTC", "it is empty; a whole day is 00:00-24:00"),
        ("Mon 24:00-04:00 UTC", "it is empty"),
        ("Mon 22:00-04:00 ../etc/passwd", "as a time zone"),
    ],
)
def test_what_is_no_window_is_one_line(text: str, part: str) -> None:
    """It names what is wrong and how it is written."""
    with pytest.raises(InputError, match=part.replace(".", r"\.")):
        parse_window(text)


def test_windows_are_limited_and_each_counts_once() -> None:
    """Twenty are enough for everybody."""
    assert len(parse_windows(["00:00-01:00 UTC", "daily 00:00-01:00 UTC"])) == 1
    with pytest.raises(InputError, match="at most 20"):
        parse_windows([f"00:00-01:{n:02} UTC" for n in range(21)])


def test_a_moment_says_of_which_clocks() -> None:
    """By a zone, an offset, or Z."""
    local = datetime(2026, 12, 20, 22, 0)  # noqa: DTZ001 - what a clock shows
    assert parse_moment("2026-12-20T22:00 Europe/Berlin") == Moment(local, "Europe/Berlin")
    assert parse_moment("2026-12-20 22:00+01:00") == Moment(local, "+01:00")
    assert parse_moment(" 2026-12-20T22:00:00Z ") == Moment(local, "UTC")
    assert parse_zone("America/Argentina/Ushuaia") == "America/Argentina/Ushuaia"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tomorrow", "as a time: write"),
        ("2026-13-20T22:00Z", "as a time: write"),
        ("2026-12-20T22:00", "say its zone once"),
        ("2026-12-20T22:00Z UTC", "say its zone once"),
        ("2026-12-20T22:00+19:00", "no clocks are"),
        ("2026-12-20T22:00 a/b/c/d", "as a time zone"),
    ],
)
def test_what_is_no_moment_is_one_line(text: str, part: str) -> None:
    """A time without a zone is refused: nobody could say whose it is."""
    with pytest.raises(InputError, match=part):
        parse_moment(text)
