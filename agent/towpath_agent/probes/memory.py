"""Probe `memory`: at least `available` bytes of the host's memory can be had without swapping.

It is the host's memory, not a control group's: what one app may use is the probe `process`, or its unit's own limits.
"""

from collections.abc import Callable, Mapping

from towpath.parameters import Value
from towpath.quantity import format_size
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, result
from towpath_agent.system import machine
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files


class MemoryProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock, *, read: Callable[[], int] = machine.available_memory) -> None:
        """Ask `read` for the bytes; nothing is waited for."""
        del files, clock
        self._read = read

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Compare once."""
        del context
        try:
            wanted, available = number(options.get("available"), 0), self._read()
        except (OSError, ValueError) as error:
            return result(False, f"cannot read the host's memory: {error}")
        seen = f"{format_size(available)} of the host's memory are available"
        ok = available >= wanted
        return result(ok, seen if ok else f"less than {format_size(wanted)}: {seen}")
