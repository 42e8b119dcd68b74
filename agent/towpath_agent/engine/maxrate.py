"""The most bytes a second that this host fetches, by the time of the week. Pure: text and a time in, a rate out.

    256KiB/s                                              always
    256KiB/s; daily 22:00-06:00 local full                full speed at night
    64KiB/s; Mon-Fri 08:00-18:00 Europe/Berlin 16KiB/s; Sat-Sun 00:00-24:00 local 1MiB/s

    RATE [; WINDOW RATE]...     RATE: a size a second or bits a second, or `full` for no limit
                                WINDOW: as everywhere (`towpath.windows`); its zone may be `local`, that of this host

Rules: outside of all windows the first rate counts; where several windows are open, the one that was written first.
What the clocks show counts, so a change of them moves a window with it.
A limit is held by a debt: what came is owed, time pays it off at the rate of that time, and nothing is asked for while
more than a little is owed. So the rate may change in mid-fetch, and what was late is made up for only a moment.
Not handled here: waiting, and which bytes count (`transport.throttle`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from towpath.errors import InputError
from towpath.instants import zone
from towpath.quantity import format_rate, format_size, parse_rate
from towpath.windows import DAYS, MAX_WINDOWS, Window, parse_window

FULL, LOCAL = "full", "local"
# What may be made up for: a wait that lasted longer than it should. More would be a burst.
CREDIT_S = 0.25
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class TimedRate:
    """A rate in bytes a second, 0: no limit, for a time of the week."""

    window: Window
    rate: int


@dataclass(frozen=True, slots=True)
class MaxRate:
    """What was written. `usual` counts outside of the windows; bytes a second, 0: no limit."""

    usual: int = 0
    timed: tuple[TimedRate, ...] = ()

    @property
    def rates(self) -> tuple[int, ...]:
        """Return every rate that may count."""
        return (self.usual, *(it.rate for it in self.timed))

    @property
    def text(self) -> str:
        """Return it as people write it."""
        return "; ".join([rate_text(self.usual), *(f"{it.window.text} {rate_text(it.rate)}" for it in self.timed)])


def rate_text(rate: int) -> str:
    """Return a rate as people write it."""
    return format_rate(rate).replace(" ", "") if rate else FULL


def _rate(text: str) -> int:
    if text.strip() == FULL:
        return 0
    try:
        return parse_rate(text)
    except InputError as error:
        raise InputError(f"{error}; or {FULL} for no limit") from error


def parse_max_rate(text: str) -> MaxRate:
    """Return what `text` writes; InputError otherwise."""
    first, *others = text.split(";")
    if len(others) > MAX_WINDOWS:
        raise InputError(f"cannot use {len(others)} windows in a rate: at most {MAX_WINDOWS}")
    return MaxRate(_rate(first), tuple(_timed(other) for other in others))


def _timed(text: str) -> TimedRate:
    window, _, rate = text.strip().rpartition(" ")
    parsed = parse_window(window)
    if parsed.zone != LOCAL:
        zone(parsed.zone, "this host")
    return TimedRate(parsed, _rate(rate))


def is_open(window: Window, shown: datetime) -> bool:
    """Return whether clocks that show `shown` are inside of `window`."""
    minutes, day = shown.hour * 60 + shown.minute, shown.weekday()
    if window.opens < window.closes:
        return day in window.days and window.opens <= minutes < window.closes
    before = (day - 1) % len(DAYS)
    return (day in window.days and minutes >= window.opens) or (before in window.days and minutes < window.closes)


def rate_at(limit: MaxRate, now_unix_ms: int, local: Callable[[int], tzinfo]) -> int:
    """Return the rate that counts now, 0: no limit. `local` gives the host's zone at a time in Unix milliseconds."""
    for it in limit.timed:
        clocks = local(now_unix_ms) if it.window.zone == LOCAL else zone(it.window.zone, "this host")
        shown = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now_unix_ms)).astimezone(clocks)
        if is_open(it.window, shown):
            return it.rate
    return limit.usual


@dataclass(frozen=True, slots=True)
class Debt:
    """Bytes that came and that time has not paid off yet, at a monotonic time. Negative: what may be made up for."""

    bytes: float = 0.0
    at_s: float = 0.0

    def after(self, now_s: float, rate: int, came: int = 0) -> "Debt":
        """Return it at `now_s` where `rate` counted since, after `came` more bytes."""
        if not rate:
            return Debt(0.0, now_s)
        left = max(self.bytes - max(now_s - self.at_s, 0.0) * rate, -CREDIT_S * rate)
        return Debt(left + came, now_s)

    def wait_s(self, rate: int) -> float:
        """Return after how many seconds at `rate` nothing is owed."""
        return max(self.bytes / rate, 0.0) if rate else 0.0


def objections(limit: MaxRate, min_rate: int, day_bytes: int | None) -> list[str]:
    """Return what of it contradicts itself or others, for people; `day_bytes`: a limit of each day that was set."""
    found = []
    least = min((rate for rate in limit.rates if rate), default=0)
    if 0 < least < min_rate:
        found.append(
            f"max_rate goes down to {rate_text(least)}, and a server that sends less than min_rate "
            f"({rate_text(min_rate)}) is taken as broken: only its own waiting counts, but set min_rate lower"
        )
    for number, it in enumerate(limit.timed):
        if any(_covers(earlier.window, it.window) for earlier in limit.timed[:number]):
            found.append(f"max_rate: {it.window.text} never counts: a window before it covers all of it")
    most = max(limit.rates) if all(limit.rates) else 0
    if day_bytes and most and day_bytes > most * DAY_S:
        found.append(
            f"max_prefetch_bytes allows {format_size(day_bytes)} a day, and at {rate_text(most)} no more than "
            f"{format_size(most * DAY_S)} can come"
        )
    return found


def _covers(wide: Window, window: Window) -> bool:
    """Return whether `window` is open only while `wide` is, as far as one zone and one day tell."""
    if wide.zone != window.zone or not set(window.days) <= set(wide.days):
        return False
    over = {it: it.closes + (24 * 60 if it.closes <= it.opens else 0) for it in (wide, window)}
    return wide.opens <= window.opens and over[window] <= over[wide]
