"""The store: obtaining objects by digest from a server, and handing out their content.

    store/objects/<digest, hex>   the content, uncompressed (flat: a folder holds 200,000 names well, while making a
                                  fan-out folder costs an fsync each)
    store/partial/<digest, hex>   carried bytes of a fetch that was cut off
    store/deltas/                 deltas on their way in (`deltas`)

Rules: a name is a claim, the digest is the proof. Content is hashed while it comes and again whenever it is used
(`read`, `materialise`). So nothing here is synced: what a power cut damages is found by its size or its digest and
fetched again, and the installer syncs the tree that it makes. Memory does not grow with the size of an object. Sizes
are the signed ones (of the index, or of the release that names the index); a server's word on them counts for nothing.
One Store per folder, one thread at a time; the agent's lock sees to the first. In mid-fetch the same thread may fetch
other objects (what is due goes on while something is fetched ahead), never the same ones.
Not handled here: deadlines and least rates (the transport alone can end a blocked read), which objects are wanted,
space.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from towpath.errors import Refusal, Unavailable
from towpath.objects import Objects
from towpath_agent.ports import MAX_WANTS, Chunk, Source, Want
from towpath_agent.store.deltas import Deltas, is_named
from towpath_agent.store.incoming import BadObject, Incoming
from towpath_agent.system.files import Files

# A first mismatch may be a flipped bit; a second one, with no other way to go, is the server's doing.
MAX_ATTEMPTS = 2


class ObjectMissing(Unavailable):
    """The store lacks the object, or had to give it up as damaged; fetching it again helps."""

    code = "missing-object"


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch did. `bytes_received` are carried bytes, those of failed attempts included."""

    bytes_received: int = 0
    objects_received: int = 0
    interrupted: bool = False


def _never() -> bool:
    return False


def _as_it_is(source: Source) -> Source:
    return source


class Store:
    """Objects below `root`."""

    def __init__(self, root: Path, files: Files, over: Callable[[Source], Source] = _as_it_is) -> None:
        """Make the folders. Whatever comes of a source comes of `over` it: a limit on rates."""
        self._files, self._over = files, over
        self._objects = root / "objects"
        self._partial = root / "partial"
        self._coming: set[bytes] = set()
        self._own: set[bytes] = set()  # what this process left in partial files: it is as it was written
        for folder in (self._objects, self._partial):
            files.make_dirs(folder, 0o700)
        self.deltas = Deltas(root / "deltas", files, self.path, over)
        self._received = 0

    @property
    def received_bytes(self) -> int:
        """How many carried bytes came since this store was opened, of objects and of deltas."""
        return self._received + self.deltas.received_bytes

    def path(self, digest: bytes) -> Path:
        """Return where the object is, where it is there."""
        return self._objects / digest.hex()

    def missing(self, objects: Mapping[bytes, int]) -> Objects:
        """Return those of `objects` (digest to size) that must be fetched, in the same order.

        Of the others there are files of that size; content is proven when it is used.
        """
        return Objects(self._missing(objects))

    def missing_bytes(self, objects: Mapping[bytes, int]) -> int:
        """Return how many bytes of content those have together."""
        return sum(size for _, size in self._missing(objects))

    def _missing(self, objects: Mapping[bytes, int]) -> Iterator[tuple[bytes, int]]:
        """Yield them; each is looked for shortly before it is handed out."""
        named = iter(objects.items())
        while part := list(islice(named, MAX_WANTS)):
            here = self._files.sizes(self._objects, (digest.hex() for digest, _ in part))
            for (digest, size), its in zip(part, here, strict=True):
                if its != size:
                    yield digest, size

    # --- fetching -----------------------------------------------------------------------------------------------------

    def fetch(
        self, objects: Mapping[bytes, int], server: Source, *, interrupted: Callable[[], bool] = _never
    ) -> FetchResult:
        """Obtain what is missing of `objects` (digest to signed size), many per call, from where a fetch was cut off.

        Unavailable: try again later, every received byte is kept. Refusal: the server sent wrong bytes for an object
        twice (`corrupt-object`; `endless-data` where they would not end). ObjectMissing: the server lacks some; the
        others are here. `interrupted` is asked at each chunk; True ends the fetch with what it has.
        """
        missing = self._missing(objects)
        lacking: list[bytes] = []
        attempts: Counter[bytes] = Counter()
        received = done = 0
        batch: dict[bytes, int] = {}
        while self._fill(batch, missing):
            begun = frozenset(self._files.listdir(self._partial))
            call = _Call(partial(self._incoming, begun), batch, self._over(server), interrupted)
            coming = frozenset(batch)
            self._coming |= coming
            try:
                bad = call.run()
            finally:
                self._coming -= coming
                received += call.bytes_received
                self._received += call.bytes_received
                self._own = (self._own | call.begun) - set(call.complete)
            done += len(call.complete)
            for digest in (*call.complete, *call.lacking):
                del batch[digest]
            lacking += call.lacking
            if call.interrupted:
                return FetchResult(received, done, interrupted=True)
            # What is wrong with bytes of an earlier attempt says nothing of who sent the others; all are dropped.
            if bad is not None and not bad.resumed:
                attempts[bad.digest] += not server.distrust(bad.digest)
                if attempts[bad.digest] >= MAX_ATTEMPTS:
                    raise Refusal(
                        f"cannot accept object {bad.digest.hex()[:16]}: it {bad.reason}", code=bad.reason.code
                    ) from bad.reason
        if lacking:
            raise ObjectMissing(
                f"cannot fetch {len(lacking)} objects: the server does not have them (first {lacking[0].hex()[:16]})"
            )
        return FetchResult(received, done)

    def _fill(self, batch: dict[bytes, int], missing: Iterator[tuple[bytes, int]]) -> bool:
        """Add to `batch` of what is missing, up to what one call may ask for; return whether there is anything."""
        batch.update(islice(missing, MAX_WANTS - len(batch)))
        coming = self._coming & batch.keys()
        if coming:
            raise Unavailable(
                f"cannot fetch object {min(coming).hex()[:16]}: it is on its way already", code="on-its-way"
            )
        return bool(batch)

    def _incoming(self, begun: Collection[str], digest: bytes, size: int) -> Incoming:
        name = digest.hex()
        target, kept = self._objects / name, self._partial / name
        incoming = Incoming(self._files, digest, size, target=target, partial=kept, begun=name in begun)
        if incoming.offset and digest not in self._own:
            incoming.look_through()
        return incoming

    # --- using --------------------------------------------------------------------------------------------------------

    def read(self, digest: bytes, limit: int) -> bytes:
        """Return the content, proven; ObjectMissing where it is not there, damaged, or longer than `limit` bytes."""
        return b"".join(self.pieces(digest, limit))

    def pieces(self, digest: bytes, limit: int) -> Iterator[bytes]:
        """Yield the content, proven before the first byte of it; ObjectMissing as for `read`."""
        path = self.path(digest)
        try:
            whole = self.holds(path, digest, limit)
        except FileNotFoundError:
            raise self._gone(digest) from None
        if not whole:
            raise self._damaged(digest)
        with self._files.open_read(path) as source:
            yield from source.blocks()

    def holds(self, path: Path, digest: bytes, limit: int) -> bool:
        """Return whether a file, of the store or not, has that content and at most `limit` bytes."""
        return self._files.size(path) <= limit and self._digest_of(path) == digest

    def materialise(self, digest: bytes, dst: Path, mode: int) -> None:
        """Make `dst` a new file with the content, proven on what was written; ObjectMissing as for `read`.

        A copy or a reflink, never a hard link: a program that writes to its own files must not reach the store.
        """
        sha256 = hashlib.sha256()
        try:
            passed = self._files.copy(self.path(digest), dst, mode, sha256.update)
        except FileNotFoundError:
            raise self._gone(digest) from None
        if (sha256.digest() if passed else self._digest_of(dst)) != digest:
            self._files.remove(dst)
            raise self._damaged(digest)

    def prune(self, keep: Container[bytes]) -> int:
        """Remove every object and partial whose digest is not in `keep`, and left deltas; return how many went."""
        gone = self.deltas.prune(keep)
        for folder in (self._objects, self._partial):
            for name in sorted(name for name in self._files.names(folder) if not is_named(name, keep)):
                self._files.remove_tree(folder / name)
                gone += 1
        return gone

    def _digest_of(self, path: Path) -> bytes:
        sha256 = hashlib.sha256()
        with self._files.open_read(path) as source:
            for block in source.blocks():
                sha256.update(block)
        return sha256.digest()

    def _gone(self, digest: bytes) -> ObjectMissing:
        return ObjectMissing(f"cannot use object {digest.hex()[:16]}: it is not in the store; it is fetched again")

    def _damaged(self, digest: bytes) -> ObjectMissing:
        self._files.remove(self.path(digest))
        return ObjectMissing(f"cannot use object {digest.hex()[:16]}: it was damaged on disk; it is fetched again")


