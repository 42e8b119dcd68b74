"""The agent applies a delta to its store: objects under their own digests, and no harm by whatever comes."""

import errno
import random
from pathlib import Path

import pytest

from fakes.deltas import delta, difference, frame, make, named, steps
from towpath.delta.frame import Extent
from towpath.delta.layout import Kind
from towpath.errors import Refusal
from towpath_agent.errors import DiskError
from towpath_agent.store.applying import Applying
from towpath_agent.store.objects import ObjectMissing, Store
from towpath_agent.system.files import Files

OLD = [random.Random(1).randbytes(200_000), b"words of the old release\n" * 100, b""]
NEW = [OLD[0][50_000:] + b"new", b"", b"words of the new release\n" * 100]


class Host:
    """A store that has the old objects."""

    def __init__(self, root: Path, old: list[bytes], files: Files | None = None) -> None:
        self.old = old
        self.files = files or Files()
        self.store = Store(root, Files())
        self.scratch = root / "partial" / "delta"
        for content, (digest, _) in zip(old, named(old), strict=True):
            self.store.path(digest).write_bytes(content)

    def apply(self, data: bytes, *, piece: int = 1000, limit: int = 2**30) -> list[bytes]:
        applying = Applying(self.files, named(self.old), limit=limit, path=self.store.path, scratch=self.scratch)
        try:
            for at in range(0, len(data), piece):
                applying.feed(data[at : at + piece])
            return applying.finish()
        finally:
            applying.close()
            applying.close()
            assert not self.scratch.exists()


def test_a_delta_makes_the_objects_that_a_host_lacks(tmp_path: Path) -> None:
    """They are in the store, under their digests, and can be used."""
    host = Host(tmp_path, OLD)
    assert host.apply(make(OLD, NEW)) == [digest for digest, _ in named(NEW)]
    for content, (digest, _) in zip(NEW, named(NEW), strict=True):
        assert host.store.read(digest, 10**6) == content


def test_frames_use_what_was_made_before_them(tmp_path: Path) -> None:
    """Of base objects, of objects that are complete and of the one that is being made, all in one window."""
    old = [b"base", b"", b"object"]
    first = difference([Extent(2, 6)], steps((6, 2, 0)), extra=b"!?")  # "seobje!?": one object and half of another
    second = difference([Extent(8, 10)], steps((10, 0, 0)))  # "ct", the first object, and that half
    host = Host(tmp_path, old)
    made = host.apply(delta(old, [5, 13], frame(8, Kind.DIFF, first), frame(10, Kind.DIFF, second)), piece=1)
    new = [b"seobj", b"e!?" + b"ct" + b"seobj" + b"e!?"]
    assert made == [digest for digest, _ in named(new)]
    assert host.store.read(made[1], 100) == new[1]


def test_a_damaged_base_makes_no_object_of_a_wanted_name(tmp_path: Path) -> None:
    """What was damaged on disk ends under its own digest; the wanted object is missing and is fetched whole."""
    host = Host(tmp_path, OLD)
    damaged = bytearray(OLD[0])
    damaged[100_000] ^= 1
    host.store.path(named(OLD)[0][0]).write_bytes(damaged)
    assert named(NEW)[0][0] not in host.apply(make(OLD, NEW))
    assert list(host.store.missing(dict(named(NEW)))) == [named(NEW)[0][0]]
    with pytest.raises(ObjectMissing):
        host.store.read(named(NEW)[0][0], 10**6)
    assert host.store.prune([digest for digest, _ in named(NEW)]) == len(OLD) - 1 + 1  # the empty one stays


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_base_that_is_not_there_is_a_refusal(tmp_path: Path, damage: str) -> None:
    """An object that was pruned or cut short since is named, and nothing is left half made."""
    host = Host(tmp_path, OLD)
    path = host.store.path(named(OLD)[0][0])
    path.unlink() if damage == "gone" else path.write_bytes(b"short")
    with pytest.raises(Refusal, match="not there"):
        host.apply(make(OLD, NEW))
    assert set(host.store.missing(dict(named(NEW)))) >= {named(NEW)[0][0]}


def test_a_delta_that_is_cut_off_leaves_whole_objects_only(tmp_path: Path) -> None:
    """Each object that is in the store is what its name says, wherever the delta ended."""
    data = make(OLD, NEW, index_last=True)
    for cut in range(0, len(data), 40):
        host = Host(tmp_path / str(cut), OLD)
        with pytest.raises(Refusal, match="cut off"):
            host.apply(data[:cut])
        for content, (digest, _) in zip(NEW, named(NEW), strict=True):
            if host.store.path(digest).exists():
                assert host.store.read(digest, 10**6) == content


def test_a_full_disk_ends_it_and_the_next_attempt_makes_everything(tmp_path: Path) -> None:
    """Writes fail one after another; a second attempt over the leftovers is whole."""
    left = 1

    def before(verb: str, path: Path) -> None:
        nonlocal left
        if verb == "write":
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

    data = make(OLD, NEW, index_last=True)
    host = Host(tmp_path, OLD, Files(before))
    with pytest.raises(DiskError):
        host.apply(data)
    left = 1000
    assert host.apply(data) == [digest for digest, _ in named(NEW)]
    assert host.store.read(named(NEW)[0][0], 10**6) == NEW[0]


def test_a_leftover_of_a_killed_agent_is_in_nobodys_way(tmp_path: Path) -> None:
    """The scratch file of an attempt that was killed is replaced."""
    host = Host(tmp_path, OLD)
    host.scratch.write_bytes(b"half an object")
    assert host.apply(make(OLD, NEW)) == [digest for digest, _ in named(NEW)]
