"""What comes over the uplink: where it is synced."""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

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
