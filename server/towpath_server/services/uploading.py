"""Objects on their way in: one stream may bring many, and they become visible in batches.

A batch shares its waits for the disk (`Blobs.publish`). Of a stream that breaks, only the object inside which it broke
is forgotten; a repeated upload sends the rest. A server that is killed loses what a few seconds brought.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

from towpath.errors import InputError, Refusal, TowpathError
from towpath.index import MAX_TREE_BYTES
from towpath_server.ports import Blobs, BlobWriter

BATCH_OBJECTS = 512
BATCH_BYTES = 256 * 2**20
BATCH_MS = 5_000
DIGEST_BYTES = 32


class Intake:
    """One upload stream. Not on the storage thread: it waits for the disk. `abort` may come from another thread."""

    def __init__(self, blobs: Blobs, now_ms: Callable[[], float]) -> None:
        """`now_ms`: a clock that only goes on, milliseconds."""
        self._blobs, self._now_ms = blobs, now_ms
        self._since_ms = now_ms()
        self._writer: BlobWriter | None = None
        self._finished: list[BlobWriter] = []
        self._bytes = 0
        self._stored = 0
        self._lock = threading.Lock()
        self._aborted = False

    def take(self, digest: bytes, size: int, data: bytes, *, last: bool) -> None:
        """Take one message: `digest` and `size` come on the first of each object. Refusal for what cannot be it."""
        with self._lock:
            self._take(digest, size, data, last=last)

    def _take(self, digest: bytes, size: int, data: bytes, *, last: bool) -> None:
        if self._aborted:
            raise InputError("cannot store the object: the stream was given up")
        if self._writer is None:
            if len(digest) != DIGEST_BYTES or size > MAX_TREE_BYTES:
                raise Refusal("cannot store the object: its digest or its size is unusable", code="garbled")
            self._writer = self._blobs.writer(digest, size)
        elif digest:
            raise Refusal("cannot store the object: another one begins before it ended", code="garbled")
        self._writer.write(data)
        self._bytes += len(data)
        if last:
            self._writer.finish()
            self._finished.append(self._writer)
            self._writer = None
            many = len(self._finished) >= BATCH_OBJECTS or self._bytes >= BATCH_BYTES
            if many or self._now_ms() - self._since_ms >= BATCH_MS:
                self._publish()

    def end(self) -> int:
        """Publish the rest; return how many objects were new. InputError where the last one is cut off."""
        with self._lock:
            if self._writer is not None:
                raise InputError("cannot store the object: the stream ended inside it; upload it again")
            self._publish()
            return self._stored

    def _publish(self) -> None:
        self._stored += self._blobs.publish(self._finished)
        self._finished = []
        self._bytes = 0
        self._since_ms = self._now_ms()

    def abort(self) -> None:
        """Publish what is whole, as far as that can be, and forget the rest. Harmless after `end`."""
        with self._lock:
            self._aborted = True
            with suppress(TowpathError, OSError):
                self._publish()
            for writer in (*self._finished, *([self._writer] if self._writer is not None else [])):
                writer.abort()
            self._finished = []
            self._writer = None
