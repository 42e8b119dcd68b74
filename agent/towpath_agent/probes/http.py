"""Probe `http`: a GET that must answer with a status and, where asked, hold a text in the first 4 KiB of its body.

Options: `url` (http or https), `status` (200), `body`, and for https `ca` and `verify`. How it is asked: see `web`.
"""

from collections.abc import Mapping

from towpath.errors import TowpathError
from towpath.parameters import Value
from towpath.probes import MAX_BODY_BYTES
from towpath_agent.probes import web
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, result
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files

_SHOWN_CHARS = 200


class HttpProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Read authorities with `files`, count timeouts on `clock`."""
        self._files, self._clock = files, clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Ask once."""
        url = str(options.get("url", ""))
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            wanted = number(options.get("status"), 200)
            answer = web.get(options, context.instance, self._files, deadline, limit=MAX_BODY_BYTES, accept="*/*")
        except (OSError, TowpathError, ValueError) as error:
            return result(False, f"GET {url}: {web.reason_of(error)} after {deadline.elapsed_ms()} ms")
        text = options.get("body")
        shown = answer.body.decode("utf-8", "replace")
        missing = text is not None and str(text) not in shown
        note = f", body lacks {str(text)!r}" if missing else ""
        took = f"after {deadline.elapsed_ms()} ms"
        evidence = f"GET {url}: status {answer.status}{note} {took}: {shown[:_SHOWN_CHARS]}"
        return result(answer.status == wanted and not missing, evidence)
