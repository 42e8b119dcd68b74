"""Floors of trust: durable, never sinking, and said to be damaged where they are."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from towpath.dsse import Keys
from towpath.manifest import ManifestFloor
from towpath_agent.errors import DiskError, DiskFull
from towpath_agent.runner.floors import Floors, FloorsFile
from towpath_agent.system.files import Files

FULL = Floors(
    manifest=ManifestFloor(7, bytes(range(32)), frozenset({"key-b", "key-a"})),
    roles={"root": 1, "app-hello": 3},
    releases={"hello": 2},
    director=Keys({"key-a": bytes(32), "key-b": b"\x01" * 32}, 2),
    time_unix_ms=1_700_000_000_000,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "floors.json"


def test_without_a_file_everything_begins_at_zero(path: Path) -> None:
    """A new host has no floors, and that is no damage."""
    it = FloorsFile(path, Files())
    assert (it.floors, it.damaged) == (Floors(), False)
    assert (it.floors.manifest.sequence, it.floors.director.threshold, it.floors.time_unix_ms) == (0, 0, 0)


@pytest.mark.parametrize("floors", [FULL, Floors()])
def test_floors_survive_a_restart(path: Path, floors: Floors) -> None:
    """Every floor comes back as it was saved."""
    it = FloorsFile(path, Files())
    it.save(floors)
    again = FloorsFile(path, Files())
    assert (it.floors, again.floors, again.damaged) == (floors, floors, False)


def test_floors_are_replaced_in_one_step_and_synced(path: Path) -> None:
    """The file is written beside, synced, renamed and its folder synced: a power cut leaves the old or the new."""
    acts: list[str] = []
    it = FloorsFile(path, Files(lambda verb, where: acts.append(f"{verb} {where.name}")))
    it.save(FULL)
    renamed = next(number for number, act in enumerate(acts) if act.startswith("rename"))
    assert any("sync" in act for act in acts[:renamed])
    assert any("sync" in act for act in acts[renamed + 1 :])


def test_floors_that_could_not_be_saved_do_not_count(path: Path) -> None:
    """Where the disk is full the old floors stay, on disk and in memory, and the error is not hidden."""
    FloorsFile(path, Files()).save(FULL)
    full = False

    def before(_verb: str, _path: Path) -> None:
        if full:
            raise OSError(28, "No space left on device")

    it = FloorsFile(path, Files(before))
    full = True
    with pytest.raises(DiskFull):
        it.save(replace(FULL, time_unix_ms=2_000_000_000_000))
    assert it.floors == FULL
    assert FloorsFile(path, Files()).floors == FULL


def test_a_release_floor_rises_and_never_sinks(path: Path) -> None:
    """On confirm a floor rises, durably; a lower one changes nothing and writes nothing; other apps stay."""
    it = FloorsFile(path, Files())
    it.save(FULL)
    it.raise_release("hello", 5)
    it.raise_release("other", 1)
    assert FloorsFile(path, Files()).floors == replace(FULL, releases={"hello": 5, "other": 1})
    before = path.stat().st_ino
    for app, floor in (("hello", 4), ("hello", 5), ("new", 0)):
        it.raise_release(app, floor)
    assert it.floors.releases == {"hello": 5, "other": 1}
    assert path.stat().st_ino == before


def spoil(change: Callable[[dict[str, object]], object]) -> bytes:
    raw = {
        "manifest": {"sequence": 1, "payload_sha256": "", "director_keys": []},
        "roles": {},
        "releases": {},
        "director": {},
        "threshold": 1,
        "time_unix_ms": 1,
    }
    change(raw)
    return json.dumps(raw).encode()


DAMAGE = {
    "empty": b"",
    "no JSON": b"\x00" * 100,
    "no UTF-8": b'{"manifest": "\xff"}',
    "a list": b"[]",
    "missing": spoil(lambda raw: raw.pop("roles")),
    "text for a number": spoil(lambda raw: raw.update(time_unix_ms="soon")),
    "infinite": spoil(lambda raw: raw.update(time_unix_ms=float("inf"))),
    "number for a table": spoil(lambda raw: raw.update(roles=5)),
    "no hexadecimal": spoil(lambda raw: raw.update(director={"k": "xyz"})),
    "number for hexadecimal": spoil(lambda raw: raw.update(director={"k": 5})),
    "too large": b" " * (2**20 + 1),
    "nested": b"[" * 100_000,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_set_aside_and_said_so(path: Path, what: str) -> None:
    """An unreadable file is kept for people under another name, floors begin anew, and `damaged` tells of it."""
    path.write_bytes(DAMAGE[what])
    it = FloorsFile(path, Files())
    assert (it.damaged, it.floors) == (True, Floors())
    assert (path.exists(), path.with_suffix(".damaged").read_bytes()) == (False, DAMAGE[what])
    it.save(FULL)
    assert FloorsFile(path, Files()).damaged is False


def test_a_file_cut_off_anywhere_is_damaged(path: Path) -> None:
    """Every proper beginning of the file is told from the whole: floors never come back half."""
    FloorsFile(path, Files()).save(FULL)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert FloorsFile(path, Files()).damaged
    path.write_bytes(whole)
    assert FloorsFile(path, Files()).floors == FULL


def test_a_file_that_cannot_be_read_now_is_not_damaged(path: Path) -> None:
    """Trouble of the machine is no reason to forget floors: it is raised, and the file stays."""
    path.mkdir()
    with pytest.raises(DiskError):
        FloorsFile(path, Files())
    assert path.exists()
