"""An object's carried form, one zstandard frame: how long it may be, and the proof of what it holds.

Whatever carries an object is not trusted, only its digest is. Output stops at the promised size (a bomb expands one
128 KiB step too far and no more), input at what such an output can need, and a frame that asks for more memory than
WINDOW_BYTES is refused.
"""

import hashlib
from typing import IO, cast

from towpath.errors import Refusal

WINDOW_BYTES = 8 * 2**20
# zstandard's worst case is size + size/256 + a few bytes a block; a margin for frames that were flushed often.
CARRIED_MARGIN_BYTES = 64 * 1024


def carried_cap(size: int) -> int:
    """Return the most bytes that a carried form of `size` bytes of content may have."""
    return size + size // 128 + CARRIED_MARGIN_BYTES


class Proof:
    """Expands one carried form, piece by piece, and keeps of it a digest; the content itself only where asked for."""

    def __init__(self, digest: bytes, size: int, *, keep: bool = False) -> None:
        """Expect content of `size` bytes with that SHA-256."""
        import zstandard  # noqa: PLC0415  (a megabyte that an idle agent does not need)

        self._digest, self._left, self._carried_left = digest, size, carried_cap(size)
        self._sha256 = hashlib.sha256()
        self._kept = bytearray() if keep else None
        self._trouble: type[Exception] = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        # Only `write` is called of the sink, whatever the stub wants.
        self._writer = decompressor.stream_writer(cast("IO[bytes]", self), closefd=False)

    @property
    def name(self) -> str:
        """Return how people are told of it."""
        return f"object {self._digest.hex()[:16]}"

    def write(self, piece: bytes) -> int:
        """Take expanded bytes, from the decompressor."""
        self._left -= len(piece)
        if self._left < 0:
            raise Refusal(f"cannot accept {self.name}: it expands beyond its signed size", code="endless-data")
        self._sha256.update(piece)
        if self._kept is not None:
            self._kept += piece
        return len(piece)

    def feed(self, piece: bytes) -> None:
        """Take carried bytes; Refusal as soon as they cannot be the object's."""
        self._carried_left -= len(piece)
        if self._carried_left < 0:
            raise Refusal(f"cannot accept {self.name}: it is longer than its content can need", code="endless-data")
        try:
            self._writer.write(piece)
        except self._trouble as error:
            raise Refusal(f"cannot accept {self.name}: it does not decompress", code="corrupt-object") from error

    def finish(self) -> bytes:
        """Return the content where it was to be kept, else nothing; Refusal `corrupt-object` where it is another."""
        if self._left or self._sha256.digest() != self._digest:
            raise Refusal(
                f"cannot accept {self.name}: its bytes are not those that its name promises", code="corrupt-object"
            )
        return bytes(self._kept or b"")
