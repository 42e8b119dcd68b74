"""Which assignment a host belongs to, and which one it runs.

Two questions that are easily mixed up:
- `owner`: the newest active assignment that matches the host. Its rollout decides when the host moves. One that is
  taken back or was cancelled owns those hosts only that it let in, until they are back: the others are its
  predecessor's again.
- `resolve`: the newest matching assignment to which the host was ADMITTED. That is what the host runs now, even where a
  newer one has superseded it or has halted. So a halt leaves everybody on what they had.

Where several rules cover a host, both take the newest of each rule, and among these the one of the highest priority.

Pure; rows in, rows out.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from towpath.errors import InputError
from towpath.names import check_environment, check_labels
from towpath.waves import ALL, effective, parse_target
from towpath_server.domain.model import (
    DEFAULT_PROGRESS_DEADLINE_MS,
    Assignment,
    Host,
    HostStatus,
    OnBreach,
    RolloutState,
)
from towpath_server.domain.waves import nobody

MAX_PROGRESS_DEADLINE_MS = 7 * 86_400_000
MIN_PROGRESS_DEADLINE_MS = 1_000
MAX_HOSTS = 1_000_000
_SEVERAL = 2


def matches(assignment: Assignment, host: Host) -> bool:
    """Return True where the assignment's rule covers the host."""
    return (
        host.status is HostStatus.ACTIVE
        and host.environment == assignment.environment
        and all(host.labels.get(key) == value for key, value in assignment.selector.items())
    )


def _foremost(assignments: Iterable[Assignment]) -> Assignment | None:
    """Return the newest of the rule that has the highest priority; a rule's newer rollout supersedes its older ones."""
    found = list(assignments)
    if len(found) < _SEVERAL:
        return found[0] if found else None
    newest: dict[object, Assignment] = {}
    for one in sorted(found, key=lambda it: it.generation):
        newest[rule(one)] = one
    return max(newest.values(), key=lambda it: (it.priority, it.generation))


def rule(one: Assignment) -> object:
    """Return what makes two assignments of one app and environment the same rule."""
    return tuple(sorted(one.selector.items()))


def owner(assignments: Iterable[Assignment], host: Host, bound: Collection[str] = ()) -> Assignment | None:
    """Return the foremost assignment among those of ONE app that decides about the host, or None.

    `bound`: ids of the assignments that let it in, or from which it is on its way back.
    """
    return _foremost(
        one
        for one in assignments
        if (one.state.active or (one.state.leaving and one.id in bound)) and matches(one, host)
    )


def resolve(assignments: Iterable[Assignment], admitted: Collection[str], host: Host) -> dict[str, Assignment]:
    """Return app to the assignment that `host` runs; `admitted` holds the ids of assignments that let it in."""
    found: dict[str, list[Assignment]] = {}
    for one in assignments:
        if one.id in admitted and one.state is not RolloutState.REMOVED and matches(one, host):
            found.setdefault(one.app, []).append(one)
    return {app: first for app, several in found.items() if (first := _foremost(several)) is not None}


def same_rule(one: Assignment, app: str, environment: str, selector: Mapping[str, str]) -> bool:
    """Return True where `one` is an assignment of exactly this rule that counts for a host: a new one supersedes it."""
    counts = one.state.active or one.state.leaving
    return counts and (one.app, one.environment, dict(one.selector)) == (app, environment, dict(selector))


def check_request(
    *,
    environment: str,
    selector: Mapping[str, str],
    whole_environment: bool,
    progress_deadline_ms: int,
    verb: str = "deploy",
) -> int:
    """Return the progress deadline to use (0: the default) where the rule is usable, else raise InputError.

    `verb`, here and below: what the operator who is told of it calls it.
    """
    check_environment(environment)
    check_labels(dict(selector))
    if not selector and not whole_environment:
        raise InputError(
            f"cannot {verb} without a selector: give --select KEY=VALUE, or --all-hosts for every host of {environment}"
        )
    deadline = progress_deadline_ms or DEFAULT_PROGRESS_DEADLINE_MS
    if not MIN_PROGRESS_DEADLINE_MS <= deadline <= MAX_PROGRESS_DEADLINE_MS:
        raise InputError(f"cannot {verb} with that progress deadline: 1s to 7d are allowed")
    return deadline


