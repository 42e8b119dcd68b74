"""Which releases a relay has whole: what an index says is worth only what the cache holds."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from towpath.index import MAX_INDEX_BYTES, Entry, EntryType
from towpath.wire import encode_index
from towpath_agent.ports import Chunk, Want
from towpath_relay.cache import Cache
from towpath_relay.flights import Flights, key_of
from towpath_relay.releases import Releases
from towpath_relay.sources import Unneeded

LIMIT = 10**7
FILES = (b"the first file", b"the second file")
INDEX = encode_index(
    [
        Entry(f"file{number}", EntryType.FILE, 0o644, len(content), hashlib.sha256(content).digest())
        for number, content in enumerate(FILES)
    ]
)
OLD = hashlib.sha256(b"an older index").digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def put(cache: Cache, digest: bytes, carried: bytes) -> None:
    """Let `carried` come under the name of `digest`: the relay takes whatever a server sends."""
    cache.begin(digest)
    cache.expect(digest, len(carried))
    cache.partial(digest).write_bytes(carried)
    cache.keep(digest, sha256(carried))


def compressed(data: bytes) -> bytes:
    return zstandard.compress(data)


def test_a_release_is_whole_with_its_index_and_every_object(tmp_path: Path) -> None:
    """Not a byte earlier. Each look is a new one here: answers are good for a few seconds."""
    cache = Cache(tmp_path, LIMIT)
    for content in (INDEX, *FILES):
        assert not Releases(cache).whole(sha256(INDEX))
        put(cache, sha256(content), compressed(content))
    assert Releases(cache).whole(sha256(INDEX))
    cache.drop(sha256(FILES[0]))
    assert not Releases(cache).whole(sha256(INDEX))


def test_all_hosts_of_a_site_cost_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty ask within a second of each other."""
    cache = Cache(tmp_path, LIMIT)
    looks: list[bytes] = []
    find = cache.find

    def counted(digest: bytes) -> object:
        looks.append(digest)
        return find(digest)

    monkeypatch.setattr(cache, "find", counted)
    releases = Releases(cache)
    assert [releases.whole(sha256(INDEX)) for _ in range(50)] == [False] * 50
    assert len(looks) == 1


@pytest.mark.parametrize(
    "carried",
    [
        b"no frame of zstandard",
        compressed(INDEX)[:-5],
        compressed(b"of another digest"),
        compressed(bytes(MAX_INDEX_BYTES + 2)),
    ],
    ids=["no frame", "cut off", "another", "bomb"],
)
def test_of_a_garbled_index_nothing_is_believed(tmp_path: Path, carried: bytes) -> None:
    """The delta is fetched then, which is right, if not the cheapest."""
    cache = Cache(tmp_path, LIMIT)
    put(cache, sha256(INDEX), carried)
    for content in FILES:
        put(cache, sha256(content), compressed(content))
    assert not Releases(cache).whole(sha256(INDEX))


def test_a_signed_index_that_names_nothing_sensible_is_no_trouble(tmp_path: Path) -> None:
    """Its digest is right, and nobody can read it: a publisher's mistake must not end a host's fetch."""
    cache, garbled = Cache(tmp_path, LIMIT), b"\xff\xff\xff no index"
    put(cache, sha256(garbled), compressed(garbled))
    assert not Releases(cache).whole(sha256(garbled))


@pytest.mark.parametrize("delta_is_here", [True, False])
def test_a_delta_that_is_here_is_given_although_the_release_is_here_whole(
    tmp_path: Path, *, delta_is_here: bool
) -> None:
    """It costs the line nothing, and the host less than the objects; only fetching one is needless then."""
    asked: list[Want] = []

    def fetch(wants: Sequence[Want]) -> Iterator[Chunk]:
        asked.extend(wants)
        return iter([Chunk(0, b"new", last=True, carried_size=3)])

    cache, want = Cache(tmp_path, LIMIT), Want("delta", digest=sha256(INDEX), base=OLD)
    for content in (INDEX, *FILES):
        put(cache, sha256(content), compressed(content))
    if delta_is_here:
        put(cache, key_of(want), b"delta bytes")
    flights = Flights(cache, fetch)
    (source,) = flights.sources([want])
    if delta_is_here:
        assert source.carried_size() == len(b"delta bytes")
        assert b"".join(source.pieces(0)) == b"delta bytes"
    else:
        assert isinstance(source, Unneeded)
    assert asked == []
    flights.close()
