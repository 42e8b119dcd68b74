"""A sorted set that stays cheap when one of a hundred thousand entries changes: buckets of some hundred.

A plain sorted list moves all that follow on every insertion, and a heap cannot forget an entry in its middle. Entries
are tuples that differ. Not handled here: what they mean (`domain.tally`).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

Key = tuple[object, ...]
T = TypeVar("T", bound=Key)
BUCKET = 512


class Ranked(Generic[T]):
    """Entries in ascending order."""

    __slots__ = ("_buckets", "_count", "_tops")

    def __init__(self, entries: Iterable[T] = ()) -> None:
        every = sorted(entries)
        self._buckets = [every[at : at + BUCKET] for at in range(0, len(every), BUCKET)]
        self._tops = [bucket[-1] for bucket in self._buckets]
        self._count = len(every)

    def __len__(self) -> int:
        """Return how many entries there are."""
        return self._count

    def __iter__(self) -> Iterator[T]:
        """Yield the entries, lowest first."""
        return chain.from_iterable(self._buckets)

    def add(self, entry: T) -> None:
        """Put in an entry that is not there."""
        self._count += 1
        if not self._buckets:
            self._buckets, self._tops = [[entry]], [entry]
            return
        at = min(bisect_left(self._tops, entry), len(self._tops) - 1)
        bucket = self._buckets[at]
        insort(bucket, entry)
        if len(bucket) > 2 * BUCKET:
            self._buckets[at : at + 1] = [bucket[:BUCKET], bucket[BUCKET:]]
            self._tops[at : at + 1] = [bucket[BUCKET - 1], bucket[-1]]
        else:
            self._tops[at] = bucket[-1]

    def remove(self, entry: T) -> None:
        """Take out an entry that is there."""
        at = bisect_left(self._tops, entry)
        bucket = self._buckets[at]
        del bucket[bisect_left(bucket, entry)]
        self._count -= 1
        if bucket:
            self._tops[at] = bucket[-1]
        else:
            del self._buckets[at], self._tops[at]
