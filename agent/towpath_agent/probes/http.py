"""Probe `http`: a GET that must answer with a status and, where asked, hold a text in the first 4 KiB of its body.

Rules: plain HTTP by http.client; no proxy, no redirect is followed, no more than 4 KiB are read, and the timeout is for
the whole exchange. Not handled here: TLS; a health check belongs on loopback.
"""

import http.client
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from towpath.parameters import Value
from towpath_agent.probes import sockets
from towpath_agent.probes.base import ProbeContext, ProbeResult, number, result
from towpath_agent.system.clock import Clock, Deadline

MAX_BODY_BYTES = 4096
_SHOWN_CHARS = 200


class HttpProbe:
    """See the module. Options: `url`, `status` (200), `body`."""

    def __init__(self, clock: Clock) -> None:
        """Count timeouts on `clock`."""
        self._clock = clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Ask once."""
        url = str(options.get("url", ""))
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            wanted = number(options.get("status"), 200)
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            return result(False, f"cannot ask {url}: {error}")
        if parts.scheme != "http" or not parts.hostname:
            return result(False, f"cannot ask {url}: only http://HOST[:PORT]/PATH can be probed")
        try:
            status, body = _get(parts, parts.hostname, port, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            return result(False, f"GET {url}: {reason} after {deadline.elapsed_ms()} ms")
        text = options.get("body")
        shown = body.decode("utf-8", "replace")
        missing = text is not None and str(text) not in shown
        note = f", body lacks {str(text)!r}" if missing else ""
        evidence = f"GET {url}: status {status}{note} after {deadline.elapsed_ms()} ms: {shown[:_SHOWN_CHARS]}"
        return result(status == wanted and not missing, evidence)


def _get(parts: SplitResult, host: str, port: int, deadline: Deadline) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port)
    connection.sock = sockets.connect(host, port, deadline)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "towpath-probe"})
        response = connection.getresponse()
        try:
            return response.status, response.read(MAX_BODY_BYTES)
        finally:
            response.close()
    finally:
        connection.close()
