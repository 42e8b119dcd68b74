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


@pytest.mark.parametrize("state", ["reverted", "under way", "confirmed"])
def test_a_lost_journal_brings_no_reverted_parameters_back(tmp_path: Path, state: str) -> None:
    """Of one release with other parameters only what was confirmed is on record: it runs on with what it was proven."""
    host = SimulatedHost(tmp_path)
    release = host.publish("1.0.0")
    host.assign(release, parameters={"port": 8080})
    host.boot()
    host.settle()
    host.run(120)
    if state != "confirmed":
        host.ill.add("1.0.0")
    host.assign(release, generation=2, parameters={"port": 9090})
    if state == "under way":
        host.run(10, lambda: any(tx.state is State.WATCHING for tx in host.journal.transactions()))
    else:
        host.settle()
    host.ill.clear()
    host.server.unreachable = state != "under way"
    host.journal.close()
    (tmp_path / "state.db").write_bytes(b"garbage")
    host.boot()
    expected = 9090 if state == "confirmed" else 8080
    assert host.journal.deployed("current")["hello"].wish.parameters["port"] == expected
    host.run(60)  # what was cut off in mid-change comes again from the server, and is proven this time
    (running,) = host.world.copies("hello")
    assert running.command[-1] == ("8080" if state == "reverted" else "9090")


def test_floors_that_are_damaged_are_set_aside_and_the_host_goes_on(tmp_path: Path) -> None:
    """Incident 15, state files truncated: a damaged floors file neither stops the agent nor what runs."""
    host = _ready(tmp_path)
    (tmp_path / "trust" / "floors.json").write_bytes(b'{"manifest": ')
    _start(host)
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    _check(host, "2.0.0", "after damaged floors")
    assert (tmp_path / "trust" / "floors.damaged").exists()
