"""A delta that sees into archives makes them bit for bit; what is wrong with one costs a host nothing but the delta."""

import gzip
import io
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from fakes.archives import FullFiles, make_opened, with_head
from fakes.deltas import delta, difference, frame, make, named, steps
from towpath.delta.archives import open_archive
from towpath.delta.frame import Extent
from towpath.delta.layout import FRAME_BYTES, Kind
from towpath.delta.opened import Head, OpenedNew, take_head
from towpath.errors import Refusal
from towpath_agent.store.applying import Applying
from towpath_agent.store.objects import Store
from towpath_agent.store.opening import Room, Stopped
from towpath_agent.system.files import Files
from towpath_server.deltas.opening import put_magic

RANDOM = random.Random(3)
WORDS = [RANDOM.randbytes(5).hex().encode() for _ in range(3000)]


def text(seed: int, words: int = 6_000) -> bytes:
    return b" ".join(random.Random(seed).choices(WORDS, k=words))


def wheel(*contents: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            archive.writestr(zipfile.ZipInfo(f"m{number}.py"), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


ONE = text(1)
TWO = ONE[:20_000] + b"a change" + ONE[20_050:]
OLD = [gzip.compress(ONE, mtime=0), wheel(ONE, text(2)), b"the old index"]
NEW = [gzip.compress(TWO, 9, mtime=0), wheel(ONE, text(2) + b"!"), b"the new index"]
DELTA = make_opened(OLD, NEW, archives=(0, 1))
LIMIT = sum(map(len, NEW))


class Host:
    """A store that has the old objects."""

    def __init__(self, root: Path, old: list[bytes], files: Files | None = None) -> None:
        self.root, self.old = root, old
        self.files = files or Files()
        self.store = Store(root, Files())
        (root / "deltas").mkdir()
        self.polls = 10**9
        for content, (digest, _) in zip(old, named(old), strict=True):
            self.store.path(digest).write_bytes(content)

    def _interrupted(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def apply(self, data: bytes, *, piece: int = 1000, limit: int = LIMIT) -> list[bytes]:
        applying = Applying(
            self.files,
            named(self.old),
            limit=limit,
            path=self.store.path,
            scratch=self.root / "deltas" / "making",
            interrupted=self._interrupted,
        )
        try:
            for at in range(0, len(data), piece):
                applying.feed(data[at : at + piece])
            return applying.finish()
        finally:
            applying.close()
            applying.close()
            assert not list((self.root / "deltas").iterdir())


@pytest.mark.parametrize("piece", [1, 1000, 10**6])
def test_archives_are_made_bit_for_bit_of_what_changed_in_them(tmp_path: Path, piece: int) -> None:
    """A gzip file and a zip, for a small part of what they cost whole, and nothing is left of their opened forms."""
    host = Host(tmp_path, OLD)
    assert host.apply(DELTA, piece=piece) == [digest for digest, _ in named(NEW)]
    for content, (digest, _) in zip(NEW, named(NEW), strict=True):
        assert host.store.read(digest, 10**7) == content
    assert len(DELTA) * 20 < LIMIT < 3 * len(make(OLD, NEW))


def test_what_cannot_be_put_back_is_carried_as_it_is(tmp_path: Path) -> None:
    """Beside one that can be; an old one that is no archive is used as it is."""
    old = [OLD[0], b"no archive" * 100, b"index"]
    new = [NEW[0], gzip.compress(ONE[:5000], 0), b"another index"]
    data = make_opened(old, new, archives=(0, 1))
    taken = take_head(data)
    assert taken is not None
    assert taken[0] is not None
    assert (list(taken[0].base), list(taken[0].new)) == ([0], [0])
    host = Host(tmp_path, old)
    assert host.apply(data, limit=sum(map(len, new))) == [digest for digest, _ in named(new)]


def test_a_wrong_recipe_makes_an_object_that_nobody_wants(tmp_path: Path) -> None:
    """Under the digest of what it made."""
    made = Host(tmp_path, OLD).apply(
        with_head(DELTA, lambda head: Head(head.base, {**head.new, 0: level(head, 1)})), limit=10**7
    )
    assert made[0] != named(NEW)[0][0]
    assert made[1:] == [digest for digest, _ in named(NEW)][1:]


def level(head: Head, setting: int) -> OpenedNew:
    return OpenedNew(head.new[0].size, [(1, setting)])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda head: Head({**head.base, 99: 5}, head.new), "corrupt-delta"),
        (lambda head: Head({**head.base, 2: 5}, head.new), "corrupt-delta"),  # no archive
        (lambda head: Head({**head.base, 0: head.base[0] - 1}, head.new), "endless-data"),
        (lambda head: Head({**head.base, 0: 2**36}, head.new), "endless-data"),
        (lambda head: Head(head.base, {0: OpenedNew(2**36, head.new[0].runs)}), "endless-data"),
        (lambda head: Head({0: head.base[0]}, head.new), "wrong-base"),
        (lambda head: Head(head.base, {**head.new, 0: OpenedNew(head.new[0].size - 1, [(1, 9)])}), "corrupt-delta"),
        (lambda head: Head(head.base, {**head.new, 0: OpenedNew(head.new[0].size, [(2, 6)])}), "corrupt-delta"),
        (lambda head: Head(head.base, {**head.new, 2: OpenedNew(13, [(1, 6)])}), "corrupt-delta"),
        (lambda head: Head(head.base, {1: head.new[1]}), "endless-data"),  # the opened form as an object
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path: Path, change: object, code: str) -> None:
    """By name, and what it wrote is gone."""
    with pytest.raises(Refusal) as caught:
        Host(tmp_path, OLD).apply(with_head(DELTA, change))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_delta_that_ends_in_its_head_is_cut_off(tmp_path: Path) -> None:
    """And so is an empty one."""
    host = Host(tmp_path, OLD)
    for cut in (0, 5, 15):
        with pytest.raises(Refusal, match="cut off"):
            host.apply(DELTA[:cut])


def test_archives_may_not_become_more_than_is_wanted(tmp_path: Path) -> None:
    """However small their opened forms are."""
    with pytest.raises(Refusal) as caught:
        Host(tmp_path, OLD).apply(DELTA, limit=LIMIT - 1)
    assert caught.value.code == "endless-data"


def test_a_damaged_or_lost_base_is_refused(tmp_path: Path) -> None:
    """An archive that does not open any more, or is not there."""
    host = Host(tmp_path, OLD)
    place = host.store.path(named(OLD)[0][0])
    place.write_bytes(OLD[0][:-100])
    with pytest.raises(Refusal, match="cannot be opened"):
        host.apply(DELTA)
    place.unlink()
    with pytest.raises(Refusal, match="cannot be opened"):
        host.apply(DELTA)


def test_without_room_for_what_is_opened_it_does_not_begin(tmp_path: Path) -> None:
    """Nothing is written."""
    with pytest.raises(Room):
        Host(tmp_path, OLD, FullFiles()).apply(DELTA)


def test_opening_and_closing_can_be_broken_off(tmp_path: Path) -> None:
    """At any piece; another attempt makes it."""
    host = Host(tmp_path, OLD)
    for polls in (0, 3, 12, 20):
        host.polls = polls
        with pytest.raises(Stopped):
            host.apply(DELTA)
    host.polls = 10**9
    assert host.apply(DELTA)


def test_memory_does_not_grow_with_an_archive(tmp_path: Path) -> None:
    """Ninety megabytes opened take what one frame and its window take."""
    content = RANDOM.randbytes(2**20) * 90
    old, new = ([gzip.compress(content, level, mtime=0)] for level in (2, 3))
    out = io.BytesIO()
    size = open_archive(io.BytesIO(old[0]).read, out.write, limit=2**27)
    frames = [
        frame(length, Kind.DIFF, difference([Extent(at, length)], steps((length, 0, 0))))
        for at in range(0, size, FRAME_BYTES)
        if (length := min(FRAME_BYTES, size - at))
    ]
    head = put_magic(Head({0: size}, {0: OpenedNew(size, [(1, 3)])}))
    data = head + delta([out.getvalue()], [size], *frames)
    del content, out
    host = Host(tmp_path, old)
    tracemalloc.start()
    try:
        made = host.apply(data, limit=sum(map(len, new)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made == [digest for digest, _ in named(new)]
    assert peak < 40 * 2**20
