"""Single flight: what many hosts want, an object or a delta, is fetched once, and each host is sent bytes as they come.

A flight is one object on its way: its bytes go to the partial file, readers follow. Several objects that one host asks
for and nobody fetches yet share one call to the server. A flight goes on when the host that began it hangs up; what was
cut off waits in the partial file and goes on from there when somebody asks again.
Nothing is believed that the server did not send over mutual TLS; and an object that it sent is proven against the
digest before it is kept, so that a disk's or a server's damage is not passed on for ever. A delta is proven by hosts.
"""

import enum
import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol, cast

import zstandard

from towpath.errors import TowpathError, Unavailable
from towpath_agent.ports import CHUNK_BYTES, Chunk, Want
from towpath_relay.cache import Cache, Kept, carried_digest

# As the agent's own: a frame that asks for more memory is not a release's object.
WINDOW_BYTES = 8 * 2**20
MAX_CONTENT_BYTES = 64 * 2**30
UPLINK_CALLS = 4

logger = logging.getLogger(__name__)
Fetch = Callable[[Sequence[Want]], Generator[Chunk, None, None]]


class Source(Protocol):
    """One object that can be sent."""

    def carried_size(self) -> int | None:
        """Return the bytes of the carried form, None where the object cannot be had here. May block."""
        ...

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield the carried bytes from `offset` on. May block; raises Unavailable where they stop coming."""
        ...


class State(enum.Enum):
    """Where a flight is."""

    COMING = "coming"
    DONE = "done"
    ENDED = "ended"  # missing at the server, or cut off


class Whole:
    """An object in the cache; its carried digest is checked while it is sent from its beginning."""

    def __init__(self, cache: Cache, digest: bytes, kept: Kept) -> None:
        """Hold what `Cache.find` returned."""
        self._cache, self._digest, self._kept = cache, digest, kept
        self._file: IO[bytes] | None = None

    def carried_size(self) -> int | None:
        """Return its size."""
        try:
            self._file = self._kept.path.open("rb")
        except OSError:
            self._cache.drop(self._digest)
            return None
        return self._kept.size

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield it; Unavailable at the end of a file that the disk has changed, which is dropped."""
        if self._file is None:
            return
        sha256 = hashlib.sha256()
        with self._file as file:
            file.seek(offset)
            while piece := file.read(CHUNK_BYTES):
                sha256.update(piece)
                yield piece
        if offset == 0 and sha256.digest() != self._kept.carried_sha256:
            self._cache.drop(self._digest)
            raise Unavailable("cannot send an object: the relay's disk has damaged it; it is dropped", code="cut-off")


class Flight:
    """One object on its way."""

    def __init__(self, path: Path, have: int) -> None:
        """Go on behind the `have` bytes that an earlier flight left in `path`."""
        self.path = path
        self.have = have
        self._size: int | None = None
        self._state = State.COMING
        self._changed = threading.Condition()

    def carried_size(self) -> int | None:
        """Return the size as soon as the server has said it."""
        with self._changed:
            self._changed.wait_for(lambda: self._size is not None or self._state is not State.COMING)
            return self._size if self._state is not State.ENDED else None

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Yield what is there and then what comes."""
        with self._open() as file:
            at = offset
            while True:
                have, state = self._beyond(at)
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

    def _beyond(self, at: int) -> tuple[int, State]:
        """Return how much is there and how the flight stands, as soon as that is more than `at` or it has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self.have > at or self._state is not State.COMING)
            return self.have, self._state

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


def key_of(want: Want) -> bytes:
    """Return the name in the cache of what a host wants: an object's digest, or one of a delta's two."""
    if want.kind == "object":
        return want.digest
    kind = b"opened\0" if want.opened else b"delta\0"
    return hashlib.sha256(kind + want.base + want.digest).digest()


