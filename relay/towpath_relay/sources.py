"""What can be sent to a host: an object in the cache, or one on its way, whose readers follow as its bytes come.

Nobody is handed the end of an object before it is proven: a host that got a wrong one whole would call the relay a liar
and leave it for an hour, where all that happened is that a disk lost some bytes.
Not handled here: what is fetched when, and how it is proven (`flights`).
"""

import enum
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Protocol

from towpath.errors import Unavailable
from towpath_agent.ports import CHUNK_BYTES
from towpath_relay.cache import Cache, Kept

# How often whoever waits for an object is told that it is still on its way: well within the time that hosts give a
# relay to bring something.
PAUSE_S = 2.0
# Proven before its first byte; a host does not bear with a silence that a larger one would take on a slow disk.
FIRST_PROVEN_BYTES = 256 * 2**20

logger = logging.getLogger(__name__)


class Source(Protocol):
    """One object that can be sent."""

    def pauses(self) -> Iterator[None]:
        """Yield now and then until `carried_size` has an answer at once."""
        ...

    def carried_size(self) -> int | None:
        """Return the bytes of the carried form, None where the object cannot be had here. May block."""
        ...

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield the carried bytes from `offset` on, and now and then none while none come.

        Raises Unavailable where they stop coming.
        """
        ...


class State(enum.Enum):
    """Where a flight is."""

    COMING = "coming"
    DONE = "done"
    ENDED = "ended"  # missing at the server, or cut off


class Lacking:
    """An object that cannot be had here."""

    def pauses(self) -> Iterator[None]:
        """Yield nothing."""
        return iter(())

    def carried_size(self) -> int | None:
        """Return None."""
        return None

    def pieces(self, _offset: int) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())


class Unneeded(Lacking):
    """A delta to a release of which every object is here."""


class Whole:
    """An object in the cache; the file is proven by its carried digest before a byte of it is sent.

    A damaged byte that went out would be found by the host alone, behind bytes of the server: it would blame the relay.
    """

    def __init__(self, cache: Cache, key: bytes, kept: Kept, again: Callable[[], Source]) -> None:
        """Hold what `Cache.find` returned; `again` fetches it anew where the disk has changed it."""
        self._cache, self._key, self._kept, self._again = cache, key, kept, again
        self._file: BufferedReader | None = None
        self._anew: Source | None = None

    def pauses(self) -> Iterator[None]:
        """Yield nothing: it is here; for what has to be fetched anew, `carried_size` waits."""
        return iter(())

    def carried_size(self) -> int | None:
        """Return its size; a damaged file is dropped and fetched anew, for all that ask at once."""
        try:
            self._file = self._kept.path.open("rb")
            well = self._kept.size > FIRST_PROVEN_BYTES or self._proven(self._file)
        except FileNotFoundError:
            self._cache.drop(self._key)
            return None
        except OSError:  # too many files are open, or the like: the object may be well
            return None
        if well:
            return self._kept.size
        self._file.close()
        self._file = None
        self._cache.drop_damaged(self._key, self._kept)
        logger.warning("the relay's disk has damaged object %s; it is fetched anew", self._key.hex()[:16])
        self._anew = self._again()
        return self._anew.carried_size()

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield it; Unavailable at the end of a large file that the disk has changed, which is dropped."""
        if self._anew is not None:
            yield from self._anew.pieces(offset)
            return
        if self._file is None:
            return
        sha256, last = hashlib.sha256(), b""
        with self._file as file:
            file.seek(offset)
            while piece := file.read(CHUNK_BYTES):
                sha256.update(piece)
                if last:
                    yield last
                last = piece
        if offset == 0 and sha256.digest() != self._kept.carried_sha256:
            self._cache.drop_damaged(self._key, self._kept)
            raise Unavailable("cannot send an object: the relay's disk has damaged it; it is dropped", code="cut-off")
        if last:
            yield last

    def _proven(self, file: BufferedReader) -> bool:
        return hashlib.file_digest(file, "sha256").digest() == self._kept.carried_sha256


class Flight:
    """One object on its way."""

    def __init__(self, path: Path, have: int) -> None:
        """Go on behind the `have` bytes that an earlier flight left in `path`."""
        self.path = path
        self.have = have
        self._size: int | None = None
        self._state = State.COMING
        self._changed = threading.Condition()

    def pauses(self) -> Iterator[None]:
        """Yield every PAUSE_S until the server has said the size, or it has ended."""
        while not self._wait(self._is_known, PAUSE_S):
            yield

    def carried_size(self) -> int | None:
        """Return the size as soon as the server has said it."""
        self._wait(self._is_known)
        with self._changed:
            return self._size if self._state is not State.ENDED else None

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield what is there and then what comes; no bytes every PAUSE_S in which none came."""
        with self._open() as file:
            at = offset
            while True:
                have, state = self._beyond(at)
                if at >= have and state is State.COMING:
                    yield b""
                while at < have:
                    file.seek(at)
                    piece = file.read(min(CHUNK_BYTES, have - at))
                    if not piece:
                        raise Unavailable("cannot send an object: the relay lost it", code="cut-off")
                    at += len(piece)
                    yield piece
                if state is State.DONE:
                    return
                if state is State.ENDED:
                    raise Unavailable("cannot send an object: it stopped coming from the server", code="cut-off")

    @property
    def over(self) -> bool:
        """Return whether nothing of it comes any more."""
        return self._state is not State.COMING

    def _beyond(self, at: int) -> tuple[int, State]:
        """Return how much may be sent and how it stands: when that is more than `at`, it has ended, or after PAUSE_S.

        The last byte goes out when the object is proven.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._proven() > at or self._state is not State.COMING, PAUSE_S)
            return self._proven(), self._state

    def _is_known(self) -> bool:
        return self._size is not None or self._state is not State.COMING

    def _wait(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    def _proven(self) -> int:
        if self._state is State.DONE or self._size is None or self.have < self._size:
            return self.have
        return max(0, self._size - 1)

    def _open(self) -> IO[bytes]:
        try:
            return self.path.open("rb")
        except FileNotFoundError:  # it is being taken into the cache; its new name comes with its end
            with self._changed:
                self._changed.wait_for(lambda: self._state is not State.COMING)
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            raise Unavailable("cannot send an object: the relay gave it up", code="cut-off") from None

    def learn_size(self, size: int) -> None:
        """Note what the server said of it."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def grow(self, count: int) -> None:
        """Note that `count` more bytes are in the file."""
        with self._changed:
            self.have += count
            self._changed.notify_all()

    def end(self, state: State, path: Path | None = None) -> None:
        """Let readers go; `path` is where the bytes are from now on. Only the first end counts."""
        with self._changed:
            if self._state is State.COMING:
                self._state, self.path = state, path or self.path
            self._changed.notify_all()
