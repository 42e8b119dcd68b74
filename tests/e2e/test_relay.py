"""A site behind one line, with a relay: what the line carries, and what happens where the relay is gone. Real processes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Fleet, clean_env, command
from examples.processes import Daemon, free_ports

from fakes.line import Line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HOSTS = [f"h{number}" for number in range(1, 7)]
RELEASE_BYTES = 8 * 2**20


@pytest.fixture
def line(fleet: Fleet) -> Iterator[Line]:
    """Give the site's line to the server, which counts what it carries."""
    fleet.start_server()
    with Line(fleet.addresses["agent"]) as line:
        yield line


def release(folder: Path, version: str) -> Path:
    """Make a release of `hello` with 8 MiB that nothing compresses; return its file."""
    made = folder / version
    shutil.copytree(EXAMPLES / "hello", made)
    (made / "app").mkdir(exist_ok=True)
    (made / "app" / "ballast").write_bytes(os.urandom(RELEASE_BYTES))
    return made / "towpath.yaml"


def test_a_release_crosses_a_sites_line_once(fleet: Fleet, line: Line, tmp_path: Path) -> None:
    """Six hosts install 8 MiB; the line carries little more than 8 MiB. Without its relay, the site goes on by itself."""
    token = fleet.token(uses=len(HOSTS))
    for name, port in zip(HOSTS, free_ports(len(HOSTS)), strict=True):
        fleet.enrol(name, token)
        fleet.towpath("host", "set", name, f"hello.port={port}")
    folders = ["--dir", str(tmp_path / "relay"), "--agent-dir", str(fleet.agent_dir("h1"))]
    ports = ["--server", line.address, "--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0"]
    relay = Daemon(
        [command("towpath"), "relay", "run", *folders, *ports],
        log=fleet.root / "logs" / "relay.log",
        env=clean_env(),
        cwd=fleet.root,
    )
    relay.start()
    try:
        relay.wait_for_line(r"^ready")
        address = relay.wait_for_line(r"^agents on (\S+:\d+)\s*$")[1]
        for name in HOSTS:
            (fleet.agent_dir(name) / "agent.toml").write_text(f'relay = "{address}"\n')
            fleet.start_agent(name)
        fleet.wait_online(HOSTS)
        before = line.carried_bytes
        fleet.publish(release(tmp_path, "1.0.0"), "1.0.0")
        fleet.deploy("hello", "1.0.0", "--max-unavailable", "6")
        carried = line.carried_bytes - before
        assert RELEASE_BYTES < carried < 1.1 * RELEASE_BYTES
        relay.kill()
        fleet.publish(release(tmp_path, "1.1.0"), "1.1.0")
        fleet.deploy("hello", "1.1.0", "--max-unavailable", "6", timeout_s=120)
        assert line.carried_bytes - before - carried < RELEASE_BYTES / 10
    finally:
        if relay.running:
            relay.stop()
    assert {row["current"] for row in fleet.status().values()} == {"1.1.0"}
    assert any(address in text for text in (fleet.agents["h2"].output(), fleet.agents["h3"].output()))
