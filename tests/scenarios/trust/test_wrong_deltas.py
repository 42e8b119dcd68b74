"""A server, or whoever stole it, offers wrong deltas: real bytes of each kind. The release comes all the same.

A delta can cost time, never correctness: objects have the digests that the publisher signed.
"""

import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.delta_host import DeltaHost
from fakes.deltas import delta, difference, frame, make, numbers, steps, stored
from towpath.delta.frame import Extent
from towpath.delta.layout import Codec, Kind, lzma_filters

NOISE = random.Random(3)


def other_base(it: DeltaHost) -> bytes:
    """Made against the contents of another release."""
    return make([b"something else"], list(it.contents(it.new).values()), index_last=True)


def garbled(it: DeltaHost) -> bytes:
    data = bytearray(it.delta())
    data[len(data) // 2] ^= 0x40
    return bytes(data)


def truncated(it: DeltaHost) -> bytes:
    return it.delta()[:-7]


def swapped(it: DeltaHost) -> bytes:
    """Right in form and made against the right base: it makes a program that nobody signed."""
    new = list(it.contents(it.new).values())
    return make(list(it.contents(it.old).values()), [b"evil 2.0.0!", *new[1:]], index_last=True)


def another_index(it: DeltaHost) -> bytes:
    new = list(it.contents(it.new).values())
    return make(list(it.contents(it.old).values()), [*new[:-1], b"another tree"], index_last=True)


def bomb(it: DeltaHost) -> bytes:
    """A stream of ten bytes that would expand to four million."""
    squeezed = lzma.compress(bytes(4 * 2**20), lzma.FORMAT_RAW, filters=lzma_filters())
    lying = numbers(10 << 2 | Codec.LZMA, len(squeezed)) + squeezed
    return delta(list(it.contents(it.old).values()), [10], frame(10, Kind.DIFF, lying + stored(b"") * 4))


def too_much(it: DeltaHost) -> bytes:
    """Makes a hundred times what is wanted."""
    return delta(list(it.contents(it.old).values()), [30_000_000])


def endless(_it: DeltaHost) -> bytes:
    """Carried in more bytes than all the objects."""
    return NOISE.randbytes(3_000_000)


def tiny_frames(it: DeltaHost) -> bytes:
    """A window for each byte."""
    old = list(it.contents(it.old).values())
    one = frame(1, Kind.DIFF, difference([Extent(0, sum(map(len, old)))], steps((1, 0, 0))))
    return delta(old, [100], *[one] * 100)


def unmade_window(it: DeltaHost) -> bytes:
    """Wants to copy from what is not made yet."""
    old = list(it.contents(it.old).values())
    address = sum(map(len, old)) + 5
    return delta(old, [10], frame(10, Kind.DIFF, difference([Extent(address, 5)], steps((5, 5, 0)), extra=b"12345")))


def many_objects(it: DeltaHost) -> bytes:
    """A header that promises more objects than any tree has."""
    old = list(it.contents(it.old).values())
    return delta(old, [], header=stored(numbers(sum(map(len, old)), 2**30)))


WRONG = {
    "wrong-base": [other_base],
    "corrupt-delta": [garbled, truncated, swapped, another_index, unmade_window, many_objects],
    "endless-data": [too_much, endless, tiny_frames, bomb],
}


@pytest.mark.parametrize(("code", "make_it"), [(code, it) for code, many in WRONG.items() for it in many])
def test_a_wrong_delta_is_named_dropped_and_the_release_comes_by_its_objects(
    tmp_path: Path, code: str, make_it: Callable[[DeltaHost], bytes]
) -> None:
    """Reported once, remembered for this pair, and what runs in the end is what was signed."""
    it = DeltaHost(tmp_path)
    good = it.delta()
    it.offer(make_it(it))
    assert it.host.server.deltas[it.pair] != good
    it.upgrade()
    assert (it.host.live(), it.host.serving()) == ("2.0.0", "2.0.0")
    assert (it.host.folder / "apps" / "hello" / "current" / "bin" / "serve").read_bytes() == b"hello 2.0.0"
    assert it.notes() == [code]
    assert it.asked.count("delta") == 1
    assert it.left() == [".refused"]
    it.host.run(600)
    wanted = {digest.hex() for release in (it.old, it.new) for digest in it.contents(release)}
    kept = {path.name for path in (it.host.folder / "store" / "objects").iterdir()}
    assert kept == wanted  # what nobody names is gone


def test_a_refused_pair_is_not_asked_for_again_after_a_restart(tmp_path: Path) -> None:
    """The host went back, started anew and is told to move again: it takes objects without asking."""
    it = DeltaHost(tmp_path)
    it.offer(it.delta()[:-7])
    it.host.ill.add("2.0.0")
    it.upgrade()
    assert it.host.live() == "1.0.0"
    it.host.boot()
    for digest in it.contents(it.new):
        if digest not in it.contents(it.old):
            it.host.site.store.path(digest).unlink(missing_ok=True)
    it.host.ill.clear()
    it.host.server.fetches.clear()
    it.host.assign(it.new, generation=3)
    it.host.settle()
    assert it.host.live() == "2.0.0"
    assert set(it.asked) == {"object"}
