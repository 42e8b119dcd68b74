"""Single flight: what many hosts want, an object or a delta, is fetched once, and each host is sent bytes as they come.

A flight is one object on its way: its bytes go to the partial file, readers follow. Several objects that one host asks
for and nobody fetches yet share one call to the server. A flight goes on when the host that began it hangs up, and over
a cut of the line: it asks again from where it was, so that a cut does not send all hosts of a site to the server. What
could not go on waits in the partial file for whoever asks next.
Nothing is believed that the server did not send over mutual TLS; and an object that it sent is proven against the
digest before it is kept, so that a disk's or a server's damage is not passed on for ever. A delta is proven by hosts.
"""

import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, cast

import zstandard

from towpath.errors import TowpathError, Unavailable
from towpath_agent.ports import CHUNK_BYTES, Chunk, Want
from towpath_relay.cache import SYNC_BYTES, Cache, NoRoom, carried_digest
from towpath_relay.releases import Releases
from towpath_relay.sources import Flight, Lacking, Source, State, Unneeded, Whole

# As the agent's own: a frame that asks for more memory is not a release's object.
WINDOW_BYTES = 8 * 2**20
MAX_CONTENT_BYTES = 64 * 2**30
UPLINK_CALLS = 4
# A cut is tried again at once and then ever more seldom, where the line brought something shortly before: in all for
# less than a host waits for bytes. A line that is down is none to wait for: hosts have the server's own address.
AGAIN_S = (0.1, 0.5, 1.0, 2.0, 4.0)
LIVELY_S = 30.0
MOST_TOO_LARGE = 10_000

logger = logging.getLogger(__name__)
Fetch = Callable[[Sequence[Want]], Generator[Chunk, None, None]]


