"""How long the pieces of a fetch are: little of what the connection brought, so that a cut costs little and no more.

A message that a cut tears apart is lost as a whole, and so is its time: on a line of 8 KB/s one of 256 KiB takes half a
minute. On a fast line long messages cost the least. Two limits hold, whichever is less:
- a small share of what this stream has sent. However often a line is cut, that share is about what the cuts cost.
- what the line carries in a moment, seen from how fast the stream took what came before. Buffers on the way swallow the
  beginning of that and look fast, so this limit is late; the first one is there from the beginning.
Pure: times are monotonic seconds handed in.
"""

MOMENT_S = 0.005
SHARE = 32
LEAST_BYTES = 4 * 1024
MOST_BYTES = 256 * 1024


class Pace:
    """Judges one stream."""

    def __init__(self, now_s: float) -> None:
        """Begin now."""
        self._began_s = now_s
        self._sent = 0

    def next_bytes(self, now_s: float) -> int:
        """Return how long the next piece should be at most."""
        elapsed_s = max(now_s - self._began_s, 1e-6)
        fitting = int(self._sent / elapsed_s * MOMENT_S)
        return min(max(min(fitting, self._sent // SHARE), LEAST_BYTES), MOST_BYTES)

    def sent(self, count: int) -> None:
        """Take note that the stream took `count` bytes."""
        self._sent += count
