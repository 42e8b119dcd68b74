"""The relay's cache: limits, what goes first, and what a restart finds."""

import hashlib
import os
from pathlib import Path

import pytest

from towpath_relay.cache import SYNC_BYTES, Cache, NoRoom


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def put(cache: Cache, name: str, size: int) -> None:
    """Let an object come whole."""
    have = cache.begin(digest(name))
    cache.expect(digest(name), size)
    with cache.partial(digest(name)).open("ab") as file:
        file.write(b"x" * (size - have))
    cache.keep(digest(name), digest("carried " + name))


def held(cache: Cache, *names: str) -> list[str]:
    return [name for name in names if cache.find(digest(name)) is not None]


def on_disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_the_least_used_goes_first(tmp_path: Path) -> None:
    """What was asked for lately stays; the folder never holds more than its limit."""
    cache = Cache(tmp_path, 300)
    for name in ("a", "b", "c"):
        put(cache, name, 100)
    assert cache.find(digest("a")) is not None
    put(cache, "d", 100)
    assert held(cache, "a", "b", "c", "d") == ["a", "c", "d"]
    assert on_disk(tmp_path) == cache.bytes_kept == 300


def test_a_restart_finds_everything_and_its_order(tmp_path: Path) -> None:
    """Names, sizes, carried digests and times of use are the files' own."""
    cache = Cache(tmp_path, 300)
    for number, name in enumerate(("a", "b", "c")):
        put(cache, name, 100)
        kept = cache.find(digest(name))
        assert kept is not None
        os.utime(kept.path, ns=(number, number if name != "a" else 10**18))
    again = Cache(tmp_path, 200)
    assert held(again, "a", "b", "c") == ["a", "c"]
    kept = again.find(digest("a"))
    assert kept is not None
    assert (kept.size, kept.carried_sha256) == (100, digest("carried a"))


def test_what_was_cut_off_goes_on_and_counts(tmp_path: Path) -> None:
    """Bytes of an object that stopped coming are kept for the next try, also over a restart, and go before whole ones."""
    cache = Cache(tmp_path, 300)
    put(cache, "whole", 100)
    cache.begin(digest("half"))
    cache.expect(digest("half"), 150)
    cache.partial(digest("half")).write_bytes(b"x" * 70)
    cache.pause(digest("half"))
    assert cache.bytes_kept == on_disk(tmp_path) == 170
    again = Cache(tmp_path, 300)
    assert again.begin(digest("half")) == 70
    again.pause(digest("half"))
    put(again, "new", 150)
    assert held(again, "whole", "new") == ["whole", "new"]
    assert again.begin(digest("half")) == 0


def test_room_is_made_for_what_comes_and_not_of_it(tmp_path: Path) -> None:
    """An object that comes is counted from its first byte; what can never fit is refused and costs nobody a place."""
    cache = Cache(tmp_path, 300)
    put(cache, "a", 200)
    cache.begin(digest("coming"))
    cache.expect(digest("coming"), 250)
    assert held(cache, "a") == []
    for size in (51, 301):
        cache.begin(digest("large"))
        with pytest.raises(NoRoom):
            cache.expect(digest("large"), size)
        cache.pause(digest("large"))
    assert cache.bytes_kept == 250
    cache.drop(digest("coming"))
    assert cache.bytes_kept == 0


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    """Only names that the cache gives are its own."""
    Cache(tmp_path, 300)
    stranger = tmp_path / "objects" / "README"
    stranger.write_text("mine")
    cache = Cache(tmp_path, 1)
    put(cache, "a", 1)
    put(cache, "b", 1)
    assert stranger.read_text() == "mine"


def test_a_file_that_somebody_removed_is_not_there(tmp_path: Path) -> None:
    """It is forgotten, and comes again."""
    cache = Cache(tmp_path, 300)
    put(cache, "a", 100)
    kept = cache.find(digest("a"))
    assert kept is not None
    kept.path.unlink()
    assert cache.find(digest("a")) is None
    assert cache.bytes_kept == 0
    put(cache, "a", 100)
    assert held(cache, "a") == ["a"]


def test_a_start_after_a_boot_keeps_of_a_partial_what_was_synced(tmp_path: Path) -> None:
    """A power cut may have left zeros in the rest, and hosts would be sent them; another start in the same boot cuts nothing."""
    half, little, size = digest("half"), digest("little"), 3 * SYNC_BYTES + 5
    cache = Cache(tmp_path, 10 * SYNC_BYTES, "a boot")
    for one, count in ((half, size), (little, SYNC_BYTES + 5)):
        cache.begin(one)
        cache.expect(one, count + 1)
        cache.partial(one).write_bytes(b"x" * count)
        cache.pause(one)
    again = Cache(tmp_path, 10 * SYNC_BYTES, "a boot")
    assert again.begin(half) == size
    again.pause(half)
    after = Cache(tmp_path, 10 * SYNC_BYTES, "the next boot")
    assert after.bytes_kept == 2 * SYNC_BYTES
    assert (after.begin(half), after.begin(little)) == (2 * SYNC_BYTES, 0)
    assert after.partial(half).stat().st_size == 2 * SYNC_BYTES
