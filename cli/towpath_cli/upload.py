"""Getting a tree's objects to the server: only what it lacks, each as one zstandard frame, with flat memory.

An upload that breaks off is taken up again: the server keeps every object that arrived whole, and is asked anew.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import zstandard

from towpath.errors import Unavailable
from towpath_cli.model import Piece
from towpath_cli.tree import WORKERS, Content, Progress, Tree

LEVEL = 3
SMALL_BYTES = 2**20
PIECE_BYTES = 256 * 1024
ATTEMPTS = 4
RETRY_SECONDS = 1.0


class ObjectStore(Protocol):
    """The part of a server that takes objects."""

    def find_missing(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return which of these objects the server lacks."""
        ...

    def upload(self, pieces: Iterable[Piece]) -> int:
        """Send objects; return how many were stored. Objects sent whole before a failure are kept."""
        ...


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What travelled: how many of all objects, and their bytes before and after compression."""

    objects: int
    of_objects: int
    size: int
    carried: int


def pieces(contents: Iterable[Content], progress: Progress, workers: int = WORKERS) -> Iterator[Piece]:
    """Yield the carried form of each content, in order; `progress` is called with uncompressed bytes.

    Small contents are packed side by side, a few of them ahead. A large one is streamed: zstandard's own threads would
    take a hundred megabytes and save a fifth of the time.
    """
    mine = threading.local()

    def packed(data: bytes) -> bytes:
        if not hasattr(mine, "packer"):
            mine.packer = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        frame: bytes = mine.packer.compress(data)
        return frame

    ahead: deque[tuple[Content, Future[bytes]]] = deque()
    with ThreadPoolExecutor(workers, "pack") as pool:
        for content in contents:
            if content.size <= SMALL_BYTES:
                data = b"".join(content.chunks)
                progress(len(data))
                ahead.append((content, pool.submit(packed, data)))
            while ahead and (len(ahead) > 2 * workers or content.size > SMALL_BYTES):
                yield from _cut(*ahead.popleft())
            if content.size > SMALL_BYTES:
                yield from _streamed(content, progress)
        while ahead:
            yield from _cut(*ahead.popleft())


def _cut(content: Content, frame: Future[bytes]) -> Iterator[Piece]:
    data = frame.result()
    for at in range(0, len(data), PIECE_BYTES):
        piece = data[at : at + PIECE_BYTES]
        yield Piece(content.sha256, content.size, piece, first=at == 0, last=at + len(piece) == len(data))


def _streamed(content: Content, progress: Progress) -> Iterator[Piece]:
    frame = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compressobj(size=content.size)
    ready = bytearray()
    first = True
    for chunk in content.chunks:
        ready += frame.compress(chunk)
        progress(len(chunk))
        while len(ready) > PIECE_BYTES:
            yield Piece(content.sha256, content.size, bytes(ready[:PIECE_BYTES]), first, last=False)
            del ready[:PIECE_BYTES]
            first = False
    ready += frame.flush()
    while len(ready) > PIECE_BYTES:
        yield Piece(content.sha256, content.size, bytes(ready[:PIECE_BYTES]), first, last=False)
        del ready[:PIECE_BYTES]
        first = False
    yield Piece(content.sha256, content.size, bytes(ready), first, last=True)


def upload_tree(
    store: ObjectStore,
    tree: Tree,
    *,
    show: Callable[[int], AbstractContextManager[Progress]],
    sleep: Callable[[float], None],
) -> Uploaded:
    """Send what `store` lacks of `tree`. `show(total)` gives the progress function of one attempt."""
    sizes = tree.objects()
    carried = 0

    def counted(parts: Iterable[Piece]) -> Iterator[Piece]:
        nonlocal carried
        for piece in parts:
            carried += len(piece.data)
            yield piece

    first: set[bytes] | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            missing = {digest for digest in store.find_missing(list(sizes)) if digest in sizes}
            first = missing if first is None else first
            total = sum(sizes[digest] for digest in missing)
            if missing:
                with show(total) as progress:
                    store.upload(counted(pieces(tree.contents(missing), progress)))
            return Uploaded(len(first), len(sizes), sum(sizes[digest] for digest in first), carried)
        except Unavailable:
            # The first question unanswered: nobody is there, and that is said at once.
            if first is None or attempt == ATTEMPTS:
                raise
            sleep(RETRY_SECONDS * attempt)
    raise AssertionError("the last attempt returns or raises")
