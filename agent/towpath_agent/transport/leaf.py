"""The certificate that an address shows, taken off a handshake that verifies nothing.

For the two parties whose certificate cannot be known before: the server at enrolment, which a token's pin vouches for
then, and a relay, of which nothing is believed.
"""

import ssl

from towpath.errors import Unavailable
from towpath_agent.transport.channel import Limits, parse_address
from towpath_agent.transport.proxy import dial, proxy_for

_HINT = "check the address, and that the server (or the relay) runs there"


def shown_leaf(address: str, name: str, limits: Limits) -> bytes:
    """Return the certificate (PEM) that whoever answers at `address` for `name` shows. It proves nothing by itself."""
    host, port = parse_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin is checked by the caller, and the next handshake proves possession
    context.set_alpn_protocols(["h2"])
    try:
        with (
            dial(host, port, limits.call_s, proxy_for(host)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            leaf = secure.getpeercert(binary_form=True)
    except Unavailable as error:
        raise Unavailable(f"cannot reach {address}: {error}") from error
    except ssl.SSLError as error:
        reason = f"it speaks no TLS ({error.reason}); is it the enrolment port?"
        raise Unavailable(f"cannot reach {address}: {reason}") from error
    except TimeoutError as error:
        reason = f"no TLS answer in {limits.call_s:g} s"
        raise Unavailable(f"cannot reach {address}: {reason}; {_HINT}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(f"cannot reach {address}: {reason}; {_HINT}") from error
    if leaf is None:
        raise Unavailable(f"cannot reach {address}: it shows no certificate")
    return ssl.DER_cert_to_PEM_cert(leaf).encode()
