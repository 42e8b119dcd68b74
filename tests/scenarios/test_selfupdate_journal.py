"""Agents that cannot read one another's journal, on a simulated host: whatever comes back has one, and what runs goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.host import Killed
from fakes.updating import APP, UpdatingHost, launched, updated, want
from towpath.status import State
from towpath_agent.engine.selfupdate import Pointer
from towpath_agent.journal import SCHEMA_VERSION
from towpath_agent.runner.floors import read_floors
from towpath_agent.services.agent import write_pointer
from towpath_agent.system.files import Files


@pytest.fixture
def host(tmp_path: Path) -> UpdatingHost:
    """Run hello 1.0.0 under the packaged agent, past its probation."""
    return launched(tmp_path)


def test_a_journal_that_the_new_agent_migrated_is_given_back(host: UpdatingHost) -> None:
    """A newer schema, written on trial, then death: the old agent takes its copy, goes back, and knows all as before."""
    updated(host, "1.1.0")
    bad = host.agent_release("2.0.0")
    want(host, bad, generation=3)

    def migrate() -> None:
        if host.version == "2.0.0":
            host.schema(SCHEMA_VERSION + 1)
            host.dead.add("2.0.0")
            raise Killed

    host.at_start = migrate
    host.work(host.kept("1.1.0"))
    assert host.state(APP).state is State.REVERTED
    assert "the copy from before the agent's update took its place" in " ".join(host.log)
    assert host.journal.failures()[APP].wish.version == "2.0.0"
    assert [it.state for it in host.journal.app_states()] == [State.CONFIRMED, State.REVERTED]


def test_a_power_cut_while_the_journals_copy_is_taken_loses_nothing(tmp_path: Path) -> None:
    """Killed at each change of that: the next start takes the copy, goes back and remembers, and leaves no foreign rest."""
    number, over = 0, False
    while not over:
        number += 1
        host = launched(tmp_path / str(number))
        updated(host, "1.1.0")
        host.migrating.add("2.0.0")
        host.hung.add("2.0.0")
        want(host, host.agent_release("2.0.0"), generation=3)

        def cut(host: UpdatingHost = host, number: int = number) -> None:
            if host.version == "1.1.0" and host.pointer.failed and not host.steps and host.kill_at is None:
                (host.folder / "state.db-journal").write_bytes(b"foreign")
                host.kill_at = host.changes + number

        host.at_start = cut
        host.work(lambda host=host: host.kept("1.1.0")() and host.state(APP).desired_version == "2.0.0")
        over = host.steps == ["before commit state.db"]  # the first of its first round
        assert host.state(APP).state is State.REVERTED, host.steps
        assert host.journal.failures()[APP].wish.version == "2.0.0", host.steps
        assert host.live(APP) == "1.1.0", host.steps
    assert number > 4


def undeployed(host: UpdatingHost) -> None:
    want(host)


def without_pointer(host: UpdatingHost) -> None:
    (host.folder / "launch.json").unlink()


def ten_times_dead(host: UpdatingHost) -> None:
    failed = Pointer(trying=host.pointer.current, starts=10, failed="it was started 10 times")
    write_pointer(Files(), host.folder, failed)


@pytest.mark.parametrize(("leave", "then"), [(undeployed, ""), (without_pointer, "2.0.0"), (ten_times_dead, "")])
def test_the_package_runs_again_after_a_release_with_another_journal(
    host: UpdatingHost, leave: Callable[[UpdatingHost], None], then: str
) -> None:
    """Every way back to an older agent: its journal is rebuilt, which is said; what runs goes on, and floors are kept."""
    host.migrating.add("2.0.0")
    updated(host, "2.0.0")
    host.work(lambda: not host.journal.transactions())
    log, floors = list(host.world.log), read_floors(host.folder / "trust" / "floors.json", Files())
    host.starts.clear()
    leave(host)
    if leave is not undeployed:
        host.schema(SCHEMA_VERSION + 1)  # as it was left
    host.work(lambda: "" in host.starts and host.version == then and bool(host.server.syncs))
    later = host.clock.monotonic() + 120
    host.work(lambda: host.clock.monotonic() > later)
    assert host.version == then
    assert host.starts[-1] == then
    (note,) = [event for event in host.server.events.values() if event.code == "journal"]
    assert "schema 2, this agent knows 1; it was set aside as state.db.damaged-" in note.reason
    assert note.reason.endswith("and rebuilt from what runs")
    assert f"host: {note.reason}" in host.log
    assert host.world.log == log
    assert (host.state().current_version, host.state().state) == ("1.0.0", State.CONFIRMED)
    assert read_floors(host.folder / "trust" / "floors.json", Files()).releases == floors.releases
    host.migrating.add("3.0.0")
    want(host, host.agent_release("3.0.0"), generation=5)
    host.work(host.kept("3.0.0"))


def test_an_older_agent_on_trial_leaves_the_newer_ones_journal_alone(host: UpdatingHost) -> None:
    """It cannot read it, dies, and the newer one comes back to all that it knew."""
    host.migrating.add("2.0.0")
    updated(host, "2.0.0")
    host.work(lambda: not host.journal.transactions())
    want(host, host.agent_release("1.1.0"), generation=3)
    host.work(host.kept("2.0.0"))
    assert host.state(APP).state is State.REVERTED
    assert not list(host.folder.glob("state.db.damaged-*"))
