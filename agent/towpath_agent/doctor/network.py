"""The way to the server: name, TCP, TLS with the private CA, and an HTTP/2 greeting, each failure under its own name.

gRPC says "failed to connect to all addresses" for all of them; whoever stands before a firewall needs to know which.
"""

import contextlib
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from towpath.errors import InputError, Unavailable
from towpath.names import SERVER_NAME
from towpath_agent.doctor.findings import Finding, fail, ok, warn
from towpath_agent.transport.channel import parse_address
from towpath_agent.transport.proxy import dial, proxy_for

TIMEOUT_S = 5.0
# What every HTTP/2 client says first, with empty settings; a server answers with its own settings (frame type 4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME_BYTES = 9
_SETTINGS = 4


def proxies(address: str, environment: Mapping[str, str]) -> list[Finding]:
    """Say through which proxy the agent dials. The unit's environment may name another than this shell's."""
    proxy = proxy_for(parse_address(address)[0], environment)
    if proxy is None:
        return []
    return [
        warn(
            "server",
            f"this shell's environment has the proxy {proxy}; what the agent uses stands in its unit",
            "systemctl show --property=Environment towpath-agent",
        )
    ]


def server(address: str, ca_pem: bytes, what: str, identity: Path | None, timeout_s: float = TIMEOUT_S) -> Finding:
    """Dial the port for `what` (agents, enrolment); with `identity` (key and certificate) as this host."""
    name = f"{what} port {address}"
    try:
        host, port = parse_address(address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
        if identity is not None:
            context.load_cert_chain(identity)
    except (InputError, ValueError, ssl.SSLError) as error:
        return fail("server", f"{name} cannot be dialled: {_text(error)}")
    try:
        connection = dial(host, port, timeout_s, proxy_for(host))
    except (InputError, Unavailable) as error:
        return fail("server", f"{name}: {error}")
    except OSError as error:
        return fail("server", f"{name}: {_tcp_trouble(error, timeout_s)}")
    with connection:
        try:
            with context.wrap_socket(connection, server_hostname=SERVER_NAME) as line:
                return _greet(line, name)
        except OSError as error:  # ssl.SSLError is one
            return fail("server", f"{name}: {_tls_trouble(error, timeout_s)}")


def _greet(line: ssl.SSLSocket, name: str) -> Finding:
    """Say hello in HTTP/2. With TLS 1.3 a server that refuses our certificate says so only now."""
    version = line.version() or "TLS"
    if line.selected_alpn_protocol() != "h2":
        return fail("server", f"{name}: it speaks TLS with the right certificate, but no HTTP/2; is a proxy between?")
    heard = b""
    try:
        line.sendall(_PREFACE)
        while len(heard) < _FRAME_BYTES and (part := line.recv(_FRAME_BYTES - len(heard))):
            heard += part
    except TimeoutError:
        return fail("server", f"{name}: TLS works, then silence; does a proxy or firewall hold what follows?")
    except OSError as error:
        return _refused(name, _text(error))
    if not heard:
        return _refused(name, "it ends the connection")
    if len(heard) < _FRAME_BYTES or heard[3] != _SETTINGS:
        return fail("server", f"{name}: TLS works, but what answers is no gRPC server")
    with contextlib.suppress(OSError):
        line.unwrap()
    return ok("server", f"{name} answers ({version})")


def _refused(name: str, how: str) -> Finding:
    return fail(
        "server",
        f"{name}: TLS works, but it refuses this host's certificate ({how}): has it expired, is a clock wrong?",
    )


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:200]


def _tcp_trouble(error: OSError, timeout_s: float) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved ({_text(error)}); look at DNS and /etc/hosts"
    if isinstance(error, ConnectionRefusedError):
        return "the machine answers, but nothing listens there (is it running?), or a firewall rejects it"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g}s: a firewall drops it, or the machine is down"
    return f"it cannot be reached ({_text(error)}); look at routes and firewalls"


def _tls_trouble(error: OSError, timeout_s: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"another certificate than this fleet's is shown ({error.verify_message.lower()}): a proxy that opens TLS, "
            "or another server"
        )
    if isinstance(error, TimeoutError):
        return f"TCP works, TLS is not answered within {timeout_s:g}s: a proxy or firewall holds it back"
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"):
        return "what answers speaks no TLS: a proxy, a login page of the network, or the wrong port"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return "the connection is cut during the TLS handshake: a firewall that inspects TLS does that"
    return f"the TLS handshake fails ({_text(error)})"
