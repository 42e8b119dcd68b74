"""One GET under one deadline: what the probes `http` and `prometheus` ask with.

Rules: no proxy, no redirect is followed, no more than the given bytes are read, and the deadline is for the whole
exchange: name, connection, TLS, head and body. Options of both probes: `url`, `ca` (a PEM file, relative to the
release's folder), `verify` (false: take any certificate, on loopback alone).
Not handled here: what the answer means, authentication.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from towpath.errors import InputError
from towpath.parameters import Value
from towpath.weburl import WebUrl, parse_web_url
from towpath_agent.instance import Instance
from towpath_agent.probes import sockets
from towpath_agent.probes.base import place
from towpath_agent.system import beside
from towpath_agent.system.clock import Deadline
from towpath_agent.system.files import Files

if TYPE_CHECKING:
    from http.client import HTTPResponse

MAX_CA_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `complete` says that the body is all that the server announced and no longer than asked for."""

    status: int
    body: bytes
    complete: bool


def get(
    options: Mapping[str, Value], instance: Instance, files: Files, deadline: Deadline, *, limit: int, accept: str
) -> Answer:
    """Ask once, reading at most `limit` bytes of the body. TowpathError or OSError where there is no answer in time."""
    url = parse_web_url(str(options.get("url", "")))
    verify = options.get("verify") is not False
    ca = None
    if not verify and not url.loopback:
        raise InputError(f"cannot ask {url.host} unverified: only loopback may be asked so")
    if "ca" in options and verify:
        path = place(options["ca"], instance)
        ca = beside.ask(str(path), lambda: files.read(path, MAX_CA_BYTES), deadline)
    connection = sockets.connect(url.host, url.port, deadline)
    if url.scheme == "https":
        from towpath_agent.probes import tls  # noqa: PLC0415 - an agent whose probes ask plainly needs no TLS here

        connection = tls.secured(connection, url.host, deadline, ca=ca, verify=verify)
    return _exchange(url, connection, limit, accept)


def reason_of(error: Exception) -> str:
    """Return what a person should read of an exchange that failed."""
    return "timed out" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _exchange(url: WebUrl, sock: sockets.DeadlineSocket, limit: int, accept: str) -> Answer:
    import http.client  # noqa: PLC0415 - 4 MiB that a host without such a probe need not hold

    connection = http.client.HTTPConnection(url.host, url.port)
    connection.sock = sock
    try:
        headers = {"Connection": "close", "User-Agent": "towpath-probe", "Accept": accept}
        connection.request("GET", url.target, headers=headers)
        response = connection.getresponse()
        try:
            return _read(response, limit)
        finally:
            response.close()
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _read(response: "HTTPResponse", limit: int) -> Answer:
    body = response.read(limit + 1)
    complete = len(body) <= limit and not response.length
    return Answer(response.status, body[:limit], complete)
