"""Opening archives: what was deflated is inflated, all else stays, so that a delta sees what changed inside.

An opened archive is one run of bytes: the archive with each deflate stream replaced by its content; a table, two
numbers (LEB128) for each stream: bytes between the last one and this one, bytes of its content; the table's length (4
bytes, little endian). It depends on nothing but the archive, so a server and a host make the same one.
Archives are gzip (one or more members) and zip (wheels, jars). What a zip has stored, encrypted or packed otherwise
stays as it is, and so does whatever follows the last stream that is understood.
Not handled here: putting it back (`closing`), which objects are opened (`opened`).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from towpath.delta.layout import put_varint

# Returns the next bytes, at most so many; none at the end.
Take = Callable[[int], bytes]
Put = Callable[[bytes], object]

# Names of files that may be archives; their bytes decide.
NAMES = (".gz", ".tgz", ".svgz", ".zip", ".whl", ".egg", ".jar", ".war", ".ear", ".nupkg", ".apk", ".npz")
PIECE_BYTES = 64 * 1024
MAX_STREAMS = 65_536
# A name or a comment in a gzip, with its zero.
MAX_TEXT_BYTES = 64 * 1024
# Bytes that an archive may have opened, for each of its own, and a little more for small ones: text gets 3 to 10 times
# as long, deflate can do 1032. A host takes no more from anybody.
MAX_RATIO = 24
MAX_OPENED_BYTES = 2**35
SPARE_BYTES = 64 * 1024
TABLE_LENGTH_BYTES = 4
_RAW = -15
_GZIP = b"\x1f\x8b\x08"
_GZIP_HEAD, _GZIP_TAIL = 10, 8
_HCRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16
_ENTRY, _DESCRIPTOR, _DIRECTORY = b"PK\3\4", b"PK\7\x08", b"PK\1\2"
_ENTRY_BYTES, _DESCRIPTOR_BYTES = 30, 16
_ENCRYPTED, _STREAMED, _DEFLATED = 1, 8, 8
_ZIP64 = 0xFFFFFFFF


class NotOpenedError(Exception):
    """It is no archive that is understood, or a damaged one."""


class TooLargeError(NotOpenedError):
    """It gets longer than it may."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A deflate stream: where it is in the archive, where its content is in the opened one, and their lengths."""

    packed_at: int
    packed: int
    opened_at: int
    opened: int


def most_opened(size: int) -> int:
    """Return how many bytes an archive of `size` bytes may have opened."""
    return min(MAX_RATIO * size + SPARE_BYTES, MAX_OPENED_BYTES)


def open_archive(read: Take, write: Put, *, limit: int, found: Callable[[Stream], object] | None = None) -> int:
    """Write the archive that `read` gives, opened; return its length, at most `limit`. NotOpenedError: it is none."""
    walk = _Walk(read, write, limit, found)
    start = walk.peek(len(_ENTRY))
    if start.startswith(_GZIP):
        _gzip(walk)
    elif start == _ENTRY:
        _zip(walk)
    else:
        raise NotOpenedError
    return walk.end()


class _Walk:
    """Reads an archive once from its front, and writes it opened."""

    def __init__(self, read: Take, write: Put, limit: int, found: Callable[[Stream], object] | None) -> None:
        self._read, self._write, self._limit, self._found = read, write, limit, found
        self._buffer = b""
        self._taken = self._made = self._last = self._count = 0
        self._table = bytearray()

    def peek(self, length: int) -> bytes:
        """Return the next bytes without taking them, fewer at the end."""
        while len(self._buffer) < length and (piece := self._read(PIECE_BYTES)):
            self._buffer += piece
            self._taken += len(piece)
        return self._buffer[:length]

    def keep(self, length: int) -> None:
        """Let `length` bytes stay as they are."""
        while length:
            piece = self.peek(min(length, PIECE_BYTES))
            if not piece:
                raise NotOpenedError
            self._buffer = self._buffer[len(piece) :]
            self._put(piece)
            length -= len(piece)

    def keep_text(self) -> None:
        """Let what ends with a zero stay as it is, within `MAX_TEXT_BYTES`."""
        end = self.peek(MAX_TEXT_BYTES).find(b"\0")
        if end < 0:
            raise NotOpenedError
        self.keep(end + 1)

    def inflate(self) -> None:
        """Replace the stream that begins here by its content."""
        if self._count >= MAX_STREAMS:
            raise TooLargeError
        packed_at, opened_at = self._taken - len(self._buffer), self._made
        inflater = zlib.decompressobj(_RAW)
        while not inflater.eof:
            data = inflater.unconsumed_tail or self.peek(PIECE_BYTES)
            if not inflater.unconsumed_tail:
                self._buffer = self._buffer[len(data) :]
            try:
                content = inflater.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise NotOpenedError from error
            if not data and not content and not inflater.eof:
                raise NotOpenedError
            self._put(content)
        self._buffer = inflater.unused_data + self._buffer
        packed = self._taken - len(self._buffer) - packed_at
        put_varint(self._table, opened_at - self._last)
        put_varint(self._table, self._made - opened_at)
        self._last = self._made
        self._count += 1
        if self._found is not None:
            self._found(Stream(packed_at, packed, opened_at, self._made - opened_at))

    def end(self) -> int:
        """Let the rest stay as it is, write the table, return the length."""
        while piece := self.peek(PIECE_BYTES):
            self.keep(len(piece))
        if not self._count:
            raise NotOpenedError
        self._put(bytes(self._table) + len(self._table).to_bytes(TABLE_LENGTH_BYTES, "little"))
        return self._made

    def _put(self, piece: bytes) -> None:
        self._made += len(piece)
        if self._made > self._limit:
            raise TooLargeError
        self._write(piece)


def _gzip(walk: _Walk) -> None:
    """RFC 1952: members one behind the other."""
    while walk.peek(len(_GZIP)) == _GZIP:
        flags = walk.peek(_GZIP_HEAD)[3:4]
        walk.keep(_GZIP_HEAD)
        if flags[0] & _EXTRA:
            length = int.from_bytes(walk.peek(2), "little")
            walk.keep(2 + length)
        for text in (_NAME, _COMMENT):
            if flags[0] & text:
                walk.keep_text()
        if flags[0] & _HCRC:
            walk.keep(2)
        walk.inflate()
        walk.keep(_GZIP_TAIL)


def _zip(walk: _Walk) -> None:
    """APPNOTE.TXT 4.3: entries from the front; a stream ends where deflate says so, no size of one is believed."""
    while True:
        head = walk.peek(_ENTRY_BYTES)
        if len(head) < _ENTRY_BYTES or not head.startswith(_ENTRY):
            return
        flags, method = (int.from_bytes(head[at : at + 2], "little") for at in (6, 8))
        size = int.from_bytes(head[18:22], "little")
        names = sum(int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        if method == _DEFLATED and not flags & _ENCRYPTED:
            walk.keep(_ENTRY_BYTES + names)
            walk.inflate()
            if flags & _STREAMED and walk.peek(len(_DESCRIPTOR)) == _DESCRIPTOR:
                longer = walk.peek(_DESCRIPTOR_BYTES + 4)[_DESCRIPTOR_BYTES:]
                # Sizes take 8 bytes each in a zip64; what follows tells.
                walk.keep(_DESCRIPTOR_BYTES + (0 if longer in (_ENTRY, _DIRECTORY) else 8))
        elif flags & _STREAMED or size == _ZIP64:
            return
        else:
            walk.keep(_ENTRY_BYTES + names + size)
