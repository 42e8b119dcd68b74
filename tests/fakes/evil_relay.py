"""Something at a relay's address that is not what it should be: real TLS, real gRPC, wrong words."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

from fakes.authority import Authority, now_ms
from fakes.server import FakeServer
from towpath_agent.ports import Want
from towpath_relay.front import Front
from towpath_relay.service import RelayServicer, own_identity, serve
from towpath_relay.sources import Source

FOR_EVER_S = 60.0
PAUSE_S = 0.1


class EvilSource:
    """One object of the server's, as an evil relay sends it."""

    def __init__(self, evil: str, carried: bytes, stop: threading.Event) -> None:
        self._evil, self._carried, self._stop = evil, carried, stop

    def pauses(self) -> Iterator[None]:
        while self._evil == "puts off" and not self._stop.wait(PAUSE_S):
            yield

    def carried_size(self) -> int | None:
        return None if self._evil == "says no" else len(self._carried)

    def pieces(self, offset: int) -> Iterator[bytes]:
        data = self._carried[offset:]
        match self._evil:
            case "lies":
                yield data[:-9] + bytes(byte ^ 1 for byte in data[-9:])
            case "stalls":
                yield data[:100]
                self._stop.wait(FOR_EVER_S)
            case "short":
                yield data[:-1]
            case "endless":
                yield data[:-1]
                for _ in range(100):
                    yield b"x" * 200_000


class EvilRelay:
    """Listens while the `with` block runs, and gives its address."""

    def __init__(self, folder: Path, authority: Authority, evil: str, behind: FakeServer) -> None:
        folder.mkdir()
        self._folder, self._authority, self._evil, self._behind = folder, authority, evil, behind
        self._stop, self._listening = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def _sources(self, wants: list[Want]) -> list[Source]:
        return [EvilSource(self._evil, self._behind.bytes_of(want) or b"", self._stop) for want in wants]

    async def _run(self) -> None:
        servicer = RelayServicer(self._sources, now_ms, lambda: True)
        path = self._folder / "service.sock"
        service = serve(servicer, path, own_identity(self._folder / "relay.pem", now_ms()), self._authority.ca_pem)
        nowhere = "127.0.0.1:1"
        front = Front(server=lambda: nowhere, enrolment=lambda: nowhere, service=path)
        self.address, _ = await front.start("127.0.0.1:0", "127.0.0.1:0")
        if self._evil == "hangs up":
            path.unlink()
        self._listening.set()
        await asyncio.to_thread(self._stop.wait)
        await front.stop()
        service.stop(0).wait()

    def __enter__(self) -> str:
        self._thread.start()
        assert self._listening.wait(60)
        return self.address

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
