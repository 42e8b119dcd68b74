"""Which assignment a host belongs to, and which one it runs.

Two questions that are easily mixed up:
- `owner`: the newest active assignment that matches the host. Its rollout decides when the host moves.
- `resolve`: the newest matching assignment to which the host was ADMITTED. That is what the host runs now, even where a
  newer one has superseded it or has halted. So a halt leaves everybody on what they had.

Pure; rows in, rows out.
"""

from collections.abc import Collection, Iterable, Mapping

from towpath.errors import InputError
from towpath.names import check_environment, check_labels
from towpath_server.domain.model import DEFAULT_PROGRESS_DEADLINE_MS, Assignment, Host, HostStatus, RolloutState

MAX_PROGRESS_DEADLINE_MS = 7 * 86_400_000
MIN_PROGRESS_DEADLINE_MS = 1_000


def matches(assignment: Assignment, host: Host) -> bool:
    """Return True where the assignment's rule covers the host."""
    return (
        host.status is HostStatus.ACTIVE
        and host.environment == assignment.environment
        and all(host.labels.get(key) == value for key, value in assignment.selector.items())
    )


def _newest(assignments: Iterable[Assignment]) -> Assignment | None:
    return max(assignments, key=lambda one: one.generation, default=None)


def owner(assignments: Iterable[Assignment], host: Host) -> Assignment | None:
    """Return the newest active assignment among those of ONE app that covers the host, or None."""
    return _newest(one for one in assignments if one.state.active and matches(one, host))


def resolve(assignments: Iterable[Assignment], admitted: Collection[str], host: Host) -> dict[str, Assignment]:
    """Return app to the assignment that `host` runs; `admitted` holds the ids of assignments that let it in."""
    result: dict[str, Assignment] = {}
    for one in assignments:
        if one.id not in admitted or one.state is RolloutState.REMOVED or not matches(one, host):
            continue
        best = result.get(one.app)
        if best is None or one.generation > best.generation:
            result[one.app] = one
    return result


def same_rule(one: Assignment, app: str, environment: str, selector: Mapping[str, str]) -> bool:
    """Return True where `one` is an active assignment of exactly this rule: a new one supersedes it."""
    return one.state.active and (one.app, one.environment, dict(one.selector)) == (app, environment, dict(selector))


def check_request(
    *, environment: str, selector: Mapping[str, str], whole_environment: bool, progress_deadline_ms: int
) -> int:
    """Return the progress deadline to use (0: the default) where the rule is usable, else raise InputError."""
    check_environment(environment)
    check_labels(dict(selector))
    if not selector and not whole_environment:
        raise InputError(
            f"cannot deploy without a selector: give --select KEY=VALUE, or --all-hosts for every host of {environment}"
        )
    deadline = progress_deadline_ms or DEFAULT_PROGRESS_DEADLINE_MS
    if not MIN_PROGRESS_DEADLINE_MS <= deadline <= MAX_PROGRESS_DEADLINE_MS:
        raise InputError("cannot deploy with that progress deadline: 1s to 7d are allowed")
    return deadline


def unchanged(current: Assignment, *, release_sha256: bytes, limits: tuple[int, int, int], failed: int) -> bool:
    """Return True where deploying again would change nothing: same release, same limits, and nothing failed on it."""
    return (
        current.state in (RolloutState.ROLLING, RolloutState.DONE)
        and current.release_sha256 == release_sha256
        and (current.max_unavailable, current.max_failures, current.progress_deadline_ms) == limits
        and failed == 0
    )
