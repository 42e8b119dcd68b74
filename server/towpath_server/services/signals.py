"""`ports.Hints` across threads: the storage thread says what changed, the event loop's listeners hear it."""

import asyncio
from collections.abc import Callable, Collection

Listener = Callable[[Collection[str]], None]


class Signals:
    """Carries "these hosts changed" and "this environment is due" to the event loop, in order, without waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed: list[Listener] = []
        self._due: list[Listener] = []

    def on_changed(self, listener: Listener) -> None:
        """Call `listener` on the event loop with the ids of hosts that changed."""
        self._changed.append(listener)

    def on_due(self, listener: Listener) -> None:
        """Call `listener` on the event loop with the environments that are due."""
        self._due.append(listener)

    def changed(self, host_ids: Collection[str]) -> None:
        """See `ports.Hints`."""
        self._send(self._changed, frozenset(host_ids))

    def due(self, environment: str) -> None:
        """See `ports.Hints`."""
        self._send(self._due, frozenset((environment,)))

    def _send(self, listeners: list[Listener], what: frozenset[str]) -> None:
        if not self._loop.is_closed():
            for listener in listeners:
                self._loop.call_soon_threadsafe(listener, what)
