"""Whether the clock and the calendar let a rollout admit hosts now, and if not, until when and what would change it.

    begins at        nobody before `--at`
    expires          who was not let in by then is not; the rollout ends as a cancelled one does
    windows          of the rollout, and of its environment: one of each must be open
    freezes          one-off or weekly; of an environment or all, of all hosts or those with some labels

Rules, each a named test:
- while one of them bars a host, nobody is admitted, and who was let in and has not switched is told to stay; who has
  switched finishes. Failures are counted all the while, and going back is never barred.
- a rollout that says `--override-freeze` passes freezes by, and nothing else.
- what expires is the rollout, not the rule: once it was done, hosts that were away or are new catch up as ever.
- a zone that is not known here any more bars.

Pure, beside what `domain.windows` says of the zones. Not handled here: who moves where nothing bars (`domain.rolling`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.holds import check_line
from towpath.instants import moment_ms, zone
from towpath.windows import Window, parse_moment, parse_windows
from towpath_server.domain.model import Assignment, CalendarEntry, EntryKind, Timing
from towpath_server.domain.windows import frozen_until, moment, next_opening, open_until

MAX_AHEAD_MS = 2 * 366 * 86_400_000


@dataclass(frozen=True, slots=True)
class Bar:
    """Why a host is not admitted now, until when (0: nobody knows), and the command that would change it."""

    fact: str
    until_unix_ms: int
    command: str


def said(bars: Iterable[Bar]) -> str:
    """Return bars as one reason, an empty text for none."""
    return "; ".join(bar.fact for bar in bars)


def bars(one: Assignment, entries: Sequence[CalendarEntry], now_unix_ms: int) -> tuple[Bar, ...]:
    """Return what bars every host of the rollout now; `entries` are those that concern its environment."""
    found = []
    if now_unix_ms < one.timing.at_unix_ms:
        found.append(_not_yet(one))
    wide = [entry for entry in entries if not entry.selector]
    found += _freezes(one, wide, now_unix_ms)
    if one.timing.windows:
        found += _shut(one.timing.windows, "its windows", f"towpath rollout cancel {one.id}", now_unix_ms)
    frame = [entry for entry in entries if entry.kind is EntryKind.WINDOW and entry.weekly is not None]
    if frame:
        windows = [entry.weekly for entry in frame if entry.weekly is not None]
        whose = f"the windows of {one.environment}"
        found += _shut(windows, whose, f"towpath window remove {frame[0].id}", now_unix_ms)
    return tuple(found)


def some_bars(one: Assignment, entries: Sequence[CalendarEntry], now_unix_ms: int) -> tuple[Bar, ...]:
    """Return what bars those hosts now that have some labels, whether there are such hosts or not."""
    return tuple(_freezes(one, [entry for entry in entries if entry.selector], now_unix_ms))


def host_bars(
    one: Assignment, entries: Sequence[CalendarEntry], labels: Mapping[str, str], now_unix_ms: int
) -> tuple[Bar, ...]:
    """Return what bars this host alone: freezes of hosts with labels that it has."""
    mine = [
        entry
        for entry in entries
        if entry.selector and all(labels.get(key) == value for key, value in entry.selector.items())
    ]
    return tuple(_freezes(one, mine, now_unix_ms))


def all_bars(wide: Iterable[Bar], own: Iterable[Iterable[Bar]]) -> tuple[Bar, ...]:
    """Return what bars a rollout's hosts, each once: all of them first, then some."""
    return tuple(dict.fromkeys([*wide, *(bar for each in own for bar in each)]))


def _not_yet(one: Assignment) -> Bar:
    at = one.timing.at_unix_ms
    return Bar(f"does not begin before {moment(at)}", at, f"towpath rollout cancel {one.id}")


def _freezes(one: Assignment, entries: Iterable[CalendarEntry], now_unix_ms: int) -> list[Bar]:
    if one.timing.override:
        return []
    found = []
    for entry in entries:
        until = frozen(entry, now_unix_ms) if entry.kind is EntryKind.FREEZE else None
        if until is not None:
            when = f"until {moment(until)}" if until else "for its time zone is not known here"
            fact = f"frozen {when} by {entry.created_by}: {entry.reason}"
            found.append(Bar(fact, until, f"towpath freeze remove {entry.id}"))
    return found


