"""The index of a release's tree: what it may contain, and how it is named.

Publisher and host apply the same `check_entries`: at publish, and again on the host before anything is written.
Refused: absolute paths, `..`, names that are not UTF-8 text, links that leave the tree or pass through a link,
devices and sockets (they have no type here), setuid, setgid and sticky bits, duplicates, files below files.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from towpath.errors import Refusal

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


def check_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries where they form a safe, normalized, sorted tree; Refusal otherwise."""
    result = tuple(entries)
    if len(result) > MAX_ENTRIES:
        raise Refusal(f"cannot use a tree of {len(result)} entries: at most {MAX_ENTRIES}", code="endless-data")
    kinds: dict[str, EntryType] = {}
    last = ""
    total = 0
    for entry in result:
        _check_path(entry.path)
        if entry.path <= last:
            raise _refuse(entry.path, "it is there twice or out of order")
        last = entry.path
        parent = entry.path.rpartition("/")[0]
        if parent and kinds.get(parent) is not EntryType.DIRECTORY:
            raise _refuse(entry.path, "its parent is no directory of the tree")
        kinds[entry.path] = entry.type
        if entry.mode & ~0o777:
            raise Refusal(f"cannot use {entry.path!r}: setuid, setgid and sticky are not allowed", code="setuid")
        if entry.type is EntryType.FILE:
            if len(entry.sha256) != 32 or entry.size < 0:
                raise _refuse(entry.path, "a file needs a SHA-256 digest and a size")
            total += entry.size
        elif entry.type is EntryType.LINK:
            _check_link(entry)
    if total > MAX_TREE_BYTES:
        raise Refusal(f"cannot use a tree of {total} bytes: at most {MAX_TREE_BYTES}", code="endless-data")
    _check_ends({entry.path: _passed(entry.path, entry.target) for entry in result if entry.type is EntryType.LINK})
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


def objects(entries: Iterable[Entry]) -> dict[bytes, int]:
    """Return digest to size of every distinct file content of a tree, in path order."""
    return {entry.sha256: entry.size for entry in entries if entry.type is EntryType.FILE}
