"""Two servers on one database and one Prometheus: who asks, and what the other one knows of the answers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy, enrol, remember
from fakes.rows import NOW, assignment
from towpath.metrics import Metric
from towpath.waves import parse_waves
from towpath_server.domain.leasing import LIFE_MS
from towpath_server.domain.metric import Answer
from towpath_server.domain.model import RolloutState
from towpath_server.reconciler import ask_metrics
from towpath_server.services import leading, rollouts, ticking
from towpath_server.services.context import Context
from towpath_server.services.thread import StorageThread
from towpath_server.storage import SqlStorage

Pair = tuple[Context, Context]
HOUR_MS = 3_600_000
ERRORS = Metric("errors", "up", below=True, good=1.0, bad=2.0, patience_ms=60_000)


class Counted:
    """A Prometheus that says what it is told to and counts the questions."""

    def __init__(self, value: float) -> None:
        self.answer = Answer((value,))
        self.asked = 0

    def ask(self, _query: str) -> Answer:
        self.asked += 1
        return self.answer


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Return two servers on one database; a wave with a metric has finished, the first server decides."""
    storages = [SqlStorage(tmp_path / "towpath.db") for _ in range(2)]
    one, two = (deciding(storage, SetClock()) for storage in storages)
    enrol(one, 3)
    asks = {"waves": parse_waves("1:metric=errors,100%"), "metrics": (ERRORS,), "wave_done_unix_ms": NOW}
    deploy(one, state=RolloutState.ROLLING, **asks)
    remember(two, assignment())
    leading.follow_others(one)
    leading.follow_others(two)
    yield one, two
    for storage in storages:
        storage.close()


def ask(context: Context, metrics: Counted) -> None:
    thread = StorageThread()
    try:
        asyncio.run(ask_metrics(context, thread, metrics))
    finally:
        thread.close()


def said(context: Context) -> str:
    with context.storage.transaction() as tx:
        place = rollouts.load(context, tx, "dev")
        return rollouts.picture(context, tx, place, place.assignments[0]).waves[0].checks[-1]


def at(now: int, *contexts: Context) -> None:
    for context in contexts:
        context.clock.now = now  # type: ignore[attr-defined]


def test_only_the_server_that_decides_asks_prometheus(pair: Pair) -> None:
    """The other one asks nothing, and says to people that another server does instead of calling it unanswered."""
    one, two = pair
    first, second = Counted(0.5), Counted(0.5)
    ask(one, first)
    ask(two, second)
    assert (first.asked, second.asked) == (1, 0)
    assert said(one) == "metric errors is good: it is 0.5, asked for < 1..2"
    assert "another server on this database decides" in said(two)


def test_a_server_that_takes_over_asks_anew_and_halts_nothing_that_it_had_no_time_to_ask(pair: Pair) -> None:
    """The wave finished an hour ago and the newcomer has heard no answer: patience counts from when it took over."""
    one, two = pair
    ask(one, Counted(0.5))
    at(NOW + HOUR_MS, one, two)
    leading.follow_others(one)
    leading.follow_others(two)
    at(NOW + HOUR_MS + LIFE_MS, two)
    ticking.tick(two, {"dev"})
    with two.storage.transaction() as tx:
        assert tx.assignments()[0].state is RolloutState.ROLLING
    metrics = Counted(1.5)
    ask(two, metrics)
    ask(one, Counted(0.5))
    assert metrics.asked == 1
    assert "it is 1.5" in said(two)
    leading.follow_others(one)
    asked_late = Counted(0.5)
    ask(one, asked_late)
    assert asked_late.asked == 0, "a server that lost the decision still asks"
