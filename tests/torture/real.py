"""A real agent in a process of its own, with real TLS to a server on loopback whose view can be looked at.

The server is the in-memory one of the tests, behind real gRPC (it passes the conformance suite of the real client's
port): it is not what is tortured, and it can be taken back between cases. Apps are real processes.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from fakes.authority import Authority, now_ms
from fakes.grpc_server import AgentApi, serve_agents
from fakes.repository import RepositorySimulator
from fakes.server import FakeServer
from towpath import pki
from towpath.index import Entry, EntryType, check_entries
from towpath.manifest import HostFacts
from towpath.release import Artifact, HealthPolicy, Hook, Install, Probe, Release, Run
from towpath.status import Health, State
from towpath.wire import encode_index
from towpath_agent.engine.table import TABLE
from towpath_agent.identity import HostRecord, local_platform
from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import current_release
from towpath_agent.journal import open_readonly
from towpath_agent.runner.site import Site
from towpath_agent.store import Store
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_by_env

ROOT = Path(__file__).resolve().parents[2]
_ROWS = {(row.source, row.target) for row in TABLE}
RUNS = 8
WEEK_MS = 7 * 86_400_000
RUN_LIMIT_S = 120.0


class _LongAuthority(Authority):
    """A CA whose certificates outlive the longest torture."""

    def __post_init__(self) -> None:
        self.ca_pem = pki.new_ca(self.key, now_ms=now_ms())
        self.server_pem = pki.issue_server(
            self.ca_pem,
            self.key,
            self.server_key,
            not_before_ms=now_ms() - WEEK_MS,
            not_after_ms=now_ms() + WEEK_MS,
        )

    def issue(self, csr_der: bytes, host_id: str, *, from_ms: int | None = None, until_ms: int | None = None) -> bytes:
        return super().issue(csr_der, host_id, from_ms=from_ms, until_ms=until_ms or now_ms() + WEEK_MS)


class RealHost:
    """One host's folder, its server, and the commands that run an agent in it."""

    def __init__(self, folder: Path) -> None:
        """Serve; the folder is filled by `enrol`."""
        self.folder = folder
        self.authority = _LongAuthority()
        self.sim = RepositorySimulator(now_ms())
        self.server = FakeServer(metadata=self.sim.served, targets=self.sim.releases, answer=self._answer)
        self.listener = serve_agents(AgentApi(self.server, self.authority))
        self.pem = self.authority.identity("host-1")
        known = pki.identity(self.pem)
        self.facts = HostFacts("host-1", known.key_sha256, "dev", local_platform())
        self.record = HostRecord(
            host_id="host-1",
            name="h1",
            environment="dev",
            agent_address=self.listener.address,
            enroll_address=self.listener.address,
            key_sha256=known.key_sha256.hex(),
            not_before_unix_ms=known.not_before_ms,
            not_after_unix_ms=known.not_before_ms + 365 * 86_400_000,  # no renewal comes between
            identity_sha256=hashlib.sha256(self.pem).hexdigest(),
        )
        self.wishes: list[tuple[Release, int]] = []
        self._counter = 0
        self.last_words = ""  # of the last agent: the evidence where it does not come to rest

    def enrol(self) -> None:
        """Write what enrolment leaves."""
        (self.folder / "trust").mkdir(parents=True, exist_ok=True)
        (self.folder / "identity.pem").write_bytes(self.pem)
        (self.folder / "ca.pem").write_bytes(self.authority.ca_pem)
        (self.folder / "trust" / "root.json").write_bytes(self.sim.bootstrap)
        (self.folder / "host.json").write_text(json.dumps(asdict(self.record)))

    def publish(self, version: str, *, good: bool = True, kind: str = "tree") -> Release:
        """Publish a release: a program that sleeps, and a check that says whether it is good."""
        self._counter += 1
        files = {
            "bin/serve": b"#!/bin/sh\n# " + version.encode() + b"\nexec sleep 86400\n",
            "bin/check": b"#!/bin/sh\nexit " + (b"0" if good else b"1") + b"\n",
            "data.txt": version.encode() * 2000,
        }
        entries = [Entry("bin", EntryType.DIRECTORY, 0o755)]
        for path, data in files.items():
            entries.append(Entry(path, EntryType.FILE, 0o755, len(data), self.server.add_object(data)))
        index = encode_index(check_entries(sorted(entries, key=lambda it: it.path)))
        release = Release(
            app="hello",
            version=version,
            counter=self._counter,
            artifact=Artifact(self.server.add_object(index), len(index), sum(map(len, files.values()))),
            install=Install(kind, {"shared": ("state/",)}),
            run=Run("process", command=("bin/serve",), stop_timeout_ms=500),
            hooks=(Hook("prepare", ("bin/check",), 5_000),) if good else (),
            probes=(Probe("exec", {"command": ("bin/check",)}, interval_ms=50, failures=2),),
            # A bad one fails soon; a good one may take its time on a busy machine.
            health=HealthPolicy(healthy_for_ms=60, deadline_ms=30_000 if good else 600, probation_ms=0),
        )
        return self.sim.publish_release(release)

    def assign(self, *releases: Release, generation: int) -> None:
        """Let the server want exactly these."""
        self.wishes = [(release, generation) for release in releases]
        self.server.hint()

    def forget(self) -> None:
        """Let the server forget what this host ever said, for the host is about to be taken back."""
        self.server.events.clear()
        self.server.apps.clear()
        self.server.known_state_revision = 0

    def _answer(self, nonce: bytes) -> bytes:
        now = now_ms()
        self.sim.now_ms, self.sim.sequence = now, max(self.sim.sequence, now)
        apps = [self.sim.desire(it, generation=number) for it, number in self.wishes]
        return self.sim.sign(self.sim.manifest(self.facts, apps, nonce=nonce))

    # -- the agent's process

    def argv(self) -> list[str]:
        """Return the command of one agent that ends at rest."""
        return [sys.executable, "-P", "-m", "torture.oneshot", str(self.folder)]

    def run(self, before: Sequence[str] = ()) -> int:
        """Run one agent to its end, perhaps under the command `before`; return its exit code."""
        done = subprocess.run(
            [*before, *self.argv()],
            env=environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        words = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
        self.last_words = f"exit code {done.returncode}: {' | '.join(words[-3:])}"
        return done.returncode

    def recover(self) -> bool:
        """Start agents, as systemd would, until one comes to rest; False where none does."""
        return any(self.run() == 0 for _ in range(RUNS))

    def end_apps(self) -> None:
        """End every process of the apps, as a reboot does. One in the middle of its exec is seen at the second look."""
        calm = 0
        for _ in range(50):
            alive = find_by_env("TOWPATH_APP_DIR", str(self.folder / "apps" / "hello"))
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            calm = 0 if alive else calm + 1
            if calm == 2:
                return
            time.sleep(0.02)

    def running(self) -> set[str]:
        """Return the releases of which processes run."""
        found = find_by_env("TOWPATH_APP_DIR", str(self.folder / "apps" / "hello"))
        names = set()
        for process in found:
            with contextlib.suppress(OSError):
                pairs = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                names |= {it[16:].decode() for it in pairs if it.startswith(b"TOWPATH_RELEASE=")}
        return names

    # -- the oracle

    def wrong(self, allowed: set[str]) -> list[str]:
        """Return what is wrong with a host at rest that may run one of the `allowed` versions ("": none)."""
        live = current_release(self.folder / "apps" / "hello") or ""
        version = live.rpartition("-")[0]
        problems = [] if version in allowed else [f"{version!r} is linked, must be one of {sorted(allowed)}"]
        running = self.running()
        if running != ({live} if live else set()):
            problems.append(f"{sorted(running)} runs, {live!r} is linked")
        files = Files()
        site = Site(self.folder, files, Store(self.folder / "store", files))
        journal = open_readonly(self.folder / "state.db")
        try:
            current = journal.deployed("current").get("hello")
            if live and current is None:
                problems.append("the journal does not know what runs")
            elif current is not None:
                plan = site.plan(current, site.entries(current))
                if plan.release_id != live:
                    problems.append(f"the journal says {plan.release_id}, {live!r} is linked")
                elif not INSTALLERS[plan.release.install.kind](files).verify(plan):
                    problems.append(f"the tree of {version} is not what was signed")
            own = {state.app: state for state in journal.app_states()}
            problems += [f"left in {tx.state}" for tx in journal.transactions()]
        finally:
            journal.close()
        if own != self.server.apps:
            problems.append(f"the server's view differs: {dict(self.server.apps)} where the host says {own}")
        problems += [
            f"{it.current_version} is {it.health}" for it in own.values() if live and it.health is not Health.HEALTHY
        ]
        problems += [f"left over: {path.name}" for path in (self.folder / "staging").glob("*")]
        problems += [f"it was damaged: {path.name}" for path in self.folder.rglob("*.damaged*")]
        return problems + self._chains()

    def _chains(self) -> list[str]:
        """Return where what was reported of a transaction is not a walk through the engine's table to an end."""
        told: dict[str, list[State]] = {}
        for event in self.server.events.values():
            if event.kind == "transition":
                told.setdefault(event.transaction, []).append(State(event.state))
        problems = []
        for chain in told.values():
            steps = list(pairwise(chain))
            if not set(steps) <= _ROWS or not chain[-1].ended:
                problems.append(f"reported {'>'.join(chain)}, which the table does not know")
        return problems


def environment() -> Mapping[str, str]:
    """Return the agent's environment: this one's, and the folder of this package to import from."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TOWPATH_")}
    return {**kept, "PYTHONPATH": str(ROOT / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
