"""The index of a release's tree: what it may contain, and how it is named.

Publisher and host apply the same `check_entries`: at publish, and again on the host before anything is written.
Refused: absolute paths, `..`, names that are not UTF-8 text, links that leave the tree or pass through a link,
devices and sockets (they have no type here), setuid, setgid and sticky bits, duplicates, files below files.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import eq
from typing import overload

from towpath.errors import Refusal
from towpath.objects import DIGEST_BYTES, MAX_SIZE, Objects

MAX_ENTRIES = 200_000
MAX_INDEX_BYTES = 64 * 2**20
MAX_PATH_BYTES = 1024
MAX_TREE_BYTES = 2**40
# A host checks thousands of paths several times for each change.
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NO_NAMES = frozenset(("", ".", ".."))


class EntryType(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. `size` and `sha256` are a file's, of its uncompressed content; `target` is a link's."""

    path: str
    type: EntryType
    mode: int = 0o755
    size: int = 0
    sha256: bytes = b""
    target: str = ""


_KINDS = {EntryType.FILE: 0, EntryType.DIRECTORY: 1}
_DIGEST_LENGTHS = {EntryType.FILE: DIGEST_BYTES, EntryType.DIRECTORY: 0}
_MAX_MODE = 2**16 - 1
_NO_DIGEST = bytes(DIGEST_BYTES)
_NOTHING = Entry("", EntryType.DIRECTORY, 0)


class Entries(Sequence[Entry]):
    """Entries in some 120 bytes each instead of 400: what is looked at is made then, and nobody keeps it."""

    __slots__ = ("_digests", "_ends", "_kinds", "_modes", "_odd", "_paths", "_sizes")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Begin with `entries`, as they are: nothing is checked here."""
        self._paths = bytearray()
        self._ends, self._modes, self._sizes = array("I"), array("H"), array("q")
        self._kinds, self._digests = bytearray(), bytearray()
        self._odd: dict[int, Entry] = {}  # by number, with placeholders in the columns: links, and what breaks rules
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Put one more behind the last."""
        plain = _KINDS.get(entry.type, -1)
        if len(entry.sha256) != _DIGEST_LENGTHS.get(entry.type, -1) or entry.target:
            plain = -1
        if plain < 0 or not (0 <= entry.mode <= _MAX_MODE and 0 <= entry.size <= MAX_SIZE):
            self._odd[len(self._ends)] = entry
            entry = _NOTHING
        self._paths += entry.path.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._paths))
        self._kinds.append(max(plain, 0))
        self._modes.append(entry.mode)
        self._sizes.append(entry.size)
        self._digests += entry.sha256 or _NO_DIGEST

    def _at(self, number: int) -> Entry:
        if number in self._odd:
            return self._odd[number]
        begin = self._ends[number - 1] if number else 0
        path = self._paths[begin : self._ends[number]].decode("utf-8", "surrogatepass")
        if self._kinds[number]:
            return Entry(path, EntryType.DIRECTORY, self._modes[number], self._sizes[number])
        sha256 = bytes(self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])
        return Entry(path, EntryType.FILE, self._modes[number], self._sizes[number], sha256)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> Entry: ...
    @overload
    def __getitem__(self, number: slice) -> "Entries": ...
    def __getitem__(self, number: "int | slice") -> "Entry | Entries":
        if isinstance(number, slice):
            return Entries(map(self._at, range(*number.indices(len(self)))))
        return self._at(range(len(self))[number])

    def __iter__(self) -> Iterator[Entry]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __repr__(self) -> str:
        return f"Entries({list(self)!r})"

    __hash__ = None  # type: ignore[assignment]  # it grows


def _refuse(path: str, why: str) -> Refusal:
    return Refusal(f"cannot use {path[:200]!r} in a release's tree: {why}", code="path-traversal")


