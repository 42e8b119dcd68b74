"""How a rollout is taken back: which hosts go to what they had, and when all have.

    reverting --nobody waits or is on the way--> reverted

Rules, each a named test:
- waves do not count, `max_unavailable` does: a host on its way back is unavailable. Those that are between two releases
  anyway go first; those on which the release does not run go at once, nothing changes for them.
- offline and held hosts neither block nor count; they go back in their turn when they are there again, also after the
  rollout is `reverted`.
- a host that cannot go back has failed and gives its slot away: the others still need to.

Pure. Not handled here: what a host goes back to (`services.rollouts`: the assignment before, see `predecessor`).
"""

from collections.abc import Iterable

from towpath_server.domain.model import Assignment, RolloutState
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import (
    Decision,
    Phase,
    RolloutView,
    busy,
    in_order,
    limit,
    standing,
    untouched,
)


def decide(view: RolloutView, now_unix_ms: int) -> Decision:
    """Return who goes back now and who has arrived."""
    standings = [(host, standing(view, host, now_unix_ms)) for host in in_order(view)]
    turn = [host for host, where in standings if where.phase is Phase.WAITING]
    free = [host.host_id for host in turn if untouched(view, host)]
    rest = [host for host in turn if not untouched(view, host)]
    on_the_way = sum(1 for _, where in standings if where.phase is Phase.GOING_BACK)
    # Who is down anyway takes a slot already, told to go back or not: sending it on makes nobody else unavailable.
    down = [host.host_id for host in rest if busy(host)]
    calm = [host.host_id for host in rest if not busy(host)]
    slots = max(0, limit(view) - on_the_way)
    retreat = tuple(free + down[:slots] + calm[: max(0, slots - len(down))])
    arrived = tuple(
        host.host_id
        for host, where in standings
        if where.phase is Phase.BACK and host.retreat is not None and not host.retreat.arrived_unix_ms
    )
    state = view.state
    if state is RolloutState.REVERTING and not turn and not on_the_way:
        state = next_state(state, Act.RETURN)
    return Decision(state, view.reason, retreat=retreat, arrived=arrived, wave=view.wave)


def predecessor(assignments: Iterable[Assignment], one: Assignment, *, other_release: bool = True) -> Assignment | None:
    """Return what counted for the same rule before `one` and was done then, or None.

    `other_release`: passing over those of the identical release, to which nobody could go back.
    """
    rule = (one.app, one.environment, dict(one.selector))
    found = [
        it
        for it in assignments
        if (it.app, it.environment, dict(it.selector)) == rule
        and it.generation < one.generation
        and it.done_unix_ms
        and it.state is RolloutState.SUPERSEDED
        and (not other_release or it.release_sha256 != one.release_sha256)
    ]
    return max(found, key=lambda it: it.generation, default=None)
