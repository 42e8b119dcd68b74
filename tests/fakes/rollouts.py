"""Rollouts over real gRPC as tests tell them: some hosts, an operator who types, and what each host is told to run."""

from typing import Any

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually

SLOW_S = 60.0


def another(shell: CliShell, name: str) -> CliShell:
    """Return the keyboard of an operator who was made just now."""
    folder = shell.fleet.parent / name
    made = shell.type("operator", "create", name, str(folder))
    assert made.code == 0, made.err
    return CliShell(folder, shell.server)


def new_hosts(server: LiveServer, count: int = 4, environment: str = "dev") -> list[HostUnderTest]:
    """Enrol hosts, the first of them a canary, and make them online."""
    canary = server.new_host(f"{environment}-0", environment=environment, wave="canary")
    token = server.token(count, environment=environment, role="web")
    hosts = [canary, *(server.new_host(f"{environment}-{n}", token=token) for n in range(1, count))]
    for host in hosts:
        host.sync()
    return hosts


def wanted(hosts: list[HostUnderTest], version: str) -> list[str]:
    """Return the names of the hosts that are told to run `version`."""
    return [host.name for host in hosts if host.desired() == version]


def deploy(shell: CliShell, version: str, *words: str, environment: str = "dev") -> str:
    """Deploy to every host of the environment; return the rollout's id."""
    done = shell.type("deploy", "hello", version, "--environment", environment, "--all-hosts", *words, "-o", "json")
    assert done.code == 0, done.err
    return str(done.json()["assignment"])


def show(shell: CliShell, rollout: str) -> dict[str, Any]:
    """Return the rollout as `towpath rollout show -o json` gives it."""
    return dict(shell.type("rollout", "show", rollout, "-o", "json").json())


def until(shell: CliShell, rollout: str, state: str) -> dict[str, Any]:
    """Return the rollout once it is in `state`."""
    return eventually(lambda: (now := show(shell, rollout))["state"] == state and now, f"it is {state}", SLOW_S)


def waits(shell: CliShell, rollout: str, number: int = 0) -> str:
    """Return what a wave waits for, as people read it."""
    return str(show(shell, rollout)["waves"][number]["waits"])


def run_everywhere(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest], version: str, data: bytes = b""
) -> str:
    """Publish, deploy without waves, let every host obey; return the rollout's id once it is done."""
    environment = hosts[0].name.split("-", maxsplit=1)[0]
    server.publish(version, data)
    rollout = deploy(shell, version, "--max-unavailable", "9", environment=environment)
    eventually(lambda: len(wanted(hosts, version)) == len(hosts), "all are admitted")
    for host in hosts:
        host.obey()
    until(shell, rollout, "done")
    return rollout
