"""A delta is not trusted: what is cut off, garbled, swapped or endless is refused by name."""

import lzma
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.deltas import Made, apply, difference, frame, make, named, numbers, steps, stored
from fakes.deltas import delta as delta_of
from towpath.delta.base import Shelf, Stretch
from towpath.delta.decoder import Decoder
from towpath.delta.frame import MAX_STEPS, Extent, parse, put_extents
from towpath.delta.layout import (
    FRAME_BYTES,
    MAX_EXTENTS,
    SPARE_FRAMES,
    WINDOW_BYTES,
    Codec,
    Kind,
    Reader,
    lzma_filters,
    put_signed,
)
from towpath.errors import Refusal

GOLDEN = Path(__file__).parents[2] / "golden"
OLD = [b"the first object\n" * 40, b"the second one\n" * 30, b""]
NEW = [b"the first object\n" * 39 + b"is another\n", b"", bytes(range(256)) * 8]
GOOD = make(OLD, NEW, index_last=True, alike=True)


def delta(sizes: list[int], *frames: bytes, header: bytes | None = None) -> bytes:
    """A delta of hand-made frames against OLD."""
    return delta_of(OLD, sizes, *frames, header=header)


def refused(data: bytes, code: str = "corrupt-delta", limit: int = 10_000) -> str:
    with pytest.raises(Refusal) as caught:
        apply(data, OLD, limit=limit)
    assert caught.value.code == code
    assert "the objects are fetched whole" in str(caught.value)
    return str(caught.value)


def test_a_hand_made_delta_is_applied() -> None:
    """Copies with corrections, jumps forwards and back, own bytes, and digests of what was made."""
    base = b"".join(OLD)
    body = difference(
        [Extent(0, 20), Extent(17, 20)], steps((4, 2, 10), (6, 0, -20), (3, 1, 0)), b"\x01\xff", b"\x02", b"+-!"
    )
    window = base[0:20] + base[17:37]
    first = bytearray(window[0:4])
    first[1] = (first[1] + 2) % 256
    expected = bytes(first) + b"+-" + window[14:20] + window[0:3] + b"!"
    with pytest.raises(Refusal):
        apply(delta([16], frame(16, Kind.DIFF, body)), OLD)  # 255 unchanged bytes are more than there are
    body = difference(
        [Extent(0, 20), Extent(17, 20)], steps((4, 2, 10), (6, 0, -20), (3, 1, 0)), b"\x01", b"\x02", b"+-!"
    )
    digests = sum(map(len, OLD)) + 48
    own = difference([Extent(digests, 32)], steps((32, 0, 0)))
    made = apply(delta([16, 32], frame(16, Kind.DIFF, body), frame(32, Kind.DIFF, own)), OLD)
    assert bytes(made.all) == expected + named([expected])[0][0]


@pytest.mark.parametrize("cut", range(0, len(GOOD), 3))
def test_a_delta_that_is_cut_off_anywhere_is_refused(cut: int) -> None:
    """Whatever the last byte was, the end is missed."""
    assert "cut off" in refused(GOOD[:cut])


@settings(max_examples=400)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255), st.booleans())
def test_garbled_bytes_are_refused_or_make_objects_of_other_names(at: int, flip: int, removed: bool) -> None:
    """No garbled delta makes an object under a digest that is not its own, and none raises anything but Refusal."""
    garbled = bytearray(GOOD)
    garbled[at] ^= flip
    if removed:
        del garbled[at]
    try:
        made = apply(bytes(garbled), OLD, limit=10_000)
    except Refusal as refusal:
        assert refusal.code in ("corrupt-delta", "wrong-base", "endless-data")
        return
    position = 0
    for digest, size in made.objects:
        assert named([bytes(made.all[position : position + size])]) == [(digest, size)]
        position += size


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 3), st.integers(1, 5000))
def test_random_frames_are_refused_or_have_their_length(body: bytes, kind: int, length: int) -> None:
    """A frame of random bytes never makes more or less than it promised."""
    try:
        made = apply(delta([length], frame(length, kind, body or b"\0")), OLD)
    except Refusal:
        return
    assert len(made.all) == length


