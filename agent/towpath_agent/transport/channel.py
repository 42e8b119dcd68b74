"""Channels: addresses, credentials, keepalive, and what a broken call means.

Rules: a server is known by the private CA and by `names.SERVER_NAME`, never by its address; a channel keeps its own
connections (no global pool), so that a new identity really is a new handshake. Keepalive pings flow while nothing else
does: they keep NAT entries warm (30 s is the shortest idle time-out seen in the field) and find a half-open connection
within 30 s.
Not handled here: pacing of retries across calls (the caller's), what a Refusal means for the agent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import grpc

from towpath.dsse import MAX_ENVELOPE_BYTES
from towpath.errors import InputError, Refusal, TowpathError, Unavailable
from towpath.names import SERVER_NAME
from towpath_agent.transport.proxy import proxy_for

MAX_MESSAGE_BYTES = MAX_ENVELOPE_BYTES + 2**20
MAX_DETAIL_CHARS = 300
CODE_KEY = "towpath-code"

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----\s*", re.DOTALL)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):([0-9]{1,5})")
_CODE = re.compile(r"[a-z0-9-]{1,40}")
# grpc wraps the reason: "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: ... refused (111)".
_LAST_ERROR = re.compile(r"last error: (.+)", re.DOTALL)
_WRAPPING = re.compile(r"^(?:[A-Z_]+: )?(?:ipv[46]:\S+: )?(?:Failed to connect to remote host: )?")


# grpcio wakes every waiting Python thread ten times a second so that Ctrl-C is noticed; an agent waits on one stream
# all day, and that alone cost it 0.2 % of a core. Signals reach our main thread, which waits elsewhere; what ends a
# call notifies the waiter at once. There is no public setting (grpcio 1.85.1).
grpc._common.MAXIMUM_WAIT_TIMEOUT = 5.0  # type: ignore[attr-defined] # noqa: SLF001


def _any_window() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Every wait of the transport, in seconds, and the least rate of a fetch, in bytes a second.

    `queue_s` is how long a relay is borne with that says that it has others to serve first.
    `fetch_window` is asked at each fetch how many bytes may be on their way that nobody has read yet; 0: what the line
    holds.
    """

    call_s: float = 20.0
    fetch_s: float = 3600.0
    min_rate: int = 1024
    rate_window_s: float = 30.0
    queue_s: float = 300.0
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    reconnect_first_s: float = 0.5
    reconnect_most_s: float = 4.0  # only dials when it is called: how often that is, `engine.pacing` says
    idle_s: float = 30.0  # how long a connection for fetches stays without one
    fetch_window: Callable[[], int] = _any_window


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[V6]:PORT`; InputError otherwise."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise InputError(f"cannot use {text[:80]!r} as a server's address: write HOST:PORT, such as 10.0.0.1:7444")
    return match[1].strip("[]"), int(match[2])


def split_identity(pem: bytes) -> tuple[bytes, bytes]:
    """Return private key and certificate chain of a PEM file that holds both; InputError where one is missing."""
    key, chain = _KEY.search(pem), _CERTIFICATE.findall(pem)
    if key is None or not chain:
        raise InputError("cannot use this host's identity: identity.pem is damaged; enrol again or restore it")
    return key[0], b"".join(chain)


def open_channel(
    address: str,
    *,
    ca_pem: bytes,
    identity_pem: bytes | None,
    limits: Limits,
    name: str = SERVER_NAME,
    window: int = 0,
) -> grpc.Channel:
    """Return a channel to `name` at `address`, with mutual TLS where an identity is given. The first call dials.

    `window`: the most bytes of a stream that come before they are read; 0: as many as the line holds, as grpc measures.
    """
    proxy = proxy_for(parse_address(address)[0])
    key, chain = split_identity(identity_pem) if identity_pem is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem, private_key=key, certificate_chain=chain)
    options: list[tuple[str, str | int]] = [
        ("grpc.ssl_target_name_override", name),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", round(limits.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(limits.keepalive_timeout_s * 1000)),
        # Measured with grpcio 1.85.1: without it a half-open connection is found only after 60 s, its default.
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", round(limits.reconnect_first_s * 1000)),
        ("grpc.min_reconnect_backoff_ms", round(limits.call_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(limits.reconnect_most_s * 1000)),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.http_proxy", proxy.url) if proxy is not None else ("grpc.enable_http_proxy", 0),
    ]
    if window:
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window)]
        options += [("grpc.client_idle_timeout_ms", round(limits.idle_s * 1000))]
    return grpc.secure_channel(address, credentials, options)


def _one_line(details: str | None) -> str:
    text = details or "it gave no reason"
    match = _LAST_ERROR.search(text)
    return _WRAPPING.sub("", " ".join((match[1] if match else text).split()))[:MAX_DETAIL_CHARS]


def error_of(error: grpc.RpcError, doing: str, address: str) -> TowpathError:
    """Return the Unavailable or Refusal (or, for values that a person gave, InputError) that a failed call means.

    `doing` completes "cannot ...". A server's own code arrives as trailing metadata `towpath-code`.
    """
    call = cast("grpc.Call", error)  # every error that a stub raises is the call too, which the stubs do not say
    status, details = call.code(), _one_line(call.details())
    named = next((str(value) for key, value in call.trailing_metadata() or () if key == CODE_KEY), None)
    code = named if named is not None and _CODE.fullmatch(named) else None
    # A server's own message is a whole sentence already.
    message = details if details.startswith("cannot ") else f"cannot {doing}: {details}"
    match status:
        case grpc.StatusCode.UNAUTHENTICATED:
            return Refusal(message, code=code or "unauthenticated")
        case grpc.StatusCode.PERMISSION_DENIED:
            return Refusal(message, code=code or "denied")
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.NOT_FOUND | grpc.StatusCode.ALREADY_EXISTS:
            return InputError(message, code=code)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"cannot {doing}: {address} did not answer in time", code="deadline")
        case grpc.StatusCode.UNAVAILABLE if code is None:
            return Unavailable(f"cannot {doing}: cannot reach {address}: {details}")
        case _:
            return Unavailable(message, code=code)
