"""A person on a host of a real fleet: hold, deploy, release, revert, retry, explain, doctor, with and without agent."""

import grp
import json
import os
import signal
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from examples.loopback import EXAMPLES, Done, Fleet, ask, clean_env, command
from examples.processes import free_ports, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CHANGES = (
    ("hold", "--for", "1h", "--reason", "x"),
    ("release",),
    ("revert", "hello"),
    ("retry", "hello"),
)


def on_host(fleet: Fleet, *words: str, code: int = 0, name: str = "h1") -> Done:
    """Type one of the agent's commands on a host; no traceback, and on failure one line."""
    done = fleet.agent(name, *words, code=None)
    assert done.code == code, (words, done.out, done.err)
    assert "Traceback" not in done.out + done.err
    if code == 1 and words[0] != "doctor":
        assert done.err.startswith("towpath-agent: cannot ")
        assert done.err.count("\n") == 1, done.err
    return done


def hosts(fleet: Fleet) -> dict[str, Any]:
    return {row["name"]: row for row in fleet.towpath("host", "list", "-o", "json").json()}


def serves(port: int, version: str) -> None:
    wait_for(f"{version} serves", lambda: (a := ask(port)) and a.headers.get("X-Hello-Version") == version, 40)


@pytest.fixture
def two(fleet: Fleet) -> tuple[Fleet, list[int]]:
    """Give a fleet of two hosts that run hello 1.0.0, and the ports of the apps; 1.1.0 is published."""
    fleet.start_server()
    fleet.add_hosts(["h1", "h2"])
    ports = free_ports(2)
    for name, port in zip(("h1", "h2"), ports, strict=True):
        fleet.towpath("host", "set", name, f"hello.port={port}")
    fleet.publish(EXAMPLES / "hello" / "towpath.yaml", "1.0.0")
    fleet.publish(EXAMPLES / "hello-1.1" / "towpath.yaml", "1.1.0")
    fleet.deploy("hello", "1.0.0", "--max-unavailable", "2")
    return fleet, ports


def test_a_hold_shows_centrally_a_rollout_passes_the_host_by_and_its_end_lets_it_follow(
    two: tuple[Fleet, list[int]],
) -> None:
    """Seen in list, show, status and why; the other host is deployed to; the hold ends by itself, over a restart too."""
    fleet, ports = two
    said = on_host(fleet, "hold", "--for", "2h", "--reason", "the till is open").out
    assert said.startswith("all apps of this host: held by ")
    wait_for("the server knows", lambda: hosts(fleet)["h1"]["holds"], 20)
    assert hosts(fleet)["h1"]["holds"][0]["reason"] == "the till is open"
    assert hosts(fleet)["h2"]["holds"] == []
    server = fleet.agent("h1", "status", "-o", "json").json()["server"]
    assert (server["answered_unix_ms"] > 0, server["away_since_unix_ms"], server["trouble"]) == (True, 0, "")
    for words in (("host", "list"), ("host", "show", "h1"), ("status", "hello"), ("why", "h1", "hello")):
        assert "the till is open" in fleet.towpath(*words).out, words
    done = fleet.deploy("hello", "1.1.0")
    assert "healthy on 1 host of dev" in done.out
    assert "1 host held, to follow when released" in done.out
    assert fleet.status()["h1"]["current"] == "1.0.0"
    serves(ports[0], "1.0.0")
    serves(ports[1], "1.1.0")
    fleet.agents["h1"].kill()
    fleet.start_agent("h1")
    wait_for("the new agent answers", lambda: fleet.agent("h1", "status", "-o", "json").json()["agent_runs"], 20)
    assert fleet.agent("h1", "status", "-o", "json").json()["holds"][0]["reason"] == "the till is open"
    on_host(fleet, "hold", "--for", "2s", "--reason", "closing time")  # takes the place of the long one
    serves(ports[0], "1.1.0")
    wait_for("the server knows", lambda: not hosts(fleet)["h1"]["holds"], 20)
    wait_for("h1 is healthy", lambda: fleet.status()["h1"]["state"] == "Confirmed", 20)
    codes = [event["code"] for event in fleet.history("h1") if event["kind"] == "hold"]
    assert codes == ["held", "held", "expired"]


def test_a_release_of_a_hold_lets_a_waiting_deploy_through(two: tuple[Fleet, list[int]]) -> None:
    """All hosts held: the deploy waits and is neither done nor halted; released, it goes on at once."""
    fleet, ports = two
    for name in ("h1", "h2"):
        on_host(fleet, "hold", "hello", "--for", "2h", "--reason", "inventory", name=name)
    wait_for("the server knows both", lambda: all(row["holds"] for row in hosts(fleet).values()), 20)
    waited = fleet.deploy("hello", "1.1.0", "--max-unavailable", "2", code=2, timeout_s=3)
    assert "0 of 2 hosts healthy, 2 held" in waited.err
    assert on_host(fleet, "release", "hello").out == "hello: released\n"
    serves(ports[0], "1.1.0")
    serves(ports[1], "1.0.0")
    on_host(fleet, "release", name="h2")
    serves(ports[1], "1.1.0")


