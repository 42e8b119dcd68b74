"""What an import brings becomes a relay's own, beside a running one too; nothing that is not proven does."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes.bundles import NOW, BundleMaker
from towpath.errors import InputError, Refusal
from towpath_agent.ports import Chunk, Want
from towpath_relay.bringing import bring, waiting
from towpath_relay.cache import BROUGHT, Cache
from towpath_relay.flights import Flights, key_of

LIMIT = 2**30


def brought(maker: BundleMaker, tmp_path: Path, *, max_bytes: int = LIMIT) -> tuple[int, int]:
    stick = tmp_path / "hello.tpb"
    stick.write_bytes(maker.bytes())
    _, count, size = bring(stick, tmp_path / "relay", maker.root, max_bytes=max_bytes, now_unix_ms=NOW)
    return count, size


def test_a_running_relay_takes_objects_indexes_and_deltas(tmp_path: Path) -> None:
    """Each under the name by which hosts ask for it, with the bytes of the bundle."""
    cache = Cache(tmp_path / "relay", LIMIT)
    maker = BundleMaker(since=("1.0.0",), delta=b"delta bytes")
    assert brought(maker, tmp_path)[0] == waiting(tmp_path / "relay") == 3
    assert cache.adopt() == 3
    assert waiting(tmp_path / "relay") == 0
    old, new = (maker.releases[version].artifact.index_sha256 for version in ("1.0.0", "1.1.0"))
    delta = cache.find(key_of(Want("delta", digest=new, base=old)))
    assert delta is not None
    assert delta.path.read_bytes() == b"delta bytes"
    assert delta.carried_sha256 == hashlib.sha256(b"delta bytes").digest()
    assert cache.find(new) is not None
    assert cache.bytes_kept == sum(len(d) for n, d in maker.members.items() if n.startswith(("indexes", "deltas")))
    assert brought(maker, tmp_path)[0] == 3
    assert (cache.adopt(), waiting(tmp_path / "relay")) == (0, 0)


def test_a_relay_that_starts_later_has_them(tmp_path: Path) -> None:
    """Its cache adopts what waits; what an earlier fetch left of an object gives way to the whole."""
    maker = BundleMaker()
    name, carried = next(iter(maker.objects.items()))
    digest = bytes.fromhex(name.removeprefix("objects/"))
    first = Cache(tmp_path / "relay", LIMIT)
    first.begin(digest)
    first.partial(digest).write_bytes(carried[:3])
    brought(maker, tmp_path)
    count = first.adopt()
    assert waiting(tmp_path / "relay") == 1  # it comes at this moment
    first.pause(digest)
    assert first.adopt() == 1
    kept = Cache(tmp_path / "relay", LIMIT).find(digest)
    assert kept is not None
    assert (count, kept.path.read_bytes()) == (len(maker.objects), carried)
    assert not first.partial(digest).exists()


def test_what_is_not_proven_or_too_large_brings_nothing(tmp_path: Path) -> None:
    """A swapped object, a cut file, another fleet's, a cache that could not hold it, no file at all."""
    maker = BundleMaker()
    maker.objects[next(iter(maker.objects))] = b"n" * 50
    with pytest.raises(Refusal):
        brought(maker, tmp_path)
    with pytest.raises(InputError, match="larger --max-bytes"):
        brought(BundleMaker(), tmp_path, max_bytes=1000)
    good = BundleMaker()
    with pytest.raises(Refusal):
        bring(tmp_path / "hello.tpb", tmp_path / "relay", good.root, max_bytes=LIMIT, now_unix_ms=NOW)
    with pytest.raises(InputError, match="cannot import"):
        bring(tmp_path / "none", tmp_path / "relay", good.root, max_bytes=LIMIT, now_unix_ms=NOW)
    assert not (tmp_path / "relay" / BROUGHT).exists()


def test_a_cache_that_is_smaller_than_what_waits_stays_below_its_limit(tmp_path: Path) -> None:
    """What fits in no cache is dropped, the rest takes the place of what was used least."""
    maker = BundleMaker()
    brought(maker, tmp_path)
    cache = Cache(tmp_path / "relay", 5_000)
    assert cache.bytes_kept <= 5_000
    assert waiting(tmp_path / "relay") == 0


def test_a_plain_delta_that_was_brought_is_given_to_a_host_that_can_do_with_more(tmp_path: Path) -> None:
    """It costs the line nothing; where neither is here the better one is fetched, under a name of its own."""
    asked: list[Want] = []

    def fetch(wants: Sequence[Want]) -> Iterator[Chunk]:
        asked.extend(wants)
        return iter([Chunk(0, b"new", last=True, carried_size=3)])

    cache = Cache(tmp_path / "relay", LIMIT)
    maker = BundleMaker(since=("1.0.0",), delta=b"delta bytes")
    brought(maker, tmp_path)
    cache.adopt()
    flights = Flights(cache, fetch)
    old, new = (maker.releases[version].artifact.index_sha256 for version in ("1.0.0", "1.1.0"))
    for want, data in (
        (Want("delta", digest=new, base=old, opened=True), b"delta bytes"),
        (Want("delta", digest=old, base=new, opened=True), b"new"),
    ):
        (source,) = flights.sources([want])
        assert source.carried_size() == len(data)
        assert b"".join(source.pieces(0)) == data
    assert [(want.digest, want.opened) for want in asked] == [(old, True)]
    flights.close()
