"""The agent updates itself: real versions of it, real processes, an app that keeps serving."""

import json
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bench import apps
from examples.loopback import Fleet, ask
from examples.processes import free_ports, wait_for

from fakes import agents
from towpath import __version__

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

WAIT_S = 240.0
APP = "towpath-agent"


def ready(fleet: Fleet, tmp_path: Path) -> int:
    """Run hello 1.0.0 on host h1; return its port."""
    (port,) = free_ports(1)
    fleet.start_server(fleet.fixed_addresses())
    fleet.add_hosts(["h1"])
    fleet.towpath("host", "set", "h1", f"hello.port={port}")
    fleet.publish(apps.hello(tmp_path / "sources" / "hello-1", "1.0.0"), "1.0.0")
    fleet.deploy("hello", "1.0.0", timeout_s=WAIT_S)
    return port


def publish(fleet: Fleet, tmp_path: Path, version: str, **made: Any) -> None:
    fleet.publish(agents.release_file(tmp_path / "sources" / version, version, **made), version)


def start(fleet: Fleet, version: str, app: str = APP) -> None:
    """Deploy without waiting for the end."""
    fleet.towpath("deploy", app, version, "--environment", "dev", "--select", "role=web")


def agent_version(fleet: Fleet) -> str:
    """Return which agent the server last heard."""
    (row,) = fleet.towpath("host", "list", "-o", "json").json()
    return str(row["agent_version"])


def pointer(fleet: Fleet) -> dict[str, Any]:
    path = fleet.agent_dir("h1") / "launch.json"
    nothing = {"current": "", "trying": "", "starts": 0}
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else nothing
    return found


def settled(fleet: Fleet, version: str) -> bool:
    """Return whether this agent is kept and runs with nobody to watch it."""
    said = pointer(fleet)
    return said["current"].startswith(f"{version}-") and not said["trying"] and not said["starts"]


def app_process(fleet: Fleet) -> tuple[int, float]:
    """Return which process hello is, by the record that its agent keeps."""
    said = json.loads((fleet.agent_dir("h1") / "apps/hello/service.json").read_text())
    return said["pid"], said["created"]


def test_an_agent_updates_itself_under_a_running_app_and_back_to_the_packaged_one(fleet: Fleet, tmp_path: Path) -> None:
    """From the packaged agent to a release, to the next, and by an undeploy back: one process id, the app never stops."""
    port = ready(fleet, tmp_path)
    app = app_process(fleet)
    process = fleet.agents["h1"].pid
    for version in ("1.1.0", "1.2.0"):
        publish(fleet, tmp_path, version)
        fleet.deploy(APP, version, timeout_s=WAIT_S)
        wait_for(f"{version} is kept", lambda version=version: settled(fleet, version), WAIT_S, fleet.logs)
        wait_for(f"{version} speaks", lambda version=version: agent_version(fleet) == version, WAIT_S, fleet.logs)
        assert fleet.agents["h1"].pid == process
        assert ask(port) is not None
    chain = [e["state"] for e in fleet.history("h1") if e["app"] == APP and e["version"] == "1.2.0"]
    assert chain == [
        "Planned", "Fetching", "Staged", "Prepared", "Switching", "Switched", "Watching", "Confirmed",
    ]  # fmt: skip
    fleet.towpath("undeploy", APP, "--environment", "dev")
    wait_for("the packaged one is back", lambda: agent_version(fleet) == __version__, WAIT_S, fleet.logs)
    assert fleet.agents["h1"].pid == process
    assert app_process(fleet) == app


BAD = {
    # fault: what the host says of it
    "does not start": "it ended 3 times before it had reported, the last time with exit code 1",
    "crashes at once": "it ended 3 times before it had reported, the last time with exit code 1",
    "spoils the journal": "it ended 3 times before it had reported, the last time with exit code 1",
    "hangs": "it had not reported within 17s",
    "never reports": "not healthy within the deadline of 8s: probe agent does not pass: it has not reported yet",
}
SHORT = "{healthy_for: 500ms, deadline: 8s, probation: 1s}"
EVIDENCE = {"does not start": "No module named grpc", "crashes at once": "boom", "spoils the journal": "then died"}