def frozen(entry: CalendarEntry, now_unix_ms: int) -> int | None:
    """Return until when a freeze that is on now lasts (0: nobody knows), None where it is off."""
    if entry.weekly is None:
        return entry.until_unix_ms if entry.from_unix_ms <= now_unix_ms < entry.until_unix_ms else None
    try:
        return frozen_until(entry.weekly, now_unix_ms) or None
    except InputError:
        return 0


def _shut(windows: Sequence[Window], whose: str, command: str, now_unix_ms: int) -> list[Bar]:
    """Return the bar of windows of which none is open."""
    openings = []
    unknown = ""
    for window in windows:
        try:
            if open_until(window, now_unix_ms):
                return []
            openings.append(next_opening(window, now_unix_ms))
        except InputError:
            unknown = window.zone
    words = ", ".join(window.text for window in windows)
    if not openings:
        return [Bar(f"outside of {whose} ({words}): time zone {unknown} is not known here", 0, command)]
    return [Bar(f"outside of {whose} ({words}): the next opens at {moment(min(openings))}", min(openings), command)]


def check_timing(
    *, windows: Sequence[str], at: str, expires: str, override: str, now_unix_ms: int, verb: str = "deploy"
) -> Timing:
    """Return when a rollout may move hosts, else raise InputError: also where it never could.

    `verb`: what the operator who is told of it calls it.
    """
    timing = Timing(
        windows=parse_windows(windows),
        at_unix_ms=_time("--at", at, now_unix_ms, verb) if at else 0,
        expires_unix_ms=_time("--expires", expires, now_unix_ms, verb) if expires else 0,
        override=check_line(override, "reason to override a freeze") if override else "",
    )
    for window in timing.windows:
        zone(window.zone)
    begins, ends = max(now_unix_ms, timing.at_unix_ms), timing.expires_unix_ms
    if not ends:
        return timing
    if ends <= now_unix_ms:
        raise InputError(f"cannot {verb} with --expires {moment(ends)}: that is over")
    if ends <= timing.at_unix_ms:
        raise InputError(f"cannot {verb} with --expires {moment(ends)}: it would begin only at {moment(begins)}")
    opens = min((next_opening(window, begins) for window in timing.windows), default=begins)
    if opens >= ends:
        raise InputError(
            f"cannot {verb} with --expires {moment(ends)}: no window of its own opens before {moment(opens)}"
        )
    return timing


def _time(what: str, text: str, now_unix_ms: int, verb: str) -> int:
    at = moment_ms(parse_moment(text))
    if at > now_unix_ms + MAX_AHEAD_MS:
        raise InputError(f"cannot {verb} with {what} {text[:60]}: that is more than two years ahead")
    return at


def is_over(one: Assignment, now_unix_ms: int) -> bool:
    """Return whether the time of the rollout is over."""
    return 0 < one.timing.expires_unix_ms <= now_unix_ms


def check_not_over(one: Assignment, verb: str, now_unix_ms: int) -> None:
    """Raise InputError where the rollout's time is over: what `verb` let go on would end in the next tick."""
    if is_over(one, now_unix_ms):
        raise InputError(
            f"cannot {verb} {one.app} {one.version} in {one.environment}: it expired at "
            f"{moment(one.timing.expires_unix_ms)}; deploy it again",
            code="impossible",
        )


def words(timing: Timing) -> str:
    """Return a rollout's times as the audit log says them, an empty text for none."""
    parts = []
    if timing.windows:
        parts.append(f"in windows {', '.join(window.text for window in timing.windows)}")
    if timing.at_unix_ms:
        parts.append(f"not before {moment(timing.at_unix_ms)}")
    if timing.expires_unix_ms:
        parts.append(f"until {moment(timing.expires_unix_ms)}")
    if timing.override:
        parts.append(f"freezes overridden: {timing.override}")
    return ", ".join(parts)