def test_a_revert_and_a_retry_by_the_host_itself(two: tuple[Fleet, list[int]]) -> None:
    """Back to the release before and not forward again until told; the server hears who and why, and halts the rollout;
    then forward again, because the same person says so.
    """
    fleet, ports = two
    fleet.deploy("hello", "1.1.0", "--max-unavailable", "2")
    done = on_host(fleet, "revert", "hello", "--reason", "customers complain")
    assert done.out.splitlines()[0].startswith("hello: goes back from 1.1.0 to 1.0.0")
    serves(ports[0], "1.0.0")
    wait_for("the server knows", lambda: fleet.status()["h1"]["state"] == "Reverted", 20)
    row = fleet.status()["h1"]
    assert (row["current"], row["health"]) == ("1.0.0", "healthy")
    assert row["reason"].startswith("reverted by ")
    assert row["reason"].endswith(" on the host: customers complain")
    why = fleet.towpath("why", "h1", "hello").out
    assert "its rollout is halted" in why
    assert "customers complain" in why
    said = on_host(fleet, "explain", "hello").out
    assert "it is not tried again until told" in said
    assert f"towpath-agent retry hello --dir {fleet.agent_dir('h1')}" in said
    assert "there is nothing to go back to from 1.0.0" in on_host(fleet, "revert", "hello", code=1).err
    fleet.agents["h1"].kill()
    fleet.start_agent("h1")
    fleet.wait_online(["h1"])
    serves(ports[0], "1.0.0")
    wait_for("the agent answers", lambda: fleet.agent("h1", "status", "-o", "json").json()["agent_runs"], 20)
    assert "1.1.0 is tried again" in on_host(fleet, "retry", "hello").out
    serves(ports[0], "1.1.0")
    wait_for("h1 is healthy", lambda: fleet.status()["h1"]["state"] == "Confirmed", 20)
    assert "nothing of it failed" in on_host(fleet, "retry", "hello", code=1).err
    explained = on_host(fleet, "explain", "hello", "-o", "json").json()
    assert {"fact", "command"} == set(explained["reasons"][0])
    assert "so it is as it should be" in [reason["fact"] for reason in explained["reasons"]]


def test_without_an_agent_looking_works_and_changing_says_what_to_do(two: tuple[Fleet, list[int]]) -> None:
    """Stopped or killed: status, history, explain and doctor answer; the others name the command that starts it."""
    fleet, _ = two
    on_host(fleet, "hold", "--for", "2h", "--reason", "inventory")
    fleet.agents["h1"].kill()
    start = f"start it: towpath-agent run --dir {fleet.agent_dir('h1')}"
    for words in CHANGES:
        assert start in on_host(fleet, *words, code=1).err
    said = on_host(fleet, "status").out
    assert "agent: does not run" in said
    assert "all apps held by " in said
    assert "hello" in on_host(fleet, "history").out
    said = on_host(fleet, "explain", "hello").out
    assert "no agent runs here" in said
    assert "inventory; nothing new begins" in said
    said = on_host(fleet, "doctor").out
    assert "warn  agent" in said
    assert "nothing fails" in said


def test_without_a_server_the_host_is_still_in_the_hands_of_its_person(two: tuple[Fleet, list[int]]) -> None:
    """Hold, revert and explain work while the server is away; it hears of both when it is back."""
    fleet, ports = two
    fleet.deploy("hello", "1.1.0", "--max-unavailable", "2", "--max-failures", "1")
    assert fleet.server is not None
    fleet.server.kill()
    on_host(fleet, "revert", "hello")
    serves(ports[0], "1.0.0")
    on_host(fleet, "hold", "--for", "2h", "--reason", "inventory")
    wait_for("the agent noticed", lambda: "the server did not answer" in on_host(fleet, "explain", "hello").out, 60)
    sick = on_host(fleet, "doctor", code=1).out
    assert "fail  server" in sick
    assert "nothing listens there" in sick
    fleet.start_server()
    wait_for("the server knows the hold", lambda: hosts(fleet)["h1"]["holds"], 90)
    wait_for("the server knows the revert", lambda: fleet.status()["h1"]["state"] == "Reverted", 90)


