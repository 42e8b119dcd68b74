"""Makes a delta of new objects against base objects, frame by frame; docs/deltas.md has the format.

Base and new content are given as two flat buffers (bytes, or files that are mapped), objects one behind the other, so
memory is that of the anchors' table and of one frame. Each frame may use all base content and the new content before
it. The last object may be an index: it begins a frame of its own, which knows the digests of all objects before it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np

from towpath.delta.frame import Extent, put_extents
from towpath.delta.layout import FRAME_BYTES, MAGIC, WINDOW_BYTES, basis, put_varint
from towpath_server.deltas import anchors, frames, windows
from towpath_server.deltas.pairing import NewObject

_DIGEST_BYTES = 32
# A longer list of digests is not worth the room that it takes of the window.
_MAX_DIGEST_BYTES = WINDOW_BYTES // 2


def encode(
    base: Sequence[tuple[bytes, int]],
    base_content: memoryview,
    new: Sequence[NewObject],
    new_content: memoryview,
    *,
    index_last: bool = False,
) -> Iterator[bytes]:
    """Yield the delta: its head, then one piece for each frame. `base` is (digest, size) of each base object."""
    if sum(size for _, size in base) != len(base_content) or sum(it.size for it in new) != len(new_content):
        raise ValueError("content and sizes of a delta's objects differ")
    yield _head(base, new, len(base_content))
    work = _Work(base, base_content, new, new_content)
    cut = len(new_content) - new[-1].size if index_last and new else len(new_content)
    for start, stop in ((0, cut), (cut, len(new_content))):
        for at in range(start, stop, FRAME_BYTES):
            yield work.frame(at, min(at + FRAME_BYTES, stop), index=start == cut)


def _head(base: Sequence[tuple[bytes, int]], new: Sequence[NewObject], base_bytes: int) -> bytes:
    header = bytearray()
    for value in (base_bytes, len(new), *(it.size for it in new)):
        put_varint(header, value)
    stream = frames.put_stream(bytes(header))
    out = bytearray(MAGIC + basis(base))
    put_varint(out, len(stream))
    return bytes(out) + stream


class _Work:
    """What all frames share."""

    def __init__(
        self,
        base: Sequence[tuple[bytes, int]],
        base_content: memoryview,
        new: Sequence[NewObject],
        new_content: memoryview,
    ) -> None:
        self._base_content, self._new_content = base_content, new_content
        self._new = new
        self._base_starts = list(accumulate((size for _, size in base), initial=0))
        self._new_starts = list(accumulate((it.size for it in new), initial=0))
        self._bits = anchors.bits_for(len(base_content) + len(new_content))
        old_places, old_keys = anchors.sample(base_content, self._bits)
        places, keys = anchors.sample(new_content, self._bits)
        self._places, self._keys = places + len(base_content), keys
        self._table = anchors.Table.of(
            np.concatenate([old_places, self._places]), np.concatenate([old_keys, self._keys])
        )

    def frame(self, start: int, stop: int, *, index: bool) -> bytes:
        """Return the frame of new content from `start` to `stop`."""
        base_bytes = len(self._base_content)
        frame = Extent(base_bytes + start, stop - start)
        low, high = np.searchsorted(self._places, [frame.address, frame.address + frame.length])
        mine = self._places[low:high], self._keys[low:high]
        digests = min(_DIGEST_BYTES * (len(self._new) - 1), _MAX_DIGEST_BYTES) if index else 0
        extents = windows.choose(
            self._table, mine, frame=frame, hints=self._hints(start, stop), room=WINDOW_BYTES - digests
        )
        window = b"".join(self._content(extent) for extent in extents)
        if digests:
            extents = [*extents, Extent(base_bytes + len(self._new_content), digests)]
            window += self._digests()[:digests]
        encoded = frames.encode(bytes(self._new_content[start:stop]), window, put_extents(extents))
        out = bytearray()
        put_varint(out, stop - start)
        put_varint(out, len(encoded.body) << 2 | encoded.kind)
        return bytes(out) + encoded.body

    def _content(self, extent: Extent) -> bytes:
        base_bytes = len(self._base_content)
        start, stop = extent.address, extent.address + extent.length
        old = self._base_content[start : min(stop, base_bytes)]
        made = self._new_content[max(start - base_bytes, 0) : max(stop - base_bytes, 0)]
        return bytes(old) + bytes(made)

    def _digests(self) -> bytes:
        pairs = pairwise(self._new_starts[:-1])
        return b"".join(hashlib.sha256(self._new_content[start:stop]).digest() for start, stop in pairs)

    def _hints(self, start: int, stop: int) -> Iterator[Extent]:
        """Yield, for each object of the frame, the same stretch of its namesake."""
        first = bisect_right(self._new_starts, start) - 1
        for number in range(first, len(self._new)):
            begin = self._new_starts[number]
            if begin >= stop:
                return
            like = self._new[number].like
            if like is None:
                continue
            low = self._base_starts[like] + max(start - begin, 0)
            high = min(self._base_starts[like] + stop - begin, self._base_starts[like + 1])
            if low < high:
                yield Extent(low, high - low)
