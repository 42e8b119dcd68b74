"""What failed hosts of a rollout saw: the probe's evidence and the last lines of the log, for who watches.

Bounded, because it is asked for at every poll: a few hosts, a few of their newest events, a few lines.
"""

from towpath_server.domain.standing import Phase
from towpath_server.ports import Transaction
from towpath_server.services.rollouts import Picture

MAX_HOSTS = 8
SEARCHED_EVENTS = 50
MAX_LINES = 12
_FAILED = (Phase.FAILED, Phase.INCONCLUSIVE)


def of_failed(tx: Transaction, picture: Picture) -> dict[str, tuple[str, ...]]:
    """Return host id to the last lines that the host sent about the release of the rollout, where it failed it."""
    one = picture.assignment
    failed = [each.host.id for each in picture.hosts if each.standing.phase in _FAILED][:MAX_HOSTS]
    result = {}
    for host_id in failed:
        for event in reversed(tx.events(host_id, SEARCHED_EVENTS)):
            if (event.app, event.kind, event.version) == (one.app, "transition", one.version) and event.evidence:
                lines = [line.rstrip() for line in event.evidence.splitlines() if line.strip()]
                result[host_id] = tuple(lines[-MAX_LINES:])
                break
    return result
