"""A fleet's agents update like any app: through two environments, in waves, and a bad version ends in its canary."""

from pathlib import Path
from typing import Any

import pytest
from bench import apps, calls
from examples.loopback import Done, Fleet, ask
from examples.processes import free_ports, wait_for

from fakes import agents
from towpath import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500), pytest.mark.xdist_group("crowd")]

HOSTS = {"dev": ["d1", "d2"], "staging": ["s1", "s2", "s3", "s4"]}
ALL = [name for names in HOSTS.values() for name in names]
CANARY = "s1"
APP = "towpath-agent"
WAIT_S = 400.0
WAVES = ("--waves", "canary,50%,100%", "--max-unavailable", "4")
WAIT = ("--wait", "--timeout", f"{WAIT_S:g}s")
POLICY = "{healthy_for: 500ms, deadline: 60s, probation: 1s}"


def begin(fleet: Fleet, tmp_path: Path) -> dict[str, int]:
    """Start six hosts in two environments, all of them serving hello; return its ports."""
    fleet.start_server(fleet.fixed_addresses())
    ports = dict(zip(ALL, free_ports(len(ALL)), strict=True))
    for environment, names in HOSTS.items():
        token = fleet.token(environment=environment, uses=len(names))
        for name in names:
            fleet.enrol(name, token)
            fleet.start_agent(name)
    with calls.Operator(fleet) as operator:
        for name, port in ports.items():
            operator.set_parameter(name, "hello.port", str(port))
    fleet.towpath("host", "set", CANARY, "--label", "wave=canary")
    fleet.wait_online(ALL, WAIT_S)
    fleet.publish(apps.hello(tmp_path / "sources" / "hello", "1.0.0"), "1.0.0")
    for environment in HOSTS:
        everywhere = ("--environment", environment, "--all-hosts", "--max-unavailable", "4")
        fleet.towpath("deploy", "hello", "1.0.0", *everywhere, *WAIT, timeout_s=WAIT_S + 30)
    return ports


def speak(fleet: Fleet) -> dict[str, str]:
    """Return which agent each host said last that it is."""
    return {row["name"]: row["agent_version"] for row in fleet.towpath("host", "list", "-o", "json").json()}


def moments(fleet: Fleet, host: str, version: str) -> dict[str, int]:
    """Return when a host's agent came to each state with a version of itself."""
    events: list[dict[str, Any]] = [e for e in fleet.history(host) if (e["app"], e["version"]) == (APP, version)]
    return {event["state"]: event["at_unix_ms"] for event in events if event["kind"] == "transition"}


def promote(fleet: Fleet) -> Done:
    """Promote as soon as dev counts as healthy: an agent that is kept starts once more, and is not until it has spoken."""
    tries: list[Done] = []

    def let_in() -> bool:
        words = ("promote", APP, "--from", "dev", "--to", "staging", *WAVES, *WAIT)
        tries.append(fleet.towpath(*words, code=None, timeout_s=WAIT_S + 30))
        return "is not healthy on" not in tries[-1].err

    wait_for("dev is healthy", let_in, WAIT_S, fleet.logs)
    return tries[-1]


def publish(fleet: Fleet, tmp_path: Path, version: str, fault: str = "") -> None:
    fleet.publish(agents.release_file(tmp_path / "sources" / version, version, fault=fault, policy=POLICY), version)


def test_agents_update_in_waves_through_two_environments_and_a_bad_one_halts_in_its_canary(
    fleet: Fleet, tmp_path: Path
) -> None:
    """All of dev, then staging wave by wave; one that crashes only there costs its canary a revert and nobody else a start."""
    ports = begin(fleet, tmp_path)
    apps_before = {name: fleet.own_status(name)["hello"] for name in ALL}
    publish(fleet, tmp_path, "1.1.0")
    everywhere = ("--environment", "dev", "--all-hosts", "--max-unavailable", "2")
    fleet.towpath("deploy", APP, "1.1.0", *everywhere, *WAIT, timeout_s=WAIT_S + 30)
    assert {version for name, version in speak(fleet).items() if name not in HOSTS["dev"]} == {__version__}
    promoted = promote(fleet)
    assert promoted.code == 0, promoted.err
    wait_for("all agents are 1.1.0", lambda: speak(fleet) == dict.fromkeys(ALL, "1.1.0"), WAIT_S, fleet.logs)
    confirmed = moments(fleet, CANARY, "1.1.0")["Confirmed"]
    assert all(moments(fleet, name, "1.1.0")["Planned"] >= confirmed for name in HOSTS["staging"][1:])

    publish(fleet, tmp_path, "1.2.0", "crashes in staging")
    fleet.towpath("deploy", APP, "1.2.0", *everywhere, *WAIT, timeout_s=WAIT_S + 30)
    failed = promote(fleet)
    assert failed.code == 1
    assert "not in staging" in failed.err + fleet.towpath("why", CANARY, APP).out
    (rollout,) = [
        row
        for row in fleet.towpath("rollout", "list", APP, "--all", "-o", "json").json()
        if (row["version"], row["environment"]) == ("1.2.0", "staging")
    ]
    assert rollout["state"] == "halted"
    wait_for("the canary's old agent speaks again", lambda: speak(fleet)[CANARY] == "1.1.0", WAIT_S, fleet.logs)
    expected = {**dict.fromkeys(HOSTS["dev"], "1.2.0"), **dict.fromkeys(HOSTS["staging"], "1.1.0")}
    assert speak(fleet) == expected
    assert "Reverted" in moments(fleet, CANARY, "1.2.0")
    for name in HOSTS["staging"][1:]:
        assert moments(fleet, name, "1.2.0") == {}, name
    assert all(ask(port) is not None for port in ports.values())
    assert {name: fleet.own_status(name)["hello"]["state"] for name in ALL} == {
        name: before["state"] for name, before in apps_before.items()
    }
