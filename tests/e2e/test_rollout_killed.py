"""The server is killed (-9) again and again while a rollout goes by waves: it resumes where it was, within its limits.

`tests/unit/server_services/test_kills.py` kills at every commit, in memory. Here it is the real process: its database on
disk, its lease, its start, and hosts that dial again.
"""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.crowd import Crowd
from fakes.limits import by_wave, check_everybody, check_limits, check_waves, most_at_once, own_acts
from fakes.live_server import eventually
from fakes.server_command import ServerCommand
from fakes.watched_rows import Bystander, Row, look, reading
from towpath.v1 import operator_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.xdist_group("crowd")]

HOSTS = 24
LIMIT = 3
SOAK_S = 1.5
WAVES = [
    operator_pb2.Wave(what="2", soak_ms=round(SOAK_S * 1000)),
    operator_pb2.Wave(what="25%"),
    operator_pb2.Wave(what="60%"),
    operator_pb2.Wave(what="100%"),
]
MEMBERS = (2, 6, 15, HOSTS)  # hosts in each wave and those before it
BEAT_S = 0.2
WAIT_S = 240.0


class Mortal:
    """A server that is killed and started again on the same folder and ports, and hosts that go on all the while."""

    def __init__(self, folder: Path, server: ServerCommand, crowd: Crowd) -> None:
        self.server, self.crowd, self.folder = server, crowd, folder
        self.database = server.fleet / "server" / "towpath.db"
        self.kills: list[tuple[float, int]] = []  # when, and the wave that was open then

    def kill(self, rollout: str) -> None:
        """End the process without a word and start it again; wait for nothing."""
        self.server.end(signal.SIGKILL)
        at = time.monotonic()
        self.server.stop()
        self.kills.append((at, self.row(rollout).wave))  # nobody writes while it is dead
        self.server.spawn()

    def deploy(self, version: str, **fields: object) -> str:
        """Deploy by waves; return the rollout's id."""
        self.server.publish(version)
        return str(self.server.deploy(version, max_unavailable=LIMIT, waves=WAVES, **fields).assignment)

    def row(self, rollout: str) -> Row:
        """Return the rollout as it is committed now."""
        connection = reading(self.database)
        try:
            return look(connection, rollout)
        finally:
            connection.close()


@contextmanager
def mortal(folder: Path, fails: dict[str, str] | None = None, seed: int = 0) -> Iterator[Mortal]:
    """Start a server and its hosts, who sync from now on."""
    with ServerCommand(folder / "fleet") as server:
        server.stay()
        with Crowd(
            folder / "crowd",
            hosts=HOSTS,
            processes=1,
            ca_pem=server.ca_pem,
            enrolment=server.enrolment,
            addresses=[server.agents],
            token=server.token(HOSTS, role="web"),
            seed=seed,
            fails=fails,
        ) as crowd:
            crowd.release(BEAT_S)
            yield Mortal(folder, server, crowd)


def check_whole(case: Mortal, rollout: str, moments: list[Row]) -> None:
    """Check waves, limits and hosts; time in which the server was dead is no soak."""
    seen = case.crowd.end()
    print(f"{len(case.kills)} kills")
    check_limits(moments, seen, LIMIT)
    check_waves(case.server, rollout, seen, len(WAVES), SOAK_S)
    check_everybody(seen, HOSTS)
    opened = min(one.told[0][0] for one in by_wave(case.server, rollout, seen)[1])
    before = [at for at, wave in case.kills if wave == 0]
    assert not before or opened >= max(before) + SOAK_S


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_killed_at_random_moments_skips_and_repeats_no_wave(tmp_path: Path, seed: int) -> None:
    """At once or up to three seconds after it was ready, until the rollout is done."""
    chance = random.Random(seed)
    with mortal(tmp_path, seed=seed) as case:
        rollout = case.deploy("1.0.0")
        with Bystander(case.database, rollout) as bystander:
            give_up = time.monotonic() + WAIT_S
            while case.row(rollout).state not in ("done", "reverted", "halted"):
                assert time.monotonic() < give_up, bystander.moments[-1]
                time.sleep(chance.choice([chance.uniform(0, 0.3), chance.uniform(0.3, 3)]))  # what is varied
                case.kill(rollout)
                case.server.ready()
        check_whole(case, rollout, bystander.moments)


def step(row: Row) -> tuple[object, ...]:
    """Return what of a moment is a step of the rollout: its state and wave, and every third host that moves or ends."""
    return (row.state, row.wave, row.finished, len(row.admitted) // 3, len(row.ended) // 3)


def kill_at_each_step(case: Mortal, rollout: str) -> list[tuple[object, ...]]:
    """Kill the server as soon as the rows show a step that was not seen yet, until there are none; return the steps."""
    connection = reading(case.database)
    known: list[tuple[object, ...]] = []
    try:

        def another() -> bool:
            now = look(connection, rollout)
            if step(now) in known:
                return False
            known.append(step(now))
            return True

        while known[-1:] == [] or known[-1][0] not in ("done", "reverted"):
            eventually(another, f"a step after {known[-1:]}", WAIT_S, pause_s=0.001)
            case.kill(rollout)
    finally:
        connection.close()
    case.server.ready()
    print(f"killed after {known}")
    return known


def test_a_server_killed_at_each_step_of_a_rollout_skips_and_repeats_no_wave(tmp_path: Path) -> None:
    """A wave opened, hosts let in, hosts proven, a soak begun, the end: killed right after each was committed."""
    with mortal(tmp_path) as case:
        rollout = case.deploy("1.0.0")
        with Bystander(case.database, rollout) as bystander:
            known = kill_at_each_step(case, rollout)
        assert {(state, wave) for state, wave, *_ in known} >= {("rolling", number) for number in range(len(WAVES))}
        assert known[-1][0] == "done"
        check_whole(case, rollout, bystander.moments)


def test_a_server_killed_at_each_step_takes_a_bad_release_back_and_moves_nobody_else(tmp_path: Path) -> None:
    """The breach is decided once, whoever was let in goes back within the limit, and the waves behind stay closed."""
    with mortal(tmp_path, {f"c{number:03}": "2.0.0" for number in range(HOSTS) if number % 3 == 0}) as case:
        case.server.publish("1.0.0")
        before = case.server.deploy("1.0.0", max_unavailable=HOSTS).assignment
        eventually(lambda: case.server.progress(before).state == "done", "1.0.0 is everywhere", WAIT_S)
        rollout = case.deploy("2.0.0", on_breach="revert")
        with Bystander(case.database, rollout) as bystander:
            known = kill_at_each_step(case, rollout)
        seen = case.crowd.end()
        assert known[-1][0] == "reverted"
        acts = own_acts(case.server, rollout)
        assert acts[-2:] == ["rollout.reverting", "rollout.reverted"]
        assert acts[:-2] == [f"wave {number}" for number in range(2, len(acts))]
        tried = [one for one in seen.values() if one.in_flight("2.0.0") is not None]
        # Which hosts go first is a matter of chance, and so is how far it comes: at most to the end of the open waves.
        assert 0 < len(tried) <= MEMBERS[len(acts) - 2]
        # Not what they were told last: a host that went back by itself need not have asked again by now.
        assert {one.runs for one in seen.values()} == {"1.0.0"}
        assert most_at_once(tried, "2.0.0") <= LIMIT
        assert max(row.in_flight for row in bystander.moments if row.state == "rolling") <= LIMIT
