"""What the encoder makes, the decoder turns back, and where old content is alike it is small."""

import random
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.deltas import apply, delta, difference, frame, make, named, steps
from towpath.delta.decoder import Decoder
from towpath.delta.frame import MAX_STEPS, Extent
from towpath.delta.layout import FRAME_BYTES, WINDOW_BYTES, Kind
from towpath.index import Entry, EntryType
from towpath.wire import encode_index
from towpath_server.deltas.pairing import Named, pair, with_archives

ALPHABET = [b"\0", b"a", b"\xff", b"the same words ", b"def f(x):\n    return x\n", bytes(range(40))]
words = st.lists(st.sampled_from(ALPHABET) | st.binary(max_size=30), max_size=60).map(b"".join)
contents = st.lists(words, max_size=6)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


@settings(max_examples=80)
@given(contents, contents, st.booleans(), st.booleans(), st.integers(1, 500))
def test_any_objects_come_back_from_any_base_in_any_pieces(
    old: list[bytes], new: list[bytes], index_last: bool, alike: bool, piece: int
) -> None:
    """Objects, empty ones and none at all included, come out with their digests, however the bytes are cut."""
    made = apply(make(old, new, index_last=index_last, alike=alike), old, piece=piece)
    assert bytes(made.all) == b"".join(new)
    assert made.objects == named(new)


@settings(max_examples=30)
@given(st.data())
def test_edits_of_a_program_cost_about_what_was_edited(data: st.DataObject) -> None:
    """Bytes that were inserted, removed and changed at random places in noise are found again around the edits."""
    old = noise(60_000, data.draw(st.integers(0, 9)))
    new = bytearray(old)
    edits = data.draw(st.lists(st.tuples(st.integers(0, 50_000), st.binary(max_size=20)), max_size=8))
    for at, piece in edits:
        new[at : at + data.draw(st.integers(0, 20))] = piece
    made_of = make([old], [bytes(new)], alike=True)
    assert bytes(apply(made_of, [old]).all) == bytes(new)
    assert len(made_of) < 300 + 200 * len(edits)


def test_content_is_found_wherever_it_moved() -> None:
    """Files that were renamed, joined and moved cost no more than their places."""
    files = [noise(20_000, seed) for seed in range(40)]
    new = [files[at] + files[at - 1][:1000] for at in (35, 3, 31, 17, 29)]
    new.append(b"".join(files[20:26]))
    made_of = make(files, new)
    assert bytes(apply(made_of, files).all) == b"".join(new)
    assert len(made_of) < 2_000


def test_new_content_is_a_base_of_later_frames() -> None:
    """What a release holds twice travels once, though no frame holds both."""
    twice = noise(100_000, 1)
    new = [twice, bytes(FRAME_BYTES), twice + b"!"]
    made_of = make([b"something else"], new)
    assert bytes(apply(made_of, [b"something else"]).all) == b"".join(new)
    assert len(made_of) < len(twice) + 10_000


def test_what_is_shuffled_finely_is_no_difference() -> None:
    """Every 20 bytes from elsewhere would be more steps than a frame may have; another kind of frame carries it."""
    old, chance = noise(2 * 2**20, 4), random.Random(4)
    places = [chance.randrange(len(old) - 20) for _ in range(MAX_STEPS + 5000)]
    new = b"".join(old[at : at + 20] for at in places)
    assert bytes(apply(make([old], [new]), [old]).all) == new


