"""The way out through an HTTP proxy: which one, and a tunnel (CONNECT) for what is not gRPC.

Rules: the environment decides, as everywhere: `https_proxy` or `HTTPS_PROXY`, and `no_proxy` or `NO_PROXY` for what is
dialled directly; small letters are stronger. gRPC has rules of its own (it looks at `http_proxy`, and not at capital
letters), so each channel is told. TLS goes through the tunnel from end to end: a proxy sees where to, and no more.
Not handled here: proxies that want another login than Basic (user and password in the URL), SOCKS.
"""

import base64
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from towpath.errors import InputError, Unavailable
from towpath_agent.transport.within import within

MAX_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ?([^\r\n]{0,80})")


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where to tunnel through. Its repr does not show the login."""

    host: str
    port: int
    login: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self})"

    def __str__(self) -> str:
        return _place(self.host, self.port)

    @property
    def url(self) -> str:
        """Return it as gRPC takes it, the login in it still quoted."""
        return f"http://{self.login}@{self}" if self.login else f"http://{self}"


def proxy_for(host: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy to use for `host`, None for a direct way; InputError for one that cannot be used."""
    said = next((environment[name] for name in ("https_proxy", "HTTPS_PROXY") if environment.get(name)), "")
    direct = next((environment[name] for name in ("no_proxy", "NO_PROXY") if environment.get(name)), "")
    if not said or any(_covers(entry.strip().lower(), host.lower()) for entry in direct.split(",")):
        return None
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise InputError("cannot use the proxy in https_proxy: write http://HOST:PORT, such as http://10.0.0.1:3128")
    return Proxy(parts.hostname, port, parts.netloc.rpartition("@")[0])


def _covers(entry: str, host: str) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host == entry.lstrip(".") or host.endswith("." + entry.lstrip("."))


def dial(host: str, port: int, timeout_s: float, proxy: Proxy | None) -> socket.socket:
    """Return a connection to the port, through the proxy where there is one; OSError, Unavailable.

    `timeout_s` is for each address that is tried, for the whole answer of a proxy, and stays the connection's timeout.
    """
    if proxy is None:
        return socket.create_connection((host, port), timeout_s)
    try:
        connection = socket.create_connection((proxy.host, proxy.port), timeout_s)
    except OSError as error:
        raise Unavailable(f"the proxy {proxy} cannot be reached ({(error.strerror or str(error)).lower()})") from error
    try:
        _tunnel(connection, _place(host, port), timeout_s, proxy)
    except BaseException:
        connection.close()
        raise
    return connection


def _tunnel(connection: socket.socket, place: str, timeout_s: float, proxy: Proxy) -> None:
    login = ""
    if proxy.login:
        login = f"Proxy-Authorization: Basic {base64.b64encode(unquote(proxy.login).encode()).decode()}\r\n"
    head = b""
    try:
        with within(timeout_s, connection):
            connection.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n".encode())
            # One byte at a time: what follows the head belongs to TLS.
            while not head.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)
                if not byte or len(head) > MAX_HEAD_BYTES:
                    raise Unavailable(f"the proxy {proxy} ends the connection; is it an HTTP proxy?")
                head += byte
    except OSError as error:
        raise Unavailable(f"the proxy {proxy} does not answer ({(error.strerror or str(error)).lower()})") from error
    status = _STATUS.match(head)
    if status is None:
        raise Unavailable(f"the proxy {proxy} answers no HTTP; is it an HTTP proxy?")
    if not status[1].startswith(b"2"):
        text = status[2].decode("ascii", "replace").strip()
        raise Unavailable(f"the proxy {proxy} refuses {place}: {status[1].decode()} {text}".rstrip())
