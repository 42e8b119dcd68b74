"""Hundreds of hosts sync at the same instant while a rollout goes: its limits hold at every moment, and nobody starves."""

import signal
from pathlib import Path

import pytest

from fakes.crowd import Crowd
from fakes.limits import check_everybody, check_limits, check_waves
from fakes.live_server import eventually
from fakes.server_command import ServerCommand, sharing
from fakes.watched_rows import Bystander
from towpath.v1 import operator_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("crowd")]

HOSTS = 320
PROCESSES = 4
LIMIT = 5
WAVES = ("8", "25%", "100%")
BEAT_S = 0.5
WAIT_S = 420.0


def deploy(server: ServerCommand) -> str:
    """Deploy 1.0.0 by waves; return the rollout's id."""
    server.publish("1.0.0")
    waves = [operator_pb2.Wave(what=what) for what in WAVES]
    return str(server.deploy("1.0.0", max_unavailable=LIMIT, waves=waves).assignment)


def test_limits_hold_while_hundreds_of_hosts_sync_at_the_same_instant(tmp_path: Path) -> None:
    """320 connections, each syncing on the same beat: five in flight at most, every call answered, every host served."""
    with ServerCommand(tmp_path / "fleet") as server:
        token = server.token(HOSTS, role="web")
        with Crowd(
            tmp_path / "crowd",
            hosts=HOSTS,
            processes=PROCESSES,
            ca_pem=server.ca_pem,
            enrolment=server.enrolment,
            addresses=[server.agents],
            token=token,
        ) as crowd:
            rollout = deploy(server)
            with Bystander(server.fleet / "server" / "towpath.db", rollout) as bystander:
                crowd.release(BEAT_S)
                eventually(lambda: server.progress(rollout).state == "done", "it is done", WAIT_S)
            seen = crowd.end()
        assert [one.failures for one in seen.values() if one.failures] == []
        answers = sorted(one.answers for one in seen.values())
        print(
            f"answers: {answers[0]} to {answers[-1]}; longest call {max(one.longest_s for one in seen.values()):.2f}s"
        )
        assert answers[0] * 2 > answers[-1], f"one host was answered {answers[0]} times, another {answers[-1]}"
        check_limits(bystander.moments, seen, LIMIT)
        check_waves(server, rollout, seen, len(WAVES))
        check_everybody(seen, HOSTS)


def test_limits_hold_with_two_servers_on_one_database_one_of_which_dies(tmp_path: Path) -> None:
    """Half of the hosts on each; the one that decides is killed in the middle, the other takes over, no limit is passed."""
    with ServerCommand(tmp_path / "one") as one, sharing(one, tmp_path / "two") as two:
        token = one.token(HOSTS, role="web")
        with Crowd(
            tmp_path / "crowd",
            hosts=HOSTS,
            processes=PROCESSES,
            ca_pem=one.ca_pem,
            enrolment=two.enrolment,
            addresses=[one.agents, two.agents],
            token=token,
        ) as crowd:
            rollout = deploy(one)
            with Bystander(one.fleet / "server" / "towpath.db", rollout) as bystander:
                crowd.release(BEAT_S)
                eventually(lambda: bystander.moments and len(bystander.moments[-1].ended) > 60, "a part", WAIT_S)
                one.end(signal.SIGKILL)
                eventually(lambda: two.progress(rollout).state == "done", "the other brings it to its end", WAIT_S)
            seen = crowd.end()
        assert b"this server decides rollouts now" in (two.folder / "server.log").read_bytes()
        check_limits(bystander.moments, seen, LIMIT)
        check_waves(two, rollout, seen, len(WAVES))
        check_everybody(seen, HOSTS)
