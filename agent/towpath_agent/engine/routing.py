"""Whether the relay of a site is asked, or the server itself: pure, times are monotonic seconds.

A relay may be slow, away, or lie; that costs time, never more. So a way that failed is left alone for a while, longer
each time, and one that brought wrong bytes for much longer. Where the other way does not work either, nothing was
learned of the relay: a site without its uplink is not the relay's fault.
"""

from dataclasses import dataclass

from towpath_agent.engine.pacing import backoff_s

FIRST_REST_S = 15.0
MAX_REST_S = 600.0
LIE_REST_S = 3600.0
# What says that a way is broken. Other codes are the server's own words, and would be the same on every way.
BROKEN = frozenset({"unavailable", "deadline", "cut-off", "slow-retrieval"})


@dataclass(frozen=True, slots=True)
class Way:
    """How it went over the relay: failures in a row, and until when it is left alone."""

    failures: int = 0
    rests_until_s: float = 0.0

    def usable(self, now_s: float) -> bool:
        """Return whether to go this way."""
        return now_s >= self.rests_until_s


def worked() -> Way:
    """Return the way after it did."""
    return Way()


def failed(way: Way, now_s: float, chance: float) -> Way:
    """Return the way after it broke; `chance` in [0, 1) spreads a site's hosts over the return."""
    failures = way.failures + 1
    rest_s = backoff_s(failures, FIRST_REST_S, MAX_REST_S)
    return Way(failures, now_s + rest_s * (0.5 + 0.5 * chance))


def no_worse(way: Way, now_s: float) -> Way:
    """Return the way after the other one broke too: it is tried again at once, and what it failed with is kept."""
    return Way(way.failures, now_s)


def lied(way: Way, now_s: float) -> Way:
    """Return the way after it brought bytes that were not those of the digest."""
    return Way(way.failures + 1, now_s + LIE_REST_S)
