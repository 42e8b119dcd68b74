"""How far what travels for one release is: bytes done, bytes in all, rate, time left.

Bytes are carried (compressed) ones, of a delta where one comes. How large objects are carried is known of each as it
begins; the others are taken to compress as those before did. So the total is an estimate that becomes exact, and what
is on this host already is no part of it. Pure; times are monotonic seconds.
Not handled here: where bytes come from, and who is told (`runner.transferring`).
"""

import math
from collections.abc import Mapping

from towpath.reports import Transfer

# What came longer ago than this counts for little in the rate.
MEMORY_S = 10.0
SAMPLE_S = 1.0
# Telling costs the line too: often at first, then as often as there is news to anybody who waits.
LEAST_TELL_S, MOST_TELL_S = 5.0, 60.0
TELLS = 20


class Tracker:
    """One release on its way to this host. `done`: carried bytes that are here."""

    def __init__(self, version: str, now_s: float, done: int = 0) -> None:
        """Begin, or go on where `done` bytes came before."""
        self._version = version
        self.done = done
        self._delta = False
        self._sizes: Mapping[bytes, int] = {}
        self._content_left = 0  # of what has not begun
        self._begun_content = self._begun_carried = 0
        self._current_left = 0
        self._rate = 0.0
        self._fresh = 0  # bytes since the last sample
        self._sampled_s = self._told_s = now_s

    def expect(self, sizes: Mapping[bytes, int], content: int) -> None:
        """Take what may come from now on, objects by digest, and how many bytes of content are lacking."""
        self._sizes, self._content_left, self._current_left = sizes, content, 0

    def begins(self, digest: bytes, offset: int, carried: int, *, delta: bool = False) -> None:
        """Take note that an object, or a delta to that index, comes from `offset` on; it has `carried` bytes in all."""
        self._current_left = max(carried - offset, 0)
        self.done = max(self.done, offset)
        if delta:
            self._delta, self._content_left = True, 0
            return
        content = self._sizes.get(digest, 0)
        self._content_left = max(self._content_left - content, 0)
        self._begun_content += content
        self._begun_carried += carried

    def came(self, count: int, now_s: float) -> None:
        """Take note of `count` carried bytes."""
        self.done += count
        self._current_left = max(self._current_left - count, 0)
        self._fresh += count
        if now_s - self._sampled_s >= SAMPLE_S:
            self._rate = self._rate_at(now_s)
            self._fresh, self._sampled_s = 0, now_s

    def _rate_at(self, now_s: float) -> float:
        passed_s = now_s - self._sampled_s
        if passed_s < SAMPLE_S:
            return self._rate
        newest = self._fresh / passed_s
        weight = 1 - math.exp(-passed_s / MEMORY_S) if self._rate else 1.0
        return self._rate + (newest - self._rate) * weight

    def seen(self, now_s: float) -> Transfer:
        """Return how far it is."""
        ratio = self._begun_carried / self._begun_content if self._begun_content else 1.0
        left = self._current_left + round(self._content_left * ratio)
        rate = round(self._rate_at(now_s))
        return Transfer(
            version=self._version,
            done=self.done,
            total=self.done + left,
            about=self._content_left > 0,
            rate=rate,
            remaining_ms=round(left / rate * 1000) if rate else 0,
            delta=self._delta,
        )

    def stops(self, now_s: float) -> None:
        """Take note that nothing comes for now."""
        self._rate, self._fresh, self._sampled_s = 0.0, 0, now_s

    def is_due(self, now_s: float) -> bool:
        """Return whether somebody should be told; after that, not for a while."""
        passed_s = now_s - self._told_s
        if passed_s < LEAST_TELL_S or passed_s < min(self.seen(now_s).remaining_ms / 1000 / TELLS, MOST_TELL_S):
            return False
        self._told_s = now_s
        return True
