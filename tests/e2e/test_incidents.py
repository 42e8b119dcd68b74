"""Incidents of other systems that need a real agent process: a bad line with kills, a wrong clock, keys that cannot change.

The whole list with its tests is in docs/torture.md.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bench import apps
from examples.loopback import Fleet, ask, clean_env, command, run
from examples.processes import Daemon, free_ports, wait_for

from fakes.line import Line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LATENCY_S = 0.5
LOSS = 0.2
CONVERGE_S = 180.0
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


def ready(fleet: Fleet, tmp_path: Path) -> int:
    """Run hello 1.0.0 on host h1; return its port."""
    (port,) = free_ports(1)
    fleet.start_server(fleet.fixed_addresses())
    fleet.add_hosts(["h1"])
    fleet.towpath("host", "set", "h1", f"hello.port={port}")
    publish(fleet, tmp_path, "1.0.0")
    fleet.deploy("hello", "1.0.0", timeout_s=CONVERGE_S)
    assert serving(port) == "1.0.0"
    return port


def publish(fleet: Fleet, tmp_path: Path, version: str) -> None:
    fleet.publish(apps.hello(tmp_path / "sources" / version, version), version)


def start(fleet: Fleet, version: str) -> None:
    """Deploy without waiting for the end."""
    fleet.towpath("deploy", "hello", version, "--environment", "dev", "--select", "role=web")


def serving(port: int) -> str:
    """Return the version that answers; empty where nobody does."""
    answer = ask(port)
    found = re.search(r"\d+\.\d+\.\d+", answer.body) if answer is not None else None
    return found[0] if found is not None else ""


def converge(fleet: Fleet, port: int, version: str) -> None:
    wait_for(f"{version} is served", lambda: serving(port) == version, CONVERGE_S, fleet.logs)
    wait_for(
        f"the server knows of {version}",
        lambda: fleet.status().get("h1", {}).get("current") == version,
        CONVERGE_S,
        fleet.logs,
    )


def test_kills_on_a_slow_and_lossy_line_end_in_clean_success(fleet: Fleet, tmp_path: Path) -> None:
    """Incident 3, kill -9 after 0, 1, 2, 3, 4 s at 500 ms latency and 20 % loss: the next agent goes on and succeeds."""
    port = ready(fleet, tmp_path)
    fleet.agents["h1"].stop()
    with Line(fleet.addresses["agent"], delay_s=LATENCY_S, loss=LOSS, seed=3) as line:
        record = fleet.agent_dir("h1") / "host.json"
        facts = json.loads(record.read_text())
        record.write_text(json.dumps({**facts, "agent_address": line.address}))
        publish(fleet, tmp_path, "2.0.0")
        start(fleet, "2.0.0")
        for seconds in range(5):
            fleet.start_agent("h1")
            threading.Event().wait(seconds)
            assert fleet.agents["h1"].running
            fleet.agents["h1"].kill()
            assert serving(port) in ("1.0.0", "2.0.0", ""), "something else runs"
        fleet.start_agent("h1")
        converge(fleet, port, "2.0.0")
        assert line.accepted >= 2

        def ended() -> list[str]:
            return [event["state"] for event in fleet.history("h1") if event["version"] == "2.0.0"]

        wait_for("it is confirmed", lambda: "Confirmed" in ended(), CONVERGE_S, fleet.logs)
        assert "Reverted" not in ended()


@pytest.mark.parametrize(
    "when", ["1970-01-02 00:00:00", "+10y", "-10y"], ids=["boots in 1970", "10 years ahead", "10 years back"]
)
def test_an_agent_under_a_wrong_clock_leaves_alone_what_runs_and_works_again_when_it_is_right(
    fleet: Fleet, tmp_path: Path, when: str
) -> None:
    """Incident 12, clock 10 years back or ahead, or 1970 with valid certificates: no outage, and no lasting harm."""
    if FAKETIME is None:
        pytest.skip("there is no libfaketime here: apt-get install faketime")
    port = ready(fleet, tmp_path)
    fleet.agents["h1"].stop()
    pid = process_of(port)
    env = clean_env(LD_PRELOAD=str(FAKETIME), FAKETIME=f"@{when}" if when.startswith("1") else when)
    env["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
    wrong = Daemon(
        [command("towpath-agent"), "run", "--dir", str(fleet.agent_dir("h1"))],
        log=fleet.root / "logs" / "wrong.log",
        env=env,
        cwd=fleet.root,
    )
    publish(fleet, tmp_path, "2.0.0")
    start(fleet, "2.0.0")
    wrong.start()
    try:
        # The agent itself tells that it asked and got nothing; gRPC does not always log that a handshake failed.
        wait_for("it asked in vain, twice", lambda: asked_in_vain(fleet) >= 2, 240, wrong.output)
        assert wrong.running, wrong.output()
        assert "Traceback" not in wrong.output()
        assert (serving(port), process_of(port)) == ("1.0.0", pid)
    finally:
        wrong.stop()
    fleet.start_agent("h1")
    converge(fleet, port, "2.0.0")


def asked_in_vain(fleet: Fleet) -> int:
    """Return how often in a row the server did not answer, as the agent on h1 explains."""
    words = [command("towpath-agent"), "explain", "hello", "--dir", str(fleet.agent_dir("h1"))]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"the server did not answer (\d+) times in a row", said)
    return int(found[1]) if found is not None else 0


def process_of(port: int) -> str:
    """Return the pid that the app tells, by asking who listens."""
    said = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return said.partition("pid=")[2].partition(",")[0]


def immutable(path: Path, *, on: bool) -> None:
    words = ["chattr", "+i" if on else "-i", str(path)]
    if shutil.which("chattr") is None or os.geteuid() != 0:
        pytest.skip("making a file immutable needs root and chattr (e2fsprogs)")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this filesystem has no immutable files: {done.stderr.strip()}")


def renew(folder: Path, code: int) -> str:
    done = run(
        [sys.executable, "-m", "towpath_agent.renew", "--dir", str(folder), "--force"], env=clean_env(), cwd=folder
    )
    assert done.code == code, (done.out, done.err)
    return done.err


def test_a_key_file_that_cannot_be_replaced_costs_a_renewal_and_not_the_host(fleet: Fleet, tmp_path: Path) -> None:
    """Incident 13, key file immutable: one line, the old certificate stays good, and later the renewal succeeds."""
    port = ready(fleet, tmp_path)
    key = fleet.agent_dir("h1") / "identity.pem"
    before = key.read_bytes()
    immutable(key, on=True)
    try:
        said = renew(fleet.agent_dir("h1"), 1)
        assert said.startswith("towpath-agent: cannot ")
        assert said.count("\n") == 1
        assert "identity.pem" in said
        fleet.agents["h1"].stop()  # a new connection, with what is on disk
        fleet.start_agent("h1")
        publish(fleet, tmp_path, "2.0.0")
        start(fleet, "2.0.0")
        converge(fleet, port, "2.0.0")
    finally:
        immutable(key, on=False)
    assert key.read_bytes() == before
    renew(fleet.agent_dir("h1"), 0)
    assert key.read_bytes() != before


def test_of_two_hosts_from_one_disk_image_the_one_that_renews_first_stays(fleet: Fleet, tmp_path: Path) -> None:
    """Incident 13, clone of a disk image: the other is refused by name, what it runs goes on, and enrolling it anew helps."""
    port = ready(fleet, tmp_path)
    fleet.agents["h1"].stop()
    clone = fleet.root / "clone"
    shutil.copytree(fleet.agent_dir("h1"), clone, symlinks=True)
    renew(clone, 0)
    with (clone / "identity.pem").open() as one, (fleet.agent_dir("h1") / "identity.pem").open() as other:
        assert one.read() != other.read()
    fleet.start_agent("h1")
    refused = r"stale-certificate: cannot accept the certificate of h1: it was replaced by a newer one"
    fleet.agents["h1"].wait_for_line(refused, 120)
    assert fleet.agents["h1"].running
    assert serving(port) == "1.0.0"
    fleet.agents["h1"].stop()
    before = json.loads((fleet.agent_dir("h1") / "host.json").read_text())["host_id"]
    (fleet.agent_dir("h1") / "host.json").unlink()
    fleet.agent("h1", "enroll", "--server", fleet.addresses["enroll"], "--token", fleet.token(), "--name", "h2")
    assert json.loads((fleet.agent_dir("h1") / "host.json").read_text())["host_id"] != before
