"""`promote --dry-run` over real gRPC: the same checks, the same waves and turns as the promotion, and nothing written."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually

PROMOTE = ("promote", "hello", "--from", "dev", "--to", "staging")
HOUR_MS = 3_600_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def new_hosts(server: LiveServer, environment: str, count: int) -> list[HostUnderTest]:
    """Enrol hosts, the first a canary, and make them online."""
    canary = server.new_host(f"{environment}-0", environment=environment, wave="canary")
    token = server.token(count, environment=environment, role="web")
    hosts = [canary, *(server.new_host(f"{environment}-{n}", token=token) for n in range(1, count))]
    for host in hosts:
        host.sync()
    return hosts


def shown(shell: CliShell, rollout: str) -> dict[str, object]:
    return dict(shell.type("rollout", "show", rollout, "-o", "json").json())


def prove_in_dev(server: LiveServer, shell: CliShell, version: str) -> list[HostUnderTest]:
    hosts = new_hosts(server, "dev", 1)
    server.publish(version)
    done = shell.type("deploy", "hello", version, "--environment", "dev", "--all-hosts", "-o", "json").json()
    for host in hosts:
        eventually(lambda host=host: host.desired() == version, "it is admitted")
        host.obey()
    eventually(lambda: shown(shell, done["assignment"])["state"] == "done", "it is done in dev")
    return hosts


def test_what_a_promotion_is_planned_to_do_is_what_it_does(server: LiveServer, shell: CliShell) -> None:
    """The rollout's id, each host's wave and turn, and the release: as planned; planning it wrote nothing."""
    prove_in_dev(server, shell, "1.0.0")
    hosts = new_hosts(server, "staging", 5)
    server.publish("2.0.0")  # newer, and not proven anywhere
    words = ["--waves", "canary,50%,100%", "--max-unavailable", "1"]
    before, entries = shell.type("rollout", "list", "--all", "-o", "json").json(), len(server.audit())
    plan = shell.type(*PROMOTE, *words, "--dry-run", "-o", "json").json()
    assert shell.type("rollout", "list", "--all", "-o", "json").json() == before
    assert len(server.audit()) == entries
    assert plan["version"] == "1.0.0"
    done = shell.type(*PROMOTE, *words, "-o", "json").json()
    assert done["assignment"] == plan["assignment"]
    order: list[str] = []
    while len(order) < len(hosts):
        todo = [host for host in hosts if host.name not in order]
        admitted = eventually(lambda todo=todo: [h for h in todo if h.desired() == "1.0.0"], "the next one moves")
        assert len(admitted) == 1, "one at once"
        order.append(admitted[0].name)
        admitted[0].obey()
    end = eventually(
        lambda: (now := shown(shell, done["assignment"]))["state"] == "done" and now, "it is done in staging"
    )
    assert [one["host"] for one in plan["hosts"]] == order
    assert [one["turn"] for one in plan["hosts"]] == [1, 2, 3, 4, 5]
    assert {one["host"]: one["wave"] for one in plan["hosts"]} == {one["host"]: one["wave"] for one in end["hosts"]}
    assert "it would change nothing" in shell.type(*PROMOTE, *words, "--dry-run").out


def test_a_planned_promotion_refuses_what_a_promotion_refuses(server: LiveServer, shell: CliShell) -> None:
    """The same one-line errors, and a dry run has nothing to wait for."""
    new_hosts(server, "staging", 1)
    server.publish("1.0.0")
    for words in (PROMOTE, (*PROMOTE[:-1], "dev"), (*PROMOTE, "--max-failures", "7")):
        assert shell.type(*words, "--dry-run").line == shell.type(*words).line
    prove_in_dev(server, shell, "2.0.0")
    assert shell.type(*PROMOTE, "--dry-run").code == 0
    assert "--wait" in shell.type(*PROMOTE, "--dry-run", "--wait").line


def test_how_long_it_has_to_be_healthy_before_is_in_the_plan_and_in_why_and_is_waited_for(
    server: LiveServer, shell: CliShell
) -> None:
    """Plan, rollout show and why say it in the same words with the way out; when the time is over it begins by itself."""
    (proven,) = prove_in_dev(server, shell, "1.0.0")
    (host,) = new_hosts(server, "staging", 1)
    assert shell.type("environment", "set", "staging", "--healthy-for", "2h").code == 0
    need = "it has to be healthy in dev for 2h first"
    assert re.search(f"delay: .*{need}", shell.type(*PROMOTE, "--dry-run").out)
    rollout = shell.type(*PROMOTE, "-o", "json").json()["assignment"]
    eventually(lambda: need in str(shown(shell, rollout)["reason"]), "the rollout says what it waits for")
    why = shell.type("why", host.name, "hello").out
    assert need in why
    assert f"towpath rollout advance {rollout}" in why
    assert host.desired() == ""
    server.clock.ahead_ms += 2 * HOUR_MS
    eventually(lambda: proven.sync() and host.desired() == "1.0.0", "it begins by itself")
