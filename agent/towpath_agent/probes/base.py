"""What a probe promises: one check, an answer within its timeout, and evidence that a person can read.

A probe never raises for a check that fails, and never waits longer than its timeout whatever the other side does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from towpath.parameters import Value
from towpath_agent.instance import Instance, ServiceState

MAX_EVIDENCE_CHARS = 512


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """What a probe may look at besides its options."""

    instance: Instance
    service_state: ServiceState
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether the check passed, and what was seen."""

    ok: bool
    evidence: str


class Probe(Protocol):
    """One kind of check."""

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Check once; `options` have their `${parameters}` filled."""
        ...


def result(ok: bool, evidence: str) -> ProbeResult:
    """Return a result whose evidence fits: one line of printable text, cut to MAX_EVIDENCE_CHARS."""
    line = "".join(c if c.isprintable() else " " for c in evidence).strip()
    return ProbeResult(ok, line if len(line) <= MAX_EVIDENCE_CHARS else line[: MAX_EVIDENCE_CHARS - 3] + "...")


def number(value: Value | None, default: int) -> int:
    """Return an option as a number: a filled `${parameter}` is text. ValueError where it is none."""
    if value is None:
        return default
    return int(value if isinstance(value, int) else str(value))
