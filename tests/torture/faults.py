"""Where a fault can strike inside the agent's process, found by looking, and the fault itself.

A point is one change of disk or journal (`system.files.Files` tells of each before it happens) or one call of a driver
(each public method of the ports `Installer`, `Service`, `Probe` and of the hook runner, before and after). `watch`
notes every point that a run passes, with the state whose action was under way: so a new step, driver or method has its
points by existing. `strike` runs again and lets one fault happen at one of them.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.drivers import World, place
from fakes.host import Killed, SimulatedHost
from torture.model import Hit
from torture.remembered import Remembered
from torture.rewind import Moment, resume
from torture.samples import SAMPLES
from towpath import handover
from towpath.errors import TowpathError
from towpath.release import Hook
from towpath.status import State
from towpath_agent.engine.table import Outcome
from towpath_agent.errors import ServiceError
from towpath_agent.hooks import HookRunner
from towpath_agent.installers.base import Installer
from towpath_agent.instance import Instance
from towpath_agent.journal import Deployed, Transaction
from towpath_agent.probes.base import Probe
from towpath_agent.runner.actions import MAX_ATTEMPTS
from towpath_agent.runner.site import id_of
from towpath_agent.services.base import Service
from towpath_agent.system.hook import HookResult

PORTS = {"installer": Installer, "service": Service, "probe": Probe, "hook": HookRunner}
# A failed hook at these points fails the state; at any other it is said in a report and goes on.
DECISIVE_HOOKS = frozenset({"prepare", "post_start", "handover"})
HANG_S = 3_600.0
RETRY_S = 90.0  # longer than the agent waits before it tries again what a full disk stopped
MOST_BOOTS = 40
MOST_RETRIES = 100

# By where a point is: what can go wrong there. "always": at each visit, up to and beyond the limit of attempts.
CHANGE_FAULTS = ("killed", "EIO", "ENOSPC")
CALL_FAULTS = ("error", "error always", "bug", "hang", "killed before", "killed after", "killed always")
ALWAYS = MAX_ATTEMPTS + 2


@dataclass(frozen=True, slots=True)
class Point:
    """One place in a run: the `number`-th change or call. `app` and `state` ("" outside of actions) were under way."""

    kind: str  # "change" or "call"
    number: int
    label: str
    app: str
    state: str
    committing: str = ""  # the state that the journal is just being told

    @property
    def step(self) -> str:
        """Return the row of the table that this point belongs to."""
        return self.state or (f"journal {self.committing}" if self.committing else "between actions")


@dataclass
class Strike:
    """One fault at one point; keeps what it hit."""

    point: Point
    fault: str
    hits: list[Hit] = field(default_factory=list)
    struck: int = 0
    gaps: list[str] = field(default_factory=list)  # moments in which a proxy sent requests to nobody healthy


class _Driver:
    """Stands before a driver and tells of each call of the port's methods."""

    def __init__(self, port: str, behind: Any, harness: "Harness") -> None:
        self._port, self._behind, self._harness = port, behind, harness

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._behind, name)
        if name.startswith("_") or name not in vars(PORTS[self._port]):
            return method

        def call(*args: Any, **more: Any) -> Any:
            what = f"{self._port}.{name}"
            if self._port == "hook":
                what = f"{what} {args[0].point}"
            elif self._port == "service" and self._harness.is_of_old(args[0]):
                what = f"{what} of the old one"
            return self._harness.call(what, lambda: method(*args, **more), args)

        return call


