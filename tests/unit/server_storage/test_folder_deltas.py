"""Deltas in a folder that several servers share."""

import os
import time
from pathlib import Path

import pytest

from towpath.errors import Broken, InputError
from towpath_server.domain.deltas import Pair
from towpath_server.storage import FolderDeltas
from towpath_server.storage.deltas import REFUSED_S

PAIR = Pair(b"o" * 32, b"n" * 32)
OTHER = Pair(b"p" * 32, b"n" * 32)


def put(deltas: FolderDeltas, data: bytes, pair: Pair = PAIR) -> None:
    writer = deltas.begin(pair)
    assert writer is not None
    writer.write(data)
    writer.publish()
    writer.abort()


def test_a_delta_is_there_when_it_is_published_and_not_before(tmp_path: Path) -> None:
    """Under the names of both indexes, read from any byte."""
    deltas = FolderDeltas(tmp_path / "deltas")
    assert deltas.size(PAIR) is None
    with pytest.raises(InputError):
        next(deltas.chunks(PAIR, 0, 10))
    writer = deltas.begin(PAIR)
    assert writer is not None
    writer.write(b"0123")
    writer.write(b"456789")
    assert deltas.size(PAIR) is None
    writer.publish()
    assert (tmp_path / "deltas" / f"{PAIR.old.hex()}-{PAIR.new.hex()}").read_bytes() == b"0123456789"
    assert deltas.size(PAIR) == 10
    assert list(deltas.chunks(PAIR, 3, 4)) == [b"3456", b"789"]
    assert [(one.pair, one.size) for one in deltas.kept()] == [(PAIR, 10)]
    assert FolderDeltas(tmp_path / "deltas").size(PAIR) == 10


def test_two_servers_on_one_folder_do_not_make_the_same_one(tmp_path: Path) -> None:
    """Who comes second leaves it; when the first gives up, the next attempt begins anew."""
    one, two = FolderDeltas(tmp_path), FolderDeltas(tmp_path)
    first = one.begin(PAIR)
    assert first is not None
    first.write(b"of the first")
    assert two.begin(PAIR) is None
    assert FolderDeltas(tmp_path).begin(PAIR) is None  # a third one, which swept what nobody has
    other = two.begin(OTHER)
    assert other is not None
    other.abort()
    first.abort()
    first.abort()
    put(two, b"of the second")
    assert list(one.chunks(PAIR, 0, 100)) == [b"of the second"]
    assert not list((tmp_path / "incoming").iterdir())


def test_what_a_killed_server_left_is_swept_and_written_over(tmp_path: Path) -> None:
    """Half a delta is never served."""
    FolderDeltas(tmp_path)
    leftover = tmp_path / "incoming" / f"{PAIR.old.hex()}-{PAIR.new.hex()}"
    leftover.write_bytes(b"half of something longer")
    deltas = FolderDeltas(tmp_path)
    assert not leftover.exists()
    leftover.write_bytes(b"half of something longer")
    put(deltas, b"whole")
    assert list(deltas.chunks(PAIR, 0, 100)) == [b"whole"]


def test_being_read_is_being_used(tmp_path: Path) -> None:
    """What was read last is the newest; strangers in the folder are none of ours."""
    deltas = FolderDeltas(tmp_path)
    put(deltas, b"one")
    put(deltas, b"two", OTHER)
    (tmp_path / "notes.txt").write_text("a person's")
    for path in tmp_path.glob("*-*"):
        os.utime(path, (1, 1))
    assert list(deltas.chunks(OTHER, 0, 10)) == [b"two"]
    ages = {one.pair: one.used_unix_ms for one in deltas.kept()}
    assert ages[PAIR] == 1000
    assert ages[OTHER] > 1000


def test_whoever_reads_a_delta_that_goes_reads_on(tmp_path: Path) -> None:
    """Pruning is in nobody's way."""
    deltas = FolderDeltas(tmp_path)
    put(deltas, b"0123456789")
    rest = deltas.chunks(PAIR, 0, 4)
    assert next(rest) == b"0123"
    deltas.remove(PAIR)
    deltas.remove(PAIR)
    assert b"".join(rest) == b"456789"
    assert deltas.size(PAIR) is None


def test_a_reason_why_there_is_none_is_kept_for_a_day(tmp_path: Path) -> None:
    """By all servers on the folder."""
    deltas = FolderDeltas(tmp_path)
    assert deltas.refusal(PAIR) == ""
    deltas.refuse(PAIR, "it would have more bytes than the objects")
    again = FolderDeltas(tmp_path)
    assert again.refusal(PAIR) == "it would have more bytes than the objects"
    assert again.refusal(OTHER) == ""
    assert again.kept() == []
    (path,) = tmp_path.glob("*.none")
    old = time.time() - REFUSED_S - 1
    os.utime(path, (old, old))
    assert again.refusal(PAIR) == ""
    assert not path.exists()


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    """Broken says what to look at, and nothing half made stays."""
    deltas = FolderDeltas(tmp_path)
    writer = deltas.begin(PAIR)
    assert writer is not None
    (tmp_path / "incoming" / f"{PAIR.old.hex()}-{PAIR.new.hex()}").unlink()
    with pytest.raises(Broken, match="look at the disk"):
        writer.publish()
    writer.abort()
    (tmp_path / "incoming").rmdir()
    with pytest.raises(Broken):
        deltas.begin(PAIR)
    with pytest.raises(Broken):
        deltas.refuse(PAIR, "why")


def test_a_delta_that_sees_into_archives_lies_beside_the_plain_one(tmp_path: Path) -> None:
    """Neither is the other, and both count."""
    deltas = FolderDeltas(tmp_path / "deltas")
    opened = Pair(PAIR.old, PAIR.new, opened=True)
    put(deltas, b"plain")
    assert deltas.size(opened) is None
    put(deltas, b"opened", opened)
    assert (deltas.size(PAIR), deltas.size(opened)) == (5, 6)
    assert {(one.pair, one.size) for one in deltas.kept()} == {(PAIR, 5), (opened, 6)}
    deltas.refuse(opened, "why")
    assert (deltas.refusal(opened), deltas.refusal(PAIR)) == ("why", "")
