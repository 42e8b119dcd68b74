"""Opens the archives of a delta, old ones where they can be read, new ones where they come back bit for bit.

Not handled here: which objects may be archives (`pairing`), what their forms are (`towpath.delta`).
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import IO

from towpath.delta.archives import NotOpenedError, Stream, most_opened, open_archive
from towpath.delta.closing import ReadAt, is_usual, runs_of
from towpath.delta.layout import put_varint
from towpath.delta.opened import MAGIC, Head, OpenedNew, put_head
from towpath_server.deltas.frames import put_stream

_PIECE_BYTES = 256 * 1024


def put_magic(head: Head) -> bytes:
    """Return what stands before the delta of opened forms."""
    stream = put_stream(put_head(head))
    out = bytearray(MAGIC)
    put_varint(out, len(stream))
    return bytes(out) + stream


class Opener:
    """Opens one archive after another into what a delta is made of. Files are read from their start."""

    def __init__(self, scratch: Path, room: int) -> None:
        """`room`: bytes that all opened forms may have."""
        self._scratch, self._room = scratch, room
        self._base: dict[int, int] = {}
        self.made: dict[int, OpenedNew] = {}

    @property
    def head(self) -> Head:
        """What was opened."""
        return Head(self._base, self.made)

    def base(self, number: int, packed: IO[bytes], out: IO[bytes]) -> tuple[bytes, int] | None:
        """Append an old object to `out`; return digest and size of its opened form, None where it is as it was."""
        with tempfile.TemporaryFile(dir=self._scratch) as opened:
            if self._open(packed, opened) is None:
                _append(packed, out)
                return None
            size = _append(opened, out)
            self._base[number] = size
            opened.seek(0)
            return hashlib.file_digest(opened, "sha256").digest(), size

    def new(self, number: int, packed: IO[bytes], out: IO[bytes]) -> int:
        """Append a new object to `out`, opened where it can be put back; return how many bytes that were."""
        with tempfile.TemporaryFile(dir=self._scratch) as opened:
            streams = self._open(packed, opened) if is_usual() else None
            runs = None if streams is None else runs_of(streams, _reader(packed), _reader(opened))
            if runs is None:
                return _append(packed, out)
            size = _append(opened, out)
            self.made[number] = OpenedNew(size, runs)
            return size

    def _open(self, packed: IO[bytes], opened: IO[bytes]) -> list[Stream] | None:
        size = packed.seek(0, 2)
        packed.seek(0)
        streams: list[Stream] = []
        try:
            made = open_archive(
                packed.read, opened.write, limit=min(most_opened(size), self._room), found=streams.append
            )
        except NotOpenedError:
            return None
        self._room -= made
        return streams


def _append(source: IO[bytes], out: IO[bytes]) -> int:
    source.seek(0)
    before = out.tell()
    shutil.copyfileobj(source, out, _PIECE_BYTES)
    return out.tell() - before


def _reader(file: IO[bytes]) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read_at
