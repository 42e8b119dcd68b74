"""How often one caller may call: a token bucket as a value.

Buckets are per host identity, never per address: a fleet behind one NAT shares an address. Times are monotonic: a wall
clock that is set back would shut every caller out. Source of the form: the generic cell rate algorithm (ITU-T I.371),
which needs one number per caller.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` calls at once, then one each `interval_ms`."""

    interval_ms: float
    burst: int


def take(rate: Rate, due_ms: float, now_ms: float) -> float | None:
    """Return the caller's next state (0 for a new one), or None where it has to wait."""
    start = max(due_ms, now_ms)
    if start - now_ms > rate.interval_ms * (rate.burst - 1):
        return None
    return start + rate.interval_ms
