"""One frame in its smallest form: a suffix-sorted difference, zstandard with the window as prefix, or neither.

The difference is bsdiff's, from the `bsdiff4` package's C code (ADR 27). A level 19 of zstandard costs more than
the rest together, so it is tried only where a quick level says that it can win.
"""

import lzma
from dataclasses import dataclass

import numpy as np
import zstandard
from bsdiff4 import core

from towpath.delta.frame import LONG_GAP, MAX_STEPS, Streams
from towpath.delta.layout import (
    ZSTD_WINDOW_LOG,
    Codec,
    Kind,
    lzma_filters,
    put_signed,
    put_varint,
)

LEVEL = 19
_QUICK_LEVEL = 3
# How much smaller level 19 gets than level 3 at best: seen are 0.72 to 0.9.
_QUICK_TO_BEST = 0.7
_SHORT_BYTES = 64 * 1024
_JOIN_BYTES = 4096
_CONTROL_WORDS = 3
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame's kind and body."""

    kind: Kind
    body: bytes


def encode(content: bytes, window: bytes, extents: bytes) -> Encoded:
    """Return the smallest form of `content`; `extents` is the stream that leads to `window`."""
    best: Encoded | None = None
    if window:
        best = _difference(content, window, extents)
        quick = len(_zstd(content, window, _QUICK_LEVEL))
        if best is None or len(content) <= _SHORT_BYTES or quick * _QUICK_TO_BEST < len(best.body):
            best = _smaller(best, Encoded(Kind.PREFIX, put_stream(extents) + _zstd(content, window, LEVEL)))
    # Without a window nothing shrinks to an eighth, except what is short.
    if best is None or len(content) <= _SHORT_BYTES or len(best.body) > len(content) // 8:
        best = _smaller(best, _plain(content))
    return best


def _smaller(one: Encoded | None, other: Encoded) -> Encoded:
    return other if one is None or len(other.body) < len(one.body) else one


def _plain(content: bytes) -> Encoded:
    control = bytearray()
    for value in (1, 0, len(content), 0):
        put_varint(control, value)
    return _packed(b"", Streams(bytes(control), extra=content))


def _difference(content: bytes, window: bytes, extents: bytes) -> Encoded | None:
    """Return bsdiff's difference; None where it has more steps than the format allows."""
    raw_control, raw_diff, extra = core.diff(window, content)
    words = np.frombuffer(raw_control, "<u8").reshape(-1, _CONTROL_WORDS)
    if len(words) > MAX_STEPS:
        return None
    # bsdiff's numbers are sign and magnitude.
    columns = np.where(words & _SIGN, -(words & ~_SIGN).astype(np.int64), words.astype(np.int64)).T.tolist()
    control = bytearray()
    put_varint(control, len(words))
    for column in columns[:2]:
        for value in column:
            put_varint(control, value)
    for value in columns[2]:
        put_signed(control, value)
    gaps, values = _sparse(raw_diff)
    streams = Streams(bytes(control), gaps, values, extra)
    return _packed(extents, streams)


def _sparse(diff: bytes) -> tuple[bytes, bytes]:
    """Return the gaps before the bytes of `diff` that are not zero, and those bytes."""
    dense = np.frombuffer(diff, np.uint8)
    places = np.flatnonzero(dense)
    gaps = np.diff(places, prepend=-1) - 1
    longs, shorts = np.divmod(gaps, LONG_GAP)
    out = np.full(len(gaps) + int(longs.sum()), LONG_GAP, np.uint8)
    out[np.cumsum(longs + 1) - 1] = shorts
    return out.tobytes(), dense[places].tobytes()


def _packed(extents: bytes, streams: Streams) -> Encoded:
    parts = (extents, streams.control, streams.gaps, streams.values, streams.extra)
    apart = Encoded(Kind.DIFF, b"".join(map(put_stream, parts)))
    if len(apart.body) > _JOIN_BYTES:
        return apart
    joined = bytearray()
    for part in parts:
        put_varint(joined, len(part))
    return _smaller(apart, Encoded(Kind.JOINED, put_stream(bytes(joined) + b"".join(parts))))


def put_stream(data: bytes) -> bytes:
    """Return `data` as a stream in the smallest way."""
    ways = {Codec.LZMA: _lzma(data, 0)} if data else {}
    if data and len(data) <= _SHORT_BYTES:
        ways[Codec.ZSTD] = _zstd(data, b"", LEVEL)
    out = bytearray()
    codec = min(ways, key=lambda way: len(ways[way]), default=Codec.STORED)
    if codec is Codec.STORED or len(ways[codec]) + 3 >= len(data):
        put_varint(out, len(data) << 2 | Codec.STORED)
        return bytes(out) + data
    put_varint(out, len(data) << 2 | codec)
    put_varint(out, len(ways[codec]))
    return bytes(out) + ways[codec]


def _lzma(data: bytes, position_bits: int) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=lzma_filters(position_bits=position_bits))


def _zstd(data: bytes, prefix: bytes, level: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(data) + len(prefix),
        window_log=ZSTD_WINDOW_LOG if prefix else 0,
        write_content_size=False,
        write_checksum=False,
    )
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(data)
