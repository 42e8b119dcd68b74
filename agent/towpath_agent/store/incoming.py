"""One object on its way: carried bytes in; decompressed, hashed, capped and written out.

Rules: whatever carries an object is not trusted, only its digest is. Output stops at the signed size (a bomb expands
one 128 KiB step too far and no more), input at what such an output can need, and a frame that asks for more memory than
WINDOW_BYTES is refused: zstandard's levels above 19 and its long mode are not for releases.
Carried bytes are kept in the partial file as they come (the last piece excepted: nothing is left to resume after it),
so that the next attempt, by this process or a later one, goes on at that offset. An attempt that goes on only adds to
the partial file, and all of it is expanded when the last byte is here: expanding it anew after each cut would hold up
the reader while bytes come, which the next cut loses, and would write a large object a hundred times on a bad line.
Most objects are small and come in one piece; they are expanded in one step and written once they are proven.
Not handled here: which object comes next and how often it is tried (`objects`).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from towpath.carried import WINDOW_BYTES, carried_cap
from towpath_agent.system.files import Files, OpenFile

__all__ = ["WINDOW_BYTES", "BadObject", "Incoming", "carried_cap"]

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionWriter

REPLAY_BYTES = 256 * 1024
# Objects up to that are expanded in one step, in memory.
AT_ONCE_BYTES = 2**20


class BadObject(Exception):
    """What came is not the object; the text completes "the object ...", `code` is a Refusal's."""

    def __init__(self, reason: str, code: str = "corrupt-object") -> None:
        """Keep both."""
        super().__init__(reason)
        self.code = code


def expanded(data: bytes, size: int) -> bytes | None:
    """Return the content where `data` is one frame of exactly `size` bytes, at most AT_ONCE_BYTES; None otherwise."""
    import zstandard  # noqa: PLC0415  (a megabyte that an idle agent does not need)

    if not 0 < size <= AT_ONCE_BYTES:
        return None
    try:
        if zstandard.frame_content_size(data) != size:
            return None
        return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        return None


class _Content:
    """Where decompressed pieces go: counted, hashed, written; only counted where there is no `out`."""

    def __init__(self, out: OpenFile | None, size: int) -> None:
        self.written = 0
        self.sha256 = hashlib.sha256()
        self._out = out
        self._size = size

    def write(self, piece: bytes) -> int:
        """Take one piece; zstandard hands over at most 128 KiB."""
        self.written += len(piece)
        if self.written > self._size:
            raise BadObject(f"expands beyond its signed size of {self._size} bytes", "endless-data")
        if self._out is not None:
            self.sha256.update(piece)
            self._out.write(piece)
        return len(piece)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a receiver holds while bytes come."""

    out: OpenFile
    content: _Content
    writer: "ZstdDecompressionWriter"


class Incoming:
    """Receives one object into `target`; `partial` keeps its carried bytes.

    Ends by `feed(..., last=True)` returning, by `pause` (go on later) or by `drop` (nothing of it is worth keeping).
    """

    def __init__(
        self, files: Files, digest: bytes, size: int, *, target: Path, partial: Path, begun: bool = True
    ) -> None:
        """Look at what an earlier attempt kept; nothing is opened before the first piece.

        `begun` is False where the caller knows that `partial` is not there.
        """
        self._files = files
        self._digest = digest
        self._size = size
        self._target = target
        self._partial = partial
        self._opened: _Opened | None = None
        self._kept: OpenFile | None = None
        self.offset = files.size(partial) if begun and files.exists(partial) else 0
        self._begun = begun
        if self.offset > carried_cap(size):
            self.drop()
        self._carried = self.offset

    def look_through(self) -> None:
        """Drop what an earlier process left where it cannot be the beginning of the object; nothing is kept in memory.

        What a power cut damaged is found here before more is fetched for it, as far as zstandard can tell.
        """
        try:
            self._replay(self._writer(_Content(None, self._size)))
        except BadObject:
            self.drop()

    def feed(self, data: bytes, *, last: bool) -> None:
        """Take the next carried bytes, the first of them at `offset`; BadObject where they cannot be the object's."""
        self._count(data)
        if last and not self.offset and self._opened is None and self._at_once(data):
            return
        if data and (self.offset or not last):
            self._keep(data)
        if self.offset and not last:
            return
        opened = self._opened or self._open()
        if self.offset:
            self._replay(opened.writer)
        else:
            self._expand(opened.writer, data)
        if last:
            content = opened.content
            if content.written != self._size or content.sha256.digest() != self._digest:
                raise BadObject("has another digest than the signed one")
            opened.out.complete()
            self._close()
            self._complete()

    def _at_once(self, data: bytes) -> bool:
        """Take all of the carried bytes; False where they are no plain frame of a small object: the long way judges."""
        content = expanded(data, self._size)
        if content is None or hashlib.sha256(content).digest() != self._digest:
            return False
        with self._files.open_write(self._target, 0o600, instead=True) as out:
            out.write(content)
        self._complete()
        return True

    def _complete(self) -> None:
        if self._begun:
            self._files.remove(self._partial)

    @property
    def is_partial(self) -> bool:
        """Return whether there is something of it to go on from."""
        return bool(self.offset) or self._kept is not None

    def pause(self) -> None:
        """Stop for now: carried bytes stay, what was made of them goes. Harmless where the object is complete."""
        unfinished = self._opened is not None
        self._close()
        if unfinished:
            self._files.remove(self._target)

    def drop(self) -> None:
        """Forget every byte."""
        self.pause()
        self._files.remove(self._partial)
        self.offset = self._carried = 0

    def _open(self) -> _Opened:
        out = self._files.open_write(self._target, 0o600, instead=True)
        content = _Content(out, self._size)
        self._opened = opened = _Opened(out, content, self._writer(content))
        return opened

    @staticmethod
    def _writer(content: _Content) -> "ZstdDecompressionWriter":
        import zstandard  # noqa: PLC0415

        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        # Only `write` is called of the sink, whatever the stub wants.
        return decompressor.stream_writer(cast("IO[bytes]", content), closefd=False)

    def _replay(self, writer: "ZstdDecompressionWriter") -> None:
        with self._files.open_read(self._partial) as kept:
            while part := kept.read(REPLAY_BYTES):
                self._expand(writer, part)

    def _keep(self, data: bytes) -> None:
        if self._kept is None:
            self._kept = self._files.open_append(self._partial, 0o600)
            self._begun = True
        self._kept.write(data)

    def _count(self, data: bytes) -> None:
        self._carried += len(data)
        if self._carried > carried_cap(self._size):
            raise BadObject(f"comes in more bytes than {self._size} bytes of content can need", "endless-data")

    @staticmethod
    def _expand(writer: "ZstdDecompressionWriter", data: bytes) -> None:
        import zstandard  # noqa: PLC0415

        try:
            writer.write(data)
        except zstandard.ZstdError as error:
            raise BadObject(f"does not decompress ({error})") from error

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.out.close()
        if self._kept is not None:
            self._kept.close()
        self._opened = self._kept = None
