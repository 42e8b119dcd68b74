"""A bundle as a source of objects: a file that a person brought, read where its headers say things are.

Nothing in it is believed for being there: the caller verifies statement, manifest and metadata, the store proves every
object, a delta is proven by what it makes. The file is opened for each look and closed again, so that a stick can be
pulled out at any time; then it brings nothing more, what came is kept, and the server brings the rest. Memory is 48
bytes for each object.
Not handled here: whether the whole file is good (`towpath.bundle.checking`, before anybody hands it in).
"""

from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from towpath.bundle.layout import MAX_METADATA_BYTES, MAX_STATEMENT_BYTES, Member, endless, garbled, walk
from towpath.dsse import MAX_ENVELOPE_BYTES
from towpath.errors import Broken, InputError, Unavailable
from towpath.wire import MAX_RELEASE_BYTES
from towpath_agent.ports import CHUNK_BYTES, Chunk, Source, Want
from towpath_agent.system.files import Files, OpenFile

_DIGEST_BYTES = 32
# What is no object: metadata, releases, manifests, indexes, deltas.
MAX_NAMED = 20_000
_OBJECTS = "objects/"
_LIMITS = {"metadata": MAX_METADATA_BYTES, "releases": MAX_RELEASE_BYTES, "manifests": MAX_ENVELOPE_BYTES}


class BundleFile:
    """The bundle at `path`."""

    def __init__(self, path: Path, files: Files) -> None:
        """Look at every header; InputError where it cannot be read, Refusal where it is no bundle or cut off."""
        self.path, self._files = path, files
        self._named: dict[str, Member] = {}
        self._digests, self._offsets, self._sizes = bytearray(), array("Q"), array("Q")
        self._bad: set[bytes] = set()
        with self._open() as file:
            members = walk(file.read_at, file.length())
            first = next(members, None)
            if first is None:
                raise garbled("it is empty")
            self.statement = _content(file, first, MAX_STATEMENT_BYTES)
            for member in members:
                self._note(member)

    def _open(self) -> OpenFile:
        return self._files.open_regular(self.path)

    def _note(self, member: Member) -> None:
        if not member.name.startswith(_OBJECTS):
            self._named[member.name] = member
            if len(self._named) > MAX_NAMED:
                raise endless("its list of members", len(self._named), MAX_NAMED)
            return
        digest = bytes.fromhex(member.name.removeprefix(_OBJECTS))
        if digest <= self._digests[-_DIGEST_BYTES:]:
            raise garbled(f"{member.name} is out of order")
        self._digests += digest
        self._offsets.append(member.offset)
        self._sizes.append(member.size)

    def manifest(self, host_id: str) -> bytes | None:
        """Return the envelope for a host, unverified; None where the bundle has none."""
        return self.file("manifests", host_id)

    def file(self, kind: str, name: str) -> bytes | None:
        """Return a file by kind ("metadata", "target", "manifests") and name, unverified; None where it has none."""
        folder = "releases" if kind == "target" else kind
        member = self._named.get(f"{folder}/{name}")
        if member is None:
            return None
        with self._open() as file:
            return _content(file, member, _LIMITS[folder])

    # -- objects and deltas

    def find(self, want: Want) -> Member | None:
        """Return where what is wanted is; None where it is not here, or was not what it had to be."""
        if want.digest in self._bad:
            return None
        if want.kind == "delta":
            return self._named.get(f"deltas/{want.base.hex()}/{want.digest.hex()}")
        if want.kind != "object":
            return None
        count = len(self._offsets)
        at = bisect_left(range(count), want.digest, key=self._digest)
        if at < count and self._digest(at) == want.digest:
            return Member("", self._offsets[at], self._sizes[at])
        return self._named.get(f"indexes/{want.digest.hex()}")

    def _digest(self, number: int) -> bytes:
        return bytes(self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES])

    def give_up(self, digest: bytes) -> None:
        """Bring this object, or the delta to this index, no more."""
        self._bad.add(digest)

    def chunks(self, number: int, want: Want, member: Member) -> Iterator[Chunk]:
        """Yield what is wanted from its offset on; Unavailable where the file cannot be read any more."""
        at, size = min(want.offset, member.size), member.size
        try:
            with self._open() as file:
                if at >= size:
                    yield Chunk(number, b"", last=True, carried_size=size, near=True)
                while at < size:
                    data = file.read_at(member.offset + at, min(CHUNK_BYTES, size - at))
                    if not data:
                        raise _gone(self.path)
                    at += len(data)
                    yield Chunk(number, data, at >= size, carried_size=size, near=True)
        except (InputError, Broken) as error:
            raise _gone(self.path) from error


def _content(file: OpenFile, member: Member, limit: int) -> bytes:
    if member.size > limit:
        raise endless(member.name, member.size, limit)
    data = bytearray()
    while len(data) < member.size:
        piece = file.read_at(member.offset + len(data), member.size - len(data))
        if not piece:
            raise _gone(file.path)
        data += piece
    return bytes(data)


def _gone(path: Path) -> Unavailable:
    return Unavailable(
        f"cannot read the bundle {path} any more: was it taken out? put it back, or apply it again", code="bundle-gone"
    )


class _BundleFirst:
    """Objects and deltas out of a bundle where it has them, of the server where not."""

    def __init__(self, bundle: BundleFile, server: Source) -> None:
        self._bundle, self._server = bundle, server
        self._brought: set[bytes] = set()

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """See `ports.Source.fetch`. The server is asked for nothing that the bundle has, and for the rest in runs.

        Where the bundle cannot be read any more the server goes on in its place; it is read again the next time.
        """
        self._brought.clear()
        run: list[tuple[int, Want]] = []
        gone: Unavailable | None = None
        for number, want in enumerate(wants):
            member = self._bundle.find(want) if gone is None else None
            if member is None:
                run.append((number, want))
                continue
            if run:
                yield from self._of_server(run)
                run = []
            self._brought.add(want.digest)
            at = want.offset
            try:
                for chunk in self._bundle.chunks(number, want, member):
                    at += len(chunk.data)
                    yield chunk
            except Unavailable as error:
                gone = error
                run.append((number, replace(want, offset=at)))
        if run:
            try:
                yield from self._of_server(run)
            except Unavailable as error:
                if gone is None:
                    raise
                # Of both ways the stick is the one that whoever reads this can do something about.
                raise gone from error

    def _of_server(self, run: Sequence[tuple[int, Want]]) -> Generator[Chunk, None, None]:
        with closing(self._server.fetch([want for _, want in run])) as chunks:
            for chunk in chunks:
                yield replace(chunk, want=run[chunk.want][0])

    def distrust(self, digest: bytes) -> bool:
        """See `ports.Source.distrust`: the server is the other way."""
        if digest in self._brought:
            self._bundle.give_up(digest)
            return True
        return self._server.distrust(digest)


def bundle_first(bundle: BundleFile, server: Source) -> Source:
    """Return a source that asks the server only for what the bundle lacks."""
    return _BundleFirst(bundle, server)
