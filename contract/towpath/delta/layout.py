"""The bytes of a delta: numbers, streams, bounds. docs/deltas.md draws the whole format.

Rules: a delta is not trusted, so each number has a bound that is checked before it is used, and no stream is expanded
beyond the length that it promises. Whatever breaks a rule is a Refusal: `corrupt-delta` (garbled or cut off),
`wrong-base` (made against other objects), `endless-data` (a bomb).
Not handled here: what the streams mean (`frame`), in which order they come (`decoder`).
"""

import hashlib
import lzma
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from towpath.errors import Refusal

if TYPE_CHECKING:
    from zstandard import ZstdCompressionDict

MAGIC = b"TPDELTA1"
BASIS_BYTES = 16
FRAME_BYTES = 4 * 2**20
WINDOW_BYTES = 8 * 2**20
# Objects of a tree, and its index.
MAX_OBJECTS = 200_001
MAX_EXTENTS = 4096
MAX_ADDRESS = 2**41
# A size takes at most six bytes.
MAX_HEADER_BYTES = 6 * MAX_OBJECTS + 64
# A window and its streams cost the same for a frame of one byte. An encoder needs one more than whole ones, or two.
SPARE_FRAMES = 16
# What a frame may be carried in beyond its raw length: a frame that does not compress is stored.
FRAME_MARGIN_BYTES = 1024
# zstandard wants a window that spans prefix and content.
ZSTD_WINDOW_LOG = 24
_LZMA_DICT_BYTES = FRAME_BYTES
_MAX_VARINT_BYTES = 6


class Codec(IntEnum):
    """How a stream is carried."""

    STORED = 0
    ZSTD = 1
    LZMA = 2


class Kind(IntEnum):
    """How a frame is made."""

    DIFF = 0  # five streams: extents, control, gaps, values, extra
    JOINED = 1  # the same five behind one another in one stream: cheaper where they are short
    PREFIX = 2  # extents, then one zstandard frame whose prefix is the window


def corrupt(why: str) -> Refusal:
    """Return the Refusal of a delta that is garbled or cut off."""
    return Refusal(f"cannot use the delta: {why[:200]}; the objects are fetched whole", code="corrupt-delta")


def wrong_base(why: str) -> Refusal:
    """Return the Refusal of a delta that was made against other objects."""
    return Refusal(f"cannot use the delta: {why}; the objects are fetched whole", code="wrong-base")


def endless(why: str) -> Refusal:
    """Return the Refusal of a delta that expands beyond a bound."""
    return Refusal(f"cannot use the delta: {why}; the objects are fetched whole", code="endless-data")


def basis(objects: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the name of a sequence of (digest, size): half of a SHA-256, for it guards against mistakes only."""
    named = hashlib.sha256()
    for digest, size in objects:
        named.update(digest + size.to_bytes(8, "little"))
    return named.digest()[:BASIS_BYTES]


def put_varint(out: bytearray, value: int) -> None:
    """Append `value`, seven bits a byte, lowest first; the top bit says that more follow."""
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def put_signed(out: bytearray, value: int) -> None:
    """Append a number that may be negative: 0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
    put_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)


class Reader:
    """Reads numbers and streams of a piece that is here as a whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def varint(self, limit: int) -> int:
        """Return the next number; Refusal above `limit`."""
        value = shift = 0
        while True:
            if self._at >= len(self._data):
                raise corrupt("a number is cut off")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= 7 * _MAX_VARINT_BYTES:
                raise corrupt("a number is too long")
        if value > limit:
            raise corrupt(f"a number is {value}, at most {limit}")
        return value

    def signed(self, limit: int) -> int:
        """Return the next number that may be negative; its size is at most `limit`."""
        value = self.varint(2 * limit)
        return -(value + 1 >> 1) if value & 1 else value >> 1

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        if length > self.left:
            raise corrupt("a stream is cut off")
        self._at += length
        return self._data[self._at - length : self._at]

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.left)

    def stream(self, limit: int) -> bytes:
        """Return the next stream, expanded to exactly the length that it promises."""
        head = self.varint(limit << 2 | 3)
        length = head >> 2
        if head & 3 == Codec.STORED:
            return self.take(length)
        carried = self.take(self.varint(len(self._data)))
        if head & 3 == Codec.ZSTD:
            return unzstd(carried, length)
        if head & 3 == Codec.LZMA:
            return _unlzma(carried, length)
        raise corrupt("a stream is carried in an unknown way")

    def end(self) -> None:
        """Refusal where anything is left."""
        if self.left:
            raise corrupt("something follows its last stream")


def as_prefix(window: bytes | bytearray) -> "ZstdCompressionDict | None":
    """Return a window as what `unzstd` takes: a copy, so that nobody need hold the window itself."""
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressionDict(window, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if window else None


def unzstd(carried: bytes, length: int, prefix: "ZstdCompressionDict | None" = None) -> bytes:
    """Return the `length` bytes of one zstandard frame."""
    import zstandard  # noqa: PLC0415  (a megabyte that an idle agent does not need)

    try:
        parameters = zstandard.get_frame_parameters(carried)
        # With a length of its own the frame, not we, would choose how much memory the library takes.
        if parameters.content_size not in (0, zstandard.CONTENTSIZE_UNKNOWN, length):
            raise endless(f"a stream expands to {parameters.content_size} bytes instead of {length}")
        decompressor = zstandard.ZstdDecompressor(prefix, max_window_size=1 << ZSTD_WINDOW_LOG)
        data = decompressor.decompress(carried, max_output_size=max(length, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise corrupt(f"a stream does not decompress ({error})") from error
    if len(data) != length:
        raise corrupt("a stream has another length than it promises")
    return data


def lzma_filters(*, position_bits: int = 0) -> list[dict[str, Any]]:
    """Return the filter chain of raw LZMA2; a reader needs only the size of its dictionary."""
    preset = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": _LZMA_DICT_BYTES}
    return [preset | {"lp": 0, "lc": 3, "pb": position_bits}]


def _unlzma(carried: bytes, length: int) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=lzma_filters())
    try:
        data = decompressor.decompress(carried, max_length=length)
        # The end mark may stand behind the last byte: one more is asked for, and none may come.
        more = b"" if decompressor.eof else decompressor.decompress(b"", max_length=1)
    except (lzma.LZMAError, EOFError) as error:
        raise corrupt(f"a stream does not decompress ({error})") from error
    if more:
        raise endless(f"a stream expands beyond its {length} bytes")
    if len(data) != length or not decompressor.eof or decompressor.unused_data:
        raise corrupt("a stream has another length than it promises")
    return data
