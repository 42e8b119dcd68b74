"""A backup or a restore that is cut short: what it leaves holds the keys of a server, and does not stay."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from fakes.live_server import LiveServer
from towpath_server.cli import group
from towpath_server.upkeep.backup import Progress, back_up

# A command that ends itself by a signal as soon as it has done some bytes.
CUT = """
import os, signal, sys
from towpath_server import cli, upkeep_cli
number = int(sys.argv.pop(1))
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run without a terminal
upkeep_cli._progress = lambda doing: lambda done, whole: os.kill(os.getpid(), number)
cli.main()
"""
CUT_S = 300.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a server that has run."""
    with LiveServer(tmp_path) as server:
        server.publish("1.0.0", os.urandom(3_000))
    return server.fleet / "server"


def backup(folder: Path, out: Path, progress: Progress = lambda *_: None) -> None:
    back_up(folder, out, time.time_ns() // 1_000_000, progress)


def cut(number: signal.Signals, *words: str | Path) -> int:
    """Run `towpath-server WORDS`, cut short by a signal in its work; return its exit code."""
    argv = [sys.executable, "-c", CUT, str(number.value), *map(str, words)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=CUT_S).returncode


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_told_to_end_leaves_nothing(folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A timer that stops it and a terminal that goes away are as Ctrl-C."""
    (tmp_path / "backups").mkdir()
    assert cut(number, "backup", "--dir", folder, "--out", tmp_path / "backups") == 130
    assert list((tmp_path / "backups").iterdir()) == []
    backup(folder, tmp_path / "b.tar.zst")
    before = sorted(tmp_path.iterdir())
    assert cut(number, "restore", "--dir", tmp_path / "new", tmp_path / "b.tar.zst") == 130
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_backup_left_goes_with_the_next_one(folder: Path, tmp_path: Path) -> None:
    """Whatever the names; but not what another one works in, and no file of a person's."""
    backups = tmp_path / "backups"
    backups.mkdir()
    for name in ("a.tar.zst", "b.tar.zst"):
        assert cut(signal.SIGKILL, "backup", "--dir", folder, "--out", backups / name) == -signal.SIGKILL
        (left,) = hidden(backups)
        assert left.stat().st_mode & 0o777 == 0o700
    (backups / ".towpath-backup.note.part").write_text("of a person")
    works: set[Path] = set()

    def meanwhile(_done: int, _whole: int) -> None:
        if not works:
            works.update(path for path in hidden(backups) if path.is_dir())
            backup(folder, backups / "second.tar.zst")

    backup(folder, backups / "first.tar.zst", meanwhile)
    assert len(works) == 1
    assert left not in works
    names = {path.name for path in backups.iterdir()}
    assert names == {".towpath-backup.note.part", "first.tar.zst", "second.tar.zst"}


def test_what_a_killed_restore_left_is_named_and_goes_with_the_next_one(folder: Path, tmp_path: Path) -> None:
    """It lies in the folder itself, so that doctor sees it, and is no server: the same command may be typed again."""
    new, out = tmp_path / "new", tmp_path / "b.tar.zst"
    backup(folder, out)
    assert cut(signal.SIGKILL, "restore", "--dir", new, out) == -signal.SIGKILL
    (left,) = new.iterdir()
    said = CliRunner().invoke(group, ["doctor", "--dir", str(new)]).stdout
    assert f"{left.name} is left of a restore that was cut short, keys and all" in said
    assert f"$ rm -r {left}" in said
    done = CliRunner().invoke(group, ["restore", "--dir", str(new), str(out)], standalone_mode=False)
    assert done.exception is None, done.exception
    assert hidden(new) == hidden(tmp_path) == []
