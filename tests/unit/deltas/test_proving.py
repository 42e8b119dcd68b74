"""A delta is proven against the objects that are here, and what is wrong with those says nothing of it."""

import os
import tempfile
import tracemalloc
from collections.abc import Iterator

import pytest

from fakes.deltas import make, named
from fakes.memory_server import MemoryBlobs
from towpath.errors import Broken, InputError, Refusal
from towpath_server.deltas.pairing import NewObject, Pairing
from towpath_server.deltas.proving import prove

OLD = [os.urandom(400_000), b"", os.urandom(90_000), b"the old index"]
NEW = [b"", OLD[2] + b"what is new" + OLD[0], OLD[0][5:], b"the new index"]


def blobs_of(*contents: bytes) -> MemoryBlobs:
    import zstandard

    blobs = MemoryBlobs()
    for content, (digest, _) in zip(contents, named(contents), strict=True):
        blobs.carried[digest] = zstandard.ZstdCompressor().compress(content)
    return blobs


def pairing(old: list[bytes] = OLD, new: list[bytes] = NEW) -> Pairing:
    return Pairing(named(old), [NewObject(len(it)) for it in new], [digest for digest, _ in named(new)])


def proven(delta: bytes, *, blobs: MemoryBlobs | None = None, to: Pairing | None = None, piece: int = 1000) -> None:
    pieces = (delta[at : at + piece] for at in range(0, len(delta), piece))
    with tempfile.TemporaryFile() as scratch:
        prove(blobs or blobs_of(*OLD), to or pairing(), pieces, scratch)


def test_a_delta_that_makes_what_it_should_is_proven() -> None:
    """Cut anyhow; where all new objects are empty; objects that no window needs may even be damaged."""
    delta = make(OLD, NEW)
    for piece in (7, 10**6):
        proven(delta, piece=piece)
    empty = [b"", b"new index"]
    blobs = blobs_of(*OLD)
    blobs.carried[named(OLD)[0][0]] = b"garbage"
    proven(make([*OLD[1:]], empty), blobs=blobs, to=pairing(OLD[1:], empty))


def test_a_delta_that_makes_anything_else_is_refused() -> None:
    """Cut off, garbled, with something behind it, of another base, or a good one of other objects."""
    delta = make(OLD, NEW)
    for wrong in (b"", delta[:-1], delta + b"x", delta[:-4] + b"\xff" * 4, make(OLD[:1], NEW), make(OLD, NEW[:-1])):
        with pytest.raises(Refusal):
            proven(wrong)
    for other in (NEW[::-1], [*NEW, b""], [*NEW[:-1], b"the old index"]):
        with pytest.raises(Refusal):
            proven(make(OLD, other))


@pytest.mark.parametrize("how", ["garbled", "another", "cut", "longer"])
def test_a_base_object_that_is_damaged_is_named_and_the_delta_is_not_blamed(how: str) -> None:
    """No Refusal; nor where it is not here."""
    blobs = blobs_of(*OLD, OLD[0] + b"x")
    digest, longer = named(OLD)[0][0], named([OLD[0] + b"x"])[0][0]
    carried = blobs.carried[digest]
    blobs.carried[digest] = {
        "garbled": carried[:4] + b"\xff" * 50 + carried[54:],
        "another": blobs.carried[named(OLD)[2][0]],
        "cut": carried[:-200_000],
        "longer": blobs.carried[longer],
    }[how]
    with pytest.raises(Broken, match=f"{digest.hex()[:16]}: it is damaged; run: towpath-server doctor"):
        proven(make(OLD, NEW), blobs=blobs)
    del blobs.carried[digest]
    with pytest.raises(InputError):
        proven(make(OLD, NEW), blobs=blobs)


def test_memory_is_that_of_a_window_whatever_the_objects_have() -> None:
    """And not that of a release: bundles are made where hosts are served."""
    old = [bytes(24_000_000), b"the old index"]
    new = [bytes(20_000_000), b"the new index"]
    blobs, to, delta = blobs_of(*old), pairing(old, new), make(old, new)
    del old, new

    def pieces() -> Iterator[bytes]:
        yield delta

    tracemalloc.start()
    try:
        with tempfile.TemporaryFile() as scratch:
            prove(blobs, to, pieces(), scratch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
