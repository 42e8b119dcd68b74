"""A repository and a host for each test; times near the real ones, because the TUF library reads the real clock."""

import time
from pathlib import Path

import pytest

from fakes.repository import RepositorySimulator, SimulatedHost


@pytest.fixture
def sim() -> RepositorySimulator:
    return RepositorySimulator(time.time_ns() // 1_000_000)


@pytest.fixture
def host(tmp_path: Path, sim: RepositorySimulator) -> SimulatedHost:
    return SimulatedHost(tmp_path, sim)