def key_of(want: Want) -> bytes:
    """Return the name in the cache of what a host wants: an object's digest, or one of a delta's two."""
    if want.kind == "object":
        return want.digest
    kind = b"opened\0" if want.opened else b"delta\0"
    return hashlib.sha256(kind + want.base + want.digest).digest()


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A flight of one call: its name in the cache, and what the server is asked for."""

    key: bytes
    flight: Flight
    want: Want


class Flights:
    """All that a relay has: what is in the cache and what is on its way."""

    def __init__(self, cache: Cache, fetch: Fetch) -> None:
        """Fetch with `fetch`, at most UPLINK_CALLS calls at once."""
        self._cache, self._fetch = cache, fetch
        self._releases = Releases(cache)
        self._calls = ThreadPoolExecutor(UPLINK_CALLS, "uplink")
        self._lock = threading.Lock()
        self._flying: dict[bytes, Flight] = {}  # by `key_of`, as everything here
        self._too_large: set[bytes] = set()  # asking for one anew would cost its first piece each time
        self._closed = threading.Event()
        self._came_s = self._heard_s = -LIVELY_S
        self.fetched_bytes = 0

    def stop(self) -> None:
        """Try no cut call again."""
        self._closed.set()

    def close(self) -> None:
        """Take nothing new; what comes ends with the channel."""
        self.stop()
        self._calls.shutdown(wait=True, cancel_futures=True)

    def lively(self) -> bool:
        """Return whether the line brings things, or is held back after it did: what waits for it has its turn."""
        return time.monotonic() - self._heard_s < LIVELY_S

    def sources(self, wants: Sequence[Want]) -> list[Source]:
        """Return where each comes from; what nobody fetches yet is asked for in one call, in this order."""
        needless = {key_of(want) for want in wants if want.kind == "delta" and self._needless(want)}
        found: list[Source] = []
        fresh: list[_Awaited] = []
        with self._lock:
            for want in wants:
                key = self._key(want)
                if key in self._too_large:
                    found.append(Lacking())
                    continue
                if key in needless:
                    found.append(Unneeded())
                    continue
                flight = self._flying.get(key)
                if flight is None and (kept := self._cache.find(key)) is not None:
                    found.append(Whole(self._cache, key, kept, partial(self._again, want)))
                    continue
                if flight is None:
                    have = self._cache.begin(key)
                    flight = self._flying[key] = Flight(self._cache.partial(key), have)
                    fresh.append(_Awaited(key, flight, want))
                found.append(flight)
        if fresh:
            self._calls.submit(self._fly, fresh)
        return found

    def _needless(self, want: Want) -> bool:
        """Return whether a delta is neither here nor needed: fetching it would cost the line bytes for nothing."""
        with self._lock:
            key = self._key(want)
            if key in self._flying or self._cache.find(key) is not None:
                return False
        return self._releases.whole(want.digest)

    def _again(self, want: Want) -> Source:
        (source,) = self.sources([want])
        return source

    def _key(self, want: Want) -> bytes:
        """Return under which name it is; a plain delta that is here is better than one that is not."""
        key = key_of(want)
        if want.opened and key not in self._flying and self._cache.find(key) is None:
            plain = key_of(replace(want, opened=False))
            return plain if self._cache.find(plain) is not None else key
        return key

    def _fly(self, awaited: "list[_Awaited]") -> None:
        """Fetch them all; whatever happens, each ends."""
        try:
            self._bring(awaited)
        except TowpathError as error:
            logger.warning("%s", error)
        except OSError as error:
            logger.warning("cannot keep what comes: %s; look at the disk of the relay", error.strerror or error)
            for one in awaited:
                self._cache.partial(one.key).unlink(missing_ok=True)
        finally:
            self._end(awaited)

    def _end(self, awaited: "Sequence[_Awaited]") -> None:
        with self._lock:
            for one in awaited:
                one.flight.end(State.ENDED)
                if self._flying.get(one.key) is one.flight:
                    del self._flying[one.key]
                    self._cache.pause(one.key)

    def _bring(self, awaited: "Sequence[_Awaited]") -> None:
        """Fetch over cuts, as long as that brings something now and then; Unavailable where it does not."""
        tries = 0
        while left := [one for one in awaited if not one.flight.over]:
            before = self.fetched_bytes
            try:
                self._receive(left)
            except NoRoom as error:  # the others are asked for once more, without it
                logger.warning("%s", error)
            except Unavailable as error:
                tries = 0 if self.fetched_bytes > before else tries + 1
                lively = time.monotonic() - self._came_s < LIVELY_S
                if not lively or tries >= len(AGAIN_S):
                    raise
                logger.warning("%s; trying again", error)
                if self._closed.wait(AGAIN_S[tries] * random.uniform(0.5, 1.0)):
                    raise
            else:
                return

    def _expect(self, one: "_Awaited", size: int) -> None:
        """Make room; NoRoom where there is none, and nobody waits for it any more."""
        try:
            self._cache.expect(one.key, size)
        except NoRoom:
            if size > self._cache.max_bytes and len(self._too_large) < MOST_TOO_LARGE:
                self._too_large.add(one.key)
            self._end([one])
            raise

    def _receive(self, awaited: "Sequence[_Awaited]") -> None:
        file: IO[bytes] | None = None
        stream = self._fetch([replace(one.want, offset=one.flight.have) for one in awaited])
        try:
            for chunk in stream:
                self._heard_s = time.monotonic()
                if chunk.is_pause:
                    continue
                one = awaited[chunk.want]
                key, flight = one.key, one.flight
                if chunk.missing:
                    flight.end(State.ENDED)
                    continue
                if file is None:
                    self._expect(one, max(chunk.carried_size, flight.have))
                    file = flight.path.open("ab")
                    flight.learn_size(chunk.carried_size)
                file.write(chunk.data)
                file.flush()
                if (flight.have + len(chunk.data)) // SYNC_BYTES > flight.have // SYNC_BYTES:
                    os.fdatasync(file.fileno())
                self.fetched_bytes += len(chunk.data)
                self._came_s = time.monotonic()
                flight.grow(len(chunk.data))
                if chunk.last:
                    file.close()
                    file = None
                    self._land(key, flight, proven=one.want.kind == "object")
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
