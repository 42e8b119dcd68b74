"""A bad line: a real TCP proxy between a real client and a real server, which is slow, lossy, impatient or half-open.

It shapes what `tc netem` would shape below TCP, for machines whose kernel has no netem: latency delays each chunk in both
directions, and a lost packet is what a sender sees of it, a chunk that arrives a retransmission later, with all that is
behind it. What it cannot show is reordering and congestion control.
"""

import asyncio
import random
import threading
import time
from typing import Self

CHUNK_BYTES = 2**14
RETRANSMIT_S = 1.0  # what TCP waits at first (RFC 6298)


class Line:
    """One listening port that leads to `target` (HOST:PORT). Settings may change while connections are open."""

    def __init__(
        self, target: str, *, delay_s: float = 0.0, loss: float = 0.0, idle_s: float = 0.0, seed: int = 1
    ) -> None:
        """`delay_s`: of each direction; `loss`: share of chunks; `idle_s`: silence after which it closes (0: never)."""
        self.target, self.delay_s, self.loss, self.idle_s = target, delay_s, loss, idle_s
        self.hole = False  # half-open: whatever comes is swallowed, and nothing is closed
        self.away = False  # nobody is there: who connects is turned away at once
        self.accepted = self.closed_idle = self.carried_bytes = 0
        self.rate = 0  # bytes a second of each connection, in each direction; 0: as fast as it goes
        self.packet = CHUNK_BYTES  # what is lost, delayed and cut as one; small ones for thin lines
        self.cuts: list[int] = []  # every connection is cut when so much was brought, the least first
        self.brought = 0  # bytes that came from the target, those of connections that were cut included
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="line")
        self._listening = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def cut(self) -> None:
        """Close every connection at once."""
        done = threading.Event()

        def close() -> None:
            for task in self._tasks:
                task.cancel()
            done.set()

        self._loop.call_soon_threadsafe(close)
        assert done.wait(60)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.close()
            return
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.sleep(self.delay_s)
            host, _, port = self.target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            ends.append(far_writer)
            heard = [time.monotonic()]
            there, back = self._pump(reader, far_writer, heard), self._pump(far_reader, writer, heard, back=True)
            tasks += [asyncio.create_task(it) for it in (there, back, self._watch(heard))]
            await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()
            for it in tasks:
                it.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, heard: list[float]) -> None:
        """End where nothing was heard for `idle_s`."""
        if not self.idle_s:
            await self._stop.wait()
        while (left := heard[0] + self.idle_s - time.monotonic()) > 0:  # noqa: ASYNC110 - the event is that nothing comes
            await asyncio.sleep(left)
        self.closed_idle += 1

    def _count(self, size: int) -> None:
        self.brought += size
        if self.cuts and self.brought >= self.cuts[0]:
            del self.cuts[0]
            for task in self._tasks:
                task.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[float], *, back: bool = False
    ) -> None:
        """Carry one direction: chunks arrive in their order, each as late as the line is, or later."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not self.hole:
                    await asyncio.sleep(len(data) / self.rate if self.rate else 0.0)
                    if back:
                        self._count(len(data))
                    self.carried_bytes += len(data)
                    writer.write(data)
                    await writer.drain()

        carrier = asyncio.create_task(deliver())
        try:
            while data := await reader.read(self.packet):
                if self.hole:
                    continue
                heard[0] = time.monotonic()
                lost = RETRANSMIT_S if self._chance.random() < self.loss else 0.0
                await queue.put((time.monotonic() + self.delay_s + lost, data))
        finally:
            carrier.cancel()
