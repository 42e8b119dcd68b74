"""What a probe promises: one check, an answer within its timeout, and evidence that a person can read.

A probe never raises for a check that fails, and never waits longer than its timeout whatever the other side does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from towpath.parameters import Value
from towpath_agent.instance import Instance, ServiceState

MAX_EVIDENCE_CHARS = 512


@dataclass(frozen=True, slots=True)
class FileMark:
    """How long a file was, in bytes, when a release was started; `inode` tells whether it is the same file still."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """What a probe may look at besides its options. `marks` are of the logs that the release's probes read, by path."""

    instance: Instance
    service_state: ServiceState
    timeout_s: float
    marks: Mapping[str, FileMark] = field(default_factory=dict)


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


def port_number(value: Value | None) -> int:
    """Return an option as a port; ValueError where it is none."""
    port = number(value, 0)
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is none; a port is 1 to 65535")
    return port


def place(path: Value, instance: Instance) -> Path:
    """Return where a probe's path lies: a relative one in the release's folder."""
    return Path(instance.folder, str(path))