def test_a_delta_against_other_objects_is_refused_as_such() -> None:
    """A swapped base, also one of the same size, is named before anything is made."""
    for other in ([OLD[1], OLD[0], OLD[2]], OLD[:2], [*OLD, b"more"]):
        made = Made(other)
        decoder = Decoder(named(other), limit=10_000, read=made.read, sink=made)
        with pytest.raises(Refusal) as caught:
            decoder.feed(GOOD)
        assert caught.value.code == "wrong-base"
        assert not made.all
    header = stored(numbers(7, 0))
    assert "another size" in refused(delta([], header=header), "wrong-base")


def test_a_delta_makes_no_more_than_is_wanted() -> None:
    """More bytes than the signed sizes are refused from the header on."""
    total = sum(map(len, NEW))
    assert bytes(apply(GOOD, OLD, limit=total).all) == b"".join(NEW)
    assert "at most" in refused(GOOD, "endless-data", limit=total - 1)


def zstd(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def lzma2(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=lzma_filters())


def stream(codec: int, length: int, carried: bytes) -> bytes:
    return numbers(length << 2 | codec, len(carried)) + carried


BOMB = bytes(2**24)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (stream(Codec.ZSTD, 100, zstd(BOMB)), "endless-data"),
        (stream(Codec.ZSTD, 100, zstd(BOMB, write_content_size=False)), "corrupt-delta"),
        (stream(Codec.LZMA, 100, lzma2(BOMB)), "endless-data"),
        (stream(Codec.ZSTD, 100, zstd(b"short", write_content_size=False)), "corrupt-delta"),
        (stream(Codec.ZSTD, 5, zstd(b"12345") + b"x"), "corrupt-delta"),
        (stream(Codec.ZSTD, 5, b"no zstandard frame"), "corrupt-delta"),
        (stream(Codec.LZMA, 100, lzma2(b"short")), "corrupt-delta"),
        (stream(Codec.LZMA, 5, lzma2(b"12345") + b"x"), "corrupt-delta"),
        (stream(Codec.LZMA, 5, lzma2(b"12345")[:-1]), "corrupt-delta"),
        (stream(Codec.LZMA, 5, b"\xff" * 9), "corrupt-delta"),
        (stream(3, 5, b"12345"), "corrupt-delta"),
        (numbers(50 << 2) + b"cut off", "corrupt-delta"),
        (numbers(1001 << 2), "corrupt-delta"),
        (b"\x80" * 9, "corrupt-delta"),
        (b"\x80", "corrupt-delta"),
    ],
)
def test_a_stream_is_what_it_promises_or_refused(data: bytes, code: str) -> None:
    """Bombs stop at the promised length, shorter and longer streams are refused, and so are unknown ways."""
    with pytest.raises(Refusal) as caught:
        Reader(data).stream(1000)
    assert caught.value.code == code


@pytest.mark.parametrize("carried", [zstd(b"12345"), zstd(b"12345", write_content_size=False), lzma2(b"12345")])
def test_a_stream_is_read_in_each_way(carried: bytes) -> None:
    """Zstandard with and without its length, and raw LZMA2."""
    codec = Codec.ZSTD if carried.startswith(b"\x28\xb5\x2f\xfd") else Codec.LZMA
    assert Reader(stream(codec, 5, carried)).stream(5) == b"12345"


@given(st.lists(st.integers(-(2**40), 2**40), max_size=20))
def test_numbers_come_back(values: list[int]) -> None:
    """Signed numbers of either sign."""
    out = bytearray()
    for value in values:
        put_signed(out, value)
    reader = Reader(bytes(out))
    assert [reader.signed(2**40) for _ in values] == values
    reader.end()


