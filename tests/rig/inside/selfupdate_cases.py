"""The agent under its own unit updates itself; run inside a booted host (`test_systemd_host.py`).

The unit is the package's, its command a launcher as in the package; the versions are those of `fakes.agents`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench import apps  # noqa: E402
from examples.loopback import Fleet  # noqa: E402
from examples.processes import wait_for  # noqa: E402

from fakes import agents  # noqa: E402
from towpath_agent.system.launch import LAUNCHER  # noqa: E402

pytestmark = pytest.mark.timeout(840)

UNIT = "towpath-agent.service"
WAIT_S = 200.0
APP = "towpath-agent"
SHORT = "{healthy_for: 500ms, deadline: 12s, probation: 1s}"


def show(name: str) -> str:
    words = ["systemctl", "show", "--value", f"--property={name}", UNIT]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def host(*words: str, code: int | None = 0) -> str:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    assert code in (None, done.returncode), done.stdout
    return done.stdout.strip()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a server, and this host set up with the package's unit, running hello.

    The watchdog bites after 10 s, so the agent, which feeds it in its rounds, makes one every 2 s.
    """
    command = Path("/usr/bin/towpath-agent")
    base = Path(sys.executable).parent / "towpath-agent"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {LAUNCHER} {base} "$@"\n')
    command.chmod(0o755)
    unit = (ROOT / "packaging/systemd/towpath-agent.service").read_text()
    assert "WatchdogSec=600" in unit
    (Path("/etc/systemd/system") / UNIT).write_text(unit.replace("WatchdogSec=600", "WatchdogSec=10"))
    host("systemctl", "daemon-reload")
    settings = Path("/etc/towpath/agent.toml")
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('sync_interval = "2s"\n')
    with Fleet(tmp_path) as fleet:
        fleet.init()
        fleet.start_server(fleet.fixed_addresses())
        token = fleet.token()
        host("towpath-agent", "setup", "--server", fleet.addresses["enroll"], "--token", token, "--name", "h1")
        fleet.publish(apps.hello(tmp_path / "hello", "1.0.0"), "1.0.0")
        fleet.deploy("hello", "1.0.0", timeout_s=WAIT_S)
        yield fleet
        host("systemctl", "stop", UNIT)


def publish(fleet: Fleet, version: str, fault: str = "", policy: str = agents.POLICY) -> None:
    fleet.publish(agents.release_file(fleet.root / "sources" / version, version, fault=fault, policy=policy), version)


def test_under_its_unit_an_agent_updates_itself_and_goes_back_without_a_restart_of_the_unit(fleet: Fleet) -> None:
    """One main process all along, no restart for systemd, a watchdog that is fed in a trial that hangs, apps untouched."""
    main, app = show("MainPID"), host("pgrep", "-f", "[b]in/serve")
    publish(fleet, "1.1.0")
    fleet.deploy(APP, "1.1.0", timeout_s=WAIT_S)
    wait_for("1.1.0 runs", lambda: "1.1.0" in show("StatusText"), WAIT_S, fleet.logs)
    assert host("towpath-agent", "version") == "towpath-agent 1.1.0"
    for version, fault in (("2.0.0", "does not start"), ("2.1.0", "hangs")):
        publish(fleet, version, fault, SHORT)
        fleet.deploy(APP, version, timeout_s=WAIT_S, code=1)
        wait_for("1.1.0 is back", lambda: "agent 1.1.0 runs" in show("StatusText"), WAIT_S, fleet.logs)
    said = host("journalctl", "-b", "--no-pager", "-n", "200", "-u", UNIT, "-o", "short-precise")
    assert (show("MainPID"), show("NRestarts"), show("ActiveState")) == (main, "0", "active"), said
    assert host("pgrep", "-f", "[b]in/serve") == app
    # Killed in mid-trial, systemd starts the launcher again, which counts it; in the end the old one is back.
    publish(fleet, "2.2.0", "hangs", "{healthy_for: 500ms, deadline: 60s, probation: 1s}")
    fleet.towpath("deploy", APP, "2.2.0", "--environment", "dev", "--select", "role=web")
    wait_for("2.2.0 is on trial", lambda: "2.2.0" in show("StatusText"), WAIT_S, fleet.logs)
    for number in range(1, 4):
        wait_for("a start", lambda n=number: f"on trial, start {n}" in show("StatusText"), WAIT_S, fleet.logs)
        host("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)
        wait_for("it is restarted", lambda n=number: show("NRestarts") == str(n), WAIT_S, fleet.logs)
    wait_for("1.1.0 is back", lambda: "agent 1.1.0 runs" in show("StatusText"), WAIT_S, fleet.logs)
    assert host("pgrep", "-f", "[b]in/serve") == app
    assert host("pgrep", "-fc", "sleep 600", code=None) == "0"