def test_doctor_is_content_with_a_sound_host_and_names_what_is_not(two: tuple[Fleet, list[int]]) -> None:
    """Exit 0 and "nothing fails"; then open modes, a wrong link and a damaged file each fail, with the next command."""
    fleet, _ = two
    folder = fleet.agent_dir("h1")
    said = on_host(fleet, "doctor").out
    assert said.endswith("nothing fails\n")
    for check in ("folder", "disk", "clock", "certificate", "agent", "journal", "links", "staging", "apps", "server"):
        assert f"ok    {check}" in said, check
    assert "agents' port" in said
    assert "enrolment port" in said
    fleet.agents["h1"].stop()
    folder.chmod(0o755)
    (folder / "apps/hello/current").unlink()
    (folder / "apps/hello/current").symlink_to("releases/nothing")
    (folder / "trust/floors.json").write_text("{")
    (folder / "staging/left-over").mkdir()
    found = on_host(fleet, "doctor", "-o", "json", code=1).json()
    by_check = {(one["check"], one["level"]) for one in found["findings"]}
    assert {
        ("folder", "fail"),
        ("links", "fail"),
        ("clock", "fail"),
        ("staging", "warn"),
        ("agent", "warn"),
    } <= by_check
    assert found["failed"] == 3
    assert any(one["command"] == f"chmod 700 {folder}" for one in found["findings"])
    assert (folder / "trust/floors.json").read_text() == "{", "it only looks"


def test_rude_clients_cannot_harm_the_agent(two: tuple[Fleet, list[int]]) -> None:
    """Two hundred commands at once, clients that hang, noise, and one that is killed in the middle."""
    fleet, ports = two
    path = fleet.agent_dir("h1") / "control.sock"
    hanging = []
    for _ in range(40):
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(30)
        line.connect(str(path))
        line.sendall(b"\xff\x00 noise without an end")
        hanging.append(line)

    def one(number: int) -> bool:
        give_up = time.monotonic() + 60
        while True:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(60)
                try:
                    line.connect(str(path))
                except BlockingIOError:
                    assert time.monotonic() < give_up
                    time.sleep(0.02)
                    continue
                asked = {"v": 1, "command": "hold", "app": f"a{number}", "for_ms": 60_000, "reason": "x"}
                line.sendall(json.dumps(asked).encode() + b"\n")
                heard = b""
                while part := line.recv(65536):
                    heard += part
                answer = json.loads(heard)
                return bool(answer["ok"]) or "64 apps are held already" in answer["error"]

    with ThreadPoolExecutor(200) as pool:
        assert all(pool.map(one, range(200)))
    for line in hanging:
        line.close()
    argv = [command("towpath-agent"), "hold", "--dir", str(fleet.agent_dir("h1")), "--for", "1h", "--reason", "x"]
    with subprocess.Popen(argv, env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        time.sleep(0.3)
        os.kill(client.pid, signal.SIGKILL)
    assert fleet.agents["h1"].running
    assert "released" in on_host(fleet, "release").out
    serves(ports[0], "1.0.0")
    fleet.deploy("hello", "1.1.0", "--max-unavailable", "2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to a group it is not in")
def test_a_group_may_be_let_in_and_is_shut_out_again(two: tuple[Fleet, list[int]]) -> None:
    """By agent.toml: the group may pass the folder and use the socket; a group that is gone does not stop the agent."""
    fleet, _ = two
    folder = fleet.agent_dir("h1")

    def again(settings: str) -> tuple[int, int]:
        fleet.agents["h1"].stop()
        assert not (folder / "control.sock").exists(), "a stopped agent leaves no socket"
        (folder / "agent.toml").write_text(settings)
        fleet.start_agent("h1")
        wait_for("the agent answers", lambda: fleet.agent("h1", "status", "-o", "json").json()["agent_runs"], 20)
        return tuple(stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "control.sock"))  # type: ignore[return-value]

    group = grp.getgrgid(65534).gr_name
    assert again(f'control_group = "{group}"\n') == (0o710, 0o660)
    assert folder.stat().st_gid == (folder / "control.sock").stat().st_gid == 65534
    assert "nothing fails" in on_host(fleet, "doctor").out
    assert again('control_group = "no-such-group"\n') == (0o700, 0o600)
    assert "cannot let group 'no-such-group' control the agent" in fleet.agents["h1"].log.read_text()


def test_a_folder_without_a_host_is_one_line(fleet: Fleet) -> None:
    """Before enrolment every command of the person says how to enrol."""
    for words in (*CHANGES, ("explain", "hello")):
        assert "no host is enrolled there; run towpath-agent enroll" in on_host(fleet, *words, code=1).err
    assert "fail  host" in on_host(fleet, "doctor", code=1).out
    assert not Path(fleet.agent_dir("h1")).exists()
