"""Which releases a host may fetch before it is let in to them: its rollouts say so, and it is neither in nor left out.

A release is announced to a host that
- belongs to a rollout that says `prefetch` and is going on: rolling, paused, or done while the host is still barred;
- was not let in: a closed wave, a window, a freeze, `--at`, a gate, a budget; a pause and a hold of the host as well,
  which stop the host's own download and forget nothing of it;
- could be let in at all: no newcomer that waits for the next rollout, nothing that blocks it, not the same release.

A rollout that was halted, ended or is taken back announces nothing: its bytes are dropped.

Pure. Not handled here: who is told of it (only agents that say that they know the feature: `services.syncing`).
"""

from collections.abc import Collection, Iterable, Mapping

from towpath.manifest import MAX_APPS
from towpath_server.domain.assignment import matches, owner
from towpath_server.domain.model import Assignment, Host, RolloutState

_GOING_ON = (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE)


def announces(one: Assignment) -> bool:
    """Return whether hosts that this rollout did not let in may fetch its release."""
    return one.prefetch and one.state in _GOING_ON


def announced(
    assignments: Iterable[Assignment], host: Host, *, bound: Collection[str], runs: Mapping[str, Assignment]
) -> dict[str, Assignment]:
    """Return app to the assignment whose release `host` may fetch ahead.

    `bound`: ids of the assignments that let it in, or from which it is on its way back; `runs`: app to what it runs.
    """
    rules = [one for one in assignments if (one.state.active or one.state.leaving) and matches(one, host)]
    result: dict[str, Assignment] = {}
    for app in sorted({one.app for one in rules if announces(one)}):
        one = owner((rule for rule in rules if rule.app == app), host, bound)
        if one is None or not announces(one) or one.id in bound:
            continue
        same = app in runs and runs[app].release_sha256 == one.release_sha256
        late = one.roster is not None and host.id not in one.roster
        if not same and not late and len(result) < MAX_APPS:
            result[app] = one
    return result
