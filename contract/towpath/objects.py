"""Many objects by digest, in few bytes each: a release may name 200,000, and an agent has 64 MiB for everything.

A dict of them takes some 180 bytes for each, `Objects` 52 at most, `Digests` eight.
"""

from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from typing import overload

from towpath.errors import Refusal

DIGEST_BYTES = 32
MAX_SIZE = 2**63 - 1
# Two of 200,000 digests begin with the same eight bytes once in a billion releases, or where somebody made them so.
HEAD_BYTES = 8
_NUMBER_BITS = 32
# What is sorted is sorted in parts, by how it begins: a list of numbers takes more memory than the digests themselves.
_PARTS = 16

Pair = tuple[bytes, int]


class Pairs(Sequence[Pair]):
    """(digest, size) of each, in order; a digest may be there twice."""

    __slots__ = ("_digests", "_sizes")

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        """Begin with `pairs`."""
        self._digests = bytearray()
        self._sizes = array("q")
        for digest, size in pairs:
            self.append(digest, size)

    def append(self, digest: bytes, size: int) -> None:
        """Put one more behind the last; Refusal where it cannot be an object."""
        if len(digest) != DIGEST_BYTES or not 0 <= size <= MAX_SIZE:
            raise Refusal("cannot use an object: it needs a SHA-256 digest and a size", code="garbled")
        self._digests += digest
        self._sizes.append(size)

    def digest(self, number: int) -> bytes:
        """Return the digest of the one with that number, counted from 0."""
        return bytes(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])

    @property
    def total(self) -> int:
        """The bytes of all together."""
        return sum(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, number: int) -> Pair: ...
    @overload
    def __getitem__(self, number: slice) -> "Pairs": ...
    def __getitem__(self, number: int | slice) -> "Pair | Pairs":
        if isinstance(number, slice):
            return Pairs(self[at] for at in range(*number.indices(len(self))))
        return self.digest(range(len(self))[number]), self._sizes[number]

    def __iter__(self) -> Iterator[Pair]:
        for number, size in enumerate(self._sizes):
            yield self.digest(number), size


class Objects(Mapping[bytes, int]):
    """Digest to size of distinct objects, in order of first mention."""

    __slots__ = ("_heads", "_order", "pairs")

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        """Take `pairs`, each digest with the size that it is named with first."""
        self.pairs = Pairs(pairs)
        self._heads, self._order = _ordered(self.pairs)
        again = set(self._repeated())
        if again:
            self.pairs = Pairs(pair for number, pair in enumerate(self.pairs) if number not in again)
            self._heads, self._order = _ordered(self.pairs)

    def _repeated(self) -> Iterator[int]:
        """Yield the numbers of those whose digest is there before."""
        last, seen = -1, set[bytes]()
        for head, number in zip(self._heads, self._order, strict=True):
            digest = self.pairs.digest(number)
            if head != last:
                last, seen = head, {digest}
            elif digest in seen:
                yield number
            else:
                seen.add(digest)

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[bytes]:
        return map(self.pairs.digest, range(len(self.pairs)))

    def __getitem__(self, digest: bytes) -> int:
        head = _head(digest)
        at = bisect_left(self._heads, head)
        while at < len(self._heads) and self._heads[at] == head:
            found, size = self.pairs[self._order[at]]
            if found == digest:
                return size
            at += 1
        raise KeyError(digest)

    @property
    def total(self) -> int:
        """The bytes of all together."""
        return self.pairs.total

    def items(self) -> ItemsView[bytes, int]:
        """Return the pairs, without a look-up for each."""
        return _Items(self)


def _ordered(pairs: Pairs) -> "tuple[array[int], array[int]]":
    """Return the heads of all digests in order, and whose they are."""
    heads, numbers = array("Q"), array("I")
    parts = [array("I") for _ in range(_PARTS)]
    for number in range(len(pairs)):
        parts[_part(pairs.digest(number))].append(number)
    for part in parts:
        keys = sorted(_head(pairs.digest(number)) << _NUMBER_BITS | number for number in part)
        heads.extend(key >> _NUMBER_BITS for key in keys)
        numbers.extend(key & (1 << _NUMBER_BITS) - 1 for key in keys)
    return heads, numbers


class _Items(ItemsView[bytes, int]):
    def __iter__(self) -> Iterator[Pair]:
        return iter(self._mapping.pairs)  # type: ignore[attr-defined]


class Digests:
    """A set of digests that errs to one side: one that begins with the same eight bytes as another is taken for it."""

    __slots__ = ("_parts", "_sorted")

    def __init__(self) -> None:
        """Begin empty."""
        self._parts = [array("Q") for _ in range(_PARTS)]
        self._sorted = True

    def add(self, digest: bytes) -> None:
        """Put one more into it."""
        self._parts[_part(digest)].append(_head(digest))
        self._sorted = False

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, bytes):
            return False
        if not self._sorted:
            for number, part in enumerate(self._parts):
                self._parts[number] = array("Q", sorted(part))
            self._sorted = True
        heads, head = self._parts[_part(digest)], _head(digest)
        at = bisect_left(heads, head)
        return at < len(heads) and heads[at] == head


def _head(digest: bytes) -> int:
    return int.from_bytes(digest[:HEAD_BYTES])


def _part(digest: bytes) -> int:
    return digest[0] * _PARTS >> 8 if digest else 0
