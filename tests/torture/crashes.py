"""Layer "disk": a run is recorded once, then the host wakes up on every disk that a crash may have left of it."""

import random
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from fakes.host import SimulatedHost
from torture import oracle
from torture.faults import Harness, settle
from torture.losses import Crash, states
from torture.matrix import Stage
from torture.model import Hit
from torture.recorder import Recorder
from torture.rewind import resume
from towpath.status import State
from towpath_agent.engine.table import Outcome
from towpath_agent.journal import open_readonly

if TYPE_CHECKING:
    from pathlib import Path


class Crashes:
    """All crashes of one situation."""

    def __init__(self, stage: Stage) -> None:
        """Record one undisturbed run."""
        self.stage = stage
        self.recorder = Recorder(stage.moment)
        self.equal = 0  # crashes that left what another left

    def cases(self, dice: random.Random | None = None, draws: int = 0) -> Iterator[Crash]:
        """Give every crash that leaves another host than those before."""
        return states(self.recorder, dice, draws, self._equal)

    def _equal(self) -> None:
        self.equal += 1

    def name(self, crash: Crash) -> str:
        """Return the name by which the case is found again."""
        return (
            f"{self.stage.situation.name}: crash after effect {crash.number}, at {crash.step.label} "
            f"in {crash.step.state or 'between actions'}, lost: {crash.loss}"
        )

    def play(self, crash: Crash) -> list[str]:
        """Wake up after a crash; return what is wrong in the end."""
        host = resume(crash.step.around, tree=crash.tree, rebooted=crash.power)
        hits = _lost(host) if crash.power else []
        Harness(host)
        settle(host)
        return [*self.stage.judge(host, hits), *oracle.twice(host, self.stage.situation)]


def _lost(host: SimulatedHost) -> list[Hit]:
    """Return what a reboot means for the model: an app that was being watched is gone."""
    path: Path = host.folder / "state.db"
    if not path.exists():
        return []
    with closing(open_readonly(path)) as journal:
        return [
            Hit(tx.app, tx.state, Outcome.LOST)
            for tx in journal.transactions()
            if tx.state is State.WATCHING and tx.wish.sha256
        ]
