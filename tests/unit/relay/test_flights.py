"""What comes over the uplink: where it is synced, and what one that does not fit costs the others."""

import hashlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import zstandard

from towpath.errors import Unavailable
from towpath_agent.ports import Chunk, Want
from towpath_relay.cache import SYNC_BYTES, Cache
from towpath_relay.flights import Flights

MIB = 2**20


def test_what_comes_is_synced_at_each_multiple(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut then costs no more than the cache cuts off at the next start."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda number: synced.append(os.fstat(number).st_size))

    def fetch(_wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        size = 3 * SYNC_BYTES
        for number in range(2 * SYNC_BYTES // MIB + 1):
            yield Chunk(0, b"x" * MIB, carried_size=0 if number else size)

    flights = Flights(Cache(tmp_path, 10 * SYNC_BYTES), fetch)
    (source,) = flights.sources([Want("object", digest=b"d" * 32)])
    assert source.carried_size() == 3 * SYNC_BYTES
    with pytest.raises(Unavailable):
        list(source.pieces(0))
    flights.close()
    assert synced == [SYNC_BYTES, 2 * SYNC_BYTES]


def test_one_that_is_too_large_ends_alone_and_is_not_begun_again(tmp_path: Path) -> None:
    """Those behind it in the same call come all the same; the server is asked for it once and never more."""
    contents = [os.urandom(size) for size in (100, 5_000, 101)]
    wants = [Want("object", digest=hashlib.sha256(content).digest()) for content in contents]
    carried = {want.digest: zstandard.compress(content) for want, content in zip(wants, contents, strict=True)}
    asked: list[bytes] = []

    def fetch(some: Sequence[Want]) -> Generator[Chunk, None, None]:
        asked.extend(want.digest for want in some)
        for number, want in enumerate(some):
            data = carried[want.digest]
            yield Chunk(number, data[want.offset :], last=True, carried_size=len(data))

    flights = Flights(Cache(tmp_path, 2_000), fetch)
    for _ in range(2):
        sources = flights.sources(wants)
        sizes = [source.carried_size() for source in sources]
        assert sizes == [len(carried[wants[0].digest]), None, len(carried[wants[2].digest])]
        for number in (0, 2):
            assert b"".join(sources[number].pieces(0)) == carried[wants[number].digest]
    flights.close()
    assert asked.count(wants[1].digest) == 1
