"""TLS to what a probe asks. Loaded only where a probe asks by https.

Rules: TLS 1.2 at least; the server is verified by the machine's authorities or by the `ca` that is given, its name by
the host that was asked. Unverified is for a certificate that an app made for itself, and `web` allows it on loopback
alone.
Not handled here: client certificates.
"""

import ssl

from towpath_agent.probes.sockets import DeadlineSocket
from towpath_agent.system.clock import Deadline


class DeadlineTlsSocket(DeadlineSocket, ssl.SSLSocket):
    """The same promise as `DeadlineSocket`, over TLS."""


def secured(
    connection: DeadlineSocket, host: str, deadline: Deadline, *, ca: bytes | None, verify: bool
) -> DeadlineTlsSocket:
    """Return `connection` under TLS, taken over; OSError (ssl.SSLError) where the handshake fails or takes too long."""
    try:
        context = _context(ca, verify=verify)
        context.sslsocket_class = DeadlineTlsSocket
        connection.settimeout(max(deadline.remaining(), 0.001))
        wrapped = context.wrap_socket(connection, server_hostname=host)
    except ValueError as error:
        connection.close()
        raise OSError(str(error)) from error
    except OSError:
        connection.close()
        raise
    assert isinstance(wrapped, DeadlineTlsSocket)  # noqa: S101 - the context makes no other
    wrapped.deadline = deadline
    return wrapped


def _context(ca: bytes | None, *, verify: bool) -> ssl.SSLContext:
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cadata=None if ca is None else ca.decode("ascii", "replace"))
