"""Two servers on one database: one decides, and both serve what was decided."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deciding import Heard, SetClock, deciding, deploy, enrol, remember
from fakes.rows import NOW, assignment
from towpath_server.domain.leasing import LIFE_MS
from towpath_server.domain.model import RolloutState
from towpath_server.services import leading, ticking
from towpath_server.services.context import Context
from towpath_server.storage import SqlStorage

Pair = tuple[Context, Context]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    storages = [SqlStorage(tmp_path / "towpath.db") for _ in range(2)]
    one, two = (deciding(storage, SetClock()) for storage in storages)
    enrol(one, 6)
    deploy(one, max_unavailable=1)
    remember(two, assignment())
    yield one, two
    for storage in storages:
        storage.close()


def admitted(context: Context) -> int:
    with context.storage.transaction() as tx:
        return len(tx.admissions("a1"))


def online(*contexts: Context) -> None:
    for context in contexts:
        for row in range(6):
            context.presence.watch(f"id-h{row}")


def at(context: Context, now: int) -> None:
    context.clock.now = now  # type: ignore[attr-defined]


def test_of_two_servers_on_one_database_only_one_decides(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """The second takes over when the first was silent for a whole life; the first, awake again, writes nothing."""
    one, two = pair
    ticking.tick(one, {"dev"})
    online(one, two)
    ticking.tick(two, {"dev"})
    assert admitted(two) == 0, "decided without the lease"
    at(two, NOW + LIFE_MS - 1)
    ticking.tick(two, {"dev"})
    assert admitted(two) == 0
    at(two, NOW + LIFE_MS)
    with caplog.at_level(logging.WARNING):
        ticking.tick(two, {"dev"})
        assert admitted(two) == 1
        assert "decides rollouts now (epoch 2)" in caplog.text
        with two.storage.transaction() as tx:
            tx.put_assignment(assignment(max_unavailable=6))  # the next decision would admit everybody
        at(one, NOW + LIFE_MS)
        ticking.tick(one, {"dev"})
        assert admitted(one) == 1, "a server that lost the lease has decided"
        assert "decides rollouts no more: another one does (epoch 2)" in caplog.text
    ticking.tick(two, {"dev"})
    assert admitted(two) == 6


def test_a_decision_of_one_server_reaches_the_hosts_of_the_other(pair: Pair) -> None:
    """What was remembered for a host is forgotten and the host is told to ask, on whichever server it listens."""
    one, two = pair
    online(one, two)
    leading.follow_others(one)
    leading.follow_others(two)
    with two.storage.transaction() as tx:
        for row in range(6):
            two.cache.entries.pop(f"id-h{row}", None)
            two.entry(tx, f"id-h{row}")
    ticking.tick(one, {"dev"})
    assert leading.follow_others(two) == {"dev"}
    with one.storage.transaction() as tx:
        moved = set(tx.admissions("a1"))
    assert isinstance(two.hints, Heard)
    assert two.hints.hosts == moved
    assert leading.follow_others(two) == set(), "nobody wrote meanwhile"


def test_what_one_server_announces_reaches_the_hosts_of_the_other_with_their_next_sync(pair: Pair) -> None:
    """Nobody is hinted, and nothing is forgotten where nothing of it changed."""
    one, two = pair

    def told(context: Context) -> list[str]:
        with context.storage.transaction() as tx:
            entry = context.entry(tx, "id-h1")
        assert entry is not None
        return [each.version for each in entry.prefetch]

    leading.follow_others(two)
    assert told(two) == []
    with one.storage.transaction() as tx:
        tx.put_assignment(assignment(prefetch=True))
    leading.follow_others(two)
    assert told(two) == ["1.0.0"]
    assert isinstance(two.hints, Heard)
    assert two.hints.hosts == set()
    before = two.cache.entries["id-h1"]
    with one.storage.transaction() as tx:
        tx.put_assignment(assignment(prefetch=True, reason="other words"))
    leading.follow_others(two)
    assert two.cache.entries["id-h1"] is before
    with one.storage.transaction() as tx:
        tx.put_assignment(assignment(prefetch=True, state=RolloutState.HALTED))
    leading.follow_others(two)
    assert told(two) == []


def test_a_server_that_ends_lets_the_other_decide_at_once(pair: Pair) -> None:
    """No waiting for a lease that was given back."""
    one, two = pair
    online(two)
    ticking.tick(one, {"dev"})
    leading.give_back(one)
    leading.give_back(two)
    ticking.tick(two, {"dev"})
    assert admitted(two) == 1
