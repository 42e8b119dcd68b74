"""Probe `fresh`: a file exists and was written within `max_age`; with `min_size` it must hold that many bytes.

Options: `path` (relative: in the release's folder; links are followed), `max_age`, `min_size`. Age is by the wall
clock; a file that is dated further than `max_age` in the future is not known to be fresh either.
"""

from collections.abc import Mapping
from stat import S_ISREG

from towpath.errors import TowpathError
from towpath.parameters import Value
from towpath.quantity import format_duration, format_size
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, place, result
from towpath_agent.system import beside
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files

_NS_PER_MS = 1_000_000


class FreshProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Look with `files`; ages are by `clock`."""
        self._files, self._clock = files, clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Look at the file once."""
        path = place(options.get("path", ""), context.instance)
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            max_age_ms, min_size = number(options.get("max_age"), 0), number(options.get("min_size"), 0)
            facts = beside.ask(str(path), lambda: self._files.stat(self._files.real(path)), deadline)
        except FileNotFoundError:
            return result(False, f"there is no file {path}")
        except (OSError, TowpathError, ValueError, RuntimeError) as error:
            return result(False, f"cannot look at {path}: {error}")
        if not S_ISREG(facts.st_mode):
            return result(False, f"{path} is no regular file")
        age_ms = self._clock.now_unix_ms() - facts.st_mtime_ns // _NS_PER_MS
        when = f"{format_duration(age_ms)} ago" if age_ms >= 0 else f"{format_duration(-age_ms)} in the future"
        seen = f"{path} was written {when} and holds {format_size(facts.st_size)}"
        if abs(age_ms) > max_age_ms:
            return result(False, f"not within {format_duration(max_age_ms)}: {seen}")
        if facts.st_size < min_size:
            return result(False, f"less than {format_size(min_size)}: {seen}")
        return result(True, seen)
