"""Limits hold however many hosts report at the same instant: reports on many connections, while ticks decide."""

import threading
import time
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy
from fakes.rows import OLD, host, reported
from towpath.budgets import parse_budgets
from towpath.status import State
from towpath.waves import parse_waves
from towpath_server.domain.model import ReportedApp, RolloutState
from towpath_server.services import syncing, ticking
from towpath_server.storage import SqlStorage

HOSTS, THREADS, MOST, DEADLINE_S = 24, 6, 4, 120.0


def live(path: Path, mine: list[str], over: threading.Event) -> None:
    """Be several hosts, as another server process hears them: take what was admitted, prove it, say both."""
    storage = SqlStorage(path)
    context = deciding(storage, SetClock())
    said = dict.fromkeys(mine, 0)
    while not over.is_set():
        for host_id in mine:
            with storage.transaction() as tx:
                told = "a1" in tx.admissions_of([host_id])[host_id]
            if told and said[host_id] < 2:
                said[host_id] += 1
                state = reported(State.WATCHING if said[host_id] == 1 else State.CONFIRMED)
                syncing.report(context, host_id, [], [state], said[host_id])
        over.wait(0.01)
    storage.close()


@pytest.mark.timeout(300)
def test_limits_hold_under_concurrent_syncs(tmp_path: Path) -> None:
    """After every tick no more are on their way than allowed, nor more of one rack, and in the end all have moved."""
    path = tmp_path / "towpath.db"
    storage = SqlStorage(path)
    context = deciding(storage, SetClock())
    rows = [host(f"h{n}", labels={"role": "web", "rack": f"r{n % 6}"}) for n in range(HOSTS)]
    with storage.transaction() as tx:
        for row in rows:
            tx.add_host(row)
            tx.replace_app_states(row.id, [ReportedApp(row.id, OLD, 0)])
    for row in rows:
        context.presence.watch(row.id)
    deploy(context, max_unavailable=MOST, waves=parse_waves("1,50%,100%"), budgets=parse_budgets(["rack=1"]))
    over = threading.Event()
    threads = [
        threading.Thread(target=live, args=(path, [row.id for row in rows[n::THREADS]], over)) for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    most, deadline = 0, time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline:
            over.wait(0.02)  # a server that writes without a pause would leave the others no turn
            ticking.tick(context, {"dev"})
            with storage.transaction() as tx:
                ended = {one.host_id for one in tx.app_states() if one.state == reported()}
                moving = set(tx.admissions("a1")) - ended
                (one,) = tx.assignments()
            racks = [row.labels["rack"] for row in rows if row.id in moving]
            assert len(moving) <= MOST
            assert len(set(racks)) == len(racks), "two of one rack"
            most = max(most, len(moving))
            if one.state is RolloutState.DONE:
                break
    finally:
        over.set()
        for thread in threads:
            thread.join()
        storage.close()
    assert one.state is RolloutState.DONE
    assert most > 1
