"""Pieces of a fetch are as long as what the line carries in a moment."""

import pytest

from towpath_server.api.pace import LEAST_BYTES, MOST_BYTES, SHARE, Pace


def settled(rate: float, window: int = 65536) -> int:
    """The length of pieces on a line of `rate` bytes a second behind a buffer of `window`."""
    now = 0.0
    sent = 0
    pace = Pace(now)
    for _ in range(2000):
        size = pace.next_bytes(now)
        sent += size
        pace.sent(size)
        now = max(now + 1e-5, (sent - window) / rate)
    return pace.next_bytes(now)


def test_a_piece_is_a_small_share_of_what_was_sent() -> None:
    """Until the buffers on the way are full every line looks fast: what a cut tears is little of what came all the same."""
    pace = Pace(0.0)
    sent, pieces, size = 0, 0, 0
    while size < MOST_BYTES:
        size = pace.next_bytes(1e-9)
        assert size <= max(LEAST_BYTES, sent // SHARE)
        pace.sent(size)
        sent += size
        pieces += 1
    assert sent < 34 * MOST_BYTES
    assert pieces < 200  # each costs the server about 0.1 ms


@pytest.mark.parametrize(
    ("rate", "low", "high"),
    [(8_000, LEAST_BYTES, LEAST_BYTES), (4_000_000, 15_000, 30_000), (100_000_000, MOST_BYTES, MOST_BYTES)],
)
def test_a_piece_is_a_moment_of_the_line(rate: float, low: int, high: int) -> None:
    """Never shorter than a packet or three, never longer than a message should be."""
    assert low <= settled(rate) <= high