def check_limits(
    *, max_unavailable: int, max_failures: int, max_failure_share: int, on_breach: str, verb: str = "deploy"
) -> OnBreach:
    """Return what a breach does where these limits can ever hold, else raise InputError. Zeros mean the defaults."""
    if max_unavailable > MAX_HOSTS or max_failures > MAX_HOSTS:
        raise InputError(f"cannot {verb} with a limit above {MAX_HOSTS} hosts: no fleet is that large")
    if not 0 <= max_failure_share < ALL:
        raise InputError(f"cannot {verb} with that share of failures: above 0% and below 100% are allowed")
    try:
        return OnBreach(on_breach or OnBreach.HALT)
    except ValueError as error:
        raise InputError(f"cannot do {on_breach[:40]!r} on a breach: halt or revert") from error


def check_reach(
    draft: Assignment, labels: Sequence[Mapping[str, str]], *, allow_empty: bool, verb: str = "deploy"
) -> None:
    """Raise InputError where the rule or one of its waves reaches nobody, or its limits could never stop it.

    `labels` are those of the hosts that the rule matches. `allow_empty`: hosts are to come.
    """
    if allow_empty:
        return
    name = f"{draft.app} {draft.version}"
    if not labels:
        who = ",".join(f"{key}={draft.selector[key]}" for key in sorted(draft.selector))
        what = f"no host of {draft.environment} has {who}" if who else f"no host is in {draft.environment}"
        raise InputError(
            f"cannot {verb} {name}: {what}; see 'towpath host list', or give --allow-empty where hosts are to come"
        )
    empty = nobody(draft.waves, labels)
    if empty:
        raise InputError(
            f"cannot {verb} {name} by wave {empty}: none of its {len(labels)} hosts in {draft.environment} has the "
            f"label; towpath host set HOST --label {parse_label(empty)}"
        )
    for budget in draft.budgets:
        if not any(budget.label in one for one in labels):
            raise InputError(
                f"cannot {verb} {name} with the budget {budget.text}: none of its {len(labels)} hosts in "
                f"{draft.environment} has the label; towpath host set HOST --label {budget.label}=VALUE"
            )
    if draft.order_label and not any(draft.order_label in one for one in labels):
        raise InputError(
            f"cannot {verb} {name} in the order of {draft.order_label}: none of its {len(labels)} hosts in "
            f"{draft.environment} has the label; towpath host set HOST --label {draft.order_label}=VALUE"
        )
    if draft.max_failures > len(labels):
        raise InputError(
            f"cannot {verb} {name} with {draft.max_failures} failures allowed: it has {len(labels)} hosts, so that "
            "this would never stop it"
        )


def parse_label(what: str) -> str:
    """Return a wave by labels as the label that a host would need."""
    return next(f"{key}={value}" for key, value in parse_target(what).labels.items())


def _policy(one: Assignment) -> tuple[object, ...]:
    limits = (one.max_unavailable, one.max_failures, one.max_failure_share, one.progress_deadline_ms, one.on_breach)
    times = (one.timing, one.offline_wait_ms, one.newcomers, one.prefetch)
    reach = (one.budgets, one.priority, one.order_label)
    return (one.release_sha256, *limits, effective(one.waves), *times, one.approvers, one.metrics, *reach)


def unchanged(current: Assignment, wanted: Assignment, *, failed: int) -> bool:
    """Return True where deploying `wanted` would change nothing: same release and policy, and nothing failed on it."""
    going = current.state in (RolloutState.ROLLING, RolloutState.DONE)
    return going and _policy(current) == _policy(wanted) and failed == 0
