"""The order of environments, and what a release has to have been through before it may go into the next one.

Rules, each a named test:
- dev, staging and production are there in this order, until an operator says otherwise; nothing is required of them.
- an environment follows one other at most; a circle is refused.
- where one requires it, a rollout into it waits until the very same release (its digest) has been done and healthy in
  the one before for so long, on every host there that is neither offline nor held, and on one at least. The wait is
  before its first host moves and never comes back.

Pure. Not handled here: where the facts come from (`services.ordering`).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.names import check_environment
from towpath.quantity import format_duration
from towpath_server.domain.model import EnvironmentRule, RolloutState

DEFAULTS = (
    EnvironmentRule("dev"),
    EnvironmentRule("staging", after="dev"),
    EnvironmentRule("production", after="staging"),
)
MAX_ENVIRONMENTS = 100
MAX_HEALTHY_FOR_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Stay:
    """A rule by which a release runs in an environment. `sick`: a host that is not healthy on it and why, or empty."""

    version: str
    state: RolloutState
    done_unix_ms: int
    healthy: int
    sick: str = ""


def declared(kept: Iterable[EnvironmentRule]) -> list[EnvironmentRule]:
    """Return every environment, kept rows instead of defaults of the same name, each after the one it follows."""
    rules = {one.name: one for one in (*DEFAULTS, *kept)}
    result: list[EnvironmentRule] = []

    def add(after: str) -> None:
        for one in rules.values():
            if one.after == after and one not in result:
                result.append(one)
                add(one.name)

    add("")
    return result


def named(rules: Sequence[EnvironmentRule], name: str) -> EnvironmentRule | None:
    """Return the environment of that name, or None."""
    return next((one for one in rules if one.name == name), None)


def unknown(rules: Sequence[EnvironmentRule], name: str) -> str:
    """Return the words for an environment that nobody declared; a known one that may be meant comes first."""
    known = [one.name for one in rules]
    near = difflib.get_close_matches(name, known, 1)
    adds = f"towpath environment set {name} adds it"
    hint = f"did you mean {near[0]!r}? if it is a new one, {adds}" if near else adds
    return f"it is none of {', '.join(known)}; {hint}"


def changed(
    rules: Sequence[EnvironmentRule], name: str, *, after: str | None = None, healthy_for_ms: int | None = None
) -> EnvironmentRule:
    """Return the environment with what is asked for, the rest as it was. `after` empty: it follows none."""
    check_environment(name)
    before = named(rules, name) or EnvironmentRule(name)
    follows = before.after if after is None else after
    time = before.healthy_for_ms if healthy_for_ms is None else healthy_for_ms
    if len(rules) >= MAX_ENVIRONMENTS and named(rules, name) is None:
        raise InputError(f"cannot add environment {name}: there are {len(rules)}, the most")
    if follows and named(rules, follows) is None:
        raise InputError(f"cannot put {name} after {follows[:60]}: {unknown(rules, follows[:60])}", code="not-found")
    at, seen = follows, [name]
    while at:
        if at in seen:
            raise InputError(f"cannot put {name} after {follows}: {' after '.join([*seen, at])} would be a circle")
        seen.append(at)
        found = named(rules, at)
        at = found.after if found is not None else ""
    if not 0 <= time <= MAX_HEALTHY_FOR_MS:
        raise InputError(f"cannot require {name}'s releases to be healthy that long: the most is 30d")
    if time and not follows:
        raise InputError(
            f"cannot require a release to be healthy before {name}: it follows no environment; give --after"
        )
    return EnvironmentRule(name, follows, time)


def entry(rule: EnvironmentRule, stays: Sequence[Stay], now_unix_ms: int) -> str:
    """Return what a rollout into `rule` waits for, for people; empty where it may begin.

    `stays`: the active rules in the environment before that cover a host, of the very same release.
    """
    if not rule.healthy_for_ms or not rule.after:
        return ""
    need = f"it has to be healthy in {rule.after} for {format_duration(rule.healthy_for_ms)} first"
    if not stays:
        return f"{need}: it does not run there"
    for one in stays:
        if one.state is not RolloutState.DONE or not one.done_unix_ms:
            return f"{need}: {one.version} is {one.state} there"
        if one.sick:
            return f"{need}: {one.sick}"
    if not any(one.healthy for one in stays):
        return f"{need}: no host there is online and healthy"
    left = max(one.done_unix_ms for one in stays) + rule.healthy_for_ms - now_unix_ms
    return f"{need}: {format_duration(left)} left" if left > 0 else ""
