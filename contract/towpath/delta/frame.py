"""One frame of a delta: its window's extents, and its content from that window.

A difference follows bsdiff (Colin Percival, "Naive differences of executable code", 2003): copies from the window that
are nearly right, their corrections, and bytes of its own. Corrections are sparse, so they are carried as the gaps
between them and their values: two streams that compress better than one that is mostly zeros.
Everything is bounded by FRAME_BYTES and WINDOW_BYTES.
"""

from array import array
from dataclasses import dataclass

from towpath.delta.layout import (
    FRAME_BYTES,
    MAX_ADDRESS,
    MAX_EXTENTS,
    WINDOW_BYTES,
    Kind,
    Reader,
    corrupt,
    put_signed,
    put_varint,
    unzstd,
)

# A gap of 255 stands for 255 unchanged bytes and no value: the next gap goes on.
LONG_GAP = 255
_MAX_EXTENT_BYTES = 16 * MAX_EXTENTS


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes at `address` of base, made content and digests (`decoder`)."""

    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Streams:
    """A difference, each stream expanded."""

    control: bytes = b""
    gaps: bytes = b""
    values: bytes = b""
    extra: bytes = b""


def put_extents(extents: list[Extent]) -> bytes:
    """Return the stream of `extents`: each begins where the last one ended, plus a signed distance."""
    out = bytearray()
    at = 0
    for extent in extents:
        put_signed(out, extent.address - at)
        put_varint(out, extent.length)
        at = extent.address + extent.length
    return bytes(out)


def _extents(stream: bytes) -> list[Extent]:
    reader = Reader(stream)
    found: list[Extent] = []
    at = total = 0
    while reader.left:
        address = at + reader.signed(MAX_ADDRESS)
        length = reader.varint(WINDOW_BYTES)
        total += length
        if address < 0 or not length or total > WINDOW_BYTES or len(found) >= MAX_EXTENTS:
            raise corrupt("its window is out of bounds")
        found.append(Extent(address, length))
        at = address + length
    return found


@dataclass(frozen=True, slots=True)
class Frame:
    """A parsed frame: what it needs, and how to make its `length` bytes of that."""

    length: int
    extents: list[Extent]
    recipe: Streams | bytes

    def make(self, window: bytes) -> bytes:
        """Return the content; `window` is the content of the extents, one behind the other."""
        if isinstance(self.recipe, bytes):
            return unzstd(self.recipe, self.length, window)
        return _make(self.recipe, window, self.length)


def parse(kind: int, length: int, body: bytes) -> Frame:
    """Return the frame of `length` bytes that `body` carries."""
    reader = Reader(body)
    if kind == Kind.PREFIX:
        extents = reader.stream(_MAX_EXTENT_BYTES)
        return Frame(length, _extents(extents), reader.rest())
    if kind == Kind.JOINED:
        joined = reader.stream(_MAX_EXTENT_BYTES + 4 * FRAME_BYTES)
        reader.end()
        reader = Reader(joined)
        lengths = [reader.varint(_MAX_EXTENT_BYTES), *(reader.varint(FRAME_BYTES) for _ in range(4))]
        extents, *streams = (reader.take(size) for size in lengths)
    elif kind == Kind.DIFF:
        extents = reader.stream(_MAX_EXTENT_BYTES)
        streams = [reader.stream(FRAME_BYTES) for _ in range(4)]
    else:
        raise corrupt("a frame is of an unknown kind")
    reader.end()
    return Frame(length, _extents(extents), Streams(*streams))


def _make(streams: Streams, window: bytes, length: int) -> bytes:
    copies, owns, seeks = _control(streams.control)
    copied = bytearray()
    source = 0
    for size, seek in zip(copies, seeks, strict=True):
        if source < 0 or source + size > len(window) or len(copied) + size > length:
            raise corrupt("a copy is out of bounds")
        copied += window[source : source + size]
        source += size + seek
    _correct(copied, streams.gaps, streams.values)
    if len(copied) + len(streams.extra) != length or sum(owns) != len(streams.extra):
        raise corrupt("a frame has another length than it promises")
    out = bytearray()
    at = used = 0
    for size, own in zip(copies, owns, strict=True):
        out += copied[at : at + size]
        out += streams.extra[used : used + own]
        at += size
        used += own
    return bytes(out)


def _control(stream: bytes) -> "tuple[array[int], array[int], array[int]]":
    """Return the columns: bytes to copy, own bytes behind them, where the source goes on; one of each a step.

    Arrays: a hostile stream of 200 bytes expands to a million steps, which as lists are three times what an agent has.
    """
    reader = Reader(stream)
    count = reader.varint(len(stream)) if stream else 0
    copies = array("i", (reader.varint(FRAME_BYTES) for _ in range(count)))
    own = array("i", (reader.varint(FRAME_BYTES) for _ in range(count)))
    seeks = array("i", (reader.signed(WINDOW_BYTES) for _ in range(count)))
    reader.end()
    return copies, own, seeks


def _correct(copied: bytearray, gaps: bytes, values: bytes) -> None:
    """Add `values`, modulo 256, at the places that `gaps` lead to."""
    if len(gaps) - gaps.count(LONG_GAP) != len(values) or len(values) + sum(gaps) > len(copied):
        raise corrupt("a correction is out of bounds")
    following = iter(values)
    at = 0
    for gap in gaps:
        at += gap
        if gap != LONG_GAP:
            copied[at] = copied[at] + next(following) & 0xFF
            at += 1
