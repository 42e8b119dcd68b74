"""Archives that a delta takes opened: base objects into files beside the delta, new ones from there into the store.

Rules: what an unsigned delta may cause is bounded by signed sizes (`archives.most_opened`), disk room is asked for
before anything is written, and whoever waits can break off after each piece. The files go with `close`; those of an
agent that was killed go with `Deltas.prune`.
Not handled here: what the opened forms are (`towpath.delta`), the delta between them (`applying`).
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from towpath.delta import archives, closing
from towpath.delta.layout import corrupt, endless
from towpath.delta.opened import Head
from towpath_agent.system.files import Files, OpenFile


class Stopped(Exception):
    """Whoever waits wants something else now."""


class Room(Exception):
    """The disk has no room for the opened forms."""


class Opening:
    """The opened forms of one delta. `close` in any case."""

    def __init__(
        self,
        files: Files,
        head: Head,
        base: Sequence[tuple[bytes, int]],
        *,
        limit: int,
        path: Callable[[bytes], Path],
        scratch: Path,
        interrupted: Callable[[], bool],
    ) -> None:
        """See `applying.Applying`. Refusal, Room: nothing was written."""
        self._files, self._head, self._limit = files, head, limit
        self._path, self._scratch, self._interrupted = path, scratch, interrupted
        self._names: list[Path] = []
        self._left = limit
        for number, size in head.base.items():
            if number >= len(base):
                raise corrupt("it opens an object that is not there")
            if size > archives.most_opened(base[number][1]):
                raise endless(f"an object of {base[number][1]} bytes would be opened to {size}")
        if head.new_bytes > archives.most_opened(limit):
            raise endless(f"it makes {head.new_bytes} bytes of opened archives, {limit} are wanted")
        if files.disk_free(scratch) < head.base_bytes + head.new_bytes:
            raise Room

    @property
    def limit(self) -> int:
        """The most bytes that the delta behind the head may make."""
        return self._limit + self._head.new_bytes

    def base(self, base: Sequence[tuple[bytes, int]]) -> tuple[list[tuple[bytes, int]], dict[int, Path]]:
        """Open base objects; return (digest, size) of all that the delta starts from, and where opened ones are."""
        named, places = list(base), {}
        for number, size in self._head.base.items():
            places[number] = self._name()
            sha256 = hashlib.sha256()
            try:
                with (
                    self._files.open_read(self._path(base[number][0])) as source,
                    self._files.open_write(places[number], 0o600) as out,
                ):
                    made = archives.open_archive(source.read, self._writer(out, sha256.update), limit=size)
            except archives.TooLargeError as error:
                raise endless(f"an object opens to more than {size} bytes") from error
            except (archives.NotOpenedError, FileNotFoundError) as error:
                raise corrupt("an object that it starts from cannot be opened") from error
            named[number] = sha256.digest(), made
        return named, places

    def take(self, number: int, size: int) -> tuple[bytes, Path] | None:
        """Make the archive of new object `number` of the file at `scratch`; return its digest and where that file went.

        None: it is no archive.
        """
        new = self._head.new.get(number)
        if new is None:
            return None
        if size != new.size:
            raise corrupt("an opened archive has another size than promised")
        opened, packed = self._name(), self._name()
        self._files.replace(self._scratch, opened)
        sha256 = hashlib.sha256()
        with self._files.open_read(opened) as source, self._files.open_write(packed, 0o600) as out:

            def count(piece: bytes) -> None:
                sha256.update(piece)
                self.count(len(piece))

            closing.close_archive(
                lambda at, length: read_at(source, at, length), size, new.runs, self._writer(out, count)
            )
        self._files.replace(packed, self._path(sha256.digest()))
        return sha256.digest(), opened

    def count(self, size: int) -> None:
        """Take note of `size` more bytes of objects; Refusal above what is wanted."""
        self._left -= size
        if self._left < 0:
            raise endless(f"it makes more than the {self._limit} bytes that are wanted")

    def close(self) -> None:
        """Remove the opened forms. Harmless twice."""
        while self._names:
            self._files.remove(self._names.pop())

    def _writer(self, out: OpenFile, see: Callable[[bytes], object]) -> Callable[[bytes], None]:
        def write(piece: bytes) -> None:
            if self._interrupted():
                raise Stopped
            see(piece)
            out.write(piece)

        return write

    def _name(self) -> Path:
        self._names.append(self._scratch.with_name(f"{self._scratch.name}.{len(self._names)}"))
        return self._names[-1]


def read_at(file: OpenFile, offset: int, length: int) -> bytes:
    """Return `length` bytes at `offset`, fewer where the file ends."""
    file.seek(offset)
    parts = []
    while length and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
