"""Releases whose artifact is a package of the host's own kind: which file of the tree it is, and how it begins.

Publisher (lint) and host apply the same rules. The tree holds one package: its only file, or the only one whose name
ends as its kind's do, so that hooks and unit files can lie beside it.
Not handled here: what is inside a package (the host's own tools read that).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.index import Entry, EntryType

HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class PackageFormat:
    """`magic` stands `offset` bytes from the beginning; `suffixes` end the name where other files lie beside it."""

    what: str
    suffixes: tuple[str, ...]
    magic: bytes
    offset: int
    way_out: str


PACKAGES: Mapping[str, PackageFormat] = {
    "deb": PackageFormat(
        "a Debian package", (".deb",), b"!<arch>\ndebian-binary", 0, "build one with dpkg-deb or dpkg-buildpackage"
    ),
    "rpm": PackageFormat("an RPM package", (".rpm",), b"\xed\xab\xee\xdb", 0, "build one with rpmbuild"),
    "oci": PackageFormat(
        "an image archive",
        (".tar", ".oci"),
        b"ustar",
        257,
        "make one with: podman save --format oci-archive -o FILE IMAGE",
    ),
}


def package_entry(kind: str, entries: Iterable[Entry]) -> Entry:
    """Return the package among the entries of a tree; InputError (code "not-one-file") where there is not one."""
    known = PACKAGES[kind]
    files = [entry for entry in entries if entry.type is EntryType.FILE]
    if len(files) != 1:
        files = [entry for entry in files if entry.path.lower().endswith(known.suffixes)]
    if len(files) != 1:
        raise InputError(
            f"cannot use the artifact: install kind {kind!r} takes one file that is {known.what} "
            f"({', '.join(known.suffixes)}), the tree has {len(files)}",
            code="not-one-file",
        )
    return files[0]


def check_head(kind: str, name: str, head: bytes) -> None:
    """Raise InputError (code "bad-package") where a file that begins with `head` (HEAD_BYTES) is of another kind."""
    known = PACKAGES[kind]
    if head[known.offset :].startswith(known.magic):
        return
    others = [it.what for it in PACKAGES.values() if head[it.offset :].startswith(it.magic)]
    packed = [word for magic, word in _COMPRESSED.items() if head.startswith(magic)]
    found = f"it is {others[0]}" if others else f"it is compressed; unpack it with {packed[0]}" if packed else ""
    raise InputError(f"cannot use {name[:200]!r} as {known.what}: {found or known.way_out}", code="bad-package")


_COMPRESSED: Mapping[bytes, str] = {b"\x1f\x8b": "gunzip", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
