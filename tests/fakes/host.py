"""A whole agent on a simulated host: the real runner, journal, store, trust and installers; time, network and apps are fakes.

What is real: every file below a temporary folder, the journal, TUF metadata and envelopes, verification (in this process).
What is simulated: the clock, the server port, the processes (`World`). `boot` starts a new agent on what the last one
left, as after kill -9; `Killed` is raised where a test wants the agent to die and nothing may catch it.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.clock import FakeClock
from fakes.drivers import FakeProbe, FakeService, World
from fakes.repository import RepositorySimulator
from fakes.server import FakeServer
from towpath.index import Entry, EntryType, check_entries
from towpath.kinds import PROBES
from towpath.manifest import PREFETCH_FEATURE, HostFacts
from towpath.parameters import Parameter, Value
from towpath.release import Artifact, HealthPolicy, Hook, Install, Probe, Release, Run
from towpath.reports import AppState, Event
from towpath.status import State
from towpath.wire import encode_index
from towpath_agent.hooks import HookRunner
from towpath_agent.installers import INSTALLERS
from towpath_agent.installers.base import Installer, current_release
from towpath_agent.instance import Instance
from towpath_agent.journal import Journal, Transaction
from towpath_agent.probes.base import Probe as ProbeDriver
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.agent import Agent, Chance
from towpath_agent.runner.desired import Desired
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.recovery import recover
from towpath_agent.runner.site import Drivers, Site
from towpath_agent.runner.steady import Steady
from towpath_agent.services import SERVICES
from towpath_agent.services.base import Service
from towpath_agent.store import Store
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.process import HookResult
from towpath_agent.trust.model import Fetch, VerifyRequest, VerifyResult
from towpath_agent.trust.verifier import verify

POLICY = HealthPolicy(healthy_for_ms=2_000, deadline_ms=30_000, probation_ms=60_000)
PROBE = Probe("http", {"url": "http://127.0.0.1:${port}/healthz"}, interval_ms=500, failures=3)


def port_of(app: str) -> int:
    """Return the port that an app listens on by default: each another one, as a host has each port once."""
    return 8080 if app == "hello" else 9000 + sum(map(ord, app))


class Killed(BaseException):
    """The agent dies here: no handler of the agent catches it."""


class _InProcess:
    """The verifier without its child process."""

    def verify(self, request: VerifyRequest, fetch: Fetch) -> VerifyResult:
        return verify(request, fetch)


class _Hooks(HookRunner):
    """Real hooks, that tell before and after each run."""

    tell: Callable[[str, Path], None] = staticmethod(lambda _verb, _path: None)

    def run(self, hook: Hook, instance: Instance, parameters: Mapping[str, Value]) -> HookResult:
        self.tell("before hook", Path(hook.point))
        result = super().run(hook, instance, parameters)
        self.tell("after hook", Path(hook.point))
        return result


class _Journal(Journal):
    """A journal that tells before and after each commit."""

    tell: Callable[[str, Path], None] = staticmethod(lambda _verb, _path: None)
    committing = ""  # the state of the transaction that is being committed

    def put_transaction(self, tx: Transaction, event: Event | None = None) -> None:
        with self._of(tx):
            super().put_transaction(tx, event)

    def put_transactions(self, pairs: Sequence[tuple[Transaction, Event | None]]) -> None:
        with self._of(pairs[0][0]):
            super().put_transactions(pairs)

    def confirm(self, tx: Transaction, event: Event, *mates: tuple[Transaction, Event]) -> None:
        with self._of(tx):
            super().confirm(tx, event, *mates)

    def revert(self, tx: Transaction, event: Event, previous: Any) -> None:
        with self._of(tx):
            super().revert(tx, event, previous)

    @contextmanager
    def _of(self, tx: Transaction) -> Iterator[None]:
        self.committing = tx.state.value
        try:
            yield
        finally:
            self.committing = ""

    @contextmanager
    def _commit(self) -> Iterator[sqlite3.Cursor]:
        self.tell("before commit", Path("state.db"))
        with super()._commit() as cursor:
            yield cursor
        self.tell("after commit", Path("state.db"))


class _Actions(Actions):
    """Actions that tell the host which app and state they work on."""

    host: "SimulatedHost"

    def perform(self, action: Any, tx: Transaction, **others: Any) -> Any:
        with self.host.working(tx, tx.state.value):
            return super().perform(action, tx, **others)

    def settle(self, tx: Transaction) -> None:
        with self.host.working(tx, "settle"):
            super().settle(tx)


def _as_it_is(_port: str, _kind: str, driver: Any) -> Any:
    return driver


class SimulatedHost:
    """One host and its server."""

    def __init__(
        self, folder: Path, *, kill_at: int | None = None, clock: FakeClock | SystemClock | None = None
    ) -> None:
        """Keep the host's files below `folder`; die at the `kill_at`-th change of disk, journal or process.

        `clock` may be the machine's own, for apps that are real processes.
        """
        self.folder = folder
        # The TUF library reads the real clock and cannot be told otherwise; simulated time starts there.
        self.clock: Any = clock or FakeClock(int(time.time() * 1000))
        self.sim = RepositorySimulator(self.clock.now_unix_ms())
        self.server = FakeServer(metadata=self.sim.served, targets=self.sim.releases, answer=self._answer)
        self.world = World()
        self.facts = HostFacts("host-1", b"k" * 32, "dev", "linux/amd64")
        self.wishes: list[tuple[Release, int, Mapping[str, Value]]] = []
        self.announced: list[Release] = []
        self.max_release_bytes = 0
        self.prefetch_day_bytes = 2**40
        self.chance = 0.5
        self.ill: set[str] = set()  # versions whose probes fail
        self.file_versions: set[str] = set()  # versions of kind `file`, for tests that look at what they placed
        self.fails_from: dict[str, float] = {}  # version -> seconds after its start at which its probes begin to fail
        self.ready_after: dict[str, float] = {}  # version -> seconds after its start until its probes pass
        self.chains: list[tuple[str, str]] = []
        self.kill_at, self.changes = kill_at, 0
        self.extra_change: Callable[[str, Path], None] = lambda _verb, _path: None
        # (port, kind, driver) -> the driver to use: tests stand between the agent and its drivers here.
        self.wrap: Callable[[str, str, Any], Any] = _as_it_is
        self.files: Callable[[Callable[[str, Path], None]], Files] = Files
        self.phase = ("", "")  # the app and the state whose action is under way; empty between actions
        self.moving: Transaction | None = None  # whose action is under way
        self.steps: list[str] = []
        self.log: list[str] = []
        self.boots = 0
        self.installers: dict[str, Callable[[Files], Installer]] = dict(INSTALLERS)
        self._counter = 0
        self._started: dict[str, float] = {}
        self.agent: Agent
        self.site: Site
        self.journal: Journal

    # -- publisher and operator

    def publish(
        self,
        version: str,
        *,
        app: str = "hello",
        content: str | None = None,
        package: bytes = b"",
        files: Mapping[str, bytes] = {},
        **fields: Any,
    ) -> Release:
        """Publish a release of one file and one folder (and of `files` in its root), or of one `package`."""
        self._counter += 1
        data = package or (content if content is not None else f"{app} {version}").encode()
        digest = self.server.add_object(data)
        name = "package" if package else fields.pop("program", "bin/serve")
        folders = [] if package else [Entry("bin", EntryType.DIRECTORY, 0o755)]
        more = [Entry(path, EntryType.FILE, 0o644, len(it), self.server.add_object(it)) for path, it in files.items()]
        program = Entry(name, EntryType.FILE, 0o755, len(data), digest)
        entries = check_entries(sorted([*folders, program, *more], key=lambda entry: entry.path))
        index = encode_index(entries)
        release = Release(
            app=app,
            version=version,
            counter=self._counter,
            artifact=Artifact(self.server.add_object(index), len(index), len(data) + sum(map(len, files.values()))),
            install=fields.pop("install", Install("tree")),
            run=fields.pop("run", Run("process", command=("bin/serve", "--port", "${port}"))),
            probes=fields.pop("probes", (PROBE,)),
            health=fields.pop("health", POLICY),
            parameters=fields.pop("parameters", (Parameter("port", "port", port_of(app)),)),
            **fields,
        )
        return self.sim.publish_release(release)

    def assign(self, *releases: Release, generation: int = 1, parameters: Mapping[str, Value] | None = None) -> None:
        """Let the server want exactly these, and hint."""
        self.wishes = [(release, generation, parameters or {}) for release in releases]
        if hasattr(self, "agent"):
            self.agent.hint()

    def announce(self, *releases: Release) -> None:
        """Let the server announce exactly these, to be fetched and not to be run, and hint."""
        self.announced = list(releases)
        if hasattr(self, "agent"):
            self.agent.hint()

    def _answer(self, nonce: bytes) -> bytes:
        now = self.clock.now_unix_ms()
        self.sim.now_ms = now
        self.sim.sequence = max(self.sim.sequence, now)
        apps = [self.sim.desire(it, generation=number, parameters=values) for it, number, values in self.wishes]
        ahead = tuple(self.sim.desire(it, generation=9) for it in self.announced)
        critical = (PREFETCH_FEATURE,) if ahead else ()
        manifest = self.sim.manifest(self.facts, apps, nonce=nonce, prefetch=ahead, critical=critical)
        return self.sim.sign(manifest)

    # -- the host

    @property
    def on_trial(self) -> bool:
        """Return whether a launcher watches this agent; a test may have one."""
        return False

    def boot(self) -> None:
        """Start an agent on what is on disk."""
        self.boots += 1
        files = self.files(self._change)
        site = self.site = Site(self.folder, files, Store(self.folder / "store", files))
        for name in ("trust", "apps", "staging"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        opened, lost, self.mended = recover(site, self.clock.now_unix_ms(), on_trial=self.on_trial)
        # No power is cut here, and half of the time of a scenario would go into syncing.
        opened._db.execute("PRAGMA synchronous=OFF")
        self.journal = _Journal(opened._db)
        self.journal.tell = self._change
        floors = FloorsFile(self.folder / "trust" / "floors.json", files)
        hooks = _Hooks(self.clock)
        hooks.tell = self._change
        drivers = Drivers(
            installers={kind: self.wrap("installer", kind, make(files)) for kind, make in self.installers.items()},
            services={kind: self.wrap("service", kind, it) for kind, it in self.services(files).items()},
            probes={kind: self.wrap("probe", kind, it) for kind, it in self.probes(files).items()},
            hooks=self.wrap("hook", "", hooks),
        )
        desired = Desired(
            server=self.server,
            verifier=_InProcess(),
            journal=self.journal,
            floors=floors,
            facts=self.facts,
            clock=self.clock,
            random_bytes=lambda size: hashlib.sha256(f"{self.boots} {len(self.server.syncs)}".encode()).digest()[:size],
            metadata_dir=str(self.folder / "trust" / "metadata"),
            root=self.sim.bootstrap,
            boot_id="boot",
        )
        ids = iter(range(10**9))
        self.phase, self.moving = ("", ""), None
        actions = _Actions(
            site=site,
            drivers=drivers,
            journal=self.journal,
            clock=self.clock,
            max_release_bytes=self.max_release_bytes,
        )
        actions.host = self
        self.agent = Agent(
            journal=self.journal,
            desired=desired,
            floors=floors,
            actions=actions,
            steady=Steady(site, drivers, self.clock, lambda objects: site.store.fetch(objects, self.server)),
            clock=self.clock,
            chance=Chance(lambda: self.chance, lambda: f"id-{self.boots}-{next(ids)}"),
            log=self.log.append,
            prefetch_day_bytes=self.prefetch_day_bytes,
        )
        if lost:
            self.agent.tell("note", "", lost, "journal")

    def services(self, _files: Files) -> dict[str, Service]:
        """Return the services of this host; a test may have others."""
        return {kind: FakeService(self.world, self._service_change) for kind in SERVICES}

    def probes(self, _files: Files) -> dict[str, ProbeDriver]:
        """Return the probes of this host; a test may have others."""
        return {kind: FakeProbe(self._judge) for kind in PROBES}

    @contextmanager
    def working(self, tx: Transaction, state: str) -> Iterator[None]:
        """Say while it lasts that the action of this state is under way."""
        self.phase, self.moving = (tx.app, state), tx
        try:
            yield
        finally:
            self.phase, self.moving = ("", ""), None

    def _change(self, verb: str, path: Path) -> None:
        self.changes += 1
        self.extra_change(verb, path)
        if self.kill_at is not None and self.changes == self.kill_at:
            self.steps.append(f"{verb} {path.name}")
            raise Killed

    def _service_change(self, verb: str, instance: Any) -> None:
        self._change(verb, Path(instance.release_id))
        if verb == "start":
            self._started[instance.app] = self.clock.monotonic()

    def _judge(self, _options: Mapping[str, Value], context: Any) -> bool | str:
        version = context.instance.release_id.rpartition("-")[0]
        age = self.clock.monotonic() - self._started.get(context.instance.app, 0.0)
        if version in self.ill or not context.service_state.running:
            return "status 500"
        if age < self.ready_after.get(version, 0.0):
            return "connection refused"
        return "status 500" if age >= self.fails_from.get(version, float("inf")) else True

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let the agent work for simulated `seconds`, or until something is so."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end and not until():
            delay = self.agent.tick()
            if until():
                return
            self.clock.wait(self.agent.wake, min(delay, max(0.0, end - self.clock.monotonic())) or 0.001)
            self.agent.wake.clear()

    def settle(self, limit_s: float = 300.0) -> None:
        """Run until nothing is under way and everything is reported."""
        quiet = 0

        def still() -> bool:
            nonlocal quiet
            moving = [tx for tx in self.journal.transactions() if tx.state is not State.CONFIRMED]
            done = not moving and self._synced() and not self.journal.outbox(1)
            quiet = quiet + 1 if done else 0
            return quiet >= 3

        self.run(limit_s, still)

    def _synced(self) -> bool:
        return bool(self.server.syncs) and self.journal.desired() is not None

    # -- what a test looks at

    def state(self, app: str = "hello") -> AppState:
        """Return the state of an app as the server knows it."""
        return self.server.apps[app]

    def live(self, app: str = "hello") -> str:
        """Return the version that the link `current` names, by its folder's name; empty where there is none."""
        return (current_release(self.folder / "apps" / app) or "").rpartition("-")[0]

    def serving(self, app: str = "hello") -> str:
        """Return the version that runs; empty where none does."""
        return (self.world.running(app) or "").rpartition("-")[0]

    def chain(self, app: str = "hello", version: str | None = None) -> list[str]:
        """Return the states that the server was told of, in order."""
        return [event.state for event in self.transitions(app, version)]

    def transitions(self, app: str = "hello", version: str | None = None) -> Sequence[Event]:
        """Return the reported transitions of an app, and of one version of it."""
        return [
            event
            for event in self.server.events.values()
            if event.kind == "transition" and event.app == app and version in (None, event.version)
        ]
