"""Which apps may not change now, by the decision of a person on the host. Pure; times are Unix milliseconds.

Time of holds: it never goes back. A wall clock that is set back does not make a hold last longer than it was meant to:
T = max(wall clock, the last T + what has passed since by the monotonic clock); the last T is kept beside the holds, so
a restart does not forget it. A clock that jumps ahead ends holds early: a host that boots in 1970 and then learns the
time must not be held for fifty years.
Not handled here: what is kept (`runner.holding`), what a rollout makes of it (the server).
"""

from collections.abc import Iterable, Sequence

from towpath.errors import InputError
from towpath.holds import MAX_HOLD_MS, MAX_HOLDS, MIN_HOLD_MS, Hold, check_line, covering
from towpath.quantity import format_duration


def hold_time(wall_unix_ms: int, last_unix_ms: int, passed_ms: int) -> int:
    """Return T: see the module. `passed_ms` is monotonic time since T was `last_unix_ms`."""
    return max(wall_unix_ms, last_unix_ms + passed_ms)


def live(holds: Iterable[Hold], now_unix_ms: int) -> tuple[Hold, ...]:
    """Return the holds that are in force at T = `now_unix_ms`, by app, the whole host first."""
    return tuple(sorted((hold for hold in holds if now_unix_ms < hold.until_unix_ms), key=lambda hold: hold.app))


def placed(holds: Sequence[Hold], *, app: str, by: str, reason: str, for_ms: int, now_unix_ms: int) -> tuple[Hold, ...]:
    """Return the holds with a new one, which takes the place of an older one on the same app; InputError otherwise."""
    if not MIN_HOLD_MS <= for_ms <= MAX_HOLD_MS:
        raise InputError(
            f"cannot hold for {format_duration(max(0, for_ms))}: {format_duration(MIN_HOLD_MS)} to "
            f"{format_duration(MAX_HOLD_MS)} are allowed; hold again before it ends where that is too short"
        )
    hold = Hold(app, check_line(by, "name"), check_line(reason, "reason"), now_unix_ms, now_unix_ms + for_ms)
    others = [one for one in holds if one.app != app]
    if len(others) >= MAX_HOLDS:
        raise InputError(f"cannot hold {app}: {MAX_HOLDS} apps are held already; hold the whole host instead")
    return live([*others, hold], now_unix_ms)


def lifted(holds: Sequence[Hold], app: str) -> tuple[tuple[Hold, ...], tuple[Hold, ...]]:
    """Return the holds that stay and those that end: of the whole host all end, of an app its own alone.

    InputError where there is none, with the command that would end the one that is in the way.
    """
    ended = tuple(one for one in holds if app in ("", one.app))
    if not ended:
        wider = covering(holds, app) if app else None
        if wider is not None:
            raise InputError(
                f"cannot release {app} alone: the whole host is {wider.text}; end that: towpath-agent release",
                code="not-held",
            )
        raise InputError(f"cannot release {app or 'the host'}: nothing holds it", code="not-held")
    return tuple(one for one in holds if one not in ended), ended
