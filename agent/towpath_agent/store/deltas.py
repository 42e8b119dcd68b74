"""A delta between two releases on its way in: first all of its bytes, then what it makes. It is never trusted.

    store/deltas/<old index, hex>-<new index, hex>           carried bytes, of a fetch that was cut off too
    store/deltas/<old index, hex>-<new index, hex>.refused   the name of what was wrong: it is not asked for again

Rules: a cut-off fetch goes on at the byte where it was, in this process or a later one. Nothing is applied before every
byte is here, so a bad line costs no work twice. What is wrong with bytes that an earlier attempt left may be a flipped
bit or another delta of the same name: they are dropped and fetched once more; what is wrong from the first byte is the
server's doing. How much may be carried and made is the caller's word, which stands on signed sizes. Whatever becomes of
a delta, the objects can be fetched whole: a server that has none, knows none or breaks off at once is no trouble.
Not handled here: which releases, and what is wanted of the new one (`runner.fetching`).
"""

import hashlib
from collections.abc import Callable, Container, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from towpath.delta.closing import is_usual
from towpath.delta.layout import corrupt, endless
from towpath.errors import Refusal, Unavailable
from towpath_agent.ports import Chunk, Source, Want
from towpath_agent.store.applying import Applying
from towpath_agent.store.opening import Room, Stopped
from towpath_agent.system.files import Files, OpenFile

PIECE_BYTES = 64 * 1024
_REFUSED = ".refused"


class Taken(Enum):
    """What became of an attempt to use a delta."""

    APPLIED = auto()  # the new index is in the store, and what else it made
    NONE = auto()  # there is none to be had: fetch the objects
    INTERRUPTED = auto()  # go on later, nothing is lost


@dataclass(frozen=True, slots=True)
class Pair:
    """From which release to which, by the digests of their indexes. `base`: (digest, size) of what the old one has."""

    old: bytes
    new: bytes
    base: Sequence[tuple[bytes, int]]

    @property
    def name(self) -> str:
        """Return the name of its files."""
        return f"{self.old.hex()}-{self.new.hex()}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most bytes that a delta may make, and that it may come in: what the objects would cost at most."""

    made: int
    carried: int


class Deltas:
    """Deltas below `root`, applied to a store."""

    def __init__(
        self, root: Path, files: Files, path: Callable[[bytes], Path], over: Callable[[Source], Source]
    ) -> None:
        """`path` is where an object is or belongs; `over`: see `Store`. The folder is made when it is needed."""
        self._root, self._files, self._path, self._over = root, files, path, over
        self.received_bytes = 0

    def is_refused(self, pair: Pair) -> bool:
        """Return whether a delta of this pair was wrong before."""
        return self._files.exists(self._root / f"{pair.name}{_REFUSED}")

    def take(
        self, pair: Pair, server: Source, bounds: Bounds, *, lacking: Callable[[], int], interrupted: Callable[[], bool]
    ) -> Taken:
        """Fetch the delta of `pair` and apply it; the store has all of `pair.base`.

        `lacking` is asked once the new index is here: how many of its objects are not. Unavailable: it was cut off, go
        on later. Refusal: it is wrong, which is remembered, or the base is damaged; in both cases it is gone.
        """
        if self.is_refused(pair):
            return Taken.NONE
        carried = self._root / pair.name
        self._files.make_dirs(self._root, 0o700)
        while True:
            resumed = self._files.exists(carried)
            try:
                taken = self._fetch(_Coming(self._files, carried, pair, bounds), server, interrupted)
                if taken is Taken.APPLIED:
                    taken = self._apply(pair, carried, bounds.made, interrupted)
                if taken is Taken.APPLIED and (count := lacking()):
                    raise corrupt(f"it made {count} objects other than they are signed")
            except Refusal as wrong:
                self._files.remove(carried)
                if not resumed and not (self._has_whole_base(pair) and server.distrust(pair.new)):
                    raise self._blame(pair, wrong) from wrong
                continue
            if taken is Taken.APPLIED:
                self._files.remove(carried)
            return taken

    def _fetch(self, coming: "_Coming", server: Source, interrupted: Callable[[], bool]) -> Taken:
        try:
            return coming.run(self._over(server), interrupted)
        finally:
            self.received_bytes += coming.received

    def _blame(self, pair: Pair, wrong: Refusal) -> Refusal:
        """Return what to tell of a delta that made something wrong, and remember that, unless the base was damaged.

        Objects of the base that are not what their names say are removed: they are fetched again when they are needed.
        """
        damaged = [digest for digest, _ in pair.base if not self._is_whole(digest)]
        for digest in damaged:
            self._files.remove(self._path(digest))
        if damaged:
            return Refusal(
                f"cannot use a delta: {len(damaged)} objects of the release that it starts from were damaged on disk; "
                "the new ones are fetched whole",
                code="damaged-base",
            )
        self._files.make_dirs(self._root, 0o700)
        self._files.write_atomic(self._root / f"{pair.name}{_REFUSED}", wrong.code.encode())
        return wrong

    def prune(self, keep: Container[bytes]) -> int:
        """Forget bytes that were left, and refusals of pairs whose old index is not in `keep`; return how many.

        Called only while nothing is being fetched.
        """
        gone = [
            name
            for name in self._files.listdir(self._root)
            if not (name.endswith(_REFUSED) and is_named(name.partition("-")[0], keep))
        ]
        for name in gone:
            self._files.remove(self._root / name)
        return len(gone)

    def _has_whole_base(self, pair: Pair) -> bool:
        return all(self._is_whole(digest) for digest, _ in pair.base)

    def _is_whole(self, digest: bytes) -> bool:
        sha256 = hashlib.sha256()
        try:
            with self._files.open_read(self._path(digest)) as source:
                for block in source.blocks():
                    sha256.update(block)
        except FileNotFoundError:
            return False
        return sha256.digest() == digest

    def _apply(self, pair: Pair, carried: Path, limit: int, interrupted: Callable[[], bool]) -> Taken:
        scratch = self._root / "making"
        applying = Applying(
            self._files, pair.base, limit=limit, path=self._path, scratch=scratch, interrupted=interrupted
        )
        try:
            with self._files.open_read(carried) as source:
                while piece := source.read(PIECE_BYTES):
                    if interrupted():
                        return Taken.INTERRUPTED
                    applying.feed(piece)
            if pair.new not in applying.finish():
                raise corrupt("it makes another release than the signed one")
        except Stopped:
            return Taken.INTERRUPTED
        except Room:
            self._files.remove(carried)
            return Taken.NONE
        finally:
            applying.close()
        return Taken.APPLIED


