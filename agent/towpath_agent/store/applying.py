"""A delta on its way in: carried bytes in, objects out, each under the digest of what was made.

Base objects are read from the store and are not proven first: what is damaged there makes an object of another name,
and the wanted one is fetched whole. So nothing that a delta does can spoil the store; at worst it leaves objects that
nobody names, and `Store.prune` takes those. Archives that it takes opened are `opening`'s; its read addresses and made
objects are then those of the opened forms.
Not handled here: which objects are wanted, and where carried bytes are kept for another attempt (`incoming`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from towpath.delta.base import Shelf
from towpath.delta.decoder import Decoder
from towpath.delta.layout import corrupt
from towpath.delta.opened import take_head
from towpath_agent.store.opening import Opening, read_at
from towpath_agent.system.files import Files, OpenFile


class Applying:
    """Feed it the carried bytes of one delta, then `finish`; `close` in any case. Refusal: the delta is of no use."""

    def __init__(
        self,
        files: Files,
        base: Sequence[tuple[bytes, int]],
        *,
        limit: int,
        path: Callable[[bytes], Path],
        scratch: Path,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take (digest, size) of the base objects; `path` is where an object is or belongs, `scratch` a free name.

        `limit` is the most bytes that the delta may make: the sizes of what is wanted, which are signed.
        """
        self._files = files
        self._path = path
        self._scratch = scratch
        self._base, self._limit, self._interrupted = base, limit, interrupted
        self._shelf = Shelf([])
        self._forms: dict[int, Path] = {}  # by number; all others are in the store
        self._number = 0  # of the object that is being made
        self._opening: Opening | None = None
        self._head = b""
        self._opened: tuple[int, OpenFile] | None = None
        self._out: OpenFile | None = None
        self._written = 0
        self.made: list[bytes] = []
        self._decoder: Decoder | None = None

    def feed(self, data: bytes) -> None:
        """Take the next carried bytes. Room, Stopped: see `opening`."""
        if self._decoder is None:
            self._head += data
            taken = take_head(self._head)
            if taken is None:
                return
            head, length = taken
            base, limit = self._base, self._limit
            if head is not None:
                self._opening = Opening(
                    self._files,
                    head,
                    base,
                    limit=limit,
                    path=self._path,
                    scratch=self._scratch,
                    interrupted=self._interrupted,
                )
                base, self._forms = self._opening.base(base)
                limit = self._opening.limit
            self._shelf = Shelf(size for _, size in base)
            self._decoder = Decoder(base, limit=limit, read=self._read, sink=self)
            data, self._head = self._head[length:], b""
        self._decoder.feed(data)

    def finish(self) -> list[bytes]:
        """Return the digests of everything that was made, in order; Refusal where the delta is cut off."""
        if self._decoder is None:
            raise corrupt("it is cut off")
        self._decoder.finish()
        return self.made

    def close(self) -> None:
        """Close what is open and forget an object that is not complete. Harmless twice."""
        if self._opened is not None:
            self._opened[1].close()
        if self._out is not None:
            self._out.close()
        self._opened = self._out = None
        self._files.remove(self._scratch)
        if self._opening is not None:
            self._opening.close()

    # --- the decoder's sink -------------------------------------------------------------------------------------------

    def write(self, piece: bytes) -> None:
        """See `decoder.Sink`."""
        self._begin().write(piece)
        self._written += len(piece)

    def end(self, digest: bytes, size: int) -> None:
        """See `decoder.Sink`. The store syncs nothing: what a power cut damages is found by its digest."""
        self._begin().close()
        self._out = None
        taken = self._opening.take(self._number, size) if self._opening is not None else None
        if taken is None:
            if self._opening is not None:
                self._opening.count(size)
            self._files.replace(self._scratch, self._path(digest))
        else:
            digest, self._forms[len(self._base) + self._number] = taken
        self._shelf.append(size)
        self.made.append(digest)
        self._written = 0
        self._number += 1

    def _begin(self) -> OpenFile:
        if self._out is None:
            self._files.remove(self._scratch)
            self._out = self._files.open_write(self._scratch, 0o600)
        return self._out

    # --- the decoder's base -------------------------------------------------------------------------------------------

    def _read(self, address: int, length: int) -> bytes:
        parts = []
        for stretch in self._shelf.stretches(address, length):
            try:
                parts.append(read_at(self._open(stretch.number), stretch.offset, stretch.length))
            except FileNotFoundError:
                return b""
        begin = max(address, self._shelf.end)  # in the object that is being made
        if begin < min(address + length, self._shelf.end + self._written):
            with self._files.open_read(self._scratch) as made:
                parts.append(read_at(made, begin - self._shelf.end, address + length - begin))
        return b"".join(parts)

    def _open(self, number: int) -> OpenFile:
        if self._opened is None or self._opened[0] != number:
            if self._opened is not None:
                self._opened[1].close()
                self._opened = None
            self._opened = number, self._files.open_read(self._forms.get(number) or self._object(number))
        return self._opened[1]

    def _object(self, number: int) -> Path:
        count = len(self._base)
        return self._path(self._base[number][0] if number < count else self.made[number - count])
