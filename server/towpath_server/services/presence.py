"""Who is online: open watches and the last word of each host, in memory; written down every few seconds.

A write per sync would cost more than the sync. A crash loses a few seconds of "last seen", nothing else. Used from
the event loop and the storage thread: every method is a few operations on dicts, atomic under the interpreter lock.
"""

from collections import deque

from towpath_server.domain.hosts import ONLINE_MS, online
from towpath_server.domain.model import Host


class Presence:
    """Open watches and last words."""

    def __init__(self) -> None:
        self._watches: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._turned: deque[str] = deque()

    def turned(self) -> set[str]:
        """Return the hosts that came or went since the last call; one that fell silent is noticed by the time."""
        return {self._turned.popleft() for _ in range(len(self._turned))}

    def watching(self, host_id: str) -> bool:
        """Return whether the host has an open watch."""
        return host_id in self._watches

    def seen(self, host_id: str, now_unix_ms: int) -> bool:
        """Note that the host spoke; return True where it was not heard for so long that it counted as offline."""
        before = self._seen.get(host_id, 0)
        self._seen[host_id] = now_unix_ms
        if now_unix_ms - before >= ONLINE_MS:
            self._turned.append(host_id)
        return now_unix_ms - before >= ONLINE_MS and host_id not in self._watches

    def watch(self, host_id: str) -> None:
        """Note an open watch."""
        self._watches[host_id] = self._watches.get(host_id, 0) + 1
        self._turned.append(host_id)

    def unwatch(self, host_id: str, now_unix_ms: int) -> None:
        """Note that a watch ended; the host stays online for a while."""
        left = self._watches.get(host_id, 0) - 1
        if left > 0:
            self._watches[host_id] = left
        else:
            self._watches.pop(host_id, None)
        self._seen[host_id] = now_unix_ms
        self._turned.append(host_id)

    def last_seen_unix_ms(self, host: Host, now_unix_ms: int) -> int:
        """Return when the host was last heard: now, while it watches."""
        if host.id in self._watches:
            return now_unix_ms
        return max(host.last_seen_unix_ms, self._seen.get(host.id, 0))

    def online(self, host: Host, now_unix_ms: int) -> bool:
        """Return True where the host watches, or was heard in the last 90 s."""
        return online(
            watching=host.id in self._watches,
            last_seen_unix_ms=max(host.last_seen_unix_ms, self._seen.get(host.id, 0)),
            now_unix_ms=now_unix_ms,
        )

    def unwritten(self) -> dict[str, int]:
        """Return what was heard since the last `written`."""
        return {host_id: at for host_id, at in dict(self._seen).items() if self._written.get(host_id) != at}

    def written(self, seen: dict[str, int]) -> None:
        """Note that `seen` is stored."""
        self._written.update(seen)
