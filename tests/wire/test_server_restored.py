"""Incident 14 for an operator: the database of yesterday is put back. Nobody is pulled back, everybody is told, it is settled."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import DAY_MS, HostUnderTest, LiveServer, MovableClock, eventually
from towpath_server.domain.model import RolloutState
from towpath_server.storage import SqlStorage

NOTICE = "orders that this database knows nothing of"
DEV = ["--environment", "dev", "--all-hosts"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet, two days ago: certificates of what comes later must be valid now."""
    clock = MovableClock()
    clock.ahead_ms = -2 * DAY_MS
    with LiveServer(tmp_path, clock) as running:
        running.publish("1.0.0")
        running.publish("2.0.0")
        yield running


@pytest.fixture
def hosts(server: LiveServer) -> list[HostUnderTest]:
    """Return two hosts of dev and one of staging."""
    found = [server.new_host("dev-0"), server.new_host("dev-1"), server.new_host("stg-0", environment="staging")]
    for host in found:
        host.sync()
    return found


def keyboard(server: LiveServer) -> CliShell:
    return CliShell(server.fleet, server.operators)


def move(server: LiveServer, hosts: list[HostUnderTest], version: str) -> str:
    """Deploy in dev, have its hosts obey, and return the rollout when it is done."""
    shell = keyboard(server)
    done = shell.type("deploy", "hello", version, *DEV, "--max-unavailable", "9", "-o", "json")
    rollout = str(done.json()["assignment"])
    for host in hosts:
        eventually(lambda host=host: host.desired() == version, f"{version} is there")
        host.obey()
    eventually(lambda: shell.type("rollout", "show", rollout, "-o", "json").json()["state"] == "done", "it is done")
    return rollout


def backup(server: LiveServer, hosts: list[HostUnderTest]) -> Path:
    """Stop, copy the database, start again."""
    server.stop()
    kept = server.folder / "backup"
    kept.mkdir()
    for path in (server.fleet / "server").glob("towpath.db*"):
        shutil.copy(path, kept / path.name)
    server.start()
    for host in hosts:
        server.connect(host)
    return kept


def put_back(server: LiveServer, kept: Path, hosts: list[HostUnderTest]) -> None:
    """Stop, put the copy back, start a day later."""
    server.stop()
    for path in (server.fleet / "server").glob("towpath.db*"):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy(path, server.fleet / "server" / path.name)
    server.clock.ahead_ms += DAY_MS // 2
    server.start()
    for host in hosts:
        server.connect(host)


def test_a_server_from_a_backup_pulls_nobody_back_says_so_and_is_settled(
    server: LiveServer, hosts: list[HostUnderTest]
) -> None:
    """Incident 14, server database restored to yesterday: the deploy of today is lost, and hosts stay.

    Every view says why and what settles it; deploying it again moves nobody.
    """
    dev = hosts[:2]
    old = move(server, dev, "1.0.0")
    kept = backup(server, hosts)
    server.clock.ahead_ms += DAY_MS // 2  # today
    move(server, dev, "2.0.0")
    put_back(server, kept, hosts)
    shell = keyboard(server)
    assert [host.desired() for host in dev] == ["2.0.0", "2.0.0"], "a host was pulled back"
    assert all("restored from a backup?" in host.keep for host in dev)
    for host in dev:
        host.obey()  # an agent tells the whole state again where the server knows another revision
    for words in (["status"], ["rollout", "list"]):
        said = shell.type(*words)
        assert said.code == 0
        assert NOTICE in said.err
        assert "towpath restored show" in said.err
    for words in (["rollout", "show", old], ["rollout", "watch", old, "--once"], ["why", "dev-0", "hello"]):
        out = shell.type(*words).out
        assert NOTICE in out, words
        assert "towpath restored show" in out, words
    (entry,) = server.audit("restored.notice")
    assert (entry.actor, entry.subject) == ("server", "environment/dev")
    assert NOTICE in entry.detail
    rows = shell.type("restored", "show", "-o", "json").json()
    assert [(row["host"], row["ahead"], row["current"], row["desired"]) for row in rows] == [
        ("dev-0", True, "2.0.0", "1.0.0"),
        ("dev-1", True, "2.0.0", "1.0.0"),
    ]
    assert "2 hosts would change (dev-0, dev-1)" in shell.type("restored", "accept", "--reason", "it was").line
    again = shell.type("deploy", "hello", "2.0.0", *DEV, "-o", "json").json()["assignment"]
    assert "0 of 2 rows would change" in shell.type("restored", "show").out
    assert [host.desired() for host in dev] == ["2.0.0", "2.0.0"]
    done = shell.type("restored", "accept", "--reason", "backup of yesterday")
    assert (done.code, done.out) == (0, "the database counts again; 2 hosts had known more\n")
    assert [host.desired() for host in dev] == ["2.0.0", "2.0.0"], "accepting it moved somebody"
    assert [host.keep for host in dev] == ["", ""]
    for host in dev:
        host.obey()
    eventually(lambda: shell.type("rollout", "show", again, "-o", "json").json()["state"] == "done", "it is done again")
    assert NOTICE not in shell.type("status").err
    assert "no host knows more" in shell.type("restored", "show").out
    assert "no host has said" in shell.type("restored", "accept", "--reason", "again").line
    assert [entry.outcome for entry in server.audit("restored.accept")] == ["done", "refused"]


