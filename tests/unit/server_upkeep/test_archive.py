"""The file of a backup proves itself: whatever is cut off, changed or smuggled in is refused, and nothing is written elsewhere."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towpath.errors import Broken, InputError
from towpath_server.upkeep.archive import FORMAT, HEAD, SUMS, Head, unpack, writing

MADE = Head(FORMAT, "0.1.0", "0006", 1_800_000_000_000)
FILES = {"ca.key": b"secret", "objects/ab/" + "c" * 62: os.urandom(5_000), "towpath.db": b"\0" * 20_000}


def nothing(_: int) -> None:
    """Show no progress."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_bytes(data)
    path = tmp_path / "b.tar.zst"
    with writing(path, MADE, nothing) as writer:
        for name in FILES:
            writer.add(name, tmp_path / "src" / name)
    return path


def test_what_goes_in_comes_out_and_nobody_else_can_read_it(archive: Path, tmp_path: Path) -> None:
    """Files come back byte by byte; the archive and what is unpacked are 0600, folders 0700."""
    assert unpack(archive, tmp_path / "out", nothing) == MADE
    assert {
        str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == FILES
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes | {archive.stat().st_mode & 0o777} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_dir()} == {0o700}


def test_a_backup_that_was_cut_off_anywhere_is_refused(archive: Path, tmp_path: Path) -> None:
    """A copy that ended early never passes, wherever it ended before the last sum was written."""
    data = archive.read_bytes()
    cut = tmp_path / "cut"
    for size in [*range(0, len(data) - 64, 97), len(data) // 2]:
        cut.write_bytes(data[:size])
        with pytest.raises(InputError, match="no whole backup"):
            unpack(cut, None, nothing)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_backup_with_one_wrong_bit_is_refused_or_gives_the_same_files(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    """No bit can turn so that other bytes come out than went in; most turns are refused at all."""
    folder = tmp_path_factory.mktemp("bit")
    data = bytearray(archive.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (folder / "bad").write_bytes(data)
    try:
        unpack(folder / "bad", folder / "out", nothing)
    except InputError as error:
        assert str(error).startswith("cannot use ")
        assert "\n" not in str(error)
    else:
        for name, content in FILES.items():
            assert (folder / "out" / name).read_bytes() == content


def handmade(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Write a compressed tar of anything."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(zstandard.ZstdCompressor().compress(out.getvalue()))
    return path


def named(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "ca.key"
    return info


HEADED = (named(HEAD), json.dumps({"format": 1, "towpath": "", "schema": "", "made_unix_ms": 1}).encode())


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([HEADED, (named("../evil"), b"x")], "does not belong"),
        ([HEADED, (named("/etc/evil"), b"x")], "does not belong"),
        ([HEADED, (named("keys/../../evil"), b"x")], "does not belong"),
        ([HEADED, (named("link", tarfile.SYMTYPE), b"")], "does not belong"),
        ([HEADED, (named("dev", tarfile.CHRTYPE), b"")], "does not belong"),
        ([HEADED, (named("ca.key"), b"x"), (named("ca.key"), b"y")], "does not belong"),
        ([HEADED, (named(SUMS), b"{}"), (named("late"), b"x")], "after its list"),
        ([HEADED, (named(SUMS), b"{}")], "is not what was written"),
        ([HEADED, (named(SUMS), b"[]")], "no whole backup"),
        ([HEADED, (named(SUMS), b'{"a": {"size": 1}}')], "no whole backup"),
        ([HEADED], "ends too early"),
        ([(named("ca.key"), b"x")], "begins with 'ca.key'"),
        ([(named(HEAD), b"{" * 70_000)], "too long"),
        ([(named(HEAD), b"{}")], "no whole backup"),
        ([(named(HEAD), b'{"format": 2}')], "this Towpath knows 1"),
        ([], "ends too early"),
    ],
)
def test_an_archive_of_somebody_else_writes_nothing_outside(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], says: str
) -> None:
    """Names that climb, links, devices, doubles, and lists that do not fit are one clear line."""
    bad = handmade(tmp_path / "bad", *members)
    with pytest.raises(InputError, match=says) as caught:
        unpack(bad, tmp_path / "deep/out", nothing)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "deep/evil").exists()


def test_a_file_that_is_no_backup_or_not_there_is_one_line(tmp_path: Path) -> None:
    """Text, a folder and nothing at all."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="no whole backup"):
        unpack(tmp_path / "text", None, nothing)
    for name in ("nothing", "."):
        with pytest.raises(InputError, match="cannot read the backup"):
            unpack(tmp_path / name, None, nothing)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """What cannot be written says where, why and what to look at."""
    with pytest.raises(Broken, match="is there room for it"), writing(tmp_path / "no/b", MADE, nothing):
        pass


def test_a_file_with_a_strange_name_stops_the_backup(archive: Path, tmp_path: Path) -> None:
    """What could not be restored is not silently left out."""
    with (
        pytest.raises(InputError, match="no file of a server has such a name"),
        writing(tmp_path / "x", MADE, nothing) as writer,
    ):
        writer.add("keys/a b", archive)
