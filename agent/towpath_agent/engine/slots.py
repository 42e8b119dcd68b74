"""Which of its two ports a release runs on, and whether it may run beside the one that it replaces (ADR 16).

Pure. A release with a handover has two slots, one for each of its two `port` parameters. In slot 1 the values of the
two change places, so that the first parameter is always this copy's own port. Any other release has slot 0 alone.
"""

from collections.abc import Mapping

from towpath.handover import Handover
from towpath.parameters import Value
from towpath.release import Release
from towpath_agent.engine.planning import Wish


def values(wish: Wish, handover: Handover | None) -> Mapping[str, Value]:
    """Return the parameters as the copy in its slot sees them."""
    if handover is None or not wish.slot:
        return wish.parameters
    first, second = handover.ports
    swapped = {first: wish.parameters[second], second: wish.parameters[first]}
    return {**wish.parameters, **swapped}


def choose(wish: Wish, release: Release, old: Wish | None, old_release: Release | None) -> int:
    """Return the slot for `wish`: the first one whose port the old release does not use."""
    handover = release.run.handover
    if handover is None or old is None or old_release is None:
        return 0
    return int(wish.parameters[handover.ports[0]] == _own_port(old, old_release))


def beside(wish: Wish, release: Release, old: Wish | None, old_release: Release | None) -> bool:
    """Return whether the new release is started while the old one still runs.

    Both must be made for it: an old release without a handover may hold what there is only one of.
    """
    if old is None or old_release is None or old_release.run.handover is None or release.run.handover is None:
        return False
    return _own_port(wish, release) != _own_port(old, old_release)


def _own_port(wish: Wish, release: Release) -> Value | None:
    """Return the port that a release with a handover serves on; None for any other."""
    handover = release.run.handover
    return None if handover is None else values(wish, handover)[handover.ports[0]]
