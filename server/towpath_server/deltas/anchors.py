"""Content anchors: places that content itself chooses, so that equal bytes have equal anchors wherever they stand.

An anchor is a place whose next 12 bytes hash to a number that ends in `bits` zeros (the sampling of rsync-like tools
and of "winnowing", Schleimer and others 2003). Its key is the rest of the hash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
Keys = NDArray[np.uint64]

ANCHOR_BYTES = 12
# One anchor in 32 bytes, fewer where content is large, so that the table stays below about 100 MB.
MIN_BITS = 5
MAX_ANCHORS = 4_000_000
_PIECE_BYTES = 4 * 2**20
_ODD_A = np.uint64(0x9E3779B97F4A7C15)
_ODD_B = np.uint64(0xC2B2AE3D27D4EB4F)


def bits_for(size: int) -> int:
    """Return how sparse anchors must be for `size` bytes of content."""
    bits = MIN_BITS
    while size >> bits > MAX_ANCHORS:
        bits += 1
    return bits


def sample(content: memoryview, bits: int) -> tuple[Positions, Keys]:
    """Return the anchors of `content` in order, and their keys."""
    positions, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for start in range(0, len(content), _PIECE_BYTES):
        piece = content[start : start + _PIECE_BYTES + ANCHOR_BYTES - 1]
        count = len(piece) - ANCHOR_BYTES + 1
        if count <= 0:
            break
        head: Keys = np.ndarray((count,), "<u8", piece, strides=(1,)).astype(np.uint64)
        tail = np.ndarray((count,), "<u4", piece, offset=8, strides=(1,)).astype(np.uint64)
        head *= _ODD_A
        head ^= tail * _ODD_B
        head ^= head >> np.uint64(29)
        head *= _ODD_B
        head >>= np.uint64(16)
        found = np.flatnonzero((head & np.uint64((1 << bits) - 1)) == 0)
        positions.append(found + start)
        keys.append(head[found])
    return np.concatenate(positions), np.concatenate(keys)


@dataclass(frozen=True, slots=True)
class Table:
    """Anchors sorted by key, those of one key by place."""

    keys: Keys
    positions: Positions

    @classmethod
    def of(cls, positions: Positions, keys: Keys) -> Self:
        """Sort."""
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], positions[order])

    def candidates(self, keys: Keys, below: int, most: int) -> Iterator[tuple[int, list[int]]]:
        """Yield (number of a key, its places before `below`) where there are any; keys of more than `most` say nothing.

        Such content is everywhere (padding, licences): any of its places is as good as none.
        """
        first = np.searchsorted(self.keys, keys, "left")
        last = np.searchsorted(self.keys, keys, "right")
        known = np.flatnonzero((last > first) & (last - first <= most))
        for number, low, high in zip(known.tolist(), first[known].tolist(), last[known].tolist(), strict=True):
            places = [place for place in self.positions[low:high].tolist() if place < below]
            if places:
                yield number, places
