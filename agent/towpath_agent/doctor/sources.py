"""The ways to objects beside the server: the relay of this host's site, and addresses that it may fetch from itself.

None of them has to work: where one does not, the agent takes the server. So what is wrong with them is never a failure.
"""

import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from towpath.errors import InputError, Unavailable
from towpath.names import RELAY_NAME, SERVER_NAME
from towpath.weburl import parse_origins, parse_web_url
from towpath_agent.doctor import network
from towpath_agent.doctor.findings import Finding, Level, ok, warn
from towpath_agent.transport.channel import Limits, parse_address
from towpath_agent.transport.dialling import AUTO, check_relay
from towpath_agent.transport.leaf import shown_leaf
from towpath_agent.transport.proxy import dial, proxy_for

_INSTEAD = "the agent goes to the server itself meanwhile"


def relay(settings: Mapping[str, str], ca_pem: bytes, identity: Path) -> Iterator[Finding]:
    """Look at both services of the relay that `relay` names: its tunnel to the server, and its own objects."""
    setting = settings.get("relay", "")
    if not setting:
        return
    address = check_relay(setting)
    if setting == AUTO and not _has_name(parse_address(address)[0]):
        yield ok("relay", f"this site has none: nothing here has the name {parse_address(address)[0]}")
        return
    tunnel = network.server(address, ca_pem, "relay's", identity)
    limits = replace(Limits(), call_s=network.TIMEOUT_S)
    if tunnel.level is not Level.OK:
        text = tunnel.text
        if _answers(address, RELAY_NAME, limits) and not _answers(address, SERVER_NAME, limits):
            text = f"{address} answers, and reaches no server behind it: look at the log of the relay"
        yield replace(tunnel, check="relay", level=Level.WARN, text=f"{text}; {_INSTEAD}")
        return
    try:
        # Who does not tell names apart shows the server's own certificate for both.
        objects = shown_leaf(address, RELAY_NAME, limits) != shown_leaf(address, SERVER_NAME, limits)
    except Unavailable:
        objects = False
    if objects:
        yield ok("relay", f"{address} answers, and so does the server behind it")
    else:
        yield warn("relay", f"{address} leads to the server, but has no objects: is it a relay? {_INSTEAD}")


def _answers(address: str, name: str, limits: Limits) -> bool:
    try:
        return bool(shown_leaf(address, name, limits))
    except Unavailable:
        return False


def origins(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Dial each address that `direct_from` names, with this machine's own certificate authorities."""
    for origin in parse_origins(settings.get("direct_from", "")):
        url = parse_web_url(origin)
        try:
            with dial(url.host, url.port, network.TIMEOUT_S, proxy_for(url.host)) as line:
                if url.scheme == "https":
                    ssl.create_default_context().wrap_socket(line, server_hostname=url.host).close()
            yield ok("direct", f"{origin} answers")
        except (OSError, InputError, Unavailable) as error:
            why = " ".join(str(getattr(error, "verify_message", "") or error).split())[:200]
            yield warn("direct", f"{origin} cannot be fetched from: {why}; objects come from the server meanwhile")


def _has_name(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
