"""`make torture` itself: it counts what it ran, says what it skipped, and fails where something was lost."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from torture import syscalls
from torture.real import ROOT, RealHost
from torture.results import Results

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_the_command_prints_its_seed_and_table_and_writes_what_it_counted(tmp_path: Path) -> None:
    """One case of each situation: the exit code is 0, and the document has the counts that the table shows."""
    done = subprocess.run(
        [sys.executable, "-m", "torture", "--layers", "steps", "--sample", "1", "--seed", "5"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 5" in done.stdout
    written = json.loads((tmp_path / "build" / "torture.json").read_text())
    assert {"cases", "survived", "stuck_by_design", "failed", "skipped", "by_layer"} <= written.keys()
    assert written["cases"] == written["survived"] == written["by_layer"]["steps"]["cases"] > 15


def test_a_lost_case_is_counted_named_and_not_survived() -> None:
    """What is wrong with a case is kept beside its name; the sums stay true."""
    results = Results()
    results.take("steps", "Switching", "one", [])
    results.take("steps", "Switching", "two", ["bricked"])
    written = results.as_json()
    assert (written["cases"], written["survived"], written["failed"]) == (2, 1, 1)
    assert written["failures"] == [{"layer": "steps", "case": "two", "wrong": ["bricked"]}]
    assert results.rows() == [("steps", "Switching", 2, 1)]


def test_a_real_agent_disturbed_at_a_system_call_comes_back(tmp_path: Path) -> None:
    """One kill, one full disk, one I/O error, drawn from all calls of a real upgrade."""
    if syscalls.missing():
        pytest.skip(syscalls.missing())
    host = RealHost(tmp_path / "host")
    try:
        it = syscalls.story("upgrade", host)
        it.again()
        found = syscalls.calls(host, tmp_path / "log")
        assert {"fsync", "rename", "pwrite64", "symlink"} <= {call.name for call in found}
        dice = random.Random(1)
        for fault in syscalls.FAULTS:
            call = dice.choice(found)
            assert syscalls.play(it, call, fault) == [], (call, fault)
    finally:
        host.end_apps()
        host.listener.stop()
