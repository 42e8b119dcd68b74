"""Slow retrieval: a server that feeds a fetch by drops would hold it for ever, and each read alone looks alive.

Only time spent waiting for the server counts, never the time that the reader takes to write to its disk. Pure: times
are monotonic seconds handed in. The source of the attack's name is TUF's list ("slow retrieval").
A relay may say that it has others to serve first. That time is not counted, as long as it is within a credit: a lie
about it costs so much and no more. What comes fills the credit up again, at the least rate.
"""

import threading


class RateGuard:
    """Judges whether a stream brought at least `min_rate` bytes a second in each window of waited time."""

    def __init__(self, min_rate: int, window_s: float, credit_s: float = 0.0) -> None:
        """Judge every `window_s` seconds of waiting; bear with `credit_s` seconds in which it was put off."""
        self._least = min_rate * window_s
        self._window_s = window_s
        self._min_rate = min_rate
        self._most_credit_s = self._credit_s = credit_s
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
            if self._min_rate:
                self._credit_s = min(self._most_credit_s, self._credit_s + received / self._min_rate)

    def was_put_off(self, now: float) -> None:
        """Note that nothing came but the word that it will: this wait counts as far as the credit does not cover it."""
        with self._lock:
            if self._since is not None:
                waited_s = now - self._since
                covered_s = min(waited_s, self._credit_s)
                self._credit_s -= covered_s
                self._waited_s += waited_s - covered_s
            self._since = None

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
