"""A simulated host that can be taken back: everything it was at one moment, its disk, its apps, its server, its time.

A case costs what it does itself, not what led there. What is shared between the cases of one moment and may only grow:
the publisher's repository and the server's objects.
"""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fakes.clock import FakeClock
from fakes.drivers import World
from fakes.host import SimulatedHost
from fakes.server import FakeServer
from torture import trees


@dataclass(frozen=True)
class Moment:
    """One host as it was. `tree` is all below the folder that holds the agent's folder and what is outside of it."""

    tree: trees.Tree
    host: SimulatedHost
    world: World
    clock: tuple[int, float]
    boots: int
    started: dict[str, float]  # when each app was started last: its age is what its probes go by
    server: dict[str, Any] = field(default_factory=dict)

    def visible(self, *, rebooted: bool = False) -> str:
        """Return, as text to compare, all that an agent which starts here can see beside the disk."""
        world = copy.deepcopy(self.world)
        if rebooted:
            world.reboot()
        runs = (sorted(world.apps.items()), sorted(world.proxy.items()), sorted(world.unit_flaws.items()))
        server = (
            sorted(self.server["events"]),
            sorted(self.server["apps"].items()),
            self.server["known_state_revision"],
        )
        return repr((runs, server, self.clock, self.boots, sorted(self.started.items())))


def capture(host: SimulatedHost) -> Moment:
    """Return the host as it is now."""
    return Moment(tree=trees.take(host.folder.parent), host=host, world=copy.deepcopy(host.world), **_around(host))


def _around(host: SimulatedHost) -> dict[str, Any]:
    return {
        "boots": host.boots,
        "started": dict(host._started),
        "clock": (host.clock.now_unix_ms(), host.clock.monotonic()),
        "server": {
            "events": dict(host.server.events),
            "apps": dict(host.server.apps),
            "known_state_revision": host.server.known_state_revision,
        },
    }


def resume(moment: Moment, *, tree: trees.Tree | None = None, rebooted: bool = False) -> SimulatedHost:
    """Return a host as it was at `moment`, or with that `tree` on its disk; no agent runs on it yet."""
    before = moment.host
    if hasattr(before, "journal"):
        before.journal.close()
    host = copy.copy(before)
    host.clock = FakeClock(moment.clock[0])
    host.clock._monotonic = moment.clock[1]
    host.boots = moment.boots  # ids of events are counted by it
    host._started = dict(moment.started)
    host.world = copy.deepcopy(moment.world)
    if rebooted:
        host.world.reboot()
    state = {name: copy.copy(value) for name, value in moment.server.items()}
    host.server = FakeServer(
        metadata=before.server.metadata,
        targets=before.server.targets,
        carried=before.server.carried,
        answer=host._answer,
        **state,
    )
    host.log, host.steps, host.kill_at, host.changes = [], [], None, 0
    host.extra_change = _nothing
    host.__dict__.pop("agent", None)
    host.__dict__.pop("journal", None)
    trees.put(host.folder.parent, moment.tree if tree is None else tree)
    return host


def _nothing(_verb: str, _path: Path) -> None:
    """Let every change pass."""


def quick(moment: Moment, host: SimulatedHost) -> Moment:
    """Return `moment`'s disk with the world, server and time that `host` has now: cheap, for each step of a recording."""
    return replace(moment, world=copy.deepcopy(host.world), **_around(host))
