"""The server dies at any commit of a rollout and starts again: no wave is skipped or repeated, no limit is passed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from fakes.deciding import SetClock, deciding, enrol, remember
from fakes.memory_server import MemoryStorage
from fakes.rows import assignment, reported
from towpath.status import State
from towpath.waves import parse_waves
from towpath_server.domain.model import RolloutState
from towpath_server.ports import Storage, Transaction
from towpath_server.services import leading, syncing, ticking
from towpath_server.services.context import Context

HOSTS, LIMIT = 5, 2
STEPS = [reported(State.WATCHING), reported()]


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Dying:
    """A storage whose process dies at its `commits`-th commit, just before it or just after."""

    inner: Storage
    commits: int
    after: bool

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self.commits -= 1
        with self.inner.transaction() as tx:
            yield tx
            if not self.commits and not self.after:
                raise Killed
        if not self.commits:
            raise Killed

    def close(self) -> None:
        self.inner.close()


class World:
    """Hosts that go on whatever the server does, and what was seen of the rollout from outside."""

    def __init__(self) -> None:
        self.rows = cast("Storage", MemoryStorage())
        self.clock = SetClock()
        self.revision = 0
        self.done: dict[str, int] = {}
        self.waves: list[int] = []
        self.context = self.start(Dying(self.rows, -1, after=True))

    def start(self, storage: Dying) -> Context:
        """Return a server that remembers nothing but the rows."""
        context = deciding(storage, self.clock)
        context.claim = replace(context.claim, seat="the folder's lock")
        remember(context, assignment())
        for number in range(HOSTS):
            context.presence.watch(f"id-h{number}")
        return context

    def live(self) -> bool:
        """Let every host that was let in say its next word, and the server tick; True when all is done."""
        with self.rows.transaction() as tx:
            (one,), admitted = tx.assignments(), tx.admissions("a1")
        self.waves.append(one.wave)
        flying = [host for host in admitted if self.done.get(host, 0) < len(STEPS)]
        assert len(flying) <= LIMIT, "more in flight than allowed"
        assert len(admitted) <= {0: 1, 1: 3, 2: HOSTS}[one.wave], "moved beyond its wave's gate"
        for host in flying:
            self.revision += 1
            step = self.done.get(host, 0)
            syncing.report(self.context, host, [], [STEPS[step]], self.revision)
            self.done[host] = step + 1
        self.clock.now += 1_000
        leading.follow_others(self.context)
        ticking.tick(self.context, {"dev"})
        return one.state is RolloutState.DONE


def play(kill_at: int, *, after: bool) -> tuple[bool, list[int]]:
    """Play a rollout in which the server dies once; return whether it did, and the waves as they were seen."""
    world = World()
    enrol(world.context, HOSTS)
    with world.rows.transaction() as tx:
        tx.add_assignment(assignment(waves=parse_waves("1,3,100%"), max_unavailable=LIMIT))
    world.context = world.start(Dying(world.rows, kill_at, after=after))
    died = False
    for _ in range(50):
        try:
            if world.live():
                return died, world.waves
        except Killed:
            died = True
            world.context = world.start(Dying(world.rows, -1, after=True))
    raise AssertionError("never done")


def test_a_server_killed_at_any_commit_neither_skips_nor_repeats_a_wave() -> None:
    """Killed before and after each commit there is, one after the other: waves are 0, 1, 2 in this order."""
    kill_at, alive = 0, 0
    while not alive:
        kill_at += 1
        for after in (False, True):
            died, waves = play(kill_at, after=after)
            assert waves == sorted(waves), f"a wave was closed again, killed at commit {kill_at}"
            assert set(waves) == {0, 1, 2}, f"a wave was skipped, killed at commit {kill_at}"
            alive += not died
    assert kill_at > 20, "hardly a commit was there to be killed at"
