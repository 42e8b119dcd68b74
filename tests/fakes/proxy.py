"""A small real HTTP proxy, on loopback unless told otherwise: CONNECT, nothing else. It sees where a tunnel leads, and bytes that it cannot read."""

import asyncio
import base64
import threading
from typing import Self

HEAD_S = 10.0


class ConnectProxy:
    """Listens on a port of its own. `login` (user:password) is asked for where given; `answer` replaces its good answer."""

    def __init__(
        self,
        *,
        login: str = "",
        answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
        host: str = "127.0.0.1",
    ) -> None:
        self._login, self._answer, self._host = login, answer, host
        self.asked: list[str] = []  # HOST:PORT of each CONNECT, refused ones too
        self.carried = b""  # the first bytes of what went through, both ways
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="connect-proxy")
        self._listening = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        """Return what `https_proxy` has to say."""
        return f"http://{self._login}@{self.address}" if self._login else f"http://{self.address}"

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, self._host, 0)
        self.address = f"{self._host}:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_S)).decode()
            method, place, _ = head.split(" ", 2)
            assert method == "CONNECT", head
            self.asked.append(place)
            wanted = base64.b64encode(self._login.encode()).decode()
            if self._login and f"Proxy-Authorization: Basic {wanted}\r\n" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            elif b" 200 " not in self._answer:
                writer.write(self._answer)
            else:
                host, _, port = place.rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
                ends.append(far_writer)
                writer.write(self._answer)
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            self.carried = (self.carried + data)[: 2**20]
            writer.write(data)
            await writer.drain()
        writer.close()