def test_a_bad_agent_version_ends_in_the_old_one_and_is_remembered(fleet: Fleet, tmp_path: Path) -> None:
    """Incident 17, bad agent version: the old one comes back, says why, and does not try the bad one again by itself.

    Each kind of bad: one that does not start, that crashes, that ruins the journal, that hangs, that never reports. Every
    time the app goes on, and in the end a good version is taken.
    """
    port = ready(fleet, tmp_path)
    publish(fleet, tmp_path, "1.1.0")
    fleet.deploy(APP, "1.1.0", timeout_s=WAIT_S)
    wait_for("1.1.0 is kept", lambda: settled(fleet, "1.1.0"), WAIT_S, fleet.logs)
    process = fleet.agents["h1"].pid
    for number, (fault, said) in enumerate(BAD.items()):
        version = f"2.{number}.0"
        publish(fleet, tmp_path, version, fault=fault, policy=SHORT)
        done = fleet.deploy(APP, version, timeout_s=WAIT_S, code=1)
        assert said in done.err, (fault, done.err)
        wait_for("1.1.0 speaks", lambda: agent_version(fleet) == "1.1.0", WAIT_S, fleet.logs)
        wait_for("1.1.0 is settled", lambda: settled(fleet, "1.1.0"), WAIT_S, fleet.logs)
        state = fleet.own_status("h1")[APP]
        assert (state["current_version"], state["desired_version"], state["state"]) == ("1.1.0", version, "Reverted")
        assert state["verdict"] == "failed"
        assert ask(port) is not None
        assert fleet.agents["h1"].pid == process
        assert "it is not tried again until told" in fleet.agent("h1", "explain", APP).out
        assert EVIDENCE.get(fault, "") in fleet.towpath("why", "h1", APP).out
    begun = [e["version"] for e in fleet.history("h1") if e["app"] == APP and e["state"] == "Planned"]
    fleet.agents["h1"].stop()
    fleet.start_agent("h1")  # another process, and no other memory
    wait_for("it runs", lambda: fleet.agent("h1", "status", "-o", "json").json()["agent_runs"], WAIT_S, fleet.logs)
    fleet.agent("h1", "retry", APP)  # told: it is tried again, and fails again
    wait_for(
        "it was tried again",
        lambda: (
            [e["version"] for e in fleet.history("h1") if e["app"] == APP and e["state"] == "Planned"]
            == [*begun, begun[-1]]
        ),
        WAIT_S,
        fleet.logs,
    )
    wait_for("1.1.0 is back", lambda: settled(fleet, "1.1.0"), WAIT_S, fleet.logs)
    publish(fleet, tmp_path, "3.0.0")
    fleet.deploy(APP, "3.0.0", timeout_s=WAIT_S)
    wait_for("3.0.0 speaks", lambda: agent_version(fleet) == "3.0.0", WAIT_S, fleet.logs)


@pytest.mark.parametrize("seed", range(3))
def test_an_agent_killed_at_random_moments_of_its_update_ends_with_a_healthy_one(
    fleet: Fleet, tmp_path: Path, seed: int
) -> None:
    """Kill -9 at any moment of its own update, again and again: in the end an agent runs, and the app never stopped."""
    random = Random(seed)
    port = ready(fleet, tmp_path)
    app = app_process(fleet)
    publish(fleet, tmp_path, "1.1.0")
    start(fleet, "1.1.0")
    for _ in range(6):
        threading.Event().wait(random.uniform(0.05, 4.0))
        fleet.agents["h1"].kill()
        assert ask(port) is not None
        fleet.start_agent("h1")
    ends = ("Confirmed", "Reverted")
    wait_for("it has an end", lambda: fleet.own_status("h1").get(APP, {}).get("state") in ends, WAIT_S, fleet.logs)
    runs = "1.1.0" if fleet.own_status("h1")[APP]["state"] == "Confirmed" else __version__
    wait_for(f"{runs} speaks", lambda: agent_version(fleet) == runs, WAIT_S, fleet.logs)
    wait_for("nothing is on trial", lambda: not pointer(fleet)["trying"], WAIT_S, fleet.logs)
    assert app_process(fleet) == app
    fleet.publish(apps.hello(tmp_path / "sources" / "hello-2", "2.0.0"), "2.0.0")
    fleet.deploy("hello", "2.0.0", timeout_s=WAIT_S)


def test_an_agent_is_not_changed_during_another_apps_transaction(fleet: Fleet, tmp_path: Path) -> None:
    """Incident 17, agent upgraded by itself while installing something else: it waits, says for whom, then goes on."""
    ready(fleet, tmp_path)
    source = apps.hello(tmp_path / "sources" / "hello-2", "2.0.0")
    text = source.read_text()
    assert "healthy_for: 1s, deadline: 20s" in text
    source.write_text(text.replace("healthy_for: 1s, deadline: 20s", "healthy_for: 20s, deadline: 90s"))
    fleet.publish(source, "2.0.0")
    publish(fleet, tmp_path, "1.1.0")
    start(fleet, "2.0.0", "hello")

    def states() -> dict[str, str]:
        return {app: it["state"] for app, it in fleet.own_status("h1").items()}

    wait_for("hello is watched", lambda: states()["hello"] == "Watching", WAIT_S, fleet.logs)
    start(fleet, "1.1.0")
    wait_for("the agent waits", lambda: states().get(APP) == "Prepared", WAIT_S, fleet.logs)
    assert "it waits: the agent is not changed while others are: hello" in fleet.agent("h1", "explain", APP).out
    wait_for("the agent is kept", lambda: settled(fleet, "1.1.0"), WAIT_S, fleet.logs)
    moves = [(e["app"], e["state"]) for e in fleet.history("h1") if e["kind"] == "transition"]
    assert moves.index((APP, "Switching")) > max(n for n, move in enumerate(moves) if move == ("hello", "Confirmed"))
    assert states() == {"hello": "Confirmed", APP: "Confirmed"}
