"""Probe `grpc`: the standard grpc.health.v1 check says SERVING. Options: `port`, `host` (127.0.0.1), `service` ("").

Rules: one call on a channel of its own, without proxy and retries; the deadline is for all of it, the channel is closed
whatever happens. The two messages are a text and a number, so they are written and read here: no generated stubs, no
dependency.
Not handled here: TLS; a health check belongs on loopback.
"""

from collections.abc import Mapping
from typing import cast

from towpath.parameters import Value
from towpath_agent.probes.base import ProbeContext, ProbeResult, port_number, result
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files

METHOD = "/grpc.health.v1.Health/Check"
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING = 1
_MAX_ANSWER_BYTES = 1024
_MAX_SERVICE_BYTES = 1024
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
)


class GrpcProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Count timeouts on `clock`; no file is needed."""
        del files
        self._clock = clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Ask once."""
        host, service = str(options.get("host", "127.0.0.1")), str(options.get("service", ""))
        deadline = Deadline(self._clock, context.timeout_s)
        what = f"grpc health of {service or 'the server'} at {host} port {options.get('port')}"
        try:
            port = port_number(options.get("port"))
            status = _status(_call(f"[{host}]" if ":" in host else host, port, _request(service), deadline))
        except (OSError, ValueError) as error:
            return result(False, f"{what}: {error} after {deadline.elapsed_ms()} ms")
        said = _STATUSES.get(status, f"status {status}")
        return result(status == _SERVING, f"{what}: {said} after {deadline.elapsed_ms()} ms")


def _call(host: str, port: int, request: bytes, deadline: Deadline) -> bytes:
    """Return the bytes of the answer; OSError (TimeoutError) says why there is none."""
    import grpc  # noqa: PLC0415 - the transport has loaded it; whoever only looks at the kinds need not

    with grpc.insecure_channel(f"dns:///{host}:{port}", options=_OPTIONS) as channel:
        try:
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            return check(request, timeout=deadline.remaining(), wait_for_ready=False)
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)  # what a stub raises is the call too, which its type does not say
            if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError("timed out") from error
            raise OSError(f"{call.code().name}: {call.details()}") from error


def _request(service: str) -> bytes:
    """Return HealthCheckRequest{string service = 1}."""
    name = service.encode()
    if len(name) > _MAX_SERVICE_BYTES:
        raise ValueError(f"a service's name of {len(name)} bytes is none")
    size = len(name)
    length = bytes((size,)) if size < 0x80 else bytes((size & 0x7F | 0x80, size >> 7))
    return b"\x0a" + length + name if name else b""


def _status(data: bytes) -> int:
    """Return the status of HealthCheckResponse{ServingStatus status = 1}; the last one counts, none is 0."""
    status, at = 0, 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                status = value if key >> 3 == 1 else status
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                at += size
            case 5:
                at += 4
            case other:
                raise ValueError(f"the answer is no HealthCheckResponse: wire type {other}")
    if at != len(data):
        raise ValueError("the answer is no HealthCheckResponse: it is cut off")
    return status


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the answer is no HealthCheckResponse: it is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("the answer is no HealthCheckResponse: a number does not end")
