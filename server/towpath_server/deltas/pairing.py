"""What a delta between two trees is made of: base objects, new objects, and the namesake of each.

Order is part of the format: base objects are the old tree's distinct contents in path order, then its index; new
objects are the contents that the old tree lacks, in path order, then the new index. A file is paired with the old file
of its path, else with the only old file of its name in the folder with the most path in common.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath.delta.archives import NAMES as ARCHIVE_NAMES
from towpath.delta.base import base_objects
from towpath.index import Entry, EntryType

# A name that so many files have says nothing.
_MOST_NAMESAKES = 64
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to make. `like` is the number of the base object of the same path, if there is one."""

    size: int
    like: int | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A tree's checked entries, and the digest and size of its index."""

    entries: Sequence[Entry]
    index_sha256: bytes
    index_size: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """`base` and `new_digests` say which content goes where; `new` is for `encoder.encode`."""

    base: Sequence[tuple[bytes, int]]
    new: list[NewObject]
    new_digests: list[bytes]
    new_archives: tuple[int, ...] = ()


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


def with_archives(pairing: Pairing, old: Named, new: Named) -> Pairing:
    """Return the pairing for a delta that sees into archives, which are known by name; there may be none.

    An archive whose name is new is paired with one that differs in the numbers of its name (a version) only.
    """
    numbers = {digest: number for number, (digest, _) in enumerate(pairing.base)}
    old_files = [entry for entry in old.entries if _is_archive(entry)]
    by_path = {entry.path: numbers[entry.sha256] for entry in old_files}
    by_shape = {_DIGITS.sub("", entry.path): numbers[entry.sha256] for entry in old_files}
    likes: dict[bytes, int] = {}
    for entry in filter(_is_archive, new.entries):
        like = by_path.get(entry.path, by_shape.get(_DIGITS.sub("", entry.path)))
        if like is not None and entry.sha256 not in numbers:
            likes[entry.sha256] = like
    objects = [
        replace(it, like=likes.get(digest, it.like))
        for digest, it in zip(pairing.new_digests, pairing.new, strict=True)
    ]
    made = tuple(number for number, digest in enumerate(pairing.new_digests) if digest in likes)
    return Pairing(pairing.base, objects, pairing.new_digests, made)


def _is_archive(entry: Entry) -> bool:
    return entry.type is EntryType.FILE and entry.path.lower().endswith(ARCHIVE_NAMES)


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
