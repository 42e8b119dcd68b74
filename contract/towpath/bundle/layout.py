"""The file: a plain, uncompressed tar (ustar) that `tar tf` lists, its members in one order, each header canonical.

    towpath-bundle-1                  the statement, an envelope (`statement`)
    metadata/3.targets.json           TUF files: every root, timestamp, and what it leads to of the apps in question
    releases/hello/1.1.0.release      serialized releases, as their publishers signed them
    manifests/HOST-ID                 a serialized envelope for each host
    indexes/DIGEST                    the index of each release, a zstandard frame
    deltas/OLD/NEW                    deltas, by the digests of the indexes
    objects/DIGEST                    objects, each a zstandard frame, by digest ascending

Rules: a header is what `header` makes of name and size, bit for bit, so there are no links, owners, long names or
extensions to be tricked by. Names are looked up and never used as paths. The file ends with two empty blocks and
nothing behind them. Sizes are compared with a limit before anything is read.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from towpath.errors import Refusal

VERSION = 1
PREFIX = "towpath-bundle-"
STATEMENT = f"{PREFIX}{VERSION}"
BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
MAX_STATEMENT_BYTES = 8 * 2**20
# The most that a role may have, as in `towpath.repository`, which an agent must not load: it brings `tuf`.
MAX_METADATA_BYTES = 5_000_000
MAX_METADATA_FILES = 2048
MAX_FILE_BYTES = 2**40

_OCTAL_LIMIT = 8**11
_HEX = r"[0-9a-f]{64}"
_NAMES = re.compile(
    r"metadata/(timestamp|[1-9][0-9]{0,18}\.[a-z][a-z0-9-]{0,63})\.json"
    rf"|releases/[a-z0-9-]+/[^/]+\.release|manifests/[A-Za-z0-9-]{{1,64}}|indexes/{_HEX}"
    rf"|deltas/{_HEX}/{_HEX}|objects/{_HEX}"
)

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where its content begins and how long it is."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Return where the next header is."""
        return self.offset + self.size + padding(self.size)


def padding(size: int) -> int:
    """Return how many zero bytes follow content of `size` bytes."""
    return -size % BLOCK_BYTES


def length(sizes: Iterator[int]) -> int:
    """Return the length of a bundle whose members have these sizes."""
    return sum(BLOCK_BYTES + size + padding(size) for size in sizes) + len(END)


def header(name: str, size: int) -> bytes:
    """Return the header of a member: 512 bytes."""
    folder, _, last = name.rpartition("/")
    octal = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(
        last.encode().ljust(100, b"\0")
        + b"0000444\0" + b"0000000\0" * 2
        + octal
        + b"00000000000\0"
        + b" " * 8
        + b"0".ljust(101, b"\0")
        + b"ustar\x0000".ljust(72, b"\0")
        + b"0000000\0" * 2
        + folder.encode().ljust(155, b"\0")
    ).ljust(BLOCK_BYTES, b"\0")  # fmt: skip
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def garbled(why: str) -> Refusal:
    """Return what is told of a broken file."""
    return Refusal(f"cannot use the bundle: {why}; copy it again", code="garbled")


def no_bundle() -> Refusal:
    """Return what is told of another file."""
    return Refusal("cannot use the bundle: it is none: it does not begin as one", code="garbled")


def truncated() -> Refusal:
    """Return what is told of a file that ends early."""
    return Refusal("cannot use the bundle: it is cut off; copy it again", code="truncated")


def endless(name: str, size: int, limit: int) -> Refusal:
    """Return what is told of a member that is too long."""
    return Refusal(f"cannot use the bundle: {name} has {size} bytes, at most {limit} are allowed", code="endless-data")


def _parse(block: bytes) -> tuple[str, int]:
    """Return name and size of a header; Refusal where `header` would not make it so."""
    last, folder = (part.rstrip(b"\0").decode("ascii", "replace") for part in (block[:100], block[345:500]))
    name = f"{folder}/{last}" if folder else last
    raw = block[124:136]
    if raw[0] == 0x80:
        size = int.from_bytes(raw[1:], "big")
    elif re.fullmatch(rb"[0-7]{11}\0", raw):
        size = int(raw[:11], 8)
    else:
        size = -1
    if not 0 <= size <= MAX_FILE_BYTES or header(name, size) != block:
        raise garbled(f"the header of {name[:80]!r} is not one of a bundle")
    return name, size


def _check_name(name: str) -> None:
    if _NAMES.fullmatch(name) is None:
        tricky = name.startswith("/") or ".." in name.split("/")
        raise Refusal(
            f"cannot use the bundle: {name[:120]!r} has no place in one", code="path-traversal" if tricky else "garbled"
        )


def is_bundle(name: str) -> None:
    """Return where a file whose first member has this name is a bundle of this version; Refusal otherwise."""
    if not name.startswith(PREFIX):
        raise no_bundle()
    if name != STATEMENT:
        raise Refusal(
            f"cannot use the bundle: it is of version {name.removeprefix(PREFIX)[:20]}, this Towpath reads {VERSION}; "
            "use a newer one",
            code="unknown-version",
        )


def walk(read: Read, file_size: int) -> Iterator[Member]:
    """Yield the members of a file of `file_size` bytes, in their order; reads headers alone.

    Refusal: `truncated`, `unknown-version`, `garbled`, `path-traversal`, and `endless-data` for a limit.
    """
    at, first = 0, True
    while True:
        if file_size - at < BLOCK_BYTES:
            if first and not PREFIX.encode().startswith(read(0, len(PREFIX))):
                raise no_bundle()
            raise truncated()
        block = read(at, BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise truncated()
        if block == END[:BLOCK_BYTES]:
            if first:  # a stick that was pulled out early may have a file of zeros
                raise no_bundle()
            break
        try:
            name, size = _parse(block)
        except Refusal as error:
            raise no_bundle() if first else error from error
        member = Member(name, at + BLOCK_BYTES, size)
        if first:
            is_bundle(name)
            if size > MAX_STATEMENT_BYTES:
                raise endless(name, size, MAX_STATEMENT_BYTES)
        else:
            _check_name(name)
        if member.end > file_size:
            raise truncated()
        yield member
        at, first = member.end, False
    if file_size - at < len(END):
        raise truncated()
    if file_size - at > len(END) or read(at, len(END)) != END:
        raise garbled("something follows its end")
