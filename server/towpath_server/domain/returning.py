"""How a rollout is taken back: which hosts go to what they had, and when all have.

    reverting --nobody waits or is on the way--> reverted

Rules, each a named test:
- waves do not count, `max_unavailable` and budgets do: a host on its way back is unavailable. Those that are between
  two releases anyway go first; those on which the release does not run go at once, nothing changes for them.
- offline and held hosts neither block nor count; they go back in their turn when they are there again, also after the
  rollout is `reverted`.
- a host that cannot go back has failed and gives its slot away: the others still need to.

Pure. Not handled here: what a host goes back to (`services.rollouts`: the assignment before, see `predecessor`).
"""

from collections.abc import Iterable

from towpath_server.domain.attendance import unheard
from towpath_server.domain.model import Assignment, RolloutState
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import Decision, Phase, limit
from towpath_server.domain.tally import Group, Tally


def decided(tally: Tally) -> Decision:
    """Return who goes back now and who has arrived."""
    view = tally.view
    on_the_way = tally.count(Phase.GOING_BACK)
    slots = max(0, limit(view, tally.total) - on_the_way)
    # Who is down anyway takes a slot already, told to go back or not: sending it on makes nobody else unavailable.
    down = tally.first(Group.DOWN, limit=slots)
    calm = tally.next(None, max(0, slots - tally.size(Group.DOWN)))
    state = view.state
    left = tally.count(Phase.WAITING) or on_the_way or unheard(view, tally.expected(), tally.now_unix_ms)
    if state is RolloutState.REVERTING and not left:
        state = next_state(state, Act.RETURN)
    return Decision(
        state,
        view.reason,
        retreat=tuple(tally.first(Group.FREE) + down + calm),
        arrived=tuple(tally.first(Group.ARRIVED)),
        wave=view.wave,
    )


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
