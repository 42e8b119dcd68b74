"""Checks one zstandard frame while it streams by, with flat memory whatever it expands to.

`FrameCheck` answers three questions that the library's streaming calls answer only in part: does the content have
exactly the promised length and digest, is it ONE frame with nothing behind it, and can none of it be a decompression
bomb. Output goes through a sink that raises at the promised length, so nothing is ever collected. The end of the
frame is found by walking its block headers (RFC 8878, section 3.1.1): the library does not tell where a frame ended.
"""

import hashlib

import zstandard

from towpath.errors import Refusal

# Levels up to 19 need no more; a larger window would be memory that the sender chooses.
MAX_WINDOW_BYTES = 8 * 2**20
# A magic, a descriptor, a length or a window, the header of a block: what is shorter is no object.
SHORTEST_BYTES = 9
_BLOCK_HEADER_BYTES = 3
_RLE = 1
_CHECKSUM_BYTES = 4
_MAGIC = b"\x28\xb5\x2f\xfd"


def max_carried_bytes(size: int) -> int:
    """Return the most bytes that a frame of `size` bytes of content may have (ZSTD_compressBound and its headers)."""
    return size + (size >> 8) + 1024


class _Sink:
    """Counts and hashes content; refuses the byte after the promised last one."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise Refusal("cannot store the object: it expands beyond its length", code="endless-data")
        self.hash.update(data)
        return len(data)


class FrameCheck:
    """Feed it the carried form piece by piece, then call `finish`."""

    def __init__(self, digest: bytes, size: int) -> None:
        self._digest = digest
        self._sink = _Sink(size)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._writer = decompressor.stream_writer(self._sink, closefd=False)  # type: ignore[arg-type]
        self._carried_left = max_carried_bytes(size)
        self._head = b""  # bytes of a header that is not complete yet
        self._skip = 0  # bytes of the current block's content still to come
        self._checksum = False
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes; Refusal as soon as they cannot be part of the object."""
        self._carried_left -= len(data)
        if self._carried_left < 0:
            raise Refusal("cannot store the object: its carried form is too long", code="endless-data")
        self._walk(data)
        try:
            self._writer.write(data)
        except zstandard.ZstdError as error:
            raise _corrupt(str(error)) from error

    def finish(self) -> None:
        """Return where all that was fed is the object, whole and alone; Refusal otherwise. Nothing is fed after it."""
        del self._writer  # and its window: many finished objects may wait for the rest of their batch
        if not self._ended or self._skip or self._head:
            raise _corrupt("its frame is cut off")
        if self._sink.left or self._sink.hash.digest() != self._digest:
            raise _corrupt("its content has another digest")

    def _walk(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            if self._ended:
                raise _corrupt("something follows its frame")
            self._head += data[position : position + 1]
            position += 1
            self._header()

    def _header(self) -> None:
        """Use up `_head` where it holds a whole header: the frame's, then each block's."""
        if not self._started:
            if self._head != _MAGIC[: len(self._head)] and len(self._head) <= len(_MAGIC):
                raise _corrupt("it is no zstandard frame")
            if len(self._head) <= len(_MAGIC):
                return
            if len(self._head) == self._frame_header_bytes():
                self._checksum = bool(self._head[4] & 0b100)
                self._started = True
                self._head = b""
        elif len(self._head) == _BLOCK_HEADER_BYTES:
            value = int.from_bytes(self._head, "little")
            kind = value >> 1 & 0b11
            self._skip = 1 if kind == _RLE else value >> 3
            if value & 1:
                self._ended = True
                self._skip += _CHECKSUM_BYTES if self._checksum else 0
            self._head = b""

    def _frame_header_bytes(self) -> int:
        descriptor = self._head[4]
        single = descriptor >> 5 & 1
        dictionary = (0, 1, 2, 4)[descriptor & 0b11]
        content = (single, 2, 4, 8)[descriptor >> 6]
        return len(_MAGIC) + 1 + (1 - single) + dictionary + content


def _corrupt(why: str) -> Refusal:
    return Refusal(f"cannot store the object: {why[:200]}; upload it again", code="corrupt-object")
