"""Layer "steps": step x fault x situation, inside one process. Cases are generated from what an undisturbed run passes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fakes.host import SimulatedHost
from torture import oracle
from torture.faults import CALL_FAULTS, CHANGE_FAULTS, Harness, Point, struck, watched
from torture.model import Hit, expect
from torture.rewind import Moment, capture
from torture.samples import MACHINE
from torture.situations import Situation
from towpath_agent.system.files import Files


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one point of one situation."""

    situation: str
    point: Point
    fault: str

    @property
    def name(self) -> str:
        """Return the name by which the case is found again."""
        return f"{self.situation}: {self.fault} at {self.point.kind} {self.point.number} ({self.point.label}) in {self.point.step}"


class Stage:
    """One situation, ready to be played as often as wanted."""

    def __init__(self, situation: Situation, folder: Path, files: Callable[..., Files] = Files) -> None:
        """Bring a host below `folder` to rest, and let the server want something new; `files` are the agent's."""
        self.situation = situation
        for name in ("host", "outside", MACHINE):
            (folder / name).mkdir(parents=True)
        (folder / "outside" / "bystander").write_text("not ours")
        host = SimulatedHost(folder / "host")
        host.files = files
        Harness(host)
        situation.base(host)
        for app, goal in situation.goals.items():
            assert host.serving(app) == goal.old, f"{situation.name} does not begin with {goal.old!r}: {host.log[-3:]}"
        situation.act(host)
        self.moment: Moment = capture(host)

    @cached_property
    def points(self) -> list[Point]:
        """Return what an undisturbed run passes."""
        with watched(self.moment) as points:
            return points

    def cases(self) -> Iterator[Case]:
        """Give every case: each change, and each distinct call by state."""
        seen = set()
        for point in self.points:
            if point.kind == "change":
                yield from (Case(self.situation.name, point, fault) for fault in CHANGE_FAULTS)
            elif (key := (point.label, point.app, point.state)) not in seen:
                seen.add(key)
                yield from (Case(self.situation.name, point, fault) for fault in CALL_FAULTS)

    def play(self, case: Case) -> list[str]:
        """Run a case; return what is wrong afterwards."""
        host, strike = struck(self.moment, case.point, case.fault)
        if not strike.struck:
            return [f"the fault never happened: {case.name}"]
        return [*strike.gaps, *self.judge(host, strike.hits), *oracle.twice(host, self.situation)]

    def judge(self, host: SimulatedHost, hits: list[Hit]) -> list[str]:
        """Return what is wrong with a host at rest whose apps were hit by `hits`."""
        goals = self.situation.goals
        expected = {app: expect(goal, [hit for hit in hits if hit.app == app]) for app, goal in goals.items()}
        return oracle.check(host, self.moment, self.situation, expected)
