"""An agent's memory after many deploys: `python -m bench.endurance [--deploys 1000]`.

One real agent and server on loopback; two releases of an app that starts a process and is probed take turns, so every
deploy goes the whole way: manifest, verification, fetch (from the store), stage, switch, start, watch, confirm, prune.
Memory is looked at when the agent has been idle for a while after the 10th and after the last deploy: what differs is
what the deploys between left behind. Ends with one line of JSON.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from examples.loopback import EXAMPLES, Fleet
from examples.processes import free_ports, wait_for

from bench import calls
from bench.measure import memory, note, report, span

FIRST_LOOK = 10
VERSIONS = ("1.0.0", "2.0.0")
DEPLOY_TIMEOUT_S = 60.0
IDLE_S = 15.0


def _release(folder: Path, version: str) -> Path:
    """Return the release file of examples/hello at `version`, proven by its first answer and without probation."""
    shutil.copytree(EXAMPLES / "hello", folder)
    (folder / "app" / "VERSION").write_text(f"{version}\n")
    release_file = folder / "towpath.yaml"
    text = release_file.read_text().replace("probation: 1m", "probation: 0s")
    release_file.write_text(text.replace("healthy_for: 1s", "healthy_for: 0s"))
    return release_file


def measure(folder: Path, deploys: int) -> dict[str, object]:
    """Deploy by turns and return the memory at both looks, in MiB."""
    with Fleet(folder) as fleet, span() as whole:
        fleet.init()
        fleet.start_server()
        fleet.add_hosts(["h1"])
        fleet.towpath("host", "set", "h1", f"hello.port={free_ports(1)[0]}")
        for version in VERSIONS:
            fleet.publish(_release(fleet.root / "sources" / version, version), version)
        agent = fleet.agents["h1"]
        looks = []
        with calls.Operator(fleet) as operator:
            for number in range(1, deploys + 1):
                operator.deploy("hello", VERSIONS[number % 2], "dev", {"role": "web"})
                wait_for(
                    f"deploy {number} is confirmed",
                    lambda done=number: agent.output().count(": Confirmed ") >= done,  # type: ignore[misc]
                    DEPLOY_TIMEOUT_S,
                    fleet.logs,
                )
                if number in (FIRST_LOOK, deploys):
                    time.sleep(IDLE_S)  # what is compared is the idle agent, not the last deploy's memory
                    looks.append(memory(agent.pid))
                if number % 100 == 0:
                    note(f"  {number} deploys")
    first, last = looks[0], looks[-1]
    return {
        "bench": "endurance",
        "deploys": deploys,
        "rss_mib_after_10": first.rss_mib,
        "rss_mib_after_all": last.rss_mib,
        "private_mib_after_10": first.private_mib,
        "private_mib_after_all": last.private_mib,
        "growth_percent": round((last.private_mib / first.private_mib - 1) * 100, 1),
        "seconds": round(whole.seconds, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deploys", type=int, default=1000, help="how many, at least 11")
    arguments = parser.parse_args()
    if arguments.deploys <= FIRST_LOOK:
        parser.error(f"argument --deploys: at least {FIRST_LOOK + 1}")
    return report(lambda folder: measure(folder, arguments.deploys))


if __name__ == "__main__":
    sys.exit(main())
