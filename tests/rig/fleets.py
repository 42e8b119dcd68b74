"""Hosts of the rig as a fleet: enrolled with one role, given releases, asked what they serve and what their journals say.

Not handled here: the hosts themselves (`hosts`), the server (`examples.loopback`).
"""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import apps
from examples.loopback import Fleet
from examples.processes import wait_for

from rig.hosts import Host, Hosts

# A release that is judged within seconds: what takes long on a rig is never the release.
QUICK = "health: {healthy_for: 1s, deadline: 60s, probation: 1s}"
WAIT_S = 240.0
# No two fleets of a run share a host: one may be there for a whole module.
_NUMBERS = itertools.count(11)


class RigFleet:
    """The hosts of one test. All have the label `role=ROLE`, and their names in the fleet begin with it."""

    def __init__(self, hosts: Hosts, base: Path, fleet: Fleet, role: str) -> None:
        """Boot nothing yet."""
        self.hosts, self.fleet, self.role = hosts, fleet, role.replace("_", "-")
        self._base = base
        self.there: dict[str, Host] = {}

    def close(self) -> None:
        """Switch all hosts off, for good."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self.hosts.rig("wipe", name), self.there))
        for name in self.there:
            self.fleet.towpath("host", "revoke", self.name(name), "--reason", "the test is over", code=None)

    def name(self, host: str) -> str:
        """Return what the host `h11` is called in the fleet."""
        return f"{self.role}-{host}"

    def boot(self, count: int, *, server: str = "", settings: str = "", **more: str) -> list[Host]:
        """Boot `count` hosts and enrol them at `server`; `settings` are agent.toml's, `more` variables of the rig."""
        names = [f"h{next(_NUMBERS)}" for _ in range(count)]
        self.there |= self.hosts.boot(names, self._base, **more)
        token = self.fleet.token(label=f"role={self.role}", uses=count)
        server = server or self.fleet.addresses["enroll"]

        def enrol(host: Host) -> None:
            host(f"cat > /etc/towpath/agent.toml <<'END'\n{settings}\nEND")
            host(f"towpath-agent setup --server {server} --token {token} --name {self.name(host.name)}")

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(enrol, self.there.values()))
        return list(self.there.values())

    # Releases

    def publish_hello(self, version: str, text: str = QUICK, *, bulk: int = 0) -> None:
        """Publish hello at `version`, `bulk` random bytes larger; its health is `text`."""
        folder = self.fleet.root / "sources" / f"hello-{version}"
        release_file = apps.hello(folder, version)
        if bulk:
            (folder / "app/bulk").write_bytes(os.urandom(bulk))
        lines = release_file.read_text().splitlines()
        lines = [text if line.startswith("health:") else line for line in lines]
        release_file.write_text("\n".join(lines) + "\n")
        self.fleet.publish(release_file, version)

    def start(self, app: str, version: str, *words: str) -> None:
        """Deploy to all hosts of the role at once and do not wait."""
        head = ("deploy", app, version, "--environment", "dev", "--select", f"role={self.role}")
        self.fleet.towpath(*head, "--max-unavailable", str(len(self.there)), *words, timeout_s=WAIT_S + 30)

    def deploy(self, app: str, version: str) -> None:
        """Deploy to all hosts of the role and wait for the end."""
        self.start(app, version, "--wait", "--timeout", f"{WAIT_S:g}s")

    # What is seen

    def online(self) -> bool:
        """Return whether the server sees all hosts of the role."""
        return {self.name(name) for name in self.there} <= self.fleet.online()

    def wait(self, what: str, look: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        """Wait until `look` returns something true; the server's log and the agents' are the evidence."""
        wait_for(what, look, timeout_s, self.evidence)

    def evidence(self) -> str:
        """Return the last words of the server and of every agent that is on."""
        said = [self.fleet.logs()]
        for host in self.there.values():
            said += [f"--- {host.name}", host("journalctl -n 12 --no-pager -o cat -u towpath-agent", code=None)]
        return "\n".join(said)


def serves(host: Host, port: int = 8080) -> str:
    """Return the version that hello itself says that it is, nothing where it does not answer healthily."""
    said = host(f"curl -sfi -m 5 http://127.0.0.1:{port}/healthz", code=None).lower()
    return said.partition("x-hello-version: ")[2].partition("\n")[0].strip()


def status(host: Host, app: str) -> dict[str, Any]:
    """Return the host's own view of an app, from its journal."""
    said = json.loads(host("towpath-agent status -o json"))
    rows: Iterable[dict[str, Any]] = said["apps"]
    return next((row for row in rows if row["app"] == app), {})


def moves(host: Host, app: str, version: str, *, since_ms: float = 0, until_ms: float = math.inf) -> list[str]:
    """Return the states that a version of an app went through on a host between two moments, the newest last."""
    events = json.loads(host("towpath-agent history -o json --limit 10000"))
    wanted = (app, version, "transition")
    return [
        event["state"]
        for event in events
        if (event["app"], event["version"], event["kind"]) == wanted and since_ms <= event["at_unix_ms"] <= until_ms
    ]
