"""From a failed call to the one line that a person reads: who must act, and how.

A server's own errors travel as status, one-line details and the trailing metadata `towpath-code`; they come back as the
types of `towpath.errors`. Everything else is the network or TLS, told apart here by what gRPC says about it.
"""

import re
from collections.abc import Iterable
from typing import cast

import grpc

from towpath.errors import Broken, InputError, Refusal, TowpathError, Unavailable

CODE_KEY = "towpath-code"
MAX_DETAILS = 500

_INPUT = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)
_REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
# Reasons inside gRPC's long texts, the most telling first.
_NETWORK = (
    ("Connection refused", "connection refused"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not of this fleet"),
    ("certificate required", "it does not accept this operator's certificate"),
    ("alert", "it does not accept this operator's certificate"),
    ("handshake", "the TLS handshake failed; is this the operators' port?"),
    ("WRONG_VERSION_NUMBER", "the TLS handshake failed; is this the operators' port?"),
    ("No route to host", "no route to host"),
    ("Network is unreachable", "the network is unreachable"),
    ("DNS resolution failed", "the name cannot be resolved"),
    ("Domain name not found", "the name cannot be resolved"),
    ("Misformatted domain name", "the name cannot be resolved"),
    ("Connection reset", "the connection was closed"),
    ("Socket closed", "the connection was closed"),
    ("GOAWAY", "the connection was closed"),
)


def one_line(text: str) -> str:
    """Return `text` without line breaks and control characters, capped."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:MAX_DETAILS]


def towpath_code(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Return the server's stable code in trailing metadata, or None where the answer is not of a Towpath server."""
    for key, value in metadata or ():
        if key == CODE_KEY:
            return one_line(value.decode("ascii", "replace") if isinstance(value, bytes) else value) or None
    return None


def network_reason(details: str) -> str:
    """Return what is wrong with the network in a few words."""
    for mark, reason in _NETWORK:
        if mark.lower() in details.lower():
            return reason
    return one_line(details)[:160] or "no reason was given"


def from_rpc(error: grpc.RpcError, *, address: str, start: str, deadline_s: float) -> TowpathError:
    """Return the error of a failed call. `start` is the command that starts the server."""
    call = cast("grpc.Call", error)  # what a stub raises is both; the stubs of grpc cannot say so
    status = call.code()
    details = call.details() or ""
    code = towpath_code(call.trailing_metadata())
    if code is not None:
        return _own(status, one_line(details), code)
    if status == grpc.StatusCode.UNAVAILABLE:
        reason = network_reason(details)
        way_out = f"; start it with: {start}" if reason == "connection refused" else ""
        return Unavailable(f"cannot reach the server at {address}: {reason}{way_out}")
    if status == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"cannot reach the server at {address}: no answer within {deadline_s:g}s", code="timeout")
    if status == grpc.StatusCode.UNIMPLEMENTED:
        return InputError(f"cannot go on: the server at {address} does not know this call; is it the operators' port?")
    return _own(status, f"cannot go on: the server at {address} answered {status.name}: {one_line(details)}", None)


def _own(status: grpc.StatusCode, message: str, code: str | None) -> TowpathError:
    if status in _REFUSED:
        return Refusal(message, code=code)
    if status in _INPUT:
        return InputError(message, code=code)
    if status in _RETRYABLE:
        return Unavailable(message, code=code)
    return Broken(message, code=code)
