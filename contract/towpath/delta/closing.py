"""Closing archives: the content of each stream is deflated again as it was, by zlib.

Rules: a stream comes back bit for bit, or the archive is not opened at all; which of zlib's settings did it is found by
trying. A host whose zlib gives other bytes (zlib-ng, a vendor's own) would make objects of other names, so who wants
opened deltas asks first whether its own is the usual one.
Not handled here: how an archive is opened (`archives`), what a host keeps where.
"""

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence

from towpath.delta.archives import MAX_STREAMS, PIECE_BYTES, TABLE_LENGTH_BYTES, Put, Stream
from towpath.delta.layout import Reader, corrupt

# Returns bytes at an offset: all of them, or fewer where they are not there.
ReadAt = Callable[[int, int], bytes]
# (number of streams, setting): one behind the other.
Runs = Sequence[tuple[int, int]]

MAX_TABLE_BYTES = 12 * MAX_STREAMS
_MAX_LENGTH = 2**40
_RAW = -15
_LEVELS = (6, 9, 1, 2, 3, 4, 5, 7, 8)
_LEVEL_MASK, _MUCH_MEMORY, _STRATEGY_SHIFT = 15, 16, 5
_STRATEGIES = 5
# A setting is level + 16 for zlib's memLevel 9 instead of 8, + 32 x strategy. The usual ones come first.
SETTINGS = (
    *_LEVELS,
    *(level + _MUCH_MEMORY for level in _LEVELS),
    *(level + (strategy << _STRATEGY_SHIFT) for strategy in range(1, _STRATEGIES) for level in (6, 9)),
)
# Of what `is_usual` packs, by zlib 1.2.13. Whose zlib gives another one gets plain deltas.
_USUAL = "1bb52905d25b44fb7ab6e8c5b7aa9aec0ecf5190fc362f8b7bfd7169e50512c3"


def _deflater(setting: int) -> "zlib._Compress":
    memory = 9 if setting & _MUCH_MEMORY else 8
    return zlib.compressobj(setting & _LEVEL_MASK, zlib.DEFLATED, _RAW, memory, setting >> _STRATEGY_SHIFT)


def _pieces(read_at: ReadAt, offset: int, length: int) -> Iterator[bytes]:
    while length:
        piece = read_at(offset, min(length, PIECE_BYTES))
        if not piece:
            raise corrupt("an opened archive is cut off")
        yield piece
        offset += len(piece)
        length -= len(piece)


def _deflated(read_at: ReadAt, offset: int, length: int, setting: int) -> Iterator[bytes]:
    deflater = _deflater(setting)
    for piece in _pieces(read_at, offset, length):
        yield deflater.compress(piece)
    yield deflater.flush()


def runs_of(streams: Sequence[Stream], packed: ReadAt, opened: ReadAt) -> list[tuple[int, int]] | None:
    """Return the settings that bring each stream back bit for bit; None where one does not come back."""
    runs: list[tuple[int, int]] = []
    for stream in streams:
        likely = [runs[-1][1]] if runs else []
        for setting in (*likely, *SETTINGS):
            if _comes_back(stream, packed, opened, setting):
                break
        else:
            return None
        if setting in likely:
            runs[-1] = runs[-1][0] + 1, setting
        else:
            runs.append((1, setting))
    return runs


def _comes_back(stream: Stream, packed: ReadAt, opened: ReadAt, setting: int) -> bool:
    at, end = stream.packed_at, stream.packed_at + stream.packed
    for piece in _deflated(opened, stream.opened_at, stream.opened, setting):
        if at + len(piece) > end or packed(at, len(piece)) != piece:
            return False
        at += len(piece)
    return at == end


def close_archive(read_at: ReadAt, size: int, runs: Runs, write: Put) -> None:
    """Write the archive whose opened form has `size` bytes. Refusal: it is none, or `runs` do not fit it."""
    length = int.from_bytes(read_at(max(size - TABLE_LENGTH_BYTES, 0), TABLE_LENGTH_BYTES), "little")
    end = size - TABLE_LENGTH_BYTES - length
    if length > MAX_TABLE_BYTES or end < 0:
        raise corrupt("an opened archive has no table")
    table = Reader(read_at(end, length))
    at = 0
    for count, setting in runs:
        for _ in range(count):
            kept, content = table.varint(_MAX_LENGTH), table.varint(_MAX_LENGTH)
            if at + kept + content > end:
                raise corrupt("an opened archive is shorter than its table says")
            for piece in _pieces(read_at, at, kept):
                write(piece)
            for piece in _deflated(read_at, at + kept, content, setting):
                write(piece)
            at += kept + content
    table.end()
    for piece in _pieces(read_at, at, end - at):
        write(piece)


@functools.cache
def is_usual() -> bool:
    """Return whether the zlib that is here packs a sample as 1.2.13 does, with each setting (some 100 ms)."""
    return packed_sample() == _USUAL


def packed_sample() -> str:
    """Return the digest (hex) of a sample packed with each setting."""
    words = [hashlib.sha256(bytes([number])).hexdigest()[: number % 23 + 3] for number in range(256)]
    sample = " ".join(words[number * number % 251] + words[number % 256] for number in range(1500)).encode()
    packed = hashlib.sha256()
    for setting in SETTINGS:
        deflater = _deflater(setting)
        packed.update(deflater.compress(sample) + deflater.flush())
    return packed.hexdigest()
