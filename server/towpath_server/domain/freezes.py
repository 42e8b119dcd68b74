"""Entries of the calendar: what may stand in it, and how it is read.

A freeze is one-off (from one moment to another) or weekly; a window of an environment is weekly. Not handled here: what
follows from them (`domain.timing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from towpath.errors import InputError
from towpath.holds import check_line
from towpath.instants import moment_ms, zone
from towpath.names import check_environment, check_labels
from towpath.windows import Window, parse_moment, parse_window
from towpath_server.domain.model import CalendarEntry, EntryKind
from towpath_server.domain.timing import frozen
from towpath_server.domain.windows import moment, open_until

MAX_ENTRIES = 500
MAX_AHEAD_MS = 5 * 366 * 86_400_000
MIN_PREFIX = 4


class Now(StrEnum):
    """Where an entry stands."""

    TO_COME = "to come"
    ON = "on"
    OFF = "off"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Draft:
    """What an operator asks for, as typed. `weekly` empty: from `begins` to `ends`. `everywhere`: no environment."""

    kind: str
    environment: str
    reason: str
    everywhere: bool = False
    selector: Mapping[str, str] | None = None
    weekly: str = ""
    begins: str = ""
    ends: str = ""


def check_draft(draft: Draft, known: Sequence[CalendarEntry], now_unix_ms: int) -> CalendarEntry:
    """Return the entry, without its id and author, where it can stand in the calendar; InputError otherwise."""
    try:
        kind = EntryKind(draft.kind)
    except ValueError as error:
        raise InputError(f"cannot add a {draft.kind[:20]!r} to the calendar: freeze or window") from error
    if len(known) >= MAX_ENTRIES:
        raise InputError(f"cannot add a {kind}: the calendar holds {MAX_ENTRIES} entries; remove those that are over")
    if bool(draft.environment) == draft.everywhere:
        raise InputError(f"cannot add a {kind}: say --environment E, or --all-environments")
    if kind is EntryKind.WINDOW and draft.selector:
        raise InputError("cannot add a window of some hosts: windows are of whole environments")
    entry = CalendarEntry(
        id="",
        kind=kind,
        environment=check_environment(draft.environment) if draft.environment else "",
        reason=check_line(draft.reason, "reason"),
        created_unix_ms=now_unix_ms,
        created_by="",
        selector=check_labels(dict(draft.selector or {})),
    )
    if draft.weekly:
        if draft.begins or draft.ends:
            raise InputError(f"cannot add a {kind} that is weekly and has --from or --until: choose one")
        return replace(entry, weekly=_weekly(draft.weekly))
    if kind is EntryKind.WINDOW:
        raise InputError("cannot add a window without its time of the week, such as 'Mon-Fri 22:00-04:00 UTC'")
    return _one_off(entry, draft, now_unix_ms)


def _weekly(text: str) -> Window:
    window = parse_window(text)
    zone(window.zone)
    return window


def _one_off(entry: CalendarEntry, draft: Draft, now_unix_ms: int) -> CalendarEntry:
    if not draft.begins or not draft.ends:
        raise InputError("cannot add a freeze without its time: give --from and --until, or --weekly")
    begins, ends = moment_ms(parse_moment(draft.begins)), moment_ms(parse_moment(draft.ends), second=True)
    if ends <= begins:
        raise InputError(f"cannot add a freeze until {moment(ends)}: it begins at {moment(begins)}")
    if ends <= now_unix_ms:
        raise InputError(f"cannot add a freeze until {moment(ends)}: that is over")
    if ends > now_unix_ms + MAX_AHEAD_MS:
        raise InputError(f"cannot add a freeze until {moment(ends)}: that is more than five years ahead")
    return replace(entry, from_unix_ms=begins, until_unix_ms=ends)


def find(known: Sequence[CalendarEntry], kind: str, name: str) -> CalendarEntry:
    """Return the entry of this kind with this id, or the only one whose id begins so; InputError `not-found`."""
    mine = [one for one in known if one.kind == kind]
    found = [one for one in mine if one.id == name]
    if not found and len(name) >= MIN_PREFIX:
        found = [one for one in mine if one.id.startswith(name)]
    if len(found) != 1:
        raise InputError(f"cannot find {kind[:20]} {name[:40]!r}: see 'towpath {kind[:20]} list'", code="not-found")
    return found[0]


def now_of(entry: CalendarEntry, now_unix_ms: int) -> Now:
    """Return where the entry stands."""
    if entry.weekly is None:
        if now_unix_ms >= entry.until_unix_ms:
            return Now.OVER
        return Now.ON if entry.from_unix_ms <= now_unix_ms else Now.TO_COME
    if entry.kind is EntryKind.FREEZE:
        return Now.OFF if frozen(entry, now_unix_ms) is None else Now.ON
    try:
        return Now.ON if open_until(entry.weekly, now_unix_ms) else Now.OFF
    except InputError:
        return Now.OFF


def words(entry: CalendarEntry) -> str:
    """Return an entry in one line."""
    where = entry.environment or "every environment"
    who = ",".join(f"{key}={entry.selector[key]}" for key in sorted(entry.selector))
    when = entry.weekly.text if entry.weekly is not None else _from_until(entry)
    return f"{where}{f' {who}' if who else ''}, {when}: {entry.reason}"


def _from_until(entry: CalendarEntry) -> str:
    return f"{moment(entry.from_unix_ms)} to {moment(entry.until_unix_ms)}"
