"""Budgets, order and priority over real gRPC, as an operator types them and reads them back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet, made by the operator root."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return root's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


@pytest.fixture
def hosts(server: LiveServer) -> list[HostUnderTest]:
    """Enrol two hosts in each of two racks, and make them online."""
    hosts = [server.new_host(f"{rack}{n}", environment="dev", rack=rack) for rack in ("a", "b") for n in range(2)]
    for host in hosts:
        host.sync()
    return hosts


def wanted(hosts: list[HostUnderTest], version: str) -> list[str]:
    return [host.name for host in hosts if host.desired() == version]


DEPLOY = ("deploy", "hello", "1.0.0", "--environment", "dev", "--all-hosts", "--max-unavailable", "4")


def test_a_rack_loses_one_host_at_a_time_and_whoever_asks_is_told(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """`plan` shows it before, `show`, `watch` and `why` meanwhile; the next one moves when the first has proven it."""
    server.publish("1.0.0")
    words = ("--budget", "rack=1", "--order", "label:rack", "--priority", "7")
    plan = shell.type("plan", *DEPLOY[1:], *words).out
    assert "budget rack=1; order label:rack; priority 7" in plan
    done = shell.type(*DEPLOY, *words, "-o", "json")
    assert done.code == 0, done.err
    rollout = str(done.json()["assignment"])
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 2, "one of each rack moves")
    first = [host for host in hosts if host.name in wanted(hosts, "1.0.0")]
    assert sorted(host.name[0] for host in first) == ["a", "b"]
    (left,) = [host.name for host in hosts if host.name[0] == "a" and host not in first]
    shown = shell.type("rollout", "show", rollout).out
    assert "budget rack=1; order label:rack; priority 7" in shown
    assert "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed" in shown
    watch = ("rollout", "watch", rollout, "--once")
    eventually(lambda: "no room in the budget of rack=a, rack=b" in shell.type(*watch).out, "watch says so")
    why = shell.type("why", left, "hello").out
    assert "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed" in why
    assert f"$ towpath rollout show {rollout}" in why
    read = shell.type("rollout", "show", rollout, "-o", "json").json()
    assert (read["priority"], read["order_label"]) == (7, "rack")
    assert read["budgets"] == [{"label": "rack", "count": 1, "share": 0}]
    for host in first:
        host.obey()
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 4, "the others move")
    assert shell.type(*DEPLOY, *words).out.startswith("hello 1.0.0: unchanged")


def test_a_rule_of_higher_priority_keeps_its_hosts(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """A later deploy to every host passes them by, and says so to who asks."""
    server.publish("1.0.0")
    server.publish("2.0.0")
    rule = ("deploy", "hello", "1.0.0", "--environment", "dev", "--select", "rack=a", "--max-unavailable", "4")
    assert shell.type(*rule, "--priority", "5").code == 0
    assert shell.type("deploy", "hello", "2.0.0", *DEPLOY[3:]).code == 0
    eventually(lambda: wanted(hosts, "2.0.0") == ["b0", "b1"], "the broad rule has the others")
    eventually(lambda: wanted(hosts, "1.0.0") == ["a0", "a1"], "the narrow one has its own")
    why = shell.type("why", "a0", "hello").out
    assert "hello 2.0.0 to every host (priority 0) covers it too; this rule has priority 5" in why


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--budget", "rack=0"), "cannot use the budget rack=0: nobody could ever move; the least is 1"),
        (("--budget", "rack"), "write LABEL=1 or LABEL=20%"),
        (("--budget", "rack=1", "--budget", "rack=2"), "two budgets for rack"),
        (("--budget", "shelf=1"), "none of its 4 hosts in dev has the label; towpath host set HOST --label shelf="),
        (("--order", "label:shelf"), "in the order of shelf: none of its 4 hosts in dev has the label"),
        (("--order", "rack"), "write hash, or label:KEY"),
        (("--priority", "1001"), "cannot use priority 1001"),
    ],
)
def test_what_nobody_could_keep_is_refused_up_front(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest], words: tuple[str, ...], part: str
) -> None:
    """One line, and nothing is deployed; the server refuses by itself too."""
    server.publish("1.0.0")
    assert len(hosts) == 4
    assert part in shell.type(*DEPLOY, *words).line
    assert shell.type("rollout", "list", "-o", "json").json() == []