@pytest.mark.parametrize(
    "body",
    [
        difference([Extent(0, 4)], steps((5, 0, 0))),  # copies more than its window has
        difference([Extent(0, 9)], steps((3, 0, -8), (2, 0, 0))),  # begins before its window
        difference([Extent(0, 9)], steps((6, 0, 0))),  # makes more than the frame
        difference([Extent(0, 9)], steps((4, 0, 0))),  # makes less
        difference([Extent(0, 9)], steps((4, 1, 0)), extra=b"ab"),  # own bytes that nobody uses
        difference([Extent(0, 9)], steps((4, 3, 0)), extra=b"a"),  # own bytes that are not there
        difference([Extent(0, 9)], steps((5, 0, 0)), gaps=b"\0\0"),  # a correction without a value
        difference([Extent(0, 9)], steps((5, 0, 0)), values=b"\1"),  # a value without a place
        difference([Extent(0, 9)], steps((5, 0, 0)), gaps=b"\5", values=b"\1"),  # a place behind the end
        difference([Extent(0, 9)], steps((5, 0, 0)) + b"x"),  # more behind the steps
        difference([Extent(0, 9)], steps((5, 0, 0))) + b"x",  # more behind the streams
        difference([Extent(0, 9)], numbers(200, 1)),  # more steps than bytes
        difference([Extent(5000, 9)], steps((5, 0, 0))),  # a window behind everything
        difference([Extent(sum(map(len, OLD)) - 1, 2)], steps((5, 0, 0))),  # a window in what is not made yet
        difference([Extent(sum(map(len, OLD)) + 5, 32)], steps((5, 0, 0))),  # digests that are not known yet
        difference([], b""),  # makes nothing
        difference([Extent(0, WINDOW_BYTES), Extent(0, 1)], steps((5, 0, 0))),  # too large a window
        difference([Extent(0, 1)] * (MAX_EXTENTS + 1), steps((5, 0, 0))),  # too many extents
        difference([Extent(-1, 2)], steps((5, 0, 0))),
        difference([Extent(0, 0)], steps((5, 0, 0))),
    ],
)
def test_a_difference_that_leaves_its_bounds_is_refused(body: bytes) -> None:
    """Each number of a frame is held against what is there."""
    refused(delta([5], frame(5, Kind.DIFF, body)))


@pytest.mark.parametrize(
    "data",
    [
        b"TPDELTA9" + GOOD[8:],
        GOOD + b"x",
        delta([5], numbers(0, 1 << 2) + b"x"),
        delta([5], numbers(5, 0)),
        delta([5], numbers(6)),  # longer than all that is to be made
        delta([5], numbers(5, 5000 << 2)),  # carried in far more than its length
        delta([5], frame(5, 3, b"unknown")),
        delta([5], frame(5, Kind.PREFIX, stored(b"") + b"no zstandard frame")),
        delta([5], frame(5, Kind.PREFIX, stored(b"") + zstd(b"123456", write_content_size=False))),
        delta([5], frame(5, Kind.JOINED, stored(numbers(0, 0, 0, 0, 9)))),
        delta([5], b"\x80" * 8),
        delta([], header=stored(numbers(sum(map(len, OLD)), 3, 1))),
        delta([], header=stored(numbers(sum(map(len, OLD)), 0, 1))),
        delta([], header=stored(numbers(sum(map(len, OLD)), 0)) + b"x"),
        delta([], header=b""),
    ],
)
def test_a_delta_out_of_shape_is_refused(data: bytes) -> None:
    """Another format, more than one delta, impossible lengths and kinds."""
    refused(data)


def test_a_window_that_the_host_cannot_read_is_refused() -> None:
    """An object that went away since is no crash."""
    made = Made(OLD)
    decoder = Decoder(named(OLD), limit=10_000, read=lambda _address, _length: b"", sink=made)
    with pytest.raises(Refusal, match="not there"):
        decoder.feed(GOOD)


def test_frames_of_all_three_kinds_are_parsed() -> None:
    """Streams apart, streams joined, and a prefix give the same bytes."""
    window = b"0123456789"
    extents = put_extents([Extent(0, 10)])
    parts = (extents, steps((5, 2, 0)), b"", b"", b"xy")
    joined = numbers(*map(len, parts)) + b"".join(parts)
    prefixed = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(window, dict_type=zstandard.DICT_TYPE_RAWCONTENT),
        write_content_size=False,
    ).compress(b"01234xy")
    for kind, body in (
        (Kind.DIFF, b"".join(map(stored, parts))),
        (Kind.JOINED, stored(joined)),
        (Kind.PREFIX, stored(extents) + prefixed),
    ):
        parsed = parse(kind, 7, body)
        assert parsed.extents == [Extent(0, 10)]
        assert parsed.make(lambda extent: window[extent.address : extent.address + extent.length]) == b"01234xy"


