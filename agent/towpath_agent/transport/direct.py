"""Objects fetched from where the server says they are: a signed address in a bucket, over HTTPS, without the server.

Rules:
- Only at origins that this host's own settings name. The server is told those, and an address elsewhere is not asked:
  else whoever stole the server could make a whole fleet ask any address inside its network.
- Nothing that comes is believed: the store proves every object by its digest. No redirect is followed, no more is read
  than the object has, and a source that feeds by drops is left (`rate`; `within` for what comes before the bytes).
- What does not work is fetched from the server, from the byte where it stopped; the way is left alone for a while, and
  for long where it brought wrong bytes (`engine.routing`).
- An address is a secret as long as it is good: no error and no log line holds more of it than its origin.
Not handled here: deltas and metadata (the server's own), which objects are worth it (the server decides).
"""

import http.client
import random
import ssl
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from typing import Protocol

from towpath.errors import InputError, Unavailable
from towpath.weburl import WebUrl, parse_web_url
from towpath_agent.engine import routing
from towpath_agent.ports import CHUNK_BYTES, Chunk, Elsewhere, Want
from towpath_agent.system.clock import Clock
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.proxy import dial, proxy_for
from towpath_agent.transport.rate import RateGuard
from towpath_agent.transport.within import within


class _Broken(Exception):
    """This way does not bring the object; the text says why, without the address."""


class Ask(Protocol):
    """A fetch of the server, which may answer with addresses at `direct_from`."""

    def __call__(self, wants: Sequence[Want], direct_from: Sequence[str]) -> Generator[Chunk | Elsewhere, None, None]:
        """Yield the server's answers, in the order of `wants`."""
        ...


class Direct:
    """The way around the server, to `origins`."""

    def __init__(self, origins: Sequence[str], *, clock: Clock, limits: Limits, log: Callable[[str], None]) -> None:
        self._origins = tuple(origins)
        self._clock, self._limits, self._log = clock, limits, log
        self._way = routing.Way()
        self._brought: set[bytes] = set()

    def fetch(self, ask: Ask, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield what answers `wants`, see `ports.Source.fetch`; `ask` is the server."""
        self._brought.clear()
        at, came = 0, 0
        if self._way.usable(self._clock.monotonic()):
            try:
                with closing(ask(wants, self._origins)) as answers:
                    for answer in answers:
                        for chunk in self._chunks(answer, wants[at]):
                            came += len(chunk.data)
                            at, came = (at + 1, 0) if chunk.last else (at, came)
                            yield chunk
                return
            except _Broken as error:
                self._way = routing.failed(self._way, self._clock.monotonic(), random.random())
                self._say(str(error))
        left = list(enumerate(wants))[at:]
        asked = [replace(want, offset=want.offset + (came if number == at else 0)) for number, want in left]
        with closing(ask(asked, ())) as answers:
            for answer in answers:
                if isinstance(answer, Elsewhere):
                    raise Unavailable("cannot fetch: the server sends an address that nobody asked for", code="cut-off")
                yield replace(answer, want=left[answer.want][0])

    def distrust(self, digest: bytes) -> bool:
        """Leave the way alone for long where it brought any of the object's bytes."""
        if digest not in self._brought:
            return False
        self._way = routing.lied(self._way, self._clock.monotonic())
        self._say(f"object {digest.hex()[:16]} was not what it must be")
        return True

    def _say(self, what: str) -> None:
        rest_s = self._way.rests_until_s - self._clock.monotonic()
        self._log(f"direct download: {what}; fetching from the server, for {rest_s:.0f} s")

    def _chunks(self, answer: Chunk | Elsewhere, want: Want) -> Iterable[Chunk]:
        if isinstance(answer, Chunk):
            return (answer,)
        return self._elsewhere(answer, want)

    def _elsewhere(self, answer: Elsewhere, want: Want) -> Generator[Chunk, None, None]:
        """Yield one object from its address."""
        self._brought.add(want.digest)
        sent, size = want.offset, answer.carried_size
        for data in self._pieces(answer.url, want.offset, size):
            first, sent = sent == want.offset, sent + len(data)
            yield Chunk(answer.want, data, sent == size, carried_size=size if first else 0)
        self._way = routing.worked()

    def _pieces(self, address: str, offset: int, size: int) -> Generator[bytes, None, None]:
        """Yield the bytes from `offset` to `size` of what is at `address`; _Broken where they do not come whole."""
        try:
            url = parse_web_url(address)
        except InputError:
            raise _Broken("the server sent no address") from None
        if size <= offset:
            raise _Broken("the server sent an address for nothing")
        if url.origin not in self._origins:
            raise _Broken(f"the server sent an address at {url.origin}, which direct_from does not name")
        try:
            with closing(self._connected(url)) as connection:
                headers = {"Range": f"bytes={offset}-", "User-Agent": "towpath-agent"}
                with within(self._limits.rate_window_s, connection.sock):
                    connection.request("GET", url.target, headers=headers)
                    answer = connection.getresponse()
                yield from self._body(url, answer, offset, size)
        except (OSError, http.client.HTTPException, Unavailable) as error:
            raise _Broken(f"{url.origin}: {_reason(error)}") from error

    def _body(
        self, url: WebUrl, answer: http.client.HTTPResponse, offset: int, size: int
    ) -> Generator[bytes, None, None]:
        part = answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if not (answer.status == http.HTTPStatus.PARTIAL_CONTENT and part):
            raise _Broken(f"{url.origin} answers {answer.status} {answer.reason[:80]}".rstrip())
        guard, left = RateGuard(self._limits.min_rate, self._limits.rate_window_s), size - offset
        while left:
            guard.wait_begins(self._clock.monotonic())
            data = answer.read1(min(CHUNK_BYTES, left))
            guard.wait_ends(self._clock.monotonic(), len(data))
            if not data:
                raise _Broken(f"{url.origin} ended {left} bytes too early")
            if guard.too_slow(self._clock.monotonic()):
                raise _Broken(f"{url.origin} sent less than {self._limits.min_rate} bytes a second")
            left -= len(data)
            yield data

    def _connected(self, url: WebUrl) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.sock = dial(url.host, url.port, self._limits.call_s, proxy_for(url.host))
        if url.scheme == "https":
            connection.sock = _verified().wrap_socket(connection.sock, server_hostname=url.host)
        connection.sock.settimeout(self._limits.rate_window_s)
        return connection


@cache
def _verified() -> ssl.SSLContext:
    return ssl.create_default_context()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).lower()[:200]
