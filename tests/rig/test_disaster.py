"""docs/disaster.md typed: a fleet whose keys are lost is left behind by a host that runs on."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from examples.loopback import clean_env
from examples.processes import Daemon, free_ports, wait_for

from rig.fleets import RigFleet, serves, status
from rig.guides import blocks
from rig.hosts import SERVER, why_not

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/disaster.md"
WAIT_S = 240.0

pytestmark = [
    pytest.mark.rig,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]


@pytest.mark.long
def test_a_host_moves_to_a_new_fleet_as_the_guide_says_and_its_app_runs_on(rig_fleet: RigFleet, tmp_path: Path) -> None:
    """Every block in its order; hello is never ended before the new fleet's release takes its place, and then is healthy."""
    (host,) = rig_fleet.boot(1)
    rig_fleet.deploy("hello", "1.0.0")
    app = host("pgrep -f '[b]in/serve'")
    shutil.copytree(ROOT / "examples/hello", tmp_path / "hello")
    ports = free_ports(3)
    given = {
        f"0.0.0.0:{8443}": f"{SERVER}:{ports[0]}",
        f"0.0.0.0:{8444}": f"{SERVER}:{ports[1]}",
        f"127.0.0.1:{8445}": f"127.0.0.1:{ports[2]}",
        "towpath.example.com:8444": f"{SERVER}:{ports[1]}",
    }
    env = clean_env(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

    def filled(lines: list[str]) -> str:
        text = "\n".join(lines)
        for name, value in given.items():
            text = text.replace(name, value)
        return text

    def typed(script: str) -> str:
        words = ["sh", "-ec", script]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    init, serve, publish, move = (lines for _, lines in blocks(GUIDE))
    typed(filled(init))
    server = Daemon(shlex.split(filled(serve)), log=tmp_path / "server.log", env=env, cwd=tmp_path)
    server.start()
    try:
        server.wait_for_line("^ready", 120)
        given["TOKEN"] = typed(filled(publish)).split()[-1]
        stop, *rest = filled(move).splitlines()
        host(stop)
        assert host("pgrep -f '[b]in/serve'") == app
        host("\n".join(["set -e", *rest]))
        wait_for(
            "the new fleet's hello is confirmed", lambda: status(host, "hello").get("state") == "Confirmed", WAIT_S
        )
        assert serves(host) == "1.0.0"
        assert "Traceback" not in host("journalctl -b --no-pager -u towpath-agent")

        def rows() -> list[dict[str, str]]:
            operator = [
                f"export TOWPATH_DIR=./fleet-2 TOWPATH_SERVER=127.0.0.1:{ports[2]}",
                "towpath status hello -o json",
            ]
            found: list[dict[str, str]] = json.loads(typed("\n".join(operator)))
            return found

        wait_for("the new server sees it", lambda: [row["health"] for row in rows()] == ["healthy"], WAIT_S)
        assert host("ls /var/lib/towpath/old-fleet/host.json /var/lib/towpath/old-fleet/trust/root.json")
    finally:
        server.stop()