@pytest.mark.parametrize(
    "extents",
    [
        [Extent(0, WINDOW_BYTES), Extent(0, 1)],
        [Extent(0, 1)] * (MAX_EXTENTS + 1),
        [Extent(-1, 2)],
        [Extent(0, 0)],
    ],
)
def test_a_window_is_bounded_before_anything_is_read(extents: list[Extent]) -> None:
    """Too large, too many, before the first byte, empty."""
    with pytest.raises(Refusal, match="out of bounds"):
        parse(Kind.DIFF, 5, difference(extents, steps((5, 0, 0))))


def test_a_long_way_to_a_correction_is_walked() -> None:
    """A gap of 255 leads on without a correction of its own."""
    body = difference([Extent(0, 600)], steps((600, 0, 0)), gaps=b"\xff\xff\x05", values=b"\xfe")
    expected = bytearray(b"".join(OLD)[:600])
    expected[515] = (expected[515] - 2) % 256
    assert bytes(apply(delta([600], frame(600, Kind.DIFF, body)), OLD).all) == bytes(expected)


def test_the_first_format_is_read_for_ever() -> None:
    """A delta that an older server made makes the same objects today."""
    noise = random.Random(5).randbytes(1500)
    lines = b"".join(b"line %d\n" % number for number in range(200))
    first = bytearray(noise)
    first[700] ^= 9
    first[701] ^= 1
    new = [bytes(first) + b"tail", lines[300:900] + lines[:200] + b"\n"]
    new.append(named(new)[0][0] * 2 + b"index")
    made = apply((GOLDEN / "delta-v1.bin").read_bytes(), [noise, lines, b"an index"])
    assert made.objects == named(new)


def test_a_shelf_finds_stretches_across_objects() -> None:
    """Empty objects are passed over, and what is behind the end is not there."""
    shelf = Shelf([3, 0, 4])
    assert list(shelf.stretches(1, 5)) == [Stretch(0, 1, 2), Stretch(2, 0, 3)]
    assert list(shelf.stretches(6, FRAME_BYTES)) == [Stretch(2, 3, 1)]
    shelf.append(2)
    assert shelf.end == 9
    assert list(shelf.stretches(7, 2)) == [Stretch(3, 0, 2)]
    assert list(shelf.stretches(9, 2)) == []


@pytest.mark.parametrize(("frames", "good"), [(SPARE_FRAMES, True), (SPARE_FRAMES + 1, False)])
def test_a_delta_in_more_frames_than_its_content_needs_is_refused(frames: int, good: bool) -> None:
    """Each costs a window and its streams, however little it makes."""
    one = frame(1, Kind.DIFF, difference([Extent(0, 3)], steps((1, 0, 0))))
    data = delta_of([b"old"], [frames], *[one] * frames)
    if good:
        assert apply(data, [b"old"]).all == b"o" * frames
        return
    with pytest.raises(Refusal, match="more frames") as caught:
        apply(data, [b"old"])
    assert caught.value.code == "endless-data"


@pytest.mark.parametrize(("count", "good"), [(MAX_STEPS, True), (MAX_STEPS + 1, False)])
def test_steps_are_bounded_before_they_are_kept(count: int, good: bool) -> None:
    """Two hundred carried bytes could expand to a million steps; `test_greedy_deltas` measures what is left."""
    body = difference([Extent(0, 1)], numbers(count) + bytes([1]) + bytes(3 * count - 1))
    parsed = parse(Kind.DIFF, 1, body)
    if good:
        assert parsed.make(lambda _extent: b"o") == b"o"
        return
    with pytest.raises(Refusal, match=f"a number is {count}, at most {MAX_STEPS}") as caught:
        parsed.make(lambda _extent: b"o")
    assert caught.value.code == "corrupt-delta"
