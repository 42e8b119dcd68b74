"""Which hosts of a rollout failed it and what they saw: the reason, the probe's evidence, the last lines of the log.

A rollout that is taken back sends its hosts on to another release within a second, and what they report of that one
overwrites their failure. Their events keep it, so they are asked.

Bounded, because it is asked for at every poll: a few hosts, a few of their newest events, a few lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towpath.reports import Event
from towpath.status import State
from towpath_server.domain.model import Assignment
from towpath_server.domain.standing import Phase
from towpath_server.ports import Transaction
from towpath_server.services.rollouts import Picture, Progress

MAX_HOSTS = 8
MAX_SEARCHED = 24
SEARCHED_EVENTS = 50
MAX_LINES = 12
_FAILED = (Phase.FAILED, Phase.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a host failed the release, in one line, and what it saw."""

    reason: str
    lines: tuple[str, ...]


def of_failed(tx: Transaction, picture: Picture) -> dict[str, Failure]:
    """Return host id to what the host sent about its failure of the rollout's release."""
    result: dict[str, Failure] = {}
    for each in _candidates(picture):
        found = failure(tx.events(each.host.id, SEARCHED_EVENTS), picture.assignment)
        if found is not None:
            result[each.host.id] = found
        if len(result) == MAX_HOSTS:
            break
    return result


def _candidates(picture: Picture) -> list[Progress]:
    """Return the hosts that may have failed: by their phase, or those that are sent back, the named ones first."""
    one = picture.assignment
    failed = [each for each in picture.hosts if each.standing.phase in _FAILED]
    if not one.state.returning:
        return failed[:MAX_HOSTS]
    others = [each for each in picture.hosts if each.standing.phase not in _FAILED and each.wave <= one.wave]
    return (failed + sorted(others, key=lambda each: f"{each.host.name}: " not in one.reason))[:MAX_SEARCHED]


def failure(events: Sequence[Event], one: Assignment) -> Failure | None:
    """Return how the newest attempt at the release of `one` failed, or None where it did not or says nothing."""
    for event in reversed(events):
        if (event.app, event.kind, event.version) != (one.app, "transition", one.version):
            continue
        if event.state == State.CONFIRMED:
            return None
        if event.evidence:
            lines = [line.rstrip() for line in event.evidence.splitlines() if line.strip()]
            return Failure(event.reason, tuple(lines[-MAX_LINES:]))
    return None
