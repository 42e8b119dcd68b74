"""Objects by digest in few bytes: as a dict would have them, and a set that errs to the safe side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Refusal
from towpath.objects import DIGEST_BYTES, HEAD_BYTES, MAX_SIZE, Digests, Objects, Pairs

# Few heads and few ends: the same digest, and others with the same head, are drawn often. Heads from both ends.
digests = st.builds(
    lambda head, end: bytes([head]) * HEAD_BYTES + bytes([end]) * (DIGEST_BYTES - HEAD_BYTES),
    st.sampled_from([0, 1, 0x80, 0xFF]),
    st.integers(0, 2),
)
pairs = st.lists(st.tuples(digests, st.integers(0, MAX_SIZE)), max_size=12)


@given(pairs, digests)
def test_objects_are_as_a_dict_of_them(named: list[tuple[bytes, int]], other: bytes) -> None:
    """In order of first mention, each with its first size; digests that begin alike are told apart."""
    expected: dict[bytes, int] = {}
    for digest, size in named:
        expected.setdefault(digest, size)
    objects = Objects(iter(named))
    assert objects == expected
    assert list(objects.items()) == list(objects.pairs) == list(expected.items())
    assert list(objects) == list(expected)
    assert (len(objects), objects.total) == (len(expected), sum(expected.values()))
    assert objects.get(other) == expected.get(other)
    assert (b"" in objects, other in objects) == (False, other in expected)


@given(pairs)
def test_pairs_are_a_sequence(named: list[tuple[bytes, int]]) -> None:
    """Repeated ones included, by number from both ends and in slices."""
    kept = Pairs(named)
    assert list(kept) == named
    assert [kept[number] for number in range(-len(named), len(named))] == named * 2
    assert list(kept[1:-1:2]) == named[1:-1:2]
    with pytest.raises(IndexError):
        kept[len(named)]


@pytest.mark.parametrize("pair", [(b"short", 1), (bytes(DIGEST_BYTES), -1), (bytes(DIGEST_BYTES), MAX_SIZE + 1)])
def test_what_can_be_no_object_is_refused(pair: tuple[bytes, int]) -> None:
    """An index that nobody checked may name anything."""
    with pytest.raises(Refusal, match="a SHA-256 digest and a size") as caught:
        Objects([pair])
    assert caught.value.code == "garbled"


@given(st.lists(digests, max_size=8), st.lists(digests, max_size=8))
def test_a_set_that_errs_keeps_too_much_and_never_too_little(first: list[bytes], more: list[bytes]) -> None:
    """Whatever was put into it is in it, and else only what begins alike."""
    kept = Digests()
    for added in (first, more):
        for digest in added:
            kept.add(digest)
        assert all(digest in kept for digest in added)
    heads = {digest[:HEAD_BYTES] for digest in first + more}
    for head in range(4):
        digest = bytes([head]) * DIGEST_BYTES
        assert (digest in kept) == (digest[:HEAD_BYTES] in heads)
    assert "a name" not in kept
