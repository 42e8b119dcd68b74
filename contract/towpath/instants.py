"""When the clocks of a zone show a time, in Unix milliseconds, exact over every change of them; for client and server.

Rules, each a named test:
- a time that the clocks skip is the moment of the skip.
- a time that the clocks show twice is the first of the two, unless the second is asked for.

The time zone database is the system's (`tzdata`); `zoneinfo` keeps what it has read. Apart from that this is pure.
"""

import contextlib
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from towpath.errors import InputError
from towpath.windows import Moment


def zone(name: str, machine: str = "this server") -> tzinfo:
    """Return the zone (or offset) of that name; InputError where `machine`, for people, knows none."""
    if name[0] in "+-":
        minutes = int(name[1:3]) * 60 + int(name[4:])
        return timezone(timedelta(minutes=-minutes if name[0] == "-" else minutes))
    # A folder of the database raises OSError, an escape from it ValueError; localtime differs by machine.
    with contextlib.suppress(ValueError, OSError, LookupError):
        if name != "localtime":
            return ZoneInfo(name)
    raise InputError(
        f"cannot use time zone {name[:60]!r}: {machine} knows none of that name; see 'timedatectl list-timezones' "
        "there, or install tzdata"
    )


def _unix_s(local: datetime, clocks: tzinfo, fold: int) -> int:
    return int(local.replace(tzinfo=clocks, fold=fold).timestamp())


def instant(local: datetime, clocks: tzinfo, *, second: bool = False) -> int:
    """Return when the clocks show `local`; `second`: the later of two. A skipped one is the moment of the skip."""
    early, late = _unix_s(local, clocks, 0), _unix_s(local, clocks, 1)
    if datetime.fromtimestamp(early, clocks).replace(tzinfo=None, fold=0) == local:
        return (late if second else early) * 1000
    # Skipped: the offset of before leads behind the skip, the one of after before it (PEP 495). It is between them.
    before, behind = late, early
    offset = datetime.fromtimestamp(before, clocks).utcoffset()
    while behind - before > 1:
        middle = (before + behind) // 2
        if datetime.fromtimestamp(middle, clocks).utcoffset() == offset:
            before = middle
        else:
            behind = middle
    return behind * 1000


def moment_ms(what: Moment, *, second: bool = False, machine: str = "this server") -> int:
    """Return a moment in Unix milliseconds; InputError for an unknown zone, or a year that UTC does not have."""
    clocks = zone(what.zone, machine)
    try:
        return instant(what.local, clocks, second=second)
    except (ValueError, OverflowError) as error:
        shown = f"{what.local.isoformat(' ', 'minutes')} {what.zone[:60]}"
        raise InputError(f"cannot use time {shown}: in UTC it is not within the years 1 to 9999") from error
