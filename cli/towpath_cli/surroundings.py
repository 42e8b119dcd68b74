"""What surrounds the rules of a fleet file, against what the server has: environments, windows, freezes, parameters.

What is set for an environment, a label or a host and is not in the file is left alone and named, or taken off where the
file is to be the whole truth (`prune`): of its environments, its hosts and its freezes, where it has such a section.

Pure. Not handled here: the rules themselves (`towpath_cli.comparing`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from towpath.instants import moment_ms
from towpath.quantity import format_duration
from towpath.windows import parse_moment
from towpath_cli.changes import Act, Change, Kind
from towpath_cli.model import CalendarEntry, EntryOrder, EnvironmentRow, Host, ParameterRow
from towpath_cli.output import when
from towpath_cli.policyoption import ABSENT, or_absent
from towpath_cli.steps import RemoveEntry, SetEnvironment, SetHost, SetParameters, Step
from towpath_cli.wishes import EnvironmentWish, FleetFile, Place

WINDOW_REASON = "as agreed"
MACHINE = "this machine"


@dataclass(frozen=True, slots=True)
class There:
    """What the server has. `entries`: freezes and windows."""

    environments: Sequence[EnvironmentRow]
    parameters: Sequence[ParameterRow]
    hosts: Sequence[Host]
    entries: Sequence[CalendarEntry]


def compare(file: FleetFile, there: There, now_unix_ms: int, *, prune: bool) -> list[Act]:
    """Return what there is to do, in the order in which it can be done; what is to be taken off comes last."""
    acts = [
        *_environments(file, there),
        *_windows(file, there, prune=prune),
        *_freezes(file, there, now_unix_ms, prune=prune),
        *_parameters(file, there, prune=prune),
        *_hosts(file, there, prune=prune),
    ]
    return sorted(acts, key=lambda act: act.change.kind in (Kind.REMOVE, Kind.LEFT))


def _environments(file: FleetFile, there: There) -> Iterator[Act]:
    rows = {one.name: one for one in there.environments if one.declared}
    for wish in file.environments:
        row = rows.get(wish.name)
        was, will = {}, {}
        if wish.after is not None and (row is None or row.after != wish.after):
            was["after"], will["after"] = or_absent(row.after if row is not None else ""), or_absent(wish.after)
        required = row.healthy_for_ms if row is not None else 0
        if wish.healthy_for_ms is not None and required != wish.healthy_for_ms:
            was["healthy_for"], will["healthy_for"] = _time(required), _time(wish.healthy_for_ms)
        kind = Kind.ADD if row is None else Kind.CHANGE if will else Kind.SAME
        yield _act(Change(kind, "environment", wish.name, was, will or {"after": ABSENT}), _set(wish), wish.place)


def _time(milliseconds: int) -> str:
    return format_duration(milliseconds) if milliseconds else ABSENT


def _set(wish: EnvironmentWish) -> SetEnvironment:
    return SetEnvironment(wish.name, wish.after, wish.healthy_for_ms)


def _act(change: Change, step: Step, place: Place | None = None) -> Act:
    """Return the act of a change, with only those of its facts that its kind tells."""
    was = change.was if change.kind in (Kind.CHANGE, Kind.REMOVE, Kind.LEFT) else {}
    will = change.will if change.kind in (Kind.ADD, Kind.CHANGE) else {}
    return Act(replace(change, was=was, will=will), step if change.kind.differs else None, place)


def _windows(file: FleetFile, there: There, *, prune: bool) -> Iterator[Act]:
    for wish in file.environments:
        if wish.windows is None:
            continue
        known = {e.weekly: e for e in there.entries if e.kind == "window" and e.environment == wish.name}
        for text in wish.windows:
            kind = Kind.SAME if known.pop(text, None) is not None else Kind.ADD
            order = EntryOrder("window", wish.name, WINDOW_REASON, weekly=text)
            yield _act(Change(kind, "window", f"of {wish.name}", {}, {"when": text}), order, wish.place)
        for entry in known.values():
            yield _entry_gone(entry, f"of {wish.name}", prune=prune)


def _entry_gone(entry: CalendarEntry, name: str, *, prune: bool) -> Act:
    kind = Kind.REMOVE if prune else Kind.LEFT
    was = {"when": _times(entry.weekly, entry.from_unix_ms, entry.until_unix_ms)}
    return _act(Change(kind, entry.kind, name, was, {}), RemoveEntry(entry.kind, entry.id))


def _times(weekly: str, begins_ms: int, ends_ms: int) -> str:
    return weekly or f"{when(begins_ms)} to {when(ends_ms)}"


def _freezes(file: FleetFile, there: There, now_unix_ms: int, *, prune: bool) -> Iterator[Act]:
    if file.freezes is None:
        return
    known: dict[object, list[CalendarEntry]] = {}
    for entry in there.entries:
        if entry.kind == "freeze" and (not entry.environment or entry.environment in file.names):
            where = (entry.environment, tuple(sorted(entry.selector.items())), entry.reason)
            known.setdefault((*where, entry.weekly, entry.from_unix_ms, entry.until_unix_ms), []).append(entry)
    for wish in file.freezes:
        order = wish.order
        begins = moment_ms(parse_moment(order.begins), machine=MACHINE) if order.begins else 0
        ends = moment_ms(parse_moment(order.ends), second=True, machine=MACHINE) if order.ends else 0
        key = (order.environment, tuple(sorted(order.selector.items())), order.reason, order.weekly, begins, ends)
        # A holiday of last year may stay in the file: it is over, and could not be added any more.
        over = 0 < ends <= now_unix_ms and begins < ends
        kind = Kind.SAME if known.pop(key, None) is not None or over else Kind.ADD
        will = {"when": _times(order.weekly, begins, ends), "reason": order.reason}
        change = Change(kind, "freeze", _scope(order.environment, order.selector), {}, will)
        yield _act(change, order, wish.place)
    for entries in known.values():
        for entry in entries:
            if entry.now != "over":
                yield _entry_gone(entry, _scope(entry.environment, entry.selector), prune=prune)


def _scope(environment: str, selector: Mapping[str, str]) -> str:
    labels = ",".join(f"{key}={selector[key]}" for key in sorted(selector))
    return f"of {environment or 'every environment'}{f' {labels}' if labels else ''}"


def _parameters(file: FleetFile, there: There, *, prune: bool) -> Iterator[Act]:
    known = {(p.environment, p.label, f"{p.app}.{p.name}"): p.text for p in there.parameters}
    named = {(one.environment, bool(one.label)) for one in file.parameters}
    for wish in file.parameters:
        has = known.pop((wish.environment, wish.label, wish.name), None)
        step = SetParameters(wish.environment, wish.label, {wish.name: wish.text})
        name = f"{wish.name} of {wish.environment}{f' {wish.label}' if wish.label else ''}"
        yield _parameter(name, has, wish.text, step, wish.place)
    for (environment, label, key), text in known.items():
        if (environment, bool(label)) in named:
            name = f"{key} of {environment}{f' {label}' if label else ''}"
            yield _stray(name, text, SetParameters(environment, label, unset=(key,)), prune=prune)


def _parameter(name: str, has: str | None, wanted: str, step: Step, place: Place) -> Act:
    kind = Kind.ADD if has is None else Kind.SAME if has == wanted else Kind.CHANGE
    return _act(Change(kind, "parameter", name, {"value": has or ""}, {"value": wanted}), step, place)


def _stray(name: str, text: str, step: Step, *, prune: bool) -> Act:
    return _act(Change(Kind.REMOVE if prune else Kind.LEFT, "parameter", name, {"value": text}, {}), step)


def _hosts(file: FleetFile, there: There, *, prune: bool) -> Iterator[Act]:
    known = {one.name: dict(one.own_parameters) for one in there.hosts}
    for wish in file.hosts:
        has = known.get(wish.host, {}).pop(wish.name, None)
        step = SetHost(wish.host, {wish.name: wish.text})
        yield _parameter(f"{wish.name} of host {wish.host}", has, wish.text, step, wish.place)
    for name in dict.fromkeys(one.host for one in file.hosts):
        for key, text in known.get(name, {}).items():
            yield _stray(f"{key} of host {name}", text, SetHost(name, unset=(key,)), prune=prune)
