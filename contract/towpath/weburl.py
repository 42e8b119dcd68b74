"""Addresses that are asked by probes, and for objects: `http://HOST[:PORT][/PATH][?QUERY]`, and the same with https.

A publisher's lint, a server and the host that asks read an address by this one rule, so none takes it for another one.
Not handled here: user names, fragments and other schemes (refused), international names (write them in ASCII).
"""

import ipaddress
import re
from dataclasses import dataclass

from towpath.errors import InputError

_URL = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[!-\"$-~]*)?(\?[!-\"$-~]*)?", re.IGNORECASE
)
MAX_ORIGINS = 8
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebUrl:
    """An address in its parts. `host` is without brackets, `target` is path and query and begins with a slash."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def loopback(self) -> bool:
        """True where the host is this machine itself, by its name or number."""
        return is_loopback(self.host)

    @property
    def origin(self) -> str:
        """Return who answers there, the same text for the same one: `https://host:443`."""
        host = f"[{ipaddress.IPv6Address(self.host)}]" if ":" in self.host else self.host.lower()
        return f"{self.scheme}://{host}:{self.port}"


def parse_origins(text: str) -> tuple[str, ...]:
    """Return the origins that a setting names, with spaces between; InputError for one that names more, or too many."""
    words = text.split()
    if len(words) > MAX_ORIGINS:
        raise InputError(f"cannot use {len(words)} addresses to fetch from: at most {MAX_ORIGINS}")
    found = []
    for word in words:
        url = parse_web_url(word)
        if url.target != "/":
            raise InputError(f"cannot fetch from {word[:120]!r}: write https://HOST[:PORT] alone, without a path")
        found.append(url.origin)
    return tuple(dict.fromkeys(found))


def is_loopback(host: str) -> bool:
    """Return whether `host` names the machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_web_url(text: str) -> WebUrl:
    """Return the parts of an address; InputError says what is wrong with it."""
    match = _URL.fullmatch(text)
    if match is None:
        raise InputError(f"cannot ask {text[:120]!r}: write http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")
    scheme, host = match[1].lower(), match[2].strip("[]")
    if match[2].startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise InputError(f"cannot ask {text[:120]!r}: {match[2]} is no IPv6 address") from error
    port = int(match[3]) if match[3] is not None else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65535:
        raise InputError(f"cannot ask {text[:120]!r}: port {port} is none; a port is 1 to 65535")
    return WebUrl(scheme, host, port, (match[4] or "/") + (match[5] or ""))
