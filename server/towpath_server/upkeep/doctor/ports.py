"""The ports: each answers with a certificate of this fleet's CA, or is free where no server runs."""

import socket
import ssl
from pathlib import Path

from towpath import pki
from towpath.findings import Finding, fail, ok, warn
from towpath.names import SERVER_NAME
from towpath_server.options import read

TIMEOUT_S = 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound
_DAY_MS = 86_400_000


def port(folder: Path, option: str, address: str, now_unix_ms: int, *, running: bool) -> Finding:
    """Dial `address` as a client would, without a certificate of its own."""
    host, _, number = address.rpartition(":")
    if not number.isdigit():
        return fail("ports", f"{option} {address}: write HOST:PORT")
    if number == "0":
        return ok("ports", f"{option} {address}: any free port, nothing to look at")
    place = (_ANY.get(host, host.strip("[]")), int(number))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=read(folder / "ca.pem").decode("ascii"))
    context.set_alpn_protocols(["h2"])
    try:
        connection = socket.create_connection(place, TIMEOUT_S)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        if running:
            return fail(
                "ports", f"{option} {address}: nothing answers ({why}); is it what the server was started with?"
            )
        return ok("ports", f"{option} {address}: free")
    with connection:
        try:
            with context.wrap_socket(connection, server_hostname=SERVER_NAME) as line:
                shown = line.getpeercert(binary_form=True)
        except OSError as error:  # ssl.SSLError is one
            who = "another program or fleet has it" if not running else "its answer is no TLS of this fleet's"
            reason = " ".join(str(getattr(error, "verify_message", "") or error).split())
            return fail("ports", f"{option} {address}: {who} ({reason}); see: ss -ltnp")
    if not running:
        return fail("ports", f"{option} {address}: another server of this fleet has it; see: ss -ltnp")
    left = pki.not_after_ms(ssl.DER_cert_to_PEM_cert(shown or b"").encode()) - now_unix_ms
    text = f"{option} {address} answers, its certificate lapses in {left // _DAY_MS} days"
    return ok("ports", text) if left > 7 * _DAY_MS else warn("ports", f"{text}; restart the server, it makes a new one")
