"""Services and probes in memory, for scenarios of the whole agent. They pass the conformance suites of the real ones.

A `World` is the host: what runs on it goes on when an agent is killed and a new driver object takes over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from towpath.handover import SLOTS
from towpath.parameters import Value
from towpath_agent.errors import ServiceError
from towpath_agent.instance import Instance, ServiceState
from towpath_agent.probes.base import ProbeContext, ProbeResult, result
from towpath_agent.services.base import STOPPED


def place(app: str, slot: int | None) -> str:
    """Return the key in `World.apps`: the app, and the slot of a release with a handover."""
    return app if slot is None else f"{app} {slot}"


@dataclass
class Running:
    """What was started for an app."""

    release_id: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    pid: int
    starts: int = 1
    alive: bool = True
    rss_bytes: int = 10 * 2**20

    def is_of(self, instance: Instance) -> bool:
        """Return whether this is that release with that command and environment."""
        wanted = (instance.release_id, instance.command, dict(instance.env))
        return (self.release_id, self.command, dict(self.env)) == wanted


@dataclass
class World:
    """The host on which fake apps run. `log` has every start and stop in order."""

    apps: dict[str, Running] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    next_pid: int = 100
    unit_flaws: dict[str, str] = field(default_factory=dict)  # app -> what somebody did to its unit
    proxy: dict[str, str] = field(default_factory=dict)  # app -> where its requests go, a key of `apps`

    def running(self, app: str) -> str | None:
        """Return the ids of the releases that run of an app, or None; mostly there is one."""
        return ", ".join(sorted(it.release_id for it in self.copies(app))) or None

    def copies(self, app: str) -> list[Running]:
        """Return all that runs of an app."""
        return [it for name, it in self.apps.items() if name.partition(" ")[0] == app and it.alive]

    def behind(self, app: str) -> list[str]:
        """Return the id of the release to which the proxy sends the requests of an app; [] where none answers."""
        copy = self.apps.get(self.proxy.get(app, ""))
        return [copy.release_id] if copy is not None and copy.alive else []

    def crash(self, app: str, slot: int | None = None) -> None:
        """Let the app end by itself."""
        self.apps[place(app, slot)].alive = False

    def reboot(self) -> None:
        """Let everything end; what was counted starts anew."""
        self.apps.clear()


class FakeService:
    """A service whose apps run in a World. `before` may raise to let a call fail or the agent die in it."""

    def __init__(self, world: World, before: Callable[[str, Instance], None] | None = None) -> None:
        """Run apps in `world`; call `before(verb, instance)` ahead of each start and stop."""
        self.world = world
        self._before = before or (lambda _verb, _instance: None)

    def start(self, instance: Instance) -> bool:
        """Start, or adopt exactly this."""
        self._before("start", instance)
        self.world.unit_flaws.pop(instance.app, None)
        for slot in self._rivals(instance):
            here = self.world.apps.get(place(instance.app, slot))
            if here is not None and here.alive:
                if slot == instance.slot and here.is_of(instance):
                    return False
                raise ServiceError(f"cannot start {instance.app} {instance.release_id}: {here.release_id} still runs")
        here = self.world.apps.get(place(instance.app, instance.slot))
        starts = here.starts + 1 if here is not None and here.is_of(instance) else 1
        self.world.next_pid += 1
        self.world.apps[place(instance.app, instance.slot)] = Running(
            instance.release_id, instance.command, dict(instance.env), self.world.next_pid, starts
        )
        self.world.log.append(("start", instance.release_id))
        return True

    @staticmethod
    def _rivals(instance: Instance) -> tuple[int | None, ...]:
        return (None, *range(SLOTS)) if instance.slot is None else (instance.slot, None)

    def stop(self, instance: Instance) -> None:
        """End whatever runs of the app, in its slot or without one."""
        self._before("stop", instance)
        for slot in self._rivals(instance):
            here = self.world.apps.pop(place(instance.app, slot), None)
            if here is not None and here.alive:
                self.world.log.append(("stop", here.release_id))

    def drift(self, instance: Instance) -> str:
        """Return what a test did to the unit."""
        return self.world.unit_flaws.get(instance.app, "")

    def state(self, instance: Instance) -> ServiceState:
        """Return what runs of exactly this."""
        here = self.world.apps.get(place(instance.app, instance.slot))
        if here is None or not here.is_of(instance):
            return STOPPED
        if not here.alive:
            return replace(STOPPED, restarts=here.starts - 1)
        return ServiceState(running=True, pid=here.pid, restarts=here.starts - 1, rss_bytes=here.rss_bytes)

    def evidence(self, instance: Instance) -> str:
        """Know nothing."""
        return ""


class FakeProbe:
    """A probe that `judge` answers: True or False, or a text, which fails with that evidence."""

    def __init__(self, judge: Callable[[Mapping[str, Value], ProbeContext], bool | str]) -> None:
        """Ask `judge(options, context)` at each check."""
        self._judge = judge
        self.checked: list[str] = []

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Check once."""
        self.checked.append(context.instance.release_id)
        answer = self._judge(options, context)
        if isinstance(answer, str):
            return result(False, answer)
        return result(answer, "passes" if answer else "fails")
