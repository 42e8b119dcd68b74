"""`deploy` over real gRPC and TLS: what is ordered, what is printed while waiting, and the exit codes."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell, new_fleet
from fakes.operator_server import OperatorServer
from towpath.errors import TowpathError, Unavailable
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import types_pb2 as types

DEPLOY = ["deploy", "hello", "1.0.0", "--environment", "dev", "--select", "role=web"]
WAIT = [*DEPLOY, "--wait", "--timeout", "60s"]


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return new_fleet(tmp_path / "fleet")


@pytest.fixture
def server(fleet: Path) -> Iterator[OperatorServer]:
    with OperatorServer(fleet / "server") as running:
        yield running


@pytest.fixture
def shell(fleet: Path, server: OperatorServer) -> CliShell:
    return CliShell(fleet, server.address)


def progress(name: str, phase: str, state: str = "", current: str = "", reason: str = "") -> pb.HostProgress:
    app = types.AppState(app="hello", current_version=current, state=state)
    return pb.HostProgress(
        host=name, phase=phase, state=app, reason=reason, online=phase != "offline", admitted=phase != "waiting"
    )


def rollout(state: str, *hosts: pb.HostProgress, reason: str = "") -> pb.GetAssignmentResponse:
    return pb.GetAssignmentResponse(
        assignment="a1", app="hello", version="1.0.0", environment="dev", state=state, reason=reason, hosts=hosts
    )


def test_deploy_without_waiting(shell: CliShell, server: OperatorServer) -> None:
    """Deploy orders what was typed and says how to follow it."""
    words = ["--max-unavailable", "2", "--max-failures", "1", "--progress-deadline", "90s"]
    done = shell.type(*DEPLOY, *words)
    assert done.code == 0
    assert done.out == "hello 1.0.0: assigned to 1 host of dev\nsee: towpath status hello\n"
    order = server.deploys[0]
    assert (order.app, order.version, order.environment, dict(order.selector)) == (
        "hello",
        "1.0.0",
        "dev",
        {"role": "web"},
    )
    assert (order.max_unavailable, order.max_failures, order.progress_deadline_ms) == (2, 1, 90_000)
    assert not order.whole_environment
    assert shell.type(*DEPLOY, "-o", "json").json()["assignment"] == "a1"


def test_unchanged(shell: CliShell, server: OperatorServer) -> None:
    """The same deploy again is said to be unchanged, and waiting for it ends at once."""
    server.deployed = pb.DeployResponse(assignment="a1", generation=1, hosts=1, unchanged=True)
    server.script.append(rollout("done", progress("h1", "healthy", "Confirmed", "1.0.0")))
    assert "unchanged" in shell.type(*DEPLOY).out
    assert shell.type(*WAIT).code == 0
    assert shell.slept == []


def test_a_whole_environment_must_be_meant(shell: CliShell, server: OperatorServer) -> None:
    """Without --select nothing is deployed unless --all-hosts says so; both together are refused."""
    bare = DEPLOY[:-2]
    assert "--all-hosts" in shell.type(*bare).line
    assert "choose one" in shell.type(*DEPLOY, "--all-hosts").line
    assert server.deploys == []
    assert shell.type(*bare, "--all-hosts").code == 0
    assert server.deploys[0].whole_environment


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "Hello", "1", "--environment", "dev", "--all-hosts"],
        ["deploy", "hello", "../1", "--environment", "dev", "--all-hosts"],
        ["deploy", "hello", "1", "--environment", "D ev", "--all-hosts"],
        [*DEPLOY, "--select", "role=db"],
    ],
)
def test_wrong_words_are_not_sent(shell: CliShell, server: OperatorServer, words: list[str]) -> None:
    """Names and selectors that cannot be right are one line, and the server is not asked."""
    assert shell.type(*words).line
    assert server.deploys == []


def test_wait_until_healthy(shell: CliShell, server: OperatorServer) -> None:
    """Each change of a host is one line, the summary is a table, and healthy exits 0."""
    server.script.extend(
        [
            rollout("rolling", progress("h1", "in_flight", "Fetching"), progress("h2", "waiting")),
            rollout("rolling", progress("h1", "in_flight", "Fetching"), progress("h2", "waiting")),
            rollout("rolling", progress("h1", "healthy", "Confirmed", "1.0.0"), progress("h2", "in_flight", "Staged")),
            rollout(
                "done", progress("h1", "healthy", "Confirmed", "1.0.0"), progress("h2", "healthy", "Confirmed", "1.0.0")
            ),
        ]
    )
    done = shell.type(*WAIT)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:5] == [
        "h1: in flight, Fetching",
        "h2: waiting",
        "h1: healthy, Confirmed, runs 1.0.0",
        "h2: in flight, Staged",
        "h2: healthy, Confirmed, runs 1.0.0",
    ]
    assert lines[5].split() == ["HOST", "PHASE", "CURRENT", "STATE", "HEALTH", "REASON"]
    assert lines[-1].startswith("hello 1.0.0 is healthy on 2 hosts of dev after ")


def test_offline_hosts_do_not_block(shell: CliShell, server: OperatorServer) -> None:
    """An offline host is named in the last line and does not spoil the result."""
    server.script.append(rollout("done", progress("h1", "healthy"), progress("h2", "offline")))
    done = shell.type(*WAIT)
    assert done.code == 0
    assert "1 host offline, to follow when back" in done.out


def test_wait_for_a_failure(shell: CliShell, server: OperatorServer) -> None:
    """A halted rollout exits 1 once no host is in flight, and says why and what to type next."""
    server.script.extend(
        [
            rollout("halted", progress("h1", "in_flight", "Reverting", "1.0.0"), reason="1 failed"),
            rollout("halted", progress("h1", "failed", "Reverted", "0.9", "probe http: status 500"), reason="1 failed"),
        ]
    )
    done = shell.type(*WAIT)
    assert done.code == 1
    assert "h1: failed, Reverted, runs 0.9: probe http: status 500" in done.out
    assert done.err == "towpath: hello 1.0.0 failed: halted, 0 of 1 host healthy: 1 failed; see: towpath why h1 hello\n"


def test_wait_times_out(shell: CliShell, server: OperatorServer) -> None:
    """Time over exits 2; the rollout goes on and the line says how to follow it."""
    server.script.append(rollout("rolling", progress("h1", "in_flight", "Watching", "1.0.0")))
    done = shell.type(*DEPLOY, "--wait", "--timeout", "200ms")
    assert done.code == 2
    assert "not proven yet" in done.err
    assert "it goes on" in done.err


def test_wait_without_hosts(shell: CliShell, server: OperatorServer) -> None:
    """A selector that no host fits is said at once and never called healthy."""
    server.deployed = pb.DeployResponse(assignment="a1", generation=1, hosts=0)
    server.script.append(rollout("done"))
    done = shell.type(*DEPLOY, "--wait", "--timeout", "100ms")
    assert done.code == 2
    assert "no host of dev fits yet" in done.err


def test_wait_over_a_servers_restart(shell: CliShell, server: OperatorServer) -> None:
    """A server that is away for a moment is waited for."""
    server.script.extend([Unavailable("cannot go on: the server stops"), rollout("done", progress("h1", "healthy"))])
    done = shell.type(*WAIT)
    assert done.code == 0
    assert "still waiting" in done.err


def test_wait_for_machines(shell: CliShell, server: OperatorServer) -> None:
    """With -o json stdout holds one document with the result, also of a failure."""
    server.script.append(rollout("halted", progress("h1", "failed", "Reverted", "0.9", "bad"), reason="1 failed"))
    done = shell.type(*WAIT, "-o", "json")
    assert done.code == 1
    result = done.json()
    assert (result["result"], result["state"], result["reason"]) == ("failed", "halted", "1 failed")
    (host,) = result["hosts"]
    assert (host["host"], host["phase"], host["current"], host["reason"]) == ("h1", "failed", "0.9", "bad")


def test_wait_on_a_terminal(shell: CliShell, server: OperatorServer) -> None:
    """On a terminal the wait is a table in place and ends with the same summary."""
    server.script.extend([rollout("rolling", progress("h1", "in_flight")), rollout("done", progress("h1", "healthy"))])
    shell.tty = True
    done = shell.type(*WAIT)
    assert done.code == 0
    assert "is healthy on 1 host of dev" in done.out


def test_deploy_refused(shell: CliShell, server: OperatorServer) -> None:
    """What the server refuses is its own line, exit 1."""
    server.fail["Deploy"] = deque([TowpathError("cannot deploy hello 9: not published")])
    done = shell.type(*WAIT)
    assert (done.code, done.line) == (1, "cannot deploy hello 9: not published")


def test_undeploy(shell: CliShell) -> None:
    """Undeploy says how much it removed, and nothing is no error."""
    assert "nothing was assigned" in shell.type("undeploy", "hello", "--environment", "dev").out
    shell.type(*DEPLOY)
    assert "1 assignment of dev removed" in shell.type("undeploy", "hello", "--environment", "dev").out