def _check_path(path: str) -> None:
    if not path or path.startswith("/") or path.endswith("/"):
        raise _refuse(path, "a path is relative and names something")
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise _refuse(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    if _CONTROL.search(path) or "\\" in path:
        raise _refuse(path, "control characters, backslashes and bytes that are not UTF-8 are not allowed")
    if not _NO_NAMES.isdisjoint(path.split("/")):
        raise _refuse(path, "'.', '..' and empty parts are not allowed")


def _passed(path: str, target: str) -> tuple[list[str], str]:
    """Return the paths that the link at `path` runs through, and where it ends; Refusal where it leaves the tree.

    Those that a later `..` takes back count as well: behind a link, `..` is not the folder that the link stands in.
    """
    if not target or target.startswith("/"):
        raise _refuse(path, f"its link target {target[:200]!r} is not relative")
    parts = path.split("/")[:-1]
    steps = [part for part in target.split("/") if part not in ("", ".")]
    passed = []
    for number, step in enumerate(steps, 1):
        if step == "..":
            if not parts:
                raise _refuse(path, f"its link target {target[:200]!r} leaves the tree")
            parts.pop()
        else:
            parts.append(step)
            if number < len(steps):  # ending at another link is no harm: that one is checked itself
                passed.append("/".join(parts))
    return passed, "/".join(parts)


def check_entries(entries: Iterable[Entry]) -> Entries:
    """Return the entries where they form a safe, normalized, sorted tree; Refusal otherwise."""
    result = entries if isinstance(entries, Entries) else Entries(entries)
    if len(result) > MAX_ENTRIES:
        raise Refusal(f"cannot use a tree of {len(result)} entries: at most {MAX_ENTRIES}", code="endless-data")
    folders: set[str] = set()
    links: dict[str, str] = {}
    last = ""
    total = 0
    for entry in result:
        _check_path(entry.path)
        if entry.path <= last:
            raise _refuse(entry.path, "it is there twice or out of order")
        last = entry.path
        parent = entry.path.rpartition("/")[0]
        if parent and parent not in folders:
            raise _refuse(entry.path, "its parent is no directory of the tree")
        if entry.mode & ~0o777:
            raise Refusal(f"cannot use {entry.path!r}: setuid, setgid and sticky are not allowed", code="setuid")
        if entry.type is EntryType.FILE:
            if len(entry.sha256) != DIGEST_BYTES or entry.size < 0:
                raise _refuse(entry.path, "a file needs a SHA-256 digest and a size")
            total += entry.size
        elif entry.type is EntryType.LINK:
            _check_link(entry)
            links[entry.path] = entry.target
        else:
            folders.add(entry.path)
    if total > MAX_TREE_BYTES:
        raise Refusal(f"cannot use a tree of {total} bytes: at most {MAX_TREE_BYTES}", code="endless-data")
    _check_ends({path: _passed(path, target) for path, target in links.items()})
    return result


def _check_ends(links: dict[str, tuple[list[str], str]]) -> None:
    """Refuse links that run through others or in a circle; `links` is path to what `_passed` returns of it."""
    good: set[str] = set()
    for path, (passed, _) in links.items():
        # A link that runs through another link could leave the tree although each alone stays inside.
        if not links.keys().isdisjoint(passed):
            raise _refuse(path, "its target runs through another link")
        seen: set[str] = set()
        here = path
        while here in links and here not in good:
            if here in seen:
                raise _refuse(path, "it points back to itself")
            seen.add(here)
            here = links[here][1]
        good |= seen


def _check_link(entry: Entry) -> None:
    if len(entry.target.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise _refuse(entry.path, "its link target is too long")
    if _CONTROL.search(entry.target):
        raise _refuse(entry.path, "its link target has characters that are not allowed")


def objects(entries: Iterable[Entry]) -> Objects:
    """Return digest to size of every distinct file content of a tree, in path order."""
    return Objects((entry.sha256, entry.size) for entry in entries if entry.type is EntryType.FILE)