def test_an_index_does_not_carry_the_digests_that_its_release_makes() -> None:
    """A thousand changed digests in an index cost a few bytes each, because the host has just computed them."""

    def tree(files: list[bytes]) -> tuple[list[Entry], bytes]:
        entries = [
            Entry(f"file{number:04}", EntryType.FILE, 0o644, size, digest)
            for number, (digest, size) in enumerate(named(files))
        ]
        return entries, encode_index(entries)

    old_files = [b"version 1 of %d" % number for number in range(1000)]
    new_files = [b"version 2 of %d" % number for number in range(1000)]
    (old_entries, old_index), (new_entries, new_index) = tree(old_files), tree(new_files)
    pairing = pair(Named(old_entries, *named([old_index])[0]), Named(new_entries, *named([new_index])[0]))
    assert list(pairing.base) == named([*old_files, old_index])
    assert pairing.new_digests == [digest for digest, _ in named([*new_files, new_index])]
    assert [it.like for it in pairing.new] == list(range(1001))
    old, new = [*old_files, old_index], [*new_files, new_index]
    plain, knowing = make(old, new, alike=True), make(old, new, index_last=True, alike=True)
    assert bytes(apply(knowing, old).all) == b"".join(new)
    assert len(plain) > 32_000
    assert len(knowing) < 9_000


def test_a_new_path_is_paired_with_the_old_file_of_its_name() -> None:
    """A file in a renamed folder has the old one as its namesake, a name that is everywhere has none."""

    def entries(*paths: str) -> list[Entry]:
        return [Entry(path, EntryType.FILE, 0o644, 5, named([path.encode()])[0][0]) for path in sorted(paths)]

    many = [f"d{number}/same.py" for number in range(65)]
    old = entries("lib-1.0/parts/engine.py", "other/engine.py", *many)
    new = entries("lib-1.1/parts/engine.py", "new/same.py", "new/none.py")
    index = named([b"index"])[0]
    pairing = pair(Named(old, *index), Named(new, *named([b"other"])[0]))
    found = dict(zip(pairing.new_digests, [it.like for it in pairing.new], strict=True))
    moved = found[named([b"lib-1.1/parts/engine.py"])[0][0]]
    assert moved is not None
    assert pairing.base[moved] == (named([b"lib-1.0/parts/engine.py"])[0][0], 5)
    assert found[named([b"new/same.py"])[0][0]] is None
    assert found[named([b"new/none.py"])[0][0]] is None


def test_applying_takes_the_memory_of_a_frame_and_its_window() -> None:
    """A 48 MB object is made of windows as large as they may be, and neither base nor result is held."""
    old = noise(WINDOW_BYTES, 3)
    count = 12
    body = difference([Extent(0, WINDOW_BYTES)], steps((FRAME_BYTES, 0, 0)))
    data = delta([old], [count * FRAME_BYTES], *[frame(FRAME_BYTES, Kind.DIFF, body)] * count)

    class Thrown:
        size = 0

        def write(self, piece: bytes) -> None:
            self.size += len(piece)

        def end(self, digest: bytes, size: int) -> None:
            assert size == self.size

    sink = Thrown()
    decoder = Decoder(
        named([old]), limit=2**30, read=lambda at, length: bytes(memoryview(old)[at : at + length]), sink=sink
    )
    tracemalloc.start()
    try:
        for at in range(0, len(data), 2**18):
            decoder.feed(data[at : at + 2**18])
        decoder.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.size == count * FRAME_BYTES
    assert peak < 2 * WINDOW_BYTES + 4 * FRAME_BYTES


def test_archives_are_paired_by_path_and_by_the_shape_of_their_names() -> None:
    """A wheel of another version is the one that it was; what has no counterpart, or is no archive, is not opened."""

    def entries(*paths: str) -> list[Entry]:
        return [Entry(path, EntryType.FILE, 0o644, 5, named([path.encode()])[0][0]) for path in sorted(paths)]

    index = named([b"index"])[0]
    old = Named(entries("app-1.2.whl", "b.tar.gz", "data", "same.jar"), *index)
    changed = Entry("b.tar.gz", EntryType.FILE, 0o644, 5, named([b"other"])[0][0])
    new = Named([*entries("app-1.10.whl", "data2", "new.zip", "same.jar"), changed], *named([b"other index"])[0])
    plain = pair(old, new)
    pairing = with_archives(plain, old, new)
    made = [pairing.new_digests[number] for number in pairing.new_archives]
    assert set(made) == {named([b"app-1.10.whl"])[0][0], changed.sha256}
    assert {pairing.new[number].like for number in pairing.new_archives} == {0, 1}
    assert plain.new_archives == ()
