"""Uploads: only what is missing, as frames that unpack to the object, taken up again after a break."""

import hashlib
import os
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from towpath.errors import Refusal, Unavailable
from towpath_cli.model import Piece
from towpath_cli.tree import Progress, Tree, hash_chunks, no_progress, read_tree
from towpath_cli.upload import ATTEMPTS, PIECE_BYTES, pieces, upload_tree


class Store:
    """Keeps whole objects; breaks off after `breaks` objects, each time one is named."""

    def __init__(self, breaks: Iterable[int] = (), error: Exception | None = None) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.biggest = 0
        self.asked = 0
        self._breaks = list(breaks)
        self._error = error or Unavailable("cannot reach the server")

    def find_missing(self, digests: Sequence[bytes]) -> list[bytes]:
        self.asked += 1
        return [digest for digest in digests if digest not in self.objects]

    def upload(self, pieces: Iterable[Piece]) -> int:
        limit = self._breaks.pop(0) if self._breaks else None
        stored = 0
        frame = b""
        for piece in pieces:
            if stored == limit:
                raise self._error
            frame = piece.data if piece.first else frame + piece.data
            self.biggest = max(self.biggest, len(piece.data))
            if piece.last:
                content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=piece.size)
                assert len(content) == piece.size
                assert hashlib.sha256(content).digest() == piece.sha256
                self.objects[piece.sha256] = content
                stored += 1
        return stored


@contextmanager
def silent(total: int) -> Iterator[Progress]:
    yield no_progress


def make_tree(folder: Path) -> Tree:
    (folder / "big").write_bytes(os.urandom(3 * PIECE_BYTES + 17))
    (folder / "empty").write_bytes(b"")
    (folder / "small").write_bytes(b"text" * 100)
    return read_tree(folder)


def test_everything_arrives(tmp_path: Path) -> None:
    """Empty, small and large objects and the index arrive whole, in pieces of a bounded size."""
    tree, store = make_tree(tmp_path), Store()
    done = upload_tree(store, tree, show=silent, sleep=lambda _: None)
    assert set(store.objects) == set(tree.objects())
    assert store.biggest == PIECE_BYTES
    assert (done.objects, done.of_objects) == (4, 4)
    assert done.carried > 3 * PIECE_BYTES


def test_only_what_is_missing_travels(tmp_path: Path) -> None:
    """What the server has is not sent; where it has all, nothing is."""
    tree, store = make_tree(tmp_path), Store()
    upload_tree(store, tree, show=silent, sleep=lambda _: None)
    (tmp_path / "small").write_bytes(b"new")
    again = upload_tree(store, read_tree(tmp_path), show=silent, sleep=lambda _: None)
    assert (again.objects, again.of_objects) == (2, 4)
    nothing = upload_tree(store, read_tree(tmp_path), show=silent, sleep=lambda _: None)
    assert (nothing.objects, nothing.carried) == (0, 0)


def test_a_broken_upload_is_taken_up_again(tmp_path: Path) -> None:
    """After a break only what has not arrived is sent again, with a pause before."""
    tree, store, pauses = make_tree(tmp_path), Store(breaks=[1, 2]), []
    done = upload_tree(store, tree, show=silent, sleep=pauses.append)
    assert set(store.objects) == set(tree.objects())
    assert (done.objects, store.asked, len(pauses)) == (4, 3, 2)


def test_a_server_that_stays_away_is_an_error(tmp_path: Path) -> None:
    """After a few attempts the upload gives up with the server's error."""
    store = Store(breaks=[0] * 99)
    with pytest.raises(Unavailable):
        upload_tree(store, make_tree(tmp_path), show=silent, sleep=lambda _: None)
    assert store.asked == ATTEMPTS


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    """What no waiting can help is raised at once."""
    store = Store(breaks=[0], error=Refusal("no"))
    with pytest.raises(Refusal):
        upload_tree(store, make_tree(tmp_path), show=silent, sleep=lambda _: None)
    assert store.asked == 1


@pytest.mark.parametrize("name", ["artifact", "artifact.tar", "artifact.tar.zst"])
def test_memory_is_flat(tmp_path: Path, name: str) -> None:
    """Hashing and uploading need the same few MiB whatever the size: a 2 GB artifact is no special case."""

    def peak(size: int) -> int:
        content = tmp_path / "content"
        with content.open("wb") as file:
            file.truncate(size)
        path = content.rename(tmp_path / name) if name == "artifact" else tmp_path / name
        if name != "artifact":
            with tarfile.open(tmp_path / "artifact.tar", "w") as tar:
                tar.add(content, "content")
        if name.endswith("zst"):
            with (tmp_path / "artifact.tar").open("rb") as source, path.open("wb") as target:
                zstandard.ZstdCompressor(level=1).copy_stream(source, target)
        tracemalloc.start()
        tree = read_tree(path)
        total = sum(len(piece.data) for piece in pieces(tree.contents(set(tree.objects())), no_progress))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total > 0
        return highest

    assert peak(96 * 2**20) < peak(24 * 2**20) + 2 * 2**20


def side_by_side(work: Callable[..., object]) -> Callable[..., object]:
    """Return `work` that begins only when another thread is there to begin it too."""
    meeting = threading.Barrier(2)

    def met(*arguments: object, **named: object) -> object:
        meeting.wait(60)
        return work(*arguments, **named)

    return met


def test_files_are_hashed_and_packed_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads are at work at once in both passes, and what they make comes in order."""
    contents = [os.urandom(50_000 + number) for number in range(8)]
    (tmp_path / "tree").mkdir()
    for number, data in enumerate(contents):
        (tmp_path / "tree" / f"f{number}").write_bytes(data)
    monkeypatch.setattr("towpath_cli.tree.WORKERS", 2)
    monkeypatch.setattr("towpath_cli.tree.hash_chunks", side_by_side(hash_chunks))
    tree = read_tree(tmp_path / "tree")
    assert [entry.sha256 for entry in tree.entries] == [hashlib.sha256(data).digest() for data in contents]

    def packer(**options: Any) -> SimpleNamespace:
        return SimpleNamespace(compress=packs(zstandard.ZstdCompressor(**options)))

    meets = side_by_side(lambda packer, data: packer.compress(data))

    def packs(packer: zstandard.ZstdCompressor) -> Callable[[bytes], object]:
        return lambda data: meets(packer, data)

    monkeypatch.setattr("towpath_cli.upload.zstandard", SimpleNamespace(ZstdCompressor=packer))
    wanted = [entry.sha256 for entry in tree.entries]
    frames = [piece.data for piece in pieces(tree.contents(wanted), no_progress, workers=2)]
    assert [zstandard.decompress(frame) for frame in frames] == contents
