"""Slow retrieval: a server that feeds a fetch by drops would hold it for ever, and each read alone looks alive.

Only time spent waiting for the server counts, never the time that the reader takes to write to its disk. Pure: times
are monotonic seconds handed in. The source of the attack's name is TUF's list ("slow retrieval").
"""

import threading


class RateGuard:
    """Judges whether a stream brought at least `min_rate` bytes a second in each window of waited time."""

    def __init__(self, min_rate: int, window_s: float) -> None:
        """Judge every `window_s` seconds of waiting."""
        self._least = min_rate * window_s
        self._window_s = window_s
        self._lock = threading.Lock()
        self._waited_s = 0.0
        self._bytes = 0
        self._since: float | None = None

    def wait_begins(self, now: float) -> None:
        """Note that the reader asks for the next piece."""
        with self._lock:
            self._since = now

    def wait_ends(self, now: float, received: int) -> None:
        """Note that `received` bytes came."""
        with self._lock:
            if self._since is not None:
                self._waited_s += now - self._since
            self._since = None
            self._bytes += received

    def too_slow(self, now: float) -> bool:
        """Return True where a whole window of waiting brought too little; a window that was good enough starts anew."""
        with self._lock:
            waited_s = self._waited_s + (now - self._since if self._since is not None else 0.0)
            if waited_s < self._window_s:
                return False
            if self._bytes < self._least * (waited_s / self._window_s):
                return True
            self._waited_s, self._bytes = 0.0, 0
            if self._since is not None:
                self._since = now
            return False
