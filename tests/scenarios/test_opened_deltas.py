"""A host takes a changed archive by what changed inside it, and whole where that does not give the signed bytes."""

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from fakes.archives import make_opened, with_head
from fakes.delta_host import DeltaHost
from towpath.delta.opened import Head, OpenedNew
from towpath.release import Release
from towpath_agent.ports import Want

RANDOM = random.Random(4)
WORDS = [RANDOM.randbytes(6).hex().encode() for _ in range(2000)]
TEXT = b" ".join(RANDOM.choices(WORDS, k=30_000))


def app(*contents: bytes) -> bytes:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for number, content in enumerate(contents):
            info = tarfile.TarInfo(f"app/module{number}.py")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0)


OLD, NEW = app(TEXT, TEXT[::-1]), app(TEXT[:9000] + b"changed" + TEXT[9000:], TEXT[::-1])


class ArchiveHost(DeltaHost):
    """It runs 3.0.0, which holds app.tar.gz; 4.0.0 is published."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.old = self.host.publish("3.0.0", files={"app.tar.gz": OLD})
        self.new = self.host.publish("4.0.0", files={"app.tar.gz": NEW})
        self.host.assign(self.old, generation=2)
        self.host.settle()
        self.host.run(120)  # past probation
        assert self.host.live() == "3.0.0"
        self.host.server.fetches.clear()
        self.host.server.sent_bytes = 0

    def opened(self) -> bytes:
        old, new = self.contents(self.old), self.contents(self.new)
        made = [content for digest, content in new.items() if digest not in old]
        return make_opened(list(old.values()), made, archives=range(len(old)))

    def take(self, release: Release) -> None:
        self.host.assign(release, generation=3)
        self.host.settle()
        assert (self.host.live(), self.host.serving()) == ("4.0.0", "4.0.0")
        current = self.host.folder / "apps" / "hello" / "current"
        assert (current / "app.tar.gz").read_bytes() == NEW
        assert not list((self.host.folder / "staging").iterdir())


def test_a_changed_archive_costs_what_changed_inside(tmp_path: Path) -> None:
    """Less than a twentieth of it, bit for bit the signed one, and no object is asked for."""
    it = ArchiveHost(tmp_path)
    it.offer(it.opened())
    it.take(it.new)
    assert it.asked == ["delta"]
    assert it.host.server.fetches[-1][0].opened
    assert it.host.server.sent_bytes * 20 < len(NEW)
    assert (it.left(), it.notes()) == ([], [])


def test_a_recipe_that_gives_other_bytes_costs_the_delta_only(tmp_path: Path) -> None:
    """As from a server, or with a zlib, that packs otherwise: named, not asked for again, the objects come whole."""

    def wrong(head: Head) -> Head:
        return Head(head.base, {number: OpenedNew(it.size, [(1, 1)]) for number, it in head.new.items()})

    it = ArchiveHost(tmp_path)
    it.offer(with_head(it.opened(), wrong))
    it.take(it.new)
    assert it.asked[0] == "delta"
    assert set(it.asked[1:]) == {"object"}
    assert it.left() == [".refused"]
    (note,) = it.notes()
    assert note in ("corrupt-delta", "endless-data")


@pytest.mark.parametrize("changed", [False, True])
def test_a_cut_delta_goes_on_or_begins_again(tmp_path: Path, changed: bool) -> None:
    """At its byte; where the server has the plain one no more, or another one since, what was kept is dropped."""
    it = ArchiveHost(tmp_path)
    data = it.opened()
    it.offer(data)
    honest, asked = it.host.server.bytes_of, 0

    def cut(want: Want) -> bytes | None:
        nonlocal asked
        asked += want.kind == "delta"
        it.host.server.cut_after = len(data) // 2 if want.kind == "delta" and asked == 1 else None
        if changed and asked > 1:
            it.offer(it.delta())
        return honest(want)

    it.host.server.bytes_of = cut
    it.take(it.new)
    assert it.notes() == []


def test_a_disk_without_room_for_opened_forms_takes_objects(tmp_path: Path) -> None:
    """Nothing is refused: the next delta may fit."""
    it = ArchiveHost(tmp_path)
    it.offer(with_head(it.opened(), lambda head: head))
    files = it.host.site.store.deltas._files
    asked = []

    def free(_path: Path) -> int:
        asked.append(1)
        return 10**12 if len(asked) == 1 else 0

    files.disk_free = free  # type: ignore[method-assign]
    try:
        it.host.assign(it.new, generation=3)
        it.host.run(5)
    finally:
        del files.disk_free
    it.take(it.new)
    assert ".refused" not in it.left()
