"""The demo is a promise: its final table is the same however often agents are killed on the way."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from examples.processes import apps_below, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DEMO = Path(__file__).resolve().parent.parent.parent / "examples" / "demo.py"


def test_killing_agents_at_random_moments_changes_nothing_in_the_final_table() -> None:
    """Agents die (-9) all the while; every host still proves the good releases and goes back from the bad one."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"again with: {sys.executable} {DEMO} --kill-agents {seed}")
    done = subprocess.run(
        [sys.executable, str(DEMO), "--kill-agents", str(seed), "-o", "json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["kills"] >= 5
    assert [(row["current"], row["state"], row["health"], row["serves"]) for row in result["table"]] == [
        ("1.1.0", "Reverted", "healthy", "1.1.0")
    ] * 5


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_an_interrupted_demo_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a rollout ends server, agents and apps, although apps outlive agents on purpose."""
    log = tmp_path / "log"
    folder = tmp_path / "tmp"
    folder.mkdir()
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, str(DEMO)], stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(folder)}
        )
    try:
        wait_for("the demo is half-way", lambda: "answers as 1.0.0" in log.read_text(), 90, log.read_text)
        assert apps_below(next(folder.iterdir()))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130, log.read_text()
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait(10)
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []
