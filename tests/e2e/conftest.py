"""End-to-end tests: the installed commands as real processes, in folders of their own, on ports of their own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # `examples` runs the fleets of demo, benches and these tests

from examples.loopback import Fleet  # noqa: E402


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet that was made but runs nothing yet; whatever a test starts in it ends with the test."""
    with Fleet(tmp_path) as fleet:
        fleet.init()
        yield fleet
