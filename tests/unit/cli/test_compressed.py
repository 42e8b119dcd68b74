"""What lint says of files that are compressed already."""

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from towpath_cli import compressed
from towpath_cli.compressed import SMALLEST_BYTES, notes
from towpath_cli.tree import read_tree

NOISE = os.urandom(2 * SMALLEST_BYTES)


def stored(data: bytes, how: int) -> bytes:
    """Return a zip of one file, stored or deflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr("module.py", data)
    return buffer.getvalue()


TEXT = b"".join(b"line %d of a text\n" % (number * 7919) for number in range(200_000))


def test_archives_are_named_with_their_size_and_a_way_out(tmp_path: Path) -> None:
    """The largest three by name, the others counted; text beside them is none of them."""
    for number in range(4):
        (tmp_path / f"v{number}.whl").write_bytes(stored(TEXT[number:], zipfile.ZIP_LZMA))
    (tmp_path / "log.txt").write_bytes(TEXT)
    (line,) = notes("tree", read_tree(tmp_path))
    assert line.startswith("4 files ('v")
    assert ", ...; " in line
    assert "are compressed already" in line
    assert line.endswith("unpack it, or pack it without compression")


@pytest.mark.parametrize("kind", ["deb", "rpm", "oci"])
def test_each_kind_of_package_has_its_own_advice(tmp_path: Path, kind: str) -> None:
    """With the word that its builder takes."""
    (tmp_path / "tool.deb").write_bytes(b"!<arch>\n" + NOISE)
    (line,) = notes(kind, read_tree(tmp_path / "tool.deb", packed=True))
    assert line.startswith("1 file ('tool.deb'; ")
    assert "is compressed already: deltas cannot see into it" in line
    assert {"deb": "-Znone", "rpm": "w.ufdio", "oci": "docker-archive"}[kind] in line


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.whl", stored(TEXT, zipfile.ZIP_STORED)),  # an archive that only stores
        ("a.gz", gzip.compress(TEXT)[: SMALLEST_BYTES // 2]),  # too little to matter
        ("a.bin", NOISE),  # nothing says that it is an archive
        ("a.gz", b""),
        ("a.whl", stored(TEXT, zipfile.ZIP_DEFLATED)),  # deltas see into it
        ("a.gz", gzip.compress(TEXT, 1)),
    ],
)
def test_what_deltas_can_use_or_nobody_waits_for_is_not_told(tmp_path: Path, name: str, data: bytes) -> None:
    """No advice without a reason."""
    (tmp_path / name).write_bytes(data)
    (tmp_path / "other").write_bytes(b"x")
    assert notes("tree", read_tree(tmp_path)) == []


def test_the_contents_of_a_tar_are_looked_at_not_the_tar(tmp_path: Path) -> None:
    """An artifact that is a packed tar is a tree like any other; a wheel in it is told."""
    (tmp_path / "a.whl").write_bytes(stored(TEXT, zipfile.ZIP_LZMA))
    (tmp_path / "b.txt").write_bytes(TEXT)
    with tarfile.open(tmp_path / "app.tar.gz", "w:gz") as archive:
        for name in ("a.whl", "b.txt"):
            archive.add(tmp_path / name, name)
    (line,) = notes("tree", read_tree(tmp_path / "app.tar.gz"))
    assert line.startswith("1 file ('a.whl'; ")


@pytest.mark.parametrize(("entries", "told"), [(4, 0), (1, 1)])
def test_of_a_large_archive_the_front_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int, told: int
) -> None:
    """What ends in the front is packed again, up to a limit; one large stream is told of."""
    monkeypatch.setattr(compressed, "_OPENED_PACKED_BYTES", SMALLEST_BYTES)
    monkeypatch.setattr(compressed, "_COMPARED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(entries):
            archive.writestr(f"m{number}", NOISE[: len(NOISE) // entries])
    assert len(notes("tree", read_tree(tmp_path))) == told


def test_an_archive_that_does_not_come_back_is_told(tmp_path: Path) -> None:
    """It opens, but no setting of zlib makes it again."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, 31)
    halves = (NOISE[:SMALLEST_BYTES], NOISE[SMALLEST_BYTES:])
    data = b"".join(deflater.compress(half) + deflater.flush(zlib.Z_FULL_FLUSH) for half in halves) + deflater.flush()
    (tmp_path / "a.gz").write_bytes(data)
    assert len(notes("tree", read_tree(tmp_path))) == 1
