"""The server dies (-9) while it works; nothing that it promised is lost, and the fleet converges."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest
from bench import apps, calls
from examples.loopback import Fleet, ask
from examples.processes import FleetError, free_ports, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HOSTS = ("h1", "h2", "h3")
KILLS = 4
CONVERGE_S = 60.0


@contextlib.contextmanager
def sync_load(fleet: Fleet) -> Iterator[list[int]]:
    """Sync as every host, without a pause, whether the server is there or not; yields the count of answers."""
    stop = threading.Event()
    answers = [0]

    def load(name: str) -> None:
        channel = calls.host(fleet, name).channel()
        sync = calls.unary(channel, calls.SYNC)
        while not stop.is_set():
            try:
                sync(calls.sync_request(), timeout=5)
                answers[0] += 1
            except grpc.RpcError:
                stop.wait(0.05)
        channel.close()

    with ThreadPoolExecutor(len(HOSTS)) as pool:
        for name in HOSTS:
            pool.submit(load, name)
        try:
            yield answers
        finally:
            stop.set()


def test_a_server_killed_under_load_and_restarted_loses_nothing_and_the_fleet_converges(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Incident 11, server restarted under load: publishes and deploys that were acknowledged stand, reports arrive once, and every host ends on the newest."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ports = dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))
    fleet.start_server(fleet.fixed_addresses())
    fleet.add_hosts(list(HOSTS))
    for host, port in ports.items():
        fleet.towpath("host", "set", host, f"hello.port={port}")
    published, stop = [], threading.Event()

    def release() -> None:
        """Publish and deploy one version after another; a server that is away just then is no error here."""
        number = 0
        while not stop.is_set():
            number += 1
            version = f"1.0.{number}"
            release_file = apps.hello(tmp_path / "sources" / version, version)
            words = ("hello", version, "--environment", "dev", "--select", "role=web", "--max-unavailable", "3")
            if fleet.towpath("release", "publish", str(release_file), "--version", version, code=None).code == 0:
                published.append(version)
                fleet.towpath("deploy", *words, code=None)

    with sync_load(fleet) as answers:
        releasing = threading.Thread(target=release)
        releasing.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(1.0, 4.0))  # the moment of the kill is what is varied
                assert fleet.server is not None
                fleet.server.kill()
                fleet.start_server()
        finally:
            stop.set()
            releasing.join()
        answered = answers[0]
        wait_for("hosts sync again after the last kill", lambda: answers[0] > answered, CONVERGE_S, fleet.logs)

    known = {row["version"] for row in fleet.towpath("release", "list", "hello", "-o", "json").json()}
    assert published, fleet.logs()
    assert set(published) <= known
    last = published[-1]
    fleet.deploy("hello", last, "--max-unavailable", "3", timeout_s=CONVERGE_S)
    assert {host: row["current"] for host, row in fleet.status().items()} == dict.fromkeys(HOSTS, last)
    for host, port in ports.items():
        answer = ask(port)
        assert answer is not None, host
        assert answer.headers["X-Hello-Version"] == last
        wait_for(f"all reports of {host} arrived", partial(_all_arrived, fleet, host), CONVERGE_S, fleet.logs)


def _all_arrived(fleet: Fleet, host: str) -> bool:
    """Return whether the server's events of the host are exactly the host's own."""
    try:
        server = [event["id"] for event in fleet.towpath("host", "show", host, "-o", "json").json()["events"]]
    except FleetError:
        return False
    own = [event["id"] for event in fleet.history(host)]
    assert len(server) == len(set(server)), "an event was taken twice"
    newest = min(len(server), len(own), 20)
    return set(own[-newest:]) == set(server[-newest:])
