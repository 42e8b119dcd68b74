"""Open watches: who is to be told that something changed. Lives on the event loop.

A hint carries nothing that is acted upon; several that come before the stream writes are one.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class Watch:
    """One open stream."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.closed = False


class Hub:
    """All open streams, by host id."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = {}
        self._closed = False
        self.change = 0

    def changed(self, host_ids: Collection[str]) -> None:
        """Wake the streams of these hosts."""
        self.change += 1
        for host_id in host_ids:
            for watch in self._watches.get(host_id, ()):
                watch.woken.set()

    @contextmanager
    def watching(self, host_id: str) -> Iterator[Watch]:
        """Register a stream for as long as the block runs."""
        watch = Watch()
        watch.closed = self._closed
        self._watches.setdefault(host_id, set()).add(watch)
        try:
            yield watch
        finally:
            mine = self._watches[host_id]
            mine.discard(watch)
            if not mine:
                del self._watches[host_id]

    def close(self) -> None:
        """End all streams, and those that still come: the server stops."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.closed = True
                watch.woken.set()
