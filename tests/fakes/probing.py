"""One check of one probe, for tests that look at what it says."""

from collections.abc import Mapping
from pathlib import Path

from fakes.services import make_instance
from towpath.parameters import Value
from towpath_agent.instance import ServiceState
from towpath_agent.probes import PROBES
from towpath_agent.probes.base import FileMark, Probe, ProbeContext, ProbeResult
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

UP = ServiceState(running=True, pid=7, restarts=2, rss_bytes=400 * 2**20)


def context_of(
    root: Path, *, timeout_s: float = 10.0, marks: Mapping[str, FileMark] | None = None, version: str = "1"
) -> ProbeContext:
    """Return the context of the app `hello` below `root`."""
    return ProbeContext(make_instance(root, version), UP, timeout_s, marks or {})


def check(kind: str | Probe, options: Mapping[str, Value], root: Path, *, timeout_s: float = 10.0) -> ProbeResult:
    """Check once with the real driver of `kind`, or with a given one."""
    probe = PROBES[kind](Files(), SystemClock()) if isinstance(kind, str) else kind
    return probe.check(options, context_of(root, timeout_s=timeout_s))