class _InstantHooks:
    """Hooks that take no time: what a real one may do to the agent is tested where hooks are (tests/unit).

    They do nothing, but for `handover`, which points the proxy of the world to the copy that runs it.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, hook: Hook, instance: Instance, _parameters: object) -> HookResult:
        if hook.point == handover.HOOK_POINT:
            self._world.proxy[instance.app] = place(instance.app, instance.slot)
        return HookResult(0, timed_out=False, output="")


class Harness:
    """Stands in every seam of one simulated host."""

    def __init__(self, host: SimulatedHost, strike: Strike | None = None) -> None:
        self.host, self.strike = host, strike
        self.points: list[Point] = []
        self._changes = self._calls = 0
        wanted = {release.app for release, _, _ in host.wishes}
        self._served = [app for app in host.world.proxy if host.world.behind(app) and app in wanted]
        host.extra_change = self._change
        host.wrap = self._wrap

    def _wrap(self, port: str, kind: str, driver: Any) -> Any:
        if port == "hook":
            driver = _InstantHooks(self.host.world)
        elif port == "installer" and kind in SAMPLES and SAMPLES[kind].slow:
            driver = Remembered(kind, driver, self.host, self.host.__dict__.setdefault("answers", {}))
        return _Driver(port, driver, self)

    def is_of_old(self, instance: Instance) -> bool:
        """Return whether a driver is asked for the release that is left, by the action under way."""
        tx = self.host.moving
        if tx is None or tx.old is None:
            return False
        if instance.slot is not None and tx.wish.slot != tx.old.wish.slot:
            return instance.slot == tx.old.wish.slot
        return instance.release_id == id_of(tx.old) != _new_id(tx)

    def _change(self, verb: str, path: Path) -> None:
        if verb in ("start", "stop") and self.host.phase[1]:
            return  # a service's: there as a call
        self._changes += 1
        point = self._note("change", self._changes, f"{verb} {_plain(path)}")
        strike = self.strike
        self._look(point.label)
        if strike is None or strike.struck or (point.kind, point.number) != (strike.point.kind, strike.point.number):
            return
        strike.struck += 1
        if strike.fault == "killed":
            raise Killed
        self._fails(strike, retryable=strike.fault == "ENOSPC")
        raise OSError(getattr(errno, strike.fault), "injected")

    def call(self, what: str, method: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        """Call a driver, or let the fault happen."""
        self._calls += 1
        point = self._note("call", self._calls, what)
        strike = self.strike
        self._look(what)
        if strike is None or not _is_here(strike, point):
            return method()
        strike.struck += 1
        if strike.fault.startswith("killed"):
            if strike.fault != "killed before":
                method()
            raise Killed
        hook = args[0] if what.startswith("hook") else None
        if (hook is None or hook.point in DECISIVE_HOOKS) and not self._is_forgiven(what):
            self._fails(strike)
        if strike.fault in ("error", "error always"):
            raise ServiceError(f"cannot {what}: injected")
        if strike.fault == "bug":
            raise RuntimeError(f"injected into {what}")
        self.host.clock.advance(HANG_S)
        if hook is not None:
            return HookResult(None, timed_out=True, output="")
        raise TimeoutError(errno.ETIMEDOUT, f"{what} did not end in time")

    def _look(self, where: str) -> None:
        """Take a request of each app that was served through a proxy when this run began, and is to be served still."""
        if self.strike is None:
            return
        for app in self._served:
            answering = [it.rpartition("-")[0] for it in self.host.world.behind(app)]
            if not answering or answering[0] in self.host.ill:
                self.strike.gaps.append(f"{app}: before {where} requests go to {answering or 'nobody'}")

    def _is_forgiven(self, what: str) -> bool:
        """Return whether this is trouble of the old one beside which the new one is proven: no fault of the new one."""
        tx, strike = self.host.moving, self.strike
        assert strike is not None
        known = strike.fault in ("error", "error always")
        return known and tx is not None and tx.state is State.WATCHING and not tx.handed and what.endswith("old one")

    def _fails(self, strike: Strike, *, retryable: bool = False) -> None:
        app, state = self.host.phase
        if state and state != "settle":
            strike.hits.append(Hit(app, State(state), Outcome.FAILED, retryable))

    def _note(self, kind: str, number: int, label: str) -> Point:
        app, state = self.host.phase
        journal = getattr(self.host, "journal", None)
        point = Point(kind, number, label, app, state, getattr(journal, "committing", ""))
        self.points.append(point)
        return point


def _is_here(strike: Strike, point: Point) -> bool:
    wanted = strike.point
    if wanted.kind != "call":
        return False
    if strike.fault.endswith("always"):
        here = (point.label, point.app, point.state) == (wanted.label, wanted.app, wanted.state)
        return here and strike.struck < ALWAYS
    return point.number == wanted.number and not strike.struck


def _new_id(tx: Transaction) -> str:
    return id_of(Deployed(tx.wish, tx.release)) if tx.wish.sha256 else ""


def _plain(path: Path) -> str:
    return path.name if not path.name.startswith(".tmp-") else ".tmp"


def settle(host: SimulatedHost, strike: Strike | None = None) -> None:
    """Run until all is quiet, past probation and every retry; start a new agent wherever one ended."""
    started = hasattr(host, "agent")
    for _ in range(MOST_BOOTS):
        try:
            if not started:
                host.boot()
                host.agent.hint()
                started = True
            _rest(host)
        except (Killed, TowpathError, OSError):
            started = False
            if strike is not None:
                _gave_up(host, strike)
        else:
            return
    raise AssertionError(f"the host does not come to rest in {MOST_BOOTS} starts")


def _rest(host: SimulatedHost) -> None:
    """Run a started host until no transaction is left: past every retry and probation."""
    host.settle()
    host.run(RETRY_S)
    host.settle()
    for _ in range(MOST_RETRIES):
        if not host.journal.transactions():
            return
        host.run(RETRY_S)
    waits = "; ".join(f"{it.app} is {it.state}: {it.reason}" for it in host.journal.transactions())
    raise AssertionError(f"the host does not come to rest: {waits}")


def _gave_up(host: SimulatedHost, strike: Strike) -> None:
    """Note that the next start of the app will be refused: it was tried as often as may be, and does not run."""
    if not hasattr(host, "journal") or strike.hits:
        return
    for tx in host.journal.transactions():
        running = {copy.release_id for copy in host.world.copies(tx.app)}
        if tx.state is State.SWITCHED and tx.attempts >= MAX_ATTEMPTS and _new_id(tx) not in running:
            strike.hits.append(Hit(tx.app, tx.state, Outcome.FAILED))


@contextmanager
def watched(moment: Moment) -> Iterator[list[Point]]:
    """Give the points of an undisturbed run from `moment`, after the host has come to rest."""
    host = resume(moment)
    harness = Harness(host)
    settle(host)
    yield harness.points


def struck(moment: Moment, point: Point, fault: str) -> tuple[SimulatedHost, Strike]:
    """Return the host after a run from `moment` with that fault, and what the fault hit."""
    host, strike = resume(moment), Strike(point, fault)
    Harness(host, strike)
    settle(host, strike)
    return host, strike
