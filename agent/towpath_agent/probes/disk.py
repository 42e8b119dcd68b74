"""Probe `disk`: at least `free` bytes may still be written where `path` is, by default the app's own folder.

What counts is what an ordinary user may write, without the filesystem's reserve. A path that is not there yet stands
for its nearest folder that is.
"""

from collections.abc import Mapping

from towpath.errors import TowpathError
from towpath.parameters import Value
from towpath.quantity import format_size
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, place, result
from towpath_agent.system import beside
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files


class DiskProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Look with `files`, count timeouts on `clock`."""
        self._files, self._clock = files, clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Compare once."""
        path = place(options.get("path", str(context.instance.app_dir)), context.instance)
        try:
            wanted = number(options.get("free"), 0)
            deadline = Deadline(self._clock, context.timeout_s)
            free = beside.ask(str(path), lambda: self._files.disk_free(path), deadline)
        except (OSError, TowpathError, ValueError) as error:
            return result(False, f"cannot look at the disk of {path}: {error}")
        seen = f"{format_size(free)} are free at {path}"
        return result(free >= wanted, seen if free >= wanted else f"less than {format_size(wanted)}: {seen}")