def is_named(name: str, digests: Container[bytes]) -> bool:
    """Return whether a file's name is one of `digests`, in hex; a stranger's is none."""
    try:
        return bytes.fromhex(name) in digests
    except ValueError:
        return False


class _Coming:
    """One call that brings the bytes of a delta."""

    def __init__(self, files: Files, carried: Path, pair: Pair, bounds: Bounds) -> None:
        self._files, self._carried, self._pair, self._bounds = files, carried, pair, bounds
        self._kept = files.size(carried) if files.exists(carried) else 0
        self.received = 0
        self._promised = -1

    def run(self, server: Source, interrupted: Callable[[], bool]) -> Taken:
        """Receive until every byte is here: APPLIED stands for that."""
        if self._kept > self._bounds.carried:
            raise endless(f"{self._kept} bytes of it are here, the objects need {self._bounds.carried} at most")
        want = Want("delta", digest=self._pair.new, base=self._pair.old, offset=self._kept, opened=is_usual())
        out: OpenFile | None = None
        try:
            with closing(server.fetch([want])) as stream:  # closing ends the call where this stops early
                while not interrupted():
                    chunk = self._next(stream.__next__)
                    if chunk is not None and chunk.is_pause:
                        continue
                    if chunk is None or (self._promised < 0 and not self._begins(chunk)):
                        return Taken.NONE
                    self._check(chunk)
                    if chunk.data:
                        out = out or self._files.open_append(self._carried, 0o600)
                        out.write(chunk.data)
                    if chunk.last:
                        return Taken.APPLIED
                return Taken.INTERRUPTED
        finally:
            if out is not None:
                out.close()

    def _next(self, take: Callable[[], Chunk]) -> Chunk | None:
        """Return the next chunk; None where this server has no delta for us, whatever the reason."""
        try:
            chunk = take()
        except (Refusal, StopIteration):  # what a server refuses beside that it refuses of the objects too
            return None
        except Unavailable:
            if self.received:
                raise
            return None
        return None if chunk.missing else chunk

    def _begins(self, chunk: Chunk) -> bool:
        """Take note of the size that the server promises; return whether there is room for it and what it makes."""
        self._promised = chunk.carried_size
        if not self._promised:
            raise corrupt("it is empty")
        if self._promised > self._bounds.carried:
            raise endless(f"it has {self._promised} bytes, the objects need {self._bounds.carried} at most")
        # The objects, and the tree that they become.
        needed = self._promised - self._kept + 2 * self._bounds.made
        return self._files.disk_free(self._carried) >= needed

    def _check(self, chunk: Chunk) -> None:
        self.received += len(chunk.data)
        total = self._kept + self.received
        if total > self._promised:
            raise corrupt(f"it is longer than the {self._promised} bytes that the server promised")
        if chunk.last and total != self._promised:
            raise corrupt(f"it ends after {total} of {self._promised} bytes")
