"""Environments and their order: declared by operators, asked before a rollout moves its first host."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from towpath.errors import InputError
from towpath_server.domain import environments
from towpath_server.domain.model import Assignment, EnvironmentRule, HostStatus, RolloutState
from towpath_server.domain.standing import Phase, RolloutView, standing
from towpath_server.ports import Transaction
from towpath_server.services.context import Act, Context, acting

_CALM = (Phase.HEALTHY, Phase.OFFLINE, Phase.HELD)


def check_declared(tx: Transaction, name: str, also: str = "") -> None:
    """Raise InputError `not-found` where nobody declared the environment."""
    rules = environments.declared(tx.environments())
    if environments.named(rules, name) is None:
        raise InputError(f"cannot use environment {name}: {also}{environments.unknown(rules, name)}", code="not-found")


def entry(
    tx: Transaction,
    one: Assignment,
    now_unix_ms: int,
    active: Callable[[str], Iterable[tuple[Assignment, RolloutView]]],
) -> str:
    """Return why no host of a rollout may move yet, or an empty text.

    `active` gives the active rules of its app in another environment; it is asked only where the order requires it.
    """
    if one.entered_unix_ms or one.state not in (RolloutState.ROLLING, RolloutState.PAUSED):
        return ""
    rule = environments.named(environments.declared(tx.environments()), one.environment)
    if rule is None or not rule.healthy_for_ms:
        return ""
    found = active(rule.after)
    same = [(it, seen) for it, seen in found if it.release_sha256 == one.release_sha256 and seen.hosts]
    return environments.entry(rule, [_stay(it, seen, now_unix_ms) for it, seen in same], now_unix_ms)


def _stay(one: Assignment, seen: RolloutView, now_unix_ms: int) -> environments.Stay:
    where = [(host, standing(seen, host, now_unix_ms)) for host in seen.hosts]
    sick = next((f"{host.name}: {at.reason}" for host, at in where if at.phase not in _CALM), "")
    healthy = sum(1 for _, at in where if at.phase is Phase.HEALTHY)
    return environments.Stay(one.version, one.state, one.done_unix_ms, healthy, sick)


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """An environment, how many hosts are in it; `declared` False: nobody said that it is one, but hosts are there."""

    rule: EnvironmentRule
    hosts: int
    declared: bool = True


def list_environments(context: Context) -> list[EnvironmentRow]:
    """Return the environments in their order, then those that only hosts are in."""
    with context.storage.transaction() as tx:
        hosts = [host.environment for host in tx.hosts() if host.status is HostStatus.ACTIVE]
        rules = environments.declared(tx.environments())
    names = [rule.name for rule in rules]
    strays = sorted(set(hosts) - set(names))
    return [
        *(EnvironmentRow(rule, hosts.count(rule.name)) for rule in rules),
        *(EnvironmentRow(EnvironmentRule(name), hosts.count(name), declared=False) for name in strays),
    ]


def set_environment(
    context: Context, actor: str, name: str, *, after: str | None, healthy_for_ms: int | None
) -> EnvironmentRule:
    """Add or change an environment; None leaves a thing as it is. InputError: nothing changed."""
    with acting(context, actor, "environment.set", f"environment/{name[:64]}") as act:
        return put_environment(act, name, after=after, healthy_for_ms=healthy_for_ms)


def put_environment(act: Act, name: str, *, after: str | None, healthy_for_ms: int | None) -> EnvironmentRule:
    """Do what `set_environment` does inside `act`."""
    rule = environments.changed(
        environments.declared(act.tx.environments()), name, after=after, healthy_for_ms=healthy_for_ms
    )
    act.tx.put_environment(rule)
    act.environments.add(name)
    act.detail = f"after {rule.after or 'none'}, healthy there for {rule.healthy_for_ms} ms"
    return rule
