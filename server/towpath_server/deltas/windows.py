"""Which old content a frame is encoded against: the blocks to which most of its anchors lead.

An anchor that leads to several places votes for the one that continues where the last anchor led: content moves in
stretches. Blocks around those with votes come next (a recompiled program has few anchors), then those of the file of
the same name. Blocks are merged into extents; a window is never larger than the format allows.
"""

from collections import Counter
from collections.abc import Iterable

from towpath.delta.frame import Extent
from towpath.delta.layout import MAX_EXTENTS, WINDOW_BYTES
from towpath_server.deltas.anchors import Keys, Positions, Table

BLOCK_BYTES = 4096
MOST_PLACES = 24
_NEAR_BLOCKS = 3


def choose(
    table: Table, anchors: tuple[Positions, Keys], *, frame: Extent, hints: Iterable[Extent], room: int = WINDOW_BYTES
) -> list[Extent]:
    """Return at most `room` bytes of extents below `frame.address`; `anchors` are the frame's own."""
    votes = _votes(table, anchors, frame.address)
    blocks: dict[int, None] = {}  # an ordered set
    most = room // BLOCK_BYTES - 1  # the last block before the frame may be cut
    ranked = [block for block, _ in sorted(votes.items(), key=lambda it: (-it[1], it[0]))]
    hinted = [
        block
        for hint in hints
        for block in range(hint.address // BLOCK_BYTES, (hint.address + hint.length - 1) // BLOCK_BYTES + 1)
    ]
    end = (frame.address - 1) // BLOCK_BYTES
    near = (block + side * step for step in range(1, _NEAR_BLOCKS + 1) for block in ranked for side in (-1, 1))
    for block in (*ranked, *hinted, *near):
        if len(blocks) >= most:
            break
        if 0 <= block <= end:
            blocks[block] = None
    return _merge(sorted(blocks), frame.address)


def _votes(table: Table, anchors: tuple[Positions, Keys], below: int) -> Counter[int]:
    votes: Counter[int] = Counter()
    positions, keys = anchors
    last_new = last_old = 0
    here = positions.tolist()
    for number, places in table.candidates(keys, below, MOST_PLACES):
        expected = last_old + here[number] - last_new
        old = places[0] if len(places) == 1 else min(places, key=lambda place: abs(place - expected))
        last_new, last_old = here[number], old
        votes[old // BLOCK_BYTES] += 1
    return votes


def _merge(blocks: list[int], stop: int) -> list[Extent]:
    """Return the extents of sorted `blocks`, none behind `stop`, the longest where they are too many."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][1] == block:
            runs[-1][1] = block + 1
        else:
            runs.append([block, block + 1])
    kept = sorted(sorted(runs, key=lambda run: run[0] - run[1])[:MAX_EXTENTS])
    return [Extent(a * BLOCK_BYTES, min(b * BLOCK_BYTES, stop) - a * BLOCK_BYTES) for a, b in kept]