@dataclass(frozen=True, slots=True)
class _Bad:
    """An object that cannot be what was wanted; `resumed`: some of it came in an earlier attempt."""

    digest: bytes
    reason: BadObject
    resumed: bool


class _Call:
    """One Fetch call for a batch; says what became of each object."""

    def __init__(
        self,
        incoming: Callable[[bytes, int], Incoming],
        batch: Mapping[bytes, int],
        server: Source,
        interrupted: Callable[[], bool],
    ) -> None:
        self._receivers = [(digest, incoming(digest, size)) for digest, size in batch.items()]
        self._server = server
        self._interrupted = interrupted
        self.bytes_received = 0
        self.complete: list[bytes] = []
        self.lacking: list[bytes] = []
        self.begun: set[bytes] = set()
        self.interrupted = False

    def run(self) -> "_Bad | None":
        """Receive until all is there, `interrupted`, or an object is bad; return the bad one."""
        if self._interrupted():
            self.interrupted = True
            return None
        wants = [Want("object", digest=digest, offset=receiver.offset) for digest, receiver in self._receivers]
        with closing(self._server.fetch(wants)) as stream:  # closing ends the call where this stops early
            try:
                return self._receive(stream)
            finally:
                self.begun = {digest for digest, receiver in self._receivers if receiver.is_partial}
                for _, receiver in self._receivers:
                    receiver.pause()

    def _receive(self, stream: Iterator[Chunk]) -> "_Bad | None":
        for chunk in stream:
            digest, receiver = self._receivers[chunk.want]
            self.bytes_received += len(chunk.data)
            if chunk.missing:
                self.lacking.append(digest)
                continue
            try:
                if not chunk.is_pause:
                    receiver.feed(chunk.data, last=chunk.last)
            except BadObject as reason:
                bad = _Bad(digest, reason, resumed=receiver.offset > 0)
                receiver.drop()
                return bad
            if chunk.last:
                self.complete.append(digest)
            if self._interrupted() and len(self.complete) + len(self.lacking) < len(self._receivers):
                self.interrupted = True
                return None
        if len(self.complete) + len(self.lacking) < len(self._receivers):
            raise Unavailable("cannot fetch: the server ended the stream too early", code="cut-off")
        return None
