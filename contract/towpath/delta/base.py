"""The base of a delta between releases: which objects, in which order, and where an address is among them.

Both sides derive the order from the signed index that they have, so a delta need not carry it.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from towpath.index import Entry, objects
from towpath.objects import Pairs


def base_objects(entries: Iterable[Entry], index_sha256: bytes, index_size: int) -> Pairs:
    """Return (digest, size) of each distinct content in path order, then of the index."""
    base = objects(entries).pairs
    base.append(index_sha256, index_size)
    return base


@dataclass(frozen=True, slots=True)
class Stretch:
    """`length` bytes at `offset` of the object with that number."""

    number: int
    offset: int
    length: int


class Shelf:
    """Objects one behind the other, more of which may be appended."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._starts = array("q", accumulate(sizes, initial=0))

    @property
    def end(self) -> int:
        """The address behind the last object."""
        return self._starts[-1]

    def append(self, size: int) -> None:
        """Put one more object behind the last."""
        self._starts.append(self.end + size)

    def stretches(self, address: int, length: int) -> Iterator[Stretch]:
        """Yield where `length` bytes at `address` are, as far as objects go."""
        number = bisect_right(self._starts, address) - 1
        stop = min(address + length, self.end)
        while address < stop:
            piece = min(stop, self._starts[number + 1]) - address
            if piece:
                yield Stretch(number, address - self._starts[number], piece)
            address += piece
            number += 1
