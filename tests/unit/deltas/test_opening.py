"""Archives are opened in pairs, where that pays."""

import gzip
import os
import random
import zlib

from fakes.archives import make_opened
from towpath.delta.opened import take_head

RANDOM = random.Random(5)
WORDS = [RANDOM.randbytes(6).hex().encode() for _ in range(2000)]
ONE = b" ".join(RANDOM.choices(WORDS, k=20_000))
TWO = ONE + b" what is new"
INDEX = [b"the old index"], [b"the new index"]


def odd(content: bytes) -> bytes:
    """A gzip file as no setting of zlib makes it."""
    packer = zlib.compressobj(6, wbits=31)
    half = len(content) // 2
    return (
        packer.compress(content[:half])
        + packer.flush(zlib.Z_FULL_FLUSH)
        + packer.compress(content[half:])
        + packer.flush()
    )


def opened(old: list[bytes], new: list[bytes]) -> tuple[set[int], set[int], int]:
    """Which of both are opened, and how long the delta is."""
    delta = make_opened([*old, *INDEX[0]], [*new, *INDEX[1]], archives=range(len(old)))
    taken = take_head(delta)
    assert taken is not None
    assert taken[0] is not None
    return set(taken[0].base), set(taken[0].new), len(delta)


def test_an_archive_that_cannot_be_put_back_keeps_its_old_one_as_its_base() -> None:
    """Packed: what they have in common is in the old one's packed form alone."""
    pairs = [(odd(ONE), odd(TWO)), (gzip.compress(ONE, mtime=0), gzip.compress(TWO, mtime=0))]
    base, new, size = opened(*(list(side) for side in zip(*pairs, strict=True)))
    assert (base, new) == ({1}, {1})
    assert size * 3 < len(pairs[0][1])


def test_an_archive_that_was_only_packed_anew_stays_packed() -> None:
    """A time in its head is all that differs: that is a few bytes, and opening it would make the work ten times as much."""
    other = gzip.compress(ONE[::-1], mtime=0), gzip.compress(TWO[::-1], mtime=0)
    base, new, size = opened(
        [gzip.compress(ONE, mtime=1), other[0]], [gzip.compress(ONE, mtime=1_700_000_000), other[1]]
    )
    assert (base, new) == ({1}, {1})
    assert size * 20 < len(other[1])


def test_what_became_an_archive_is_not_opened_against_something_else() -> None:
    """Without an old form the new one would only be longer."""
    pairs = [
        (os.urandom(1000), gzip.compress(TWO, mtime=0)),
        (gzip.compress(ONE, mtime=0), gzip.compress(TWO, mtime=0)),
    ]
    base, new, _ = opened(*(list(side) for side in zip(*pairs, strict=True)))
    assert (base, new) == ({1}, {1})
