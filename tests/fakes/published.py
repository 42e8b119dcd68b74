"""Published versions of a program of somebody else, for tests of whole fleets."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def fetch(version: str, into: Path) -> None:
    """Fill `into` as the example's README says; skip where no registry can be reached."""
    script = EXAMPLES / "waitress" / "fetch.py"
    done = subprocess.run(
        [sys.executable, str(script), version, "--into", str(into)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if "pip needs a package registry" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
