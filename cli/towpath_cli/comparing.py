"""What a fleet file asks for against what the server has: which rules are new, which differ, which are not in the file.

A rule is app, environment and selector. What was halted, reverted or cancelled and stands in the file as it was is no
difference: to apply a file again must never try a failed release again. It is told, and a person decides.

Pure. Not handled here: reading the file (`towpath_cli.fleetfile`), doing it (`towpath_cli.commands.apply`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from towpath.quantity import format_duration
from towpath.waves import effective, format_share, words
from towpath_cli.fleetfile import FleetFile
from towpath_cli.model import DeployOrder, Rollout

# What the server takes where nothing was asked for; tests/wire/test_server_apply.py sees that it is so.
DEFAULT_PROGRESS_DEADLINE_MS = 600_000
_ACTIVE = ("rolling", "paused", "done", "halted")
_LEAVING = ("reverting", "reverted", "cancelled")
_STOPPED = ("halted", *_LEAVING)
_ABSENT = "-"


class Kind(StrEnum):
    """What there is to do about one rule."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    LEFT = "left alone"
    STOPPED = "stopped"
    SAME = "same"

    @property
    def differs(self) -> bool:
        """Return True where applying the file does something."""
        return self in (Kind.ADD, Kind.CHANGE, Kind.REMOVE)


@dataclass(frozen=True, slots=True)
class Change:
    """One rule. `was` and `will` hold what differs, by name; `note` is for people."""

    kind: Kind
    app: str
    environment: str
    selector: Mapping[str, str]
    version: str
    was: Mapping[str, str]
    will: Mapping[str, str]
    note: str = ""


def compare(file: FleetFile, rollouts: Sequence[Rollout], *, prune: bool) -> list[tuple[Change, DeployOrder | None]]:
    """Return a change for each rule, in the order of the file, each with the deploy that does it (None for others)."""
    newest: dict[object, Rollout] = {}
    for one in sorted(rollouts, key=lambda it: it.generation):
        if one.state in _ACTIVE + _LEAVING:
            newest[_rule(one.app, one.environment, one.selector)] = one
    result: list[tuple[Change, DeployOrder | None]] = []
    for order in file.orders:
        there = newest.pop(_rule(order.app, order.environment, order.selector), None)
        change = _change(order, there)
        result.append((change, order if change.kind.differs else None))
    for one in newest.values():
        if one.environment in file.names and one.state in _ACTIVE:
            kind = Kind.REMOVE if prune else Kind.LEFT
            facts = (one.app, one.environment, one.selector, one.version)
            result.append((Change(kind, *facts, _of_rollout(one), {}, "not in the file"), None))
    return result


def _rule(app: str, environment: str, selector: Mapping[str, str]) -> object:
    return app, environment, tuple(sorted(selector.items()))


def _change(order: DeployOrder, there: Rollout | None) -> Change:
    facts = (order.app, order.environment, order.selector, order.version)
    wanted = _of_order(order)
    if there is None:
        return Change(Kind.ADD, *facts, {}, wanted)
    has = _of_rollout(there)
    differing = [name for name in wanted if wanted[name] != has[name]]
    if differing:
        was, will = ({name: side[name] for name in differing} for side in (has, wanted))
        return Change(Kind.CHANGE, *facts, was, will)
    if there.state in _STOPPED:
        note = f"it is {there.state} ({there.reason}): not tried again; see towpath rollout show {there.assignment}"
        return Change(Kind.STOPPED, *facts, {}, {}, note)
    return Change(Kind.SAME, *facts, {}, {}, f"it is {there.state}")


def _of_order(order: DeployOrder) -> dict[str, str]:
    return _facts(
        order.version,
        words(effective(order.waves)),
        (order.max_unavailable, order.max_failures, order.max_failure_share),
        order.on_breach,
        order.progress_deadline_ms or DEFAULT_PROGRESS_DEADLINE_MS,
    )


def _of_rollout(one: Rollout) -> dict[str, str]:
    return _facts(
        one.version,
        ",".join(wave.text for wave in one.waves),
        (one.max_unavailable, one.max_failures, one.max_failure_share),
        one.on_breach,
        one.progress_deadline_ms,
    )


def _facts(version: str, waves: str, limits: tuple[int, int, int], on_breach: str, deadline_ms: int) -> dict[str, str]:
    unavailable, failures, share = limits
    return {
        "version": version,
        "waves": waves,
        "max_unavailable": str(unavailable or _ABSENT),
        "max_failures": str(failures),
        "max_failure_share": format_share(share) if share else _ABSENT,
        "on_breach": on_breach,
        "progress_deadline": format_duration(deadline_ms),
    }


def lines(changes: Iterable[Change]) -> list[str]:
    """Return a line for each rule that a person wants to know of."""
    return [line for change in changes if (line := _line(change))]


def _line(change: Change) -> str:
    selector = ",".join(f"{key}={change.selector[key]}" for key in sorted(change.selector)) or "(every host)"
    where = f"{change.environment} {selector}"
    match change.kind:
        case Kind.ADD:
            return f"+ {change.app} {change.version} to {where}, {_said(change.will)}"
        case Kind.CHANGE:
            steps = ", ".join(f"{name} {change.was[name]} -> {change.will[name]}" for name in change.will)
            return f"~ {change.app} in {where}: {steps}"
        case Kind.REMOVE:
            return f"- {change.app} {change.version} in {where}: {change.note}"
        case Kind.LEFT:
            return f"  {change.app} {change.version} in {where}: {change.note}, left alone; --prune would remove it"
        case Kind.STOPPED:
            return f"! {change.app} {change.version} in {where}: {change.note}"
        case Kind.SAME:
            return ""


def _said(facts: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {facts[name]}" for name in facts if name != "version" and facts[name] not in (_ABSENT, "0")
    )
