"""A Prometheus server, asked over HTTP: one instant query in, values or a reason out.

The address is this server's own setting and never an operator's. No redirect is followed, no proxy is used, an answer
is at most 1 MiB, and a call is over within `DEADLINE_S` whatever the other side does. Implements `ports.Metrics`.

Not handled here: what an answer means (`domain.metric`), passwords and tokens (put a proxy in front).
"""

import contextlib
import http.client
import socket
import ssl
import threading
from urllib.parse import urlencode

from towpath.errors import InputError
from towpath.weburl import WebUrl, parse_web_url
from towpath_server.domain.metric import Answer, read_answer

DEADLINE_S = 5.0
MAX_BYTES = 2**20


class Prometheus:
    """See the module. `url` is where it serves, with the path below which it does: `http://127.0.0.1:9090`."""

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Take the address; InputError where it is none. Nothing is dialled yet."""
        self._url: WebUrl = parse_web_url(url)
        self._deadline_s = deadline_s

    def ask(self, query: str) -> Answer:
        """Return what `query` gives now."""
        connection = self._connection()
        timer: threading.Timer | None = None
        try:
            connection.connect()
            # A time-out of a socket is one of each read: only shutting it ends a call whose answer drips.
            timer = threading.Timer(self._deadline_s, _shut, (connection.sock,))
            timer.daemon = True
            timer.start()
            return self._ask(connection, query)
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = isinstance(error, TimeoutError) or (timer is not None and timer.finished.is_set())
            why = f"it did not answer within {self._deadline_s:g}s" if late else str(error) or type(error).__name__
            return Answer(trouble=f"cannot ask Prometheus at {self._url.host}:{self._url.port}: {why}")
        finally:
            if timer is not None:
                timer.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.host, self._url.port, self._deadline_s
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _ask(self, connection: http.client.HTTPConnection, query: str) -> Answer:
        path = self._url.target.partition("?")[0].rstrip("/") + "/api/v1/query"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        body = urlencode({"query": query, "timeout": f"{self._deadline_s:g}s"})
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            return Answer(trouble=f"Prometheus answered with more than {MAX_BYTES} bytes")
        return read_answer(answer.status, data)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def connected(url: str) -> Prometheus | None:
    """Return the Prometheus at `url`, None for an empty one; InputError says which setting is wrong."""
    try:
        return Prometheus(url) if url else None
    except InputError as error:
        raise InputError(f"cannot use --prometheus-url: {error}") from error
