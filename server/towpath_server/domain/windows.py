"""When a time of the week is, in Unix milliseconds: exact over every change of the clocks.

Rules, each a named test:
- a window belongs to the day on which it begins, also where it ends on the next one.
- what lies whole inside a time that the clocks skip is empty, nothing moves by an hour (`towpath.instants`).
- the end of a freeze is the second of a time that the clocks show twice: a freeze is never shorter than its words.
- a zone that this server does not know (any more) opens nothing, and a freeze in it holds: nobody moves by mistake.

Pure, beside the time zone database of the system.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from towpath.instants import instant, zone
from towpath.windows import DAY_MINUTES, Window

# Of the same day of the next weeks: one may be skipped whole by clocks that cross the date line.
_DAYS_AHEAD = 16
_JOINED = 16
_FAR_UNIX_MS = 253_402_300_799_000


def moment(unix_ms: int) -> str:
    """Return a time as people read it."""
    return datetime.fromtimestamp(min(unix_ms, _FAR_UNIX_MS) // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@lru_cache(maxsize=4096)
def _span(window: Window, day: date, *, widest: bool) -> tuple[int, int]:
    """Return begin and end of the window that begins on `day`, whatever weekday that is."""
    clocks = zone(window.zone)
    midnight = datetime.combine(day, time())
    over = window.closes + (DAY_MINUTES if window.closes <= window.opens else 0)
    begin = instant(midnight + timedelta(minutes=window.opens), clocks)
    return begin, instant(midnight + timedelta(minutes=over), clocks, second=widest)


def _spans(window: Window, now_unix_ms: int, ahead_days: int, *, widest: bool) -> Iterator[tuple[int, int]]:
    """Yield the spans from the day before yesterday's on in their order, empty ones left out."""
    today = datetime.fromtimestamp(now_unix_ms / 1000, UTC).astimezone(zone(window.zone)).date()
    for ahead in range(-2, ahead_days):
        day = today + timedelta(days=ahead)
        if day.weekday() in window.days:
            begin, end = _span(window, day, widest=widest)
            if begin < end:
                yield begin, end


def open_until(window: Window, now_unix_ms: int, *, widest: bool = False) -> int:
    """Return when the span ends that `now_unix_ms` is in, 0 where it is in none; `widest`: as a freeze counts it."""
    ends = [end for begin, end in _spans(window, now_unix_ms, 2, widest=widest) if begin <= now_unix_ms < end]
    return max(ends, default=0)


def next_opening(window: Window, now_unix_ms: int) -> int:
    """Return when it opens next after `now_unix_ms`, or `now_unix_ms` while it is open."""
    if open_until(window, now_unix_ms):
        return now_unix_ms
    return next(begin for begin, _ in _spans(window, now_unix_ms, _DAYS_AHEAD, widest=False) if begin > now_unix_ms)


def frozen_until(window: Window, now_unix_ms: int) -> int:
    """Return when a weekly freeze that is on ends, one span joined to the next where they touch; 0 where it is off."""
    until = end = open_until(window, now_unix_ms, widest=True)
    for _ in range(_JOINED):
        if not end:
            break
        until, end = end, open_until(window, end, widest=True)
    return until
