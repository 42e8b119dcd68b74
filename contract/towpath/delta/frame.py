"""One frame of a delta: its window's extents, and its content from that window.

A difference follows bsdiff (Colin Percival, "Naive differences of executable code", 2003): copies from the window that
are nearly right, their corrections, and bytes of its own. Corrections are sparse, so they are carried as the gaps
between them and their values: two streams that compress better than one that is mostly zeros.
Everything is bounded by FRAME_BYTES and WINDOW_BYTES.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from towpath.delta.layout import (
    FRAME_BYTES,
    MAX_ADDRESS,
    MAX_EXTENTS,
    WINDOW_BYTES,
    Kind,
    Reader,
    as_prefix,
    corrupt,
    put_signed,
    put_varint,
    unzstd,
)

# A gap of 255 stands for 255 unchanged bytes and no value: the next gap goes on.
LONG_GAP = 255
# Of a frame. Published programs have up to 7,336; with more than one for 64 bytes a difference is of no use.
MAX_STEPS = 65_536
_MAX_EXTENT_BYTES = 16 * MAX_EXTENTS
_MAX_CONTROL_BYTES = 4 + 3 * 4 * MAX_STEPS
_MAX_LENGTHS_BYTES = 5 * 4


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


# Three columns: bytes to copy, own bytes behind them, how far the source then moves on.
Steps = tuple["array[int]", "array[int]", "array[int]"]
# Returns the content of one extent.
Fetch = Callable[[Extent], bytes]


@dataclass(frozen=True, slots=True)
class Frame:
    """A parsed frame: what it needs, and how to make its `length` bytes of that."""

    length: int
    extents: list[Extent]
    recipe: Streams | bytes

    def make(self, fetch: Fetch) -> bytes | bytearray:
        """Return the content; `fetch` is asked for the extents, in their order."""
        if isinstance(self.recipe, bytes):
            return unzstd(self.recipe, self.length, as_prefix(self._window(fetch)))
        steps = _control(self.recipe.control)
        copies, owns, _ = steps
        if sum(owns) != len(self.recipe.extra) or sum(copies) + sum(owns) != self.length:
            raise corrupt("a frame has another length than it promises")
        copied = _copied(steps, self._window(fetch))
        _correct(copied, self.recipe.gaps, self.recipe.values)
        return _mixed(steps, copied, self.recipe.extra)

    def _window(self, fetch: Fetch) -> bytearray:
        window = bytearray(sum(extent.length for extent in self.extents))
        at = 0
        for extent in self.extents:
            window[at : at + extent.length] = fetch(extent)
            at += extent.length
        return window


def parse(kind: int, length: int, body: bytes) -> Frame:
    """Return the frame of `length` bytes that `body` carries."""
    reader = Reader(body)
    if kind == Kind.PREFIX:
        extents = reader.stream(_MAX_EXTENT_BYTES)
        return Frame(length, _extents(extents), reader.rest())
    # No byte that is made needs more than one of them: it is corrected or the frame's own.
    limits = (_MAX_EXTENT_BYTES, _MAX_CONTROL_BYTES, length, length, length)
    if kind == Kind.JOINED:
        joined = reader.stream(sum(limits) + _MAX_LENGTHS_BYTES)
        reader.end()
        reader = Reader(joined)
        lengths = [reader.varint(limit) for limit in limits]
        extents, *streams = (reader.take(size) for size in lengths)
    elif kind == Kind.DIFF:
        extents, *streams = (reader.stream(limit) for limit in limits)
    else:
        raise corrupt("a frame is of an unknown kind")
    reader.end()
    return Frame(length, _extents(extents), Streams(*streams))


def _copied(steps: Steps, window: bytearray) -> bytearray:
    view = memoryview(window)
    copies, _, seeks = steps
    copied = bytearray(sum(copies))
    at = source = 0
    for size, seek in zip(copies, seeks, strict=True):
        if source < 0 or source + size > len(view):
            raise corrupt("a copy is out of bounds")
        copied[at : at + size] = view[source : source + size]
        at += size
        source += size + seek
    return copied


def _mixed(steps: Steps, copied: bytearray, extra: bytes) -> bytearray:
    """Return the copied bytes with the frame's own between them."""
    if not extra:
        return copied
    view = memoryview(copied)
    out = bytearray(len(copied) + len(extra))
    at = used = 0
    for size, own in zip(*steps[:2], strict=True):
        to = at + used
        out[to : to + size] = view[at : at + size]
        out[to + size : to + size + own] = extra[used : used + own]
        at += size
        used += own
    return out


def _control(stream: bytes) -> Steps:
    """Return the steps of a control stream.

    A step takes more memory than its carried bytes, of which a hostile frame has few for many steps.
    """
    reader = Reader(stream)
    count = reader.varint(MAX_STEPS) if stream else 0
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
