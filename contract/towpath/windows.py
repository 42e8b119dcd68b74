"""Times of the week and moments as operators write them, client and server alike.

    Mon-Fri 22:00-04:00 Europe/Berlin        [DAYS] HH:MM-HH:MM ZONE

    DAYS   Mon, Mon-Fri, Sat-Sun, Mon,Wed,Fri-Sun; `daily` or nothing for every day
    HH:MM  of the clocks in ZONE; the end may be 24:00. An end at or before the beginning is on the next day: the
           window belongs to the day on which it begins
    ZONE   a name of the time zone database

    2026-12-20T22:00 Europe/Berlin, 2026-12-20T22:00+01:00, 2026-12-20T21:00Z        a moment

Rules: whoever writes a time says of which clocks; there is no default zone. Not handled here: whether a zone exists and
what its clocks show when (`towpath.instants`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from towpath.errors import InputError

MAX_WINDOWS = 20
DAY_MINUTES = 1440
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAILY = "daily"
_SHOWN = 60
_WINDOW = re.compile(r"(?:([A-Za-z,-]{1,40})\s+)?([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})\s+(\S+)")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(Z|[+-][0-9]{2}:[0-9]{2})?(?:\s+(\S+))?"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week. `days` count from 0 (Monday), `opens` and `closes` are minutes after midnight in `zone`."""

    days: tuple[int, ...]
    opens: int
    closes: int
    zone: str

    @property
    def text(self) -> str:
        """Return it as `parse_window` reads it."""
        return f"{_day_words(self.days)} {_clock(self.opens)}-{_clock(self.closes)} {self.zone}"


@dataclass(frozen=True, slots=True)
class Moment:
    """What a clock shows. `zone`: a name of the time zone database, or an offset such as `+01:00`."""

    local: datetime
    zone: str


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _day_words(days: Sequence[int]) -> str:
    if len(days) == len(DAYS):
        return DAILY
    runs: list[list[int]] = []
    for day in days:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)


def _day(word: str, text: str) -> int:
    names = [name.lower() for name in DAYS]
    if word.lower() not in names:
        raise InputError(f"cannot read {text[:_SHOWN]!r}: {word[:20]!r} is no day; write {', '.join(DAYS)} or {DAILY}")
    return names.index(word.lower())


def _days(words: str | None, text: str) -> tuple[int, ...]:
    if words is None or words.lower() == DAILY:
        return tuple(range(len(DAYS)))
    found: set[int] = set()
    for part in words.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first, text)
        end = _day(last, text) if dash else begin
        # Sat-Mon goes over the end of the week.
        found |= {(begin + n) % len(DAYS) for n in range((end - begin) % len(DAYS) + 1)}
    return tuple(sorted(found))


def _minutes(hours: str, minutes: str, text: str) -> int:
    value = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or value > DAY_MINUTES:
        raise InputError(f"cannot read {text[:_SHOWN]!r}: {hours}:{minutes} is no time of a day")
    return value


def parse_zone(text: str) -> str:
    """Return `text` where it has the form of a zone's name, else raise InputError."""
    if not _ZONE.fullmatch(text):
        raise InputError(f"cannot use {text[:_SHOWN]!r} as a time zone: write its name, such as Europe/Berlin or UTC")
    return text


def parse_window(text: str) -> Window:
    """Return the time of the week that `text` writes; InputError otherwise."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"cannot read {text[:_SHOWN]!r} as a window: write DAYS HH:MM-HH:MM ZONE, such as "
            "'Mon-Fri 22:00-04:00 Europe/Berlin'"
        )
    opens, closes = _minutes(match[2], match[3], text), _minutes(match[4], match[5], text)
    if opens in (closes, DAY_MINUTES):
        raise InputError(f"cannot use window {text[:_SHOWN]!r}: it is empty; a whole day is 00:00-24:00")
    if closes == 0:
        closes = DAY_MINUTES
    return Window(_days(match[1], text), opens, closes, parse_zone(match[6]))


def parse_windows(texts: Sequence[str]) -> tuple[Window, ...]:
    """Return the windows that `texts` write, each once; InputError otherwise."""
    if len(texts) > MAX_WINDOWS:
        raise InputError(f"cannot use {len(texts)} windows: at most {MAX_WINDOWS}")
    return tuple(dict.fromkeys(parse_window(text) for text in texts))


def parse_moment(text: str) -> Moment:
    """Return the moment that `text` writes; InputError otherwise, also where it does not say of which clocks."""
    match = _MOMENT.fullmatch(text.strip())
    try:
        local = datetime.fromisoformat(f"{match[1]}T{match[2]}") if match is not None else None
    except ValueError:
        local = None
    if match is None or local is None:
        raise InputError(
            f"cannot read {text[:_SHOWN]!r} as a time: write 2026-12-20T22:00 and its zone, such as Europe/Berlin, or Z"
        )
    if bool(match[3]) == bool(match[4]):
        raise InputError(
            f"cannot use time {text[:_SHOWN]!r}: say its zone once, such as '{match[1]}T{match[2]} Europe/Berlin' or "
            f"{match[1]}T{match[2]}Z"
        )
    if match[4]:
        return Moment(local, parse_zone(match[4]))
    return Moment(local, "UTC" if match[3] == "Z" else _offset(match[3], text))


def _offset(offset: str, text: str) -> str:
    if int(offset[1:3]) > 14 or int(offset[4:]) > 59:
        raise InputError(f"cannot read {text[:_SHOWN]!r} as a time: no clocks are {offset} from UTC")
    return offset
