"""Applies a delta while it comes, with the memory of one frame, its window and its carried form.

Addresses: a window is taken from three regions behind one another: the content of all base objects in their order, the
content that this delta made so far, and from `base size + new size` on the digests of the objects that it completed (an
index names them, so it need not carry them).
The maker of a delta is not trusted. Objects are named by the digest of what was made: a wrong delta makes wrong names,
never a wrong object under a right one. Whether they are the wanted ones the caller decides by what is signed.
Not handled here: where content is kept (`Read`, `Sink`), how carried bytes survive a cut (`store`).
"""

import hashlib
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from towpath.delta.frame import Extent, parse
from towpath.delta.layout import (
    BASIS_BYTES,
    FRAME_BYTES,
    FRAME_MARGIN_BYTES,
    MAGIC,
    MAX_ADDRESS,
    MAX_HEADER_BYTES,
    MAX_OBJECTS,
    SPARE_FRAMES,
    Reader,
    basis,
    corrupt,
    endless,
    wrong_base,
)

# Returns `length` bytes at an address of base or made content; fewer where they are not to be had.
Read = Callable[[int, int], bytes]
_DIGEST_BYTES = 32
_LENGTH_BYTES = 5


class Sink(Protocol):
    """Where made objects go, one after another."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes of the current object."""
        ...

    def end(self, digest: bytes, size: int) -> None:
        """End the current object, whose digest this is; the next one begins."""
        ...


class Decoder:
    """`feed` carried bytes in pieces of any length, then `finish`. After a Refusal it is of no more use."""

    def __init__(self, base: Sequence[tuple[bytes, int]], *, limit: int, read: Read, sink: Sink) -> None:
        """Take (digest, size) of every base object in order; make at most `limit` bytes."""
        self._basis = basis(base)
        self._base_bytes = sum(size for _, size in base)
        self._limit = limit
        self._read = read
        self._sink = sink
        self._sizes = array("q")
        self._number = 0  # of the current object
        self._new_bytes = 0
        self._made = 0
        self._object_left = 0
        self._hash = hashlib.sha256()
        self._digests = bytearray()
        self._buffer = bytearray()
        self._steps = self._delta()
        self._wanted = next(self._steps, None)

    def feed(self, data: bytes) -> None:
        """Take carried bytes; Refusal as soon as they cannot be those of a delta against this base."""
        self._buffer += data
        while self._wanted is not None and len(self._buffer) >= self._wanted:
            self._wanted = next(self._steps, None)
        if self._wanted is None and self._buffer:
            raise corrupt("something follows its last frame")

    def finish(self) -> None:
        """Return where the delta is complete."""
        if self._wanted is not None:
            raise corrupt("it is cut off")

    # --- the sequence of parts: each yield asks for that many bytes ---------------------------------------------------

    def _delta(self) -> Iterator[int]:
        if (yield from self._piece(len(MAGIC))) != MAGIC:
            raise corrupt("it is no delta of a kind that this version knows")
        if (yield from self._piece(BASIS_BYTES)) != self._basis:
            raise wrong_base("it was made against other objects than this host has")
        self._header((yield from self._piece((yield from self._varint(MAX_HEADER_BYTES)))))
        self._next_objects()
        frames = self._new_bytes // FRAME_BYTES + SPARE_FRAMES
        while self._made < self._new_bytes:
            frames -= 1
            if frames < 0:
                raise endless("it comes in more frames than its content needs")
            length = yield from self._varint(min(FRAME_BYTES, self._new_bytes - self._made))
            head = yield from self._varint(length + FRAME_MARGIN_BYTES << 2 | 3)
            if not length or head >> 2 == 0:
                raise corrupt("a frame is empty")
            # Nobody keeps the carried form: it is as long as what is made of it.
            frame = parse(head & 3, length, (yield from self._piece(head >> 2)))
            self._emit(frame.make(self._extent))

    def _piece(self, length: int) -> Generator[int, None, bytes]:
        yield length
        piece = bytes(self._buffer[:length])
        del self._buffer[:length]
        return piece

    def _varint(self, limit: int) -> Generator[int, None, int]:
        """Read one number byte by byte; `Reader.varint` says what it is."""
        data = b""
        while len(data) < _LENGTH_BYTES:
            data += yield from self._piece(1)
            if data[-1] < 0x80:
                break
        return Reader(data).varint(limit)

    def _header(self, data: bytes) -> None:
        outer = Reader(data)
        reader = Reader(outer.stream(MAX_HEADER_BYTES))
        outer.end()
        if reader.varint(MAX_ADDRESS) != self._base_bytes:
            raise wrong_base("its base has another size")
        count = reader.varint(MAX_OBJECTS)
        for _ in range(count):
            self._sizes.append(reader.varint(MAX_ADDRESS))
        reader.end()
        self._new_bytes = sum(self._sizes)
        if self._new_bytes > self._limit:
            raise endless(f"it makes {self._new_bytes} bytes, at most {self._limit} are wanted")

    def _extent(self, extent: Extent) -> bytes:
        start, stop = extent.address, extent.address + extent.length
        digests = self._base_bytes + self._new_bytes
        if start >= digests:
            data = bytes(self._digests[start - digests : stop - digests])
        elif stop <= self._base_bytes + self._made:
            data = self._read(start, extent.length)
        else:
            raise corrupt("its window reaches for what is not made yet")
        if len(data) != extent.length:
            raise corrupt("its window is not there")
        return data

    # --- objects ------------------------------------------------------------------------------------------------------

    def _emit(self, content: bytes | bytearray) -> None:
        at = 0
        view = memoryview(content)
        while at < len(content):
            piece = bytes(view[at : at + self._object_left])
            self._hash.update(piece)
            self._sink.write(piece)
            at += len(piece)
            self._made += len(piece)
            self._object_left -= len(piece)
            if not self._object_left:
                self._end_object()
                self._next_objects()

    def _next_objects(self) -> None:
        """Begin the next object that has content; those without are complete at once."""
        while self._number < len(self._sizes):
            self._object_left = self._sizes[self._number]
            self._hash = hashlib.sha256()
            if self._object_left:
                return
            self._end_object()

    def _end_object(self) -> None:
        digest = self._hash.digest()
        self._digests += digest
        self._sink.end(digest, self._sizes[self._number])
        self._number += 1
