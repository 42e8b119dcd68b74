"""What a relay sends: nothing to its end before that is proven, and nothing lost for a trouble of the moment."""

import errno
import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import Unavailable
from towpath_relay import sources
from towpath_relay.cache import Cache, Kept
from towpath_relay.sources import Flight, Source, State, Whole

DIGEST = b"d" * 32


def flight(tmp_path: Path, content: bytes, size: int) -> Flight:
    """Return one of which `content` came, and that has `size` bytes."""
    (tmp_path / "partial").write_bytes(content)
    made = Flight(tmp_path / "partial", 0)
    made.learn_size(size)
    made.grow(len(content))
    return made


def kept(tmp_path: Path, content: bytes) -> tuple[Cache, Kept]:
    cache = Cache(tmp_path / "cache", 2**20)
    cache.begin(DIGEST)
    cache.expect(DIGEST, len(content))
    cache.partial(DIGEST).write_bytes(content)
    return cache, cache.keep(DIGEST, hashlib.sha256(content).digest())


@pytest.mark.parametrize("size", [1, 10])
def test_the_last_byte_waits_for_the_proof(tmp_path: Path, size: int) -> None:
    """A reader that is quicker than the proof has all but that."""
    content = bytes(range(size))
    coming, got, enough = flight(tmp_path, content, size), bytearray(), threading.Event()

    def read() -> None:
        for piece in coming.pieces(0):
            got.extend(piece)
            enough.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(read)
        if size > 1:
            assert enough.wait(60)
        assert bytes(got) == content[:-1]
        coming.end(State.DONE)
        done.result(60)
    assert bytes(got) == content


def test_who_waits_is_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the size is known, and between bytes; never once there is something to say."""
    monkeypatch.setattr(sources, "PAUSE_S", 0.001)
    (tmp_path / "partial").write_bytes(b"ab")
    coming = Flight(tmp_path / "partial", 2)
    pauses = coming.pauses()
    assert [next(pauses), next(pauses)] == [None, None]
    coming.learn_size(4)
    assert list(pauses) == []
    pieces = coming.pieces(0)
    assert [next(pieces) for _ in range(3)] == [b"ab", b"", b""]
    (tmp_path / "partial").write_bytes(b"abcd")
    coming.grow(2)
    coming.end(State.DONE)
    assert list(pieces) == [b"cd"]


def test_what_came_wrong_is_cut_off_before_its_end(tmp_path: Path) -> None:
    """So that nobody takes it for whole, and the relay for a liar."""
    coming = flight(tmp_path, b"0123456789", 10)
    coming.end(State.ENDED)
    got = bytearray()
    with pytest.raises(Unavailable):
        for piece in coming.pieces(0):
            got.extend(piece)
    assert bytes(got) == b"012345678"


def never() -> Source:
    """Stand for a fetch anew that is not to happen."""
    raise AssertionError("nothing is wrong with it")


@pytest.mark.parametrize("offset", [0, 4, 9])
def test_of_what_the_disk_damaged_no_byte_is_sent(tmp_path: Path, offset: int) -> None:
    """It is dropped, and whoever asked gets it as it comes anew, from wherever he was."""
    cache, one = kept(tmp_path, b"0123456789")
    one.path.write_bytes(b"01_3456789")
    anew = flight(tmp_path, b"0123456789", 10)
    anew.end(State.DONE)
    source = Whole(cache, DIGEST, one, lambda: anew)
    assert source.carried_size() == 10
    assert cache.find(DIGEST) is None
    assert b"".join(source.pieces(offset)) == b"0123456789"[offset:]


def test_a_large_one_that_the_disk_damaged_is_cut_off_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is proven while it is sent, and dropped."""
    monkeypatch.setattr("towpath_relay.sources.FIRST_PROVEN_BYTES", 9)
    cache, one = kept(tmp_path, b"0123456789")
    one.path.write_bytes(b"0123456_89")
    source = Whole(cache, DIGEST, one, never)
    assert source.carried_size() == 10
    with pytest.raises(Unavailable, match="the relay's disk has damaged it"):
        next(iter(source.pieces(0)))
    assert cache.find(DIGEST) is None


def test_what_came_anew_is_not_dropped_for_the_damage_before_it(tmp_path: Path) -> None:
    """Two hosts find the damage; the second one's word does not reach the good object."""
    cache, one = kept(tmp_path, b"0123456789")
    cache.drop_damaged(DIGEST, one)
    cache, good = kept(tmp_path, b"0123456789")
    cache.drop_damaged(DIGEST, one)
    assert cache.find(DIGEST) is good


def test_an_object_that_cannot_be_opened_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files say nothing of it; a file that is gone does."""
    cache, one = kept(tmp_path, b"0123456789")

    def full(*_words: Any, **_named: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        assert Whole(cache, DIGEST, one, never).carried_size() is None
    assert b"".join(_pieces(Whole(cache, DIGEST, one, never))) == b"0123456789"
    one.path.unlink()
    assert Whole(cache, DIGEST, one, never).carried_size() is None
    assert cache.find(DIGEST) is None


def _pieces(source: Whole) -> list[bytes]:
    assert source.carried_size() == 10
    return list(source.pieces(0))


def test_a_relay_takes_all_the_descriptors_that_it_may_have() -> None:
    """A large site needs more than the usual thousand."""
    script = (
        "import resource; from towpath_relay.cli import all_descriptors;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard)); all_descriptors();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
