"""Plans over real gRPC: what `towpath plan` shows is what the deploy then does, and showing it changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually

WHERE = ["--environment", "dev", "--all-hosts"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def new_hosts(server: LiveServer, count: int) -> list[HostUnderTest]:
    """Enrol hosts, the first a canary, and make them online."""
    canary = server.new_host("dev-0", environment="dev", wave="canary")
    token = server.token(count, environment="dev", role="web")
    hosts = [canary, *(server.new_host(f"dev-{n}", token=token) for n in range(1, count))]
    for host in hosts:
        host.sync()
    return hosts


def deploy(shell: CliShell, version: str, *words: str) -> str:
    done = shell.type("deploy", "hello", version, *WHERE, *words, "-o", "json")
    assert done.code == 0, done.err
    return str(done.json()["assignment"])


def shown(shell: CliShell, rollout: str) -> dict[str, object]:
    return dict(shell.type("rollout", "show", rollout, "-o", "json").json())


def run_everywhere(server: LiveServer, shell: CliShell, hosts: list[HostUnderTest], version: str, data: bytes) -> None:
    server.publish(version, data)
    rollout = deploy(shell, version, "--max-unavailable", "9")
    for host in hosts:
        eventually(lambda host=host: host.desired() == version, "it is admitted")
        host.obey()
    eventually(lambda: shown(shell, rollout)["state"] == "done", "it is done")


def test_what_a_plan_shows_is_what_the_deploy_does(server: LiveServer, shell: CliShell) -> None:
    """The rollout's id, each host's wave, the order in which hosts move and how many: all as planned."""
    hosts = new_hosts(server, 6)
    run_everywhere(server, shell, hosts, "1.0.0", b"o" * 5_000)
    server.publish("2.0.0", b"n" * 5_000)
    words = ["--waves", "canary,50%,100%", "--max-unavailable", "1"]
    plan = shell.type("plan", "hello", "2.0.0", *WHERE, *words, "-o", "json").json()
    assert shell.type("plan", "hello", "2.0.0", *WHERE, *words, "-o", "json").json()["hosts"] == plan["hosts"]
    rollout = deploy(shell, "2.0.0", *words)
    assert rollout == plan["assignment"]
    order = []
    while len(order) < len(hosts):
        todo = [host for host in hosts if host.name not in order]
        admitted = eventually(lambda todo=todo: [h for h in todo if h.desired() == "2.0.0"], "the next one moves")
        assert len(admitted) == 1, "one at once"
        order.append(admitted[0].name)
        admitted[0].obey()
    done = eventually(lambda: (now := shown(shell, rollout))["state"] == "done" and now, "it is done")
    assert [one["host"] for one in plan["hosts"]] == order
    assert [one["turn"] for one in plan["hosts"]] == [1, 2, 3, 4, 5, 6]
    assert {one["host"]: one["wave"] for one in plan["hosts"]} == {one["host"]: one["wave"] for one in done["hosts"]}
    assert [wave["hosts"] for wave in plan["waves"]] == [sum(wave["phases"].values()) for wave in done["waves"]]
    assert {one["before"] for one in plan["hosts"]} == {"1.0.0"}


def test_a_plan_changes_nothing_and_counts_the_bytes_that_a_host_does_not_have(
    server: LiveServer, shell: CliShell
) -> None:
    """No rollout, no audit entry, no order to a host; a release of the same content costs its index alone."""
    import os

    hosts = new_hosts(server, 2)
    same, other = os.urandom(9_000), os.urandom(9_000)
    run_everywhere(server, shell, hosts, "1.0.0", same)
    server.publish("1.1.0", same)
    server.publish("2.0.0", other)
    before = shell.type("rollout", "list", "--all", "-o", "json").json()
    entries = len(server.audit())
    plan = shell.type("plan", "hello", "2.0.0", *WHERE, "-o", "json").json()
    assert all(9_000 <= one["at_most_bytes"] < 9_300 for one in plan["hosts"])
    assert plan["at_most_bytes"] == sum(one["at_most_bytes"] for one in plan["hosts"])
    assert shell.type("plan", "hello", "1.1.0", *WHERE, "-o", "json").json()["at_most_bytes"] < 600
    after = shell.type("rollout", "list", "--all", "-o", "json").json()
    assert after == before
    assert len(server.audit()) == entries
    assert {host.desired() for host in hosts} == {"1.0.0"}
    assert "a deploy would change nothing" in shell.type("plan", "hello", "1.0.0", *WHERE, "--max-unavailable", "9").out


def test_a_plan_says_who_cannot_take_it_and_what_the_gates_ask(server: LiveServer, shell: CliShell) -> None:
    """Offline hosts and hosts of another platform with the reason, soaks and manual gates as delays, for people."""
    hosts = new_hosts(server, 3)
    server.publish("1.0.0", platforms=("linux/amd64",))
    server.clock.ahead_ms = 120_000
    hosts[0].sync()
    hosts[2].sync(platform="linux/sparc")
    out = shell.type("plan", "hello", "1.0.0", *WHERE, "--waves", "canary:10m,50%:manual,100%", "--allow-empty").out
    assert "1 of 3 hosts would move" in out
    assert "the release is for linux/amd64, the host is linux/sparc" in out
    assert "offline; it catches up when it comes back" in out
    assert "delay: after 60s wave 1 waits for 10m: soaks until" in out
    assert "the next one opens when a person says 'towpath rollout advance'" in out
    assert "it would not end by itself" in out
    assert "nothing was changed" in out


def test_a_plan_refuses_what_a_deploy_refuses(server: LiveServer, shell: CliShell) -> None:
    """The same one-line errors: unknown release, nobody there, impossible limits."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    for version, words in (
        ("9.0.0", WHERE),
        ("1.0.0", ["--environment", "dev", "--select", "role=wbe"]),
        ("1.0.0", [*WHERE, "--max-failures", "7"]),
        ("1.0.0", ["--environment", "dev"]),
    ):
        assert shell.type("plan", "hello", version, *words).line == shell.type("deploy", "hello", version, *words).line
