"""Does the artifact of an install kind that takes a package hold one: the right file, and the right bytes in it.

The beginning tells Debian and RPM packages; an image archive must also hold the file that lists its images. What is
inside a package (name, architecture, what it needs) is the host's own tools' business, and checked there.
"""

import tarfile
from collections.abc import Iterator
from typing import IO, cast

from towpath.errors import InputError
from towpath.index import Entry
from towpath.packages import HEAD_BYTES, PACKAGES, check_head, package_entry
from towpath_cli.tree import Tree

IMAGE_LISTS = frozenset({"index.json", "manifest.json"})


def package_problem(kind: str, tree: Tree) -> str:
    """Return what is wrong with the package of a tree, "" where nothing is or the kind takes none."""
    if kind not in PACKAGES:
        return ""
    try:
        entry = package_entry(kind, tree.entries)
    except InputError as error:
        return str(error)
    try:
        check_head(kind, entry.path, _open(tree, entry).read(HEAD_BYTES))
        if kind == "oci" and IMAGE_LISTS.isdisjoint(_members(_open(tree, entry))):
            return f"{entry.path!r} is a tar without index.json and manifest.json: it is no image archive"
    except InputError as error:
        return str(error)
    except (tarfile.TarError, EOFError) as error:
        return f"{entry.path!r} is no whole image archive: {error}"
    return ""


def _members(stream: "_Stream") -> Iterator[str]:
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
        for member in archive:
            yield member.name.removeprefix("./")


def _open(tree: Tree, entry: Entry) -> "_Stream":
    return _Stream(next(chunks for _, chunks in tree.source.read([entry])))


class _Stream:
    """The bytes of one entry, read in order; memory stays flat."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        part, self._rest = self._rest[:size], self._rest[size:]
        return part