def test_accepting_the_database_as_it_is_takes_hosts_to_what_it_says(
    server: LiveServer, hosts: list[HostUnderTest]
) -> None:
    """Where a person says that yesterday's state is what is wanted, and only then."""
    dev = hosts[:2]
    move(server, dev, "1.0.0")
    kept = backup(server, hosts)
    server.clock.ahead_ms += DAY_MS // 2
    move(server, dev, "2.0.0")
    put_back(server, kept, hosts)
    for host in dev:
        assert host.obey().current_version == "2.0.0"
    shell = keyboard(server)
    assert shell.type("restored", "accept", "--reason", "2.0.0 was a mistake", "--yes").code == 0
    assert [host.desired() for host in dev] == ["1.0.0", "1.0.0"]
    for host in dev:
        host.obey()
    server.publish("3.0.0")
    move(server, dev, "3.0.0")
    assert dev[0].sync().apps[0].generation == 3, "a generation that hosts have heard of was given again"


def test_nothing_is_decided_where_hosts_know_more_and_everything_elsewhere(
    server: LiveServer, hosts: list[HostUnderTest]
) -> None:
    """A halt of today is lost: its rollout does not go on. A rollout of another environment is nobody's business."""
    dev, staging = hosts[:2], hosts[2]
    move(server, dev, "1.0.0")
    shell = keyboard(server)
    waves = ["--waves", "1:manual,100%"]
    rollout = shell.type("deploy", "hello", "2.0.0", *DEV, *waves, "-o", "json").json()["assignment"]
    eventually(lambda: any(host.desired() == "2.0.0" for host in dev), "the first one is let in")
    shell.type("rollout", "advance", rollout)
    kept = backup(server, hosts)
    server.clock.ahead_ms += DAY_MS // 2
    for host in dev:
        host.sync()
    keyboard(server).type("rollout", "halt", rollout, "--reason", "it is bad")
    desired = [host.desired() for host in dev]
    put_back(server, kept, hosts)
    assert [host.desired() for host in dev] == desired
    shell = keyboard(server)
    done = shell.type("deploy", "hello", "1.0.0", "--environment", "staging", "--all-hosts", "-o", "json").json()
    eventually(lambda: staging.desired() == "1.0.0", "staging goes on")  # many ticks of the reconciler later
    assert shell.type("rollout", "show", rollout, "-o", "json").json()["state"] == "rolling"
    assert [host.desired() for host in dev] == desired
    server.publish("3.0.0")
    planned = shell.type("plan", "hello", "3.0.0", *DEV).out
    assert "0 of 2 hosts would move" in planned
    assert NOTICE in planned
    assert done["assignment"]


def test_a_stop_a_kill_and_a_backup_of_a_database_that_nobody_was_told_from_are_no_restore(
    server: LiveServer, hosts: list[HostUnderTest]
) -> None:
    """A server that was away for a day, and a copy after which no host synced: nothing is lost, nothing is said."""
    dev = hosts[:2]
    move(server, dev, "1.0.0")
    kept = backup(server, hosts)
    put_back(server, kept, hosts)
    for host in dev:
        host.sync()
    server.clock.ahead_ms += DAY_MS
    server.restart(*hosts)
    for host in dev:
        host.sync()
    assert [host.keep for host in dev] == ["", ""]
    assert keyboard(server).type("status").err == ""
    storage = SqlStorage(server.fleet / "server" / "towpath.db")
    with storage.transaction() as tx:
        assert len(tx.gaps()) >= 2
        assert tx.ahead() == []
        assert tx.assignments()[0].state is RolloutState.DONE
    storage.close()
