"""State files that are damaged: the agent starts, heals, and what runs goes on."""

from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from towpath.status import Health, State


def _ready(folder: Path) -> SimulatedHost:
    host = SimulatedHost(folder)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    host.run(120)  # past probation
    return host


def _start(host: SimulatedHost) -> None:
    host.boot()
    host.agent.hint()


def _check(host: SimulatedHost, expected: str, where: str) -> None:
    assert (host.live(), host.serving()) == (expected, expected), where
    state = host.state()
    assert (state.current_version, state.health, state.state) == (expected, Health.HEALTHY, State.CONFIRMED), where
    assert not list((host.folder / "staging").iterdir()), where


@pytest.mark.parametrize("keep", range(0, 101, 4))
def test_a_journal_truncated_anywhere_is_set_aside_and_running_apps_are_untouched(tmp_path: Path, keep: int) -> None:
    """Incident 15, state files truncated: whatever is left of the journal, the agent starts, and what runs goes on."""
    host = _ready(tmp_path)
    log = list(host.world.log)
    path = tmp_path / "state.db"
    host.journal.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * keep // 100])
    host.boot()
    host.settle()
    assert host.world.log == log
    _check(host, "1.0.0", f"{keep} % of the journal left")


def test_floors_that_are_damaged_are_set_aside_and_the_host_goes_on(tmp_path: Path) -> None:
    """Incident 15, state files truncated: a damaged floors file neither stops the agent nor what runs."""
    host = _ready(tmp_path)
    (tmp_path / "trust" / "floors.json").write_bytes(b'{"manifest": ')
    _start(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    _check(host, "2.0.0", "after damaged floors")
    assert (tmp_path / "trust" / "floors.damaged").exists()
