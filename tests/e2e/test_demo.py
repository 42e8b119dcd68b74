"""The demo is a promise: its final table is the same however often agents are killed on the way."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

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
