"""Probe `tcp`: something accepts connections on a port. Options: `port`, `host` (127.0.0.1)."""

from collections.abc import Mapping

from towpath.parameters import Value
from towpath_agent.probes import sockets
from towpath_agent.probes.base import ProbeContext, ProbeResult, port_number, result
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files


class TcpProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Count timeouts on `clock`; no file is needed."""
        del files
        self._clock = clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Connect once, send nothing, close."""
        host = str(options.get("host", "127.0.0.1"))
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            port = port_number(options.get("port"))
            sockets.connect(host, port, deadline).close()
        except (OSError, ValueError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) else str(error)
            return result(False, f"connect to {host} port {options.get('port')}: {reason}")
        return result(True, f"connected to {host} port {port} after {deadline.elapsed_ms()} ms")
