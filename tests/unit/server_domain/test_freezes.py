"""Entries of the calendar: what may stand in it, how they are found and read."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.rows import NOW
from towpath.errors import InputError
from towpath.windows import parse_window
from towpath_server.domain.freezes import MAX_ENTRIES, Draft, Now, check_draft, find, now_of, words
from towpath_server.domain.model import CalendarEntry, EntryKind

FREEZE = Draft("freeze", "dev", "Christmas", begins="2023-12-20T00:00 Europe/Berlin", ends="2024-01-02T00:00Z")
WINDOW = Draft("window", "dev", "nights", weekly="Mon-Fri 22:00-04:00 UTC")


def checked(draft: Draft, **fields: Any) -> CalendarEntry:
    return check_draft(replace(draft, **fields), [], NOW)


def test_a_freeze_is_from_one_moment_to_another_or_weekly() -> None:
    """Each with the zone that was said, of an environment or of all, of all hosts or of some."""
    entry = checked(FREEZE, selector={"role": "db"})
    assert words(entry) == "dev role=db, 2023-12-19 23:00:00Z to 2024-01-02 00:00:00Z: Christmas"
    every = checked(FREEZE, begins="", ends="", weekly="Fri 15:00-24:00 UTC", environment="", everywhere=True)
    assert words(every) == "every environment, Fri 15:00-24:00 UTC: Christmas"
    assert (every.environment, every.from_unix_ms, every.created_unix_ms) == ("", 0, NOW)


def test_the_end_of_a_freeze_that_the_clocks_show_twice_is_the_second() -> None:
    """Half past two on 27 October 2024 in Berlin: 01:30Z, not 00:30Z."""
    entry = checked(FREEZE, begins="2024-10-26T00:00Z", ends="2024-10-27T02:30 Europe/Berlin")
    assert "to 2024-10-27 01:30:00Z" in words(entry)


@pytest.mark.parametrize(
    ("draft", "fields", "part"),
    [
        (FREEZE, {"kind": "party"}, "cannot add a 'party'"),
        (FREEZE, {"environment": ""}, "say --environment E, or --all-environments"),
        (FREEZE, {"everywhere": True}, "say --environment E, or --all-environments"),
        (FREEZE, {"environment": "De v"}, "environment"),
        (FREEZE, {"reason": " "}, "empty reason"),
        (FREEZE, {"weekly": "Fri 15:00-24:00 UTC"}, "weekly and has --from or --until"),
        (FREEZE, {"begins": ""}, "give --from and --until, or --weekly"),
        (FREEZE, {"begins": "2024-01-02T00:00Z"}, "it begins at"),
        (FREEZE, {"begins": "2022-01-02T00:00Z", "ends": "2023-01-02T00:00Z"}, "that is over"),
        (FREEZE, {"ends": "2034-01-02T00:00Z"}, "more than five years ahead"),
        (FREEZE, {"begins": "2023-12-20T00:00 Europe/Berln"}, "knows none of that name"),
        (WINDOW, {"weekly": "22:00-04:00 Europe/Berln"}, "knows none of that name"),
        (WINDOW, {"weekly": ""}, "without its time of the week"),
        (WINDOW, {"selector": {"a": "b"}}, "windows are of whole environments"),
    ],
)
def test_what_cannot_stand_in_the_calendar_is_one_line(draft: Draft, fields: dict[str, Any], part: str) -> None:
    """Nothing is written."""
    with pytest.raises(InputError, match=part):
        checked(draft, **fields)


def test_the_calendar_is_limited() -> None:
    """A script that adds a freeze every minute is told so."""
    with pytest.raises(InputError, match=f"holds {MAX_ENTRIES} entries"):
        check_draft(FREEZE, [checked(FREEZE)] * MAX_ENTRIES, NOW)


def test_an_entry_is_found_by_its_id_or_the_beginning_of_it() -> None:
    """Of its kind alone, and only where one begins so."""
    known = [replace(checked(FREEZE), id=name) for name in ("abcd1", "abcd2", "abce")]
    known.append(replace(checked(WINDOW), id="ffff1"))
    assert find(known, "freeze", "abce").id == "abce"
    assert find(known, "freeze", "abcd1").id == "abcd1"
    assert find(known, "window", "ffff").id == "ffff1"
    for kind, name in (("freeze", "abcd"), ("freeze", "abc"), ("freeze", "ffff"), ("window", "abce"), ("x", "abce")):
        with pytest.raises(InputError, match=f"cannot find {kind} '{name}': see 'towpath {kind} list'") as caught:
            find(known, kind, name)
        assert caught.value.code == "not-found"


def test_an_entry_says_where_it_stands() -> None:
    """To come, on, over; a weekly one on or off, and one whose zone is lost is on as a freeze, off as a window."""
    once = checked(FREEZE)
    places = [now_of(once, at) for at in (NOW, once.from_unix_ms, once.until_unix_ms - 1, once.until_unix_ms)]
    assert places == [Now.TO_COME, Now.ON, Now.ON, Now.OVER]
    night = checked(WINDOW)  # NOW is a Tuesday, 22:13
    freeze = replace(night, kind=EntryKind.FREEZE)
    assert [now_of(one, NOW) for one in (night, freeze)] == [Now.ON, Now.ON]
    assert [now_of(one, NOW - 36_000_000) for one in (night, freeze)] == [Now.OFF, Now.OFF]
    lost = replace(parse_window("22:00-04:00 UTC"), zone="Mars/Olympus")
    assert [now_of(replace(one, weekly=lost), NOW) for one in (night, freeze)] == [Now.OFF, Now.ON]
