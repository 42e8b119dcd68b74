"""Probe `process`: the unit runs, within its memory, and was not started again too often.

It judges what the service already saw; where that is too much memory, the largest processes are named.
Options: `max_rss` in bytes (of all of the unit's processes), `max_restarts`.
"""

from collections.abc import Callable, Mapping, Sequence

from towpath.parameters import Value
from towpath.quantity import format_size
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, result
from towpath_agent.system import machine
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.machine import Resident

_SHOWN_PROCESSES = 3


class ProcessProbe:
    """See the module."""

    def __init__(
        self, files: Files, clock: Clock, *, largest: Callable[[int, int], Sequence[Resident]] = machine.largest
    ) -> None:
        """Ask `largest(pid, count)` who holds the memory where it is too much; nothing is waited for."""
        del files, clock
        self._largest = largest

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Compare the service's state with the limits."""
        state = context.service_state
        try:
            max_rss = number(options.get("max_rss"), state.rss_bytes)
            max_restarts = number(options.get("max_restarts"), state.restarts)
        except ValueError as error:
            return result(False, f"cannot judge the process: {error}")
        seen = f"process {state.pid}, {format_size(state.rss_bytes)} resident, {state.restarts} restarts"
        if not state.running:
            return result(False, f"not running, {state.restarts} restarts")
        if state.rss_bytes > max_rss:
            return result(False, f"more than {format_size(max_rss)}: {seen}{self._holders(state.pid)}")
        if state.restarts > max_restarts:
            return result(False, f"more than {max_restarts} restarts: {seen}")
        return result(True, seen)

    def _holders(self, pid: int) -> str:
        """Return which processes of the unit hold most of its memory."""
        shown = [f"{one.pid} {one.name} {format_size(one.rss_bytes)}" for one in self._largest(pid, _SHOWN_PROCESSES)]
        return f"; most have {', '.join(shown)}" if shown else ""
