"""Opens archives in pairs, an old one and what became of it, where that pays and both come back bit for bit.

An old archive that is opened is no base for what stays packed. So it is opened only for a new one that is opened too,
and an archive of which nothing changed but a time in its head stays as it is: that costs a few bytes, and no time.
Not handled here: which objects may be archives (`pairing`), what their forms are (`towpath.delta`).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from towpath.delta.archives import NotOpenedError, Stream, most_opened, open_archive
from towpath.delta.closing import ReadAt, is_usual, runs_of
from towpath.delta.layout import put_varint
from towpath.delta.opened import MAGIC, Head, OpenedNew, put_head
from towpath_server.deltas.frames import put_stream

_PIECE_BYTES = 256 * 1024
# An archive that differs from the old one in so many bytes, each in its place, is no other one.
_FEW_BYTES = 64


class Readable(Protocol):
    """A file as far as it is read here."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place; return it."""
        ...


class Part:
    """A stretch of a file, read as a file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        """Flush what `file` holds back before it is read."""
        self._descriptor, self._start, self._size, self._at = file.fileno(), start, size, 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, fewer at the end."""
        left = self._size - self._at
        data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._start + self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to `offset`, from the end where `whence` is 2."""
        self._at = offset + (self._size if whence == os.SEEK_END else 0)
        return self._at


def put_magic(head: Head) -> bytes:
    """Return what stands before the delta of opened forms."""
    stream = put_stream(put_head(head))
    out = bytearray(MAGIC)
    put_varint(out, len(stream))
    return bytes(out) + stream


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the opened form of an old archive is, and its digest and size."""

    start: int
    sha256: bytes
    size: int


class Opener:
    """Opens one pair after another. Files are read from their start."""

    def __init__(self, scratch: Path, room: int, forms: IO[bytes]) -> None:
        """`room`: bytes that all opened forms may have; `forms`: an empty file for those of old archives."""
        self._scratch, self._room, self._forms = scratch, room, forms
        self._known: dict[int, _Form | None] = {}
        self._base: dict[int, _Form] = {}
        self.made: dict[int, OpenedNew] = {}

    @property
    def head(self) -> Head:
        """What was opened."""
        return Head({number: form.size for number, form in self._base.items()}, self.made)

    def new(self, number: int, packed: Readable, like: int, old: Readable, out: IO[bytes]) -> int:
        """Append a new object to `out`, opened where that pays; return how many bytes that were.

        `like` and `old`: the old object that became this one.
        """
        form = None if not is_usual() or _differ_little(old, packed) else self._form(like, old)
        if form is None:
            return _append(packed, out)
        with tempfile.TemporaryFile(dir=self._scratch) as opened:
            streams = self._open(packed, opened)
            runs = None if streams is None else runs_of(streams, _reader(packed), _reader(opened))
            if runs is None:
                return _append(packed, out)
            size = _append(opened, out)
        self.made[number], self._base[like] = OpenedNew(size, runs), form
        return size

    def base(self, number: int, packed: Readable, out: IO[bytes]) -> tuple[bytes, int] | None:
        """Append an old object to `out`, when all new ones are known; return digest and size where it is opened."""
        form = self._base.get(number)
        if form is None:
            _append(packed, out)
            return None
        _append(Part(self._forms, form.start, form.size), out)
        return form.sha256, form.size

    def _form(self, number: int, packed: Readable) -> _Form | None:
        """Return the opened form of an old archive; each is opened once."""
        if number not in self._known:
            with tempfile.TemporaryFile(dir=self._scratch) as opened:
                self._known[number] = None
                if self._open(packed, opened) is not None:
                    opened.seek(0)
                    sha256 = hashlib.file_digest(opened, "sha256").digest()
                    start = self._forms.seek(0, os.SEEK_END)
                    self._known[number] = _Form(start, sha256, _append(opened, self._forms))
                    self._forms.flush()
        return self._known[number]

    def _open(self, packed: Readable, opened: IO[bytes]) -> list[Stream] | None:
        size = packed.seek(0, os.SEEK_END)
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


def _differ_little(one: Readable, other: Readable) -> bool:
    """Return whether both are of one length and hardly a byte of them differs."""
    if one.seek(0, os.SEEK_END) != other.seek(0, os.SEEK_END):
        return False
    one.seek(0)
    other.seek(0)
    count = 0
    for left, right in _side_by_side(one, other):
        count += int(np.count_nonzero(np.frombuffer(left, np.uint8) != np.frombuffer(right, np.uint8)))
        if count > _FEW_BYTES:
            return False
    return True


def _side_by_side(one: Readable, other: Readable) -> Iterator[tuple[bytes, bytes]]:
    while left := one.read(_PIECE_BYTES):
        yield left, other.read(len(left))


def _append(source: Readable, out: IO[bytes]) -> int:
    source.seek(0)
    before = out.tell()
    shutil.copyfileobj(source, out, _PIECE_BYTES)
    return out.tell() - before


def _reader(file: Readable) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read_at