class Flights:
    """All that a relay has: what is in the cache and what is on its way."""

    def __init__(self, cache: Cache, fetch: Fetch) -> None:
        """Fetch with `fetch`, at most UPLINK_CALLS calls at once."""
        self._cache, self._fetch = cache, fetch
        self._calls = ThreadPoolExecutor(UPLINK_CALLS, "uplink")
        self._lock = threading.Lock()
        self._flying: dict[bytes, Flight] = {}  # by `key_of`, as everything here
        self.fetched_bytes = 0

    def close(self) -> None:
        """Take nothing new; what comes ends with the channel."""
        self._calls.shutdown(wait=True, cancel_futures=True)

    def sources(self, wants: Sequence[Want]) -> list[Source]:
        """Return where each comes from; what nobody fetches yet is asked for in one call, in this order."""
        found: list[Source] = []
        fresh: dict[bytes, Flight] = {}
        asked: list[Want] = []
        with self._lock:
            for want in wants:
                key = self._key(want)
                flight = self._flying.get(key)
                if flight is None and (kept := self._cache.find(key)) is not None:
                    found.append(Whole(self._cache, key, kept))
                    continue
                if flight is None:
                    have = self._cache.begin(key)
                    flight = self._flying[key] = fresh[key] = Flight(self._cache.partial(key), have)
                    asked.append(replace(want, offset=have))
                found.append(flight)
        if fresh:
            self._calls.submit(self._fly, fresh, asked)
        return found

    def _key(self, want: Want) -> bytes:
        """Return under which name it is; a plain delta that is here is better than one that is not."""
        key = key_of(want)
        if want.opened and key not in self._flying and self._cache.find(key) is None:
            plain = key_of(replace(want, opened=False))
            return plain if self._cache.find(plain) is not None else key
        return key

    def _fly(self, flights: dict[bytes, Flight], asked: Sequence[Want]) -> None:
        """Fetch them all; whatever happens, each ends."""
        try:
            self._receive(list(flights.items()), asked)
        except TowpathError as error:
            logger.warning("%s", error)
        except OSError as error:
            logger.warning("cannot keep what comes: %s; look at the disk of the relay", error.strerror or error)
            for digest in flights:
                self._cache.partial(digest).unlink(missing_ok=True)
        finally:
            with self._lock:
                for digest, flight in flights.items():
                    flight.end(State.ENDED)
                    if self._flying.get(digest) is flight:
                        del self._flying[digest]
                        self._cache.pause(digest)

    def _receive(self, flights: Sequence[tuple[bytes, Flight]], asked: Sequence[Want]) -> None:
        file: IO[bytes] | None = None
        stream = self._fetch(asked)
        try:
            for chunk in stream:
                if chunk.is_pause:
                    continue
                key, flight = flights[chunk.want]
                if chunk.missing:
                    flight.end(State.ENDED)
                    continue
                if file is None:
                    self._cache.expect(key, max(chunk.carried_size, flight.have))
                    file = flight.path.open("ab")
                    flight.learn_size(chunk.carried_size)
                file.write(chunk.data)
                file.flush()
                self.fetched_bytes += len(chunk.data)
                flight.grow(len(chunk.data))
                if chunk.last:
                    file.close()
                    file = None
                    self._land(key, flight, proven=asked[chunk.want].kind == "object")
        finally:
            if file is not None:
                file.close()
            stream.close()

    def _land(self, key: bytes, flight: Flight, *, proven: bool) -> None:
        """Prove an object that came whole, and keep it; or drop it, and let its readers find out by its digest."""
        carried = _carried_digest_of(flight.path, key) if proven else carried_digest(flight.path)
        if carried is None:
            self._cache.partial(key).unlink(missing_ok=True)
            flight.end(State.ENDED)
            logger.warning("object %s came with another digest; it is not kept", key.hex()[:16])
            return
        with self._lock:
            kept = self._cache.keep(key, carried)
            self._flying.pop(key, None)
        flight.end(State.DONE, kept.path)


class _Read:
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _carried_digest_of(path: Path, digest: bytes) -> bytes | None:
    """Return the SHA-256 of the carried form, or None where its content has not the digest `digest`."""
    content, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        carried = _Read(file)
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(cast("IO[bytes]", carried))
        try:
            while piece := reader.read(CHUNK_BYTES):
                content.update(piece)
                size += len(piece)
                if size > MAX_CONTENT_BYTES:
                    return None
        except zstandard.ZstdError:
            return None
        while carried.read(CHUNK_BYTES):
            pass
    return carried.sha256.digest() if content.digest() == digest else None
