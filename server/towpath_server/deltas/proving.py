"""Proves a delta: it is applied as a host would apply it, against the objects that are here, and nothing of it is kept.

One file without a name has it all at the addresses that the delta uses: the base objects, each unpacked when a window
first reaches for it, and behind them what is made. So memory stays flat, and what no window needs costs nothing.
Not handled here: deltas that see into archives (they are refused as no delta), what becomes of one that is wrong.
"""

import hashlib
from collections.abc import Iterable
from typing import IO

import zstandard

from towpath.delta.base import Shelf
from towpath.delta.decoder import Decoder
from towpath.delta.layout import corrupt
from towpath.errors import Broken
from towpath_server.deltas.pairing import Pairing
from towpath_server.ports import Blobs

_PIECE_BYTES = 256 * 1024
# As `storage.frames` has it: an object that is damaged must not choose how much memory it takes.
_MAX_WINDOW_BYTES = 8 * 2**20


def prove(blobs: Blobs, pairing: Pairing, pieces: Iterable[bytes], scratch: IO[bytes]) -> None:
    """Return where `pieces` are a delta that makes just the new objects of `pairing`; Refusal where they are not.

    `scratch` is an empty file. Broken, InputError: an object of the old release is damaged or not here, which says
    nothing of the delta. OSError: there is no room.
    """
    proof = _Proof(blobs, pairing, scratch)
    limit = sum(it.size for it in pairing.new)
    decoder = Decoder(pairing.base, limit=limit, read=proof.read, sink=proof)
    for piece in pieces:
        decoder.feed(piece)
    decoder.finish()
    if proof.left:
        raise corrupt("it makes too few objects")


class _Proof:
    """The decoder's sink, and its reader."""

    def __init__(self, blobs: Blobs, pairing: Pairing, scratch: IO[bytes]) -> None:
        self._blobs, self._base, self._scratch = blobs, pairing.base, scratch
        self._shelf = Shelf(size for _, size in pairing.base)
        self._unpacked: set[int] = set()
        self._end = self._shelf.end
        self.left = pairing.new_digests[::-1]

    def write(self, piece: bytes) -> None:
        """See `decoder.Sink`."""
        self._scratch.seek(self._end)
        self._scratch.write(piece)
        self._end += len(piece)

    def end(self, digest: bytes, size: int) -> None:
        """See `decoder.Sink`."""
        if not self.left or digest != self.left.pop():
            raise corrupt(f"it makes an object of {size} bytes that the release does not have there")

    def read(self, address: int, length: int) -> bytes:
        """See `decoder.Read`."""
        at = address
        for stretch in self._shelf.stretches(address, length):
            if stretch.number not in self._unpacked:
                self._unpack(stretch.number, at - stretch.offset)
                self._unpacked.add(stretch.number)
            at += stretch.length
        self._scratch.seek(address)
        return self._scratch.read(length)

    def _unpack(self, number: int, address: int) -> None:
        digest, size = self._base[number]
        self._scratch.seek(address)
        content = _Content(self._scratch, digest, size)
        expand = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        writer = expand.stream_writer(content, closefd=False)  # type: ignore[arg-type]
        try:
            for piece in self._blobs.chunks(digest, 0, _PIECE_BYTES):
                writer.write(piece)
        except zstandard.ZstdError as error:
            raise content.damaged() from error
        content.finish()


class _Content:
    """An object on its way into a file, from where that stands; Broken where it is not what its name says."""

    def __init__(self, out: IO[bytes], digest: bytes, size: int) -> None:
        self._out, self._digest, self._left = out, digest, size
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise self.damaged()
        self._sha256.update(data)
        self._out.write(data)
        return len(data)

    def finish(self) -> None:
        if self._left or self._sha256.digest() != self._digest:
            raise self.damaged()

    def damaged(self) -> Broken:
        return Broken(f"cannot read object {self._digest.hex()[:16]}: it is damaged; run: towpath-server doctor")
