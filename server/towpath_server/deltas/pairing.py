"""What a delta between two trees is made of: base objects, new objects, and the namesake of each.

Order is part of the format: base objects are the old tree's distinct contents in path order, then its index; new
objects are the contents that the old tree lacks, in path order, then the new index. A file is paired with the old file
of its path, else with the only old file of its name in the folder with the most path in common.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from towpath.delta.base import base_objects
from towpath.index import Entry, EntryType
from towpath_server.deltas.encoder import NewObject

# A name that so many files have says nothing.
_MOST_NAMESAKES = 64


@dataclass(frozen=True, slots=True)
class Named:
    """A tree's checked entries, and the digest and size of its index."""

    entries: Sequence[Entry]
    index_sha256: bytes
    index_size: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """`base` and `new_digests` say which content goes where; `new` is for `encoder.encode`."""

    base: list[tuple[bytes, int]]
    new: list[NewObject]
    new_digests: list[bytes]


def pair(old: Named, new: Named) -> Pairing:
    """Return what a delta from `old` to `new` is made of."""
    base = base_objects(old.entries, old.index_sha256, old.index_size)
    numbers = {digest: number for number, (digest, _) in enumerate(base)}
    namesakes = _Namesakes(old.entries)
    objects: dict[bytes, NewObject] = {}
    for entry in new.entries:
        if entry.type is EntryType.FILE and entry.sha256 not in numbers and entry.sha256 not in objects:
            like = namesakes.of(entry.path)
            objects[entry.sha256] = NewObject(entry.size, None if like is None else numbers[like])
    objects[new.index_sha256] = NewObject(new.index_size, len(base) - 1)
    return Pairing(base, list(objects.values()), list(objects))


class _Namesakes:
    """Finds the old content of a path or, where the path is new, of its file name."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        files = [entry for entry in entries if entry.type is EntryType.FILE]
        self._by_path = {entry.path: entry.sha256 for entry in files}
        self._by_name: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in files:
            self._by_name[entry.path.rpartition("/")[2]].append(entry)

    def of(self, path: str) -> bytes | None:
        """Return the digest of the file that most likely became the one at `path`."""
        if path in self._by_path:
            return self._by_path[path]
        named = self._by_name.get(path.rpartition("/")[2], [])
        if not named or len(named) > _MOST_NAMESAKES:
            return None
        return max(named, key=lambda entry: _common(path, entry.path)).sha256


def _common(one: str, other: str) -> int:
    """Return how many bytes both paths begin with, and end with."""
    front = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    back = next((at for at, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), 0)
    return front + back
