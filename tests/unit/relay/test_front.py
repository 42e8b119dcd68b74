"""The relay's ports: no more connections than the process has file descriptors for."""

import asyncio
from pathlib import Path

import pytest

from towpath_relay.front import MAX_CONNECTIONS, Front, most_connections


@pytest.mark.parametrize(
    ("descriptors", "most"), [(10, 1), (256, 32), (1024, 224), (2**20, MAX_CONNECTIONS), (2**62, MAX_CONNECTIONS)]
)
def test_connections_leave_descriptors_for_what_they_bring(descriptors: int, most: int) -> None:
    """A relay without any left could neither open an object nor reach its server."""
    assert most_connections(descriptors) == most


def test_what_is_more_is_closed_as_it_comes(tmp_path: Path) -> None:
    """Those that were there before stay; where one of them goes there is room again."""

    async def ended(reader: asyncio.StreamReader, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await reader.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    async def scene() -> None:
        front = Front(server=lambda: "", enrolment=lambda: "", service=tmp_path / "service", most=2)
        address, _ = await front.start("127.0.0.1:0", "127.0.0.1:0")
        port = int(address.rpartition(":")[2])
        ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        try:
            assert await ended(ends[2][0], 60)
            assert not await ended(ends[0][0], 0.05)
            ends[1][1].write(b"this is no TLS")
            assert await ended(ends[1][0], 60)
            ends.append(await asyncio.open_connection("127.0.0.1", port))
            assert not await ended(ends[3][0], 0.05)
        finally:
            for _, writer in ends:
                writer.transport.abort()
            await front.stop()

    asyncio.run(scene())
