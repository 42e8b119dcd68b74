"""The relay's ports: connections are passed on byte by byte, to the server or to the relay's own service.

The name that a client asks for in its first bytes decides. What asks for the server is a tunnel: TLS goes from agent to
server and the relay sees no byte of what is said. A second port leads to the server's enrolment port alone.
Nothing is retried here: a connection whose other end cannot be reached is closed, and the agent goes another way.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from towpath.errors import InputError, TowpathError
from towpath.names import RELAY_NAME, SERVER_NAME
from towpath_agent.transport.channel import parse_address
from towpath_agent.transport.proxy import dial, proxy_for
from towpath_relay.hello import Hello, NotTls, read_hello

CHUNK_BYTES = 64 * 1024
HELLO_S = 10.0
CONNECT_S = 10.0
# A site of a thousand hosts holds one each, and a few while objects come.
MAX_CONNECTIONS = 4096
# A tunnel has two sockets. One to the relay's own service has three, and the service opens a file for each answer.
DESCRIPTORS_EACH = 4
# For what is no connection of a host: listeners, the uplink, grpc's own, the cache's partial files.
DESCRIPTORS_KEPT = 128

logger = logging.getLogger(__name__)
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Front:
    """Listens for agents. `server` and `enrolment` are HOST:PORT, `service` the socket of the relay's own gRPC.

    More than `most` connections at once are closed as they come: their agents go another way.
    """

    def __init__(
        self,
        *,
        server: Callable[[], str],
        enrolment: Callable[[], str],
        service: Path,
        most: int = MAX_CONNECTIONS,
    ) -> None:
        """Ask `server` and `enrolment` at each connection: the host's record may change while the relay runs."""
        self._server, self._enrolment, self._service, self._most = server, enrolment, service, most
        self._listening: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._away: set[str] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(self, agents: str, enrolment: str) -> tuple[str, str]:
        """Listen; return the addresses with the ports that were given. InputError where one is taken."""
        bound = (
            await self._listen(agents, self._route, "--listen"),
            await self._listen(enrolment, self._enrol, "--enroll-listen"),
        )
        self._looking = asyncio.create_task(self._look())
        return bound

    async def _look(self) -> None:
        """Say that the server is away where it is, before a host asks for it."""
        with contextlib.suppress(OSError, TimeoutError, TowpathError):
            _, writer = await self._reach(self._server)
            writer.close()

    async def stop(self) -> None:
        """Close everything."""
        for server in self._listening:
            server.close()
        await asyncio.sleep(0)  # what was accepted already is handed over in the loop's next round
        tasks = [*self._tasks, *filter(None, [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(
        self, address: str, route: Callable[[asyncio.StreamReader], Awaitable["_Onward"]], option: str
    ) -> str:
        host, _, port = address.rpartition(":")
        try:
            server = await asyncio.start_server(
                lambda reader, writer: self._accept(reader, writer, route),
                host.strip("[]"),
                int(port),
                backlog=1024,
                reuse_address=True,
            )
        except OSError as error:
            raise InputError(
                f"cannot listen on {address}: {_why(error)}; stop what has it, or give {option}"
            ) from error
        self._listening.append(server)
        return f"{host}:{server.sockets[0].getsockname()[1]}"

    def _accept(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        route: Callable[[asyncio.StreamReader], Awaitable["_Onward"]],
    ) -> None:
        if len(self._tasks) >= self._most:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._carry((reader, writer), route))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, near: Ends, route: Callable[[asyncio.StreamReader], Awaitable["_Onward"]]) -> None:
        ends = [near[1]]
        try:
            onward = await route(near[0])
            async with asyncio.timeout(CONNECT_S):
                far = await onward.dial()
            ends.append(far[1])
            for writer in ends:
                _keep_alive(writer)
            far[1].write(onward.first)
            await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))
        except (OSError, TimeoutError, NotTls, TowpathError, asyncio.IncompleteReadError) as error:
            logger.debug("a connection ended: %r", error)
        finally:
            for writer in ends:
                writer.transport.abort()

    async def _route(self, reader: asyncio.StreamReader) -> "_Onward":
        first, hello = await _first_words(reader)
        if hello.server_name == RELAY_NAME:
            return _Onward(first, lambda: asyncio.open_unix_connection(self._service))
        if hello.server_name == SERVER_NAME:
            return _Onward(first, lambda: self._reach(self._server))
        raise NotTls

    async def _enrol(self, _reader: asyncio.StreamReader) -> "_Onward":
        return _Onward(b"", lambda: self._reach(self._enrolment))

    async def _reach(self, address: Callable[[], str]) -> Ends:
        """Dial the server; say that it is away, and that it is back: an operator at the site looks here first."""
        where = address()
        try:
            async with asyncio.timeout(CONNECT_S):
                ends = await _dial(where)
        except (OSError, TimeoutError, TowpathError) as error:
            if where not in self._away:
                self._away.add(where)
                logger.warning("cannot lead hosts to the server at %s: %s", where, _why(error))
            raise
        if where in self._away:
            self._away.discard(where)
            logger.warning("the server at %s is there again", where)
        return ends


def _why(error: Exception) -> str:
    """Return the system's words alone: what Python and asyncio put around them says the address a second time."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return str(error) or "no answer"


def most_connections(descriptors: int) -> int:
    """Return how many connections a process may carry that may have so many file descriptors."""
    return max(1, min(MAX_CONNECTIONS, (descriptors - DESCRIPTORS_KEPT) // DESCRIPTORS_EACH))


def check_address(text: str, option: str) -> None:
    """InputError naming the option where `text` is no HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"cannot use {text[:80]!r} for {option}: write HOST:PORT, such as 0.0.0.0:7443")


class _Onward:
    """Where a connection leads, and what was read of it to find that out."""

    def __init__(self, first: bytes, dial: Callable[[], Awaitable[Ends]]) -> None:
        self.first, self.dial = first, dial


async def _dial(address: str) -> Ends:
    """Connect to the server, through the proxy that the environment names where it does."""
    host, port = parse_address(address)
    line = await asyncio.to_thread(dial, host, port, CONNECT_S, proxy_for(host))
    line.setblocking(False)
    return await asyncio.open_connection(sock=line)


async def _first_words(reader: asyncio.StreamReader) -> tuple[bytes, Hello]:
    data = b""
    async with asyncio.timeout(HELLO_S):
        while (hello := read_hello(data)) is None:
            more = await reader.read(CHUNK_BYTES)
            if not more:
                raise NotTls
            data += more
    return data, hello


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end; where it breaks, both end."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Let the kernel find an end that is gone: a tunnel is silent for as long as nobody has something to say."""
    end = writer.get_extra_info("socket")
    if end.family in {socket.AF_INET, socket.AF_INET6}:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
