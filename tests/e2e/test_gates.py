"""Real processes: a release goes from staging to production by order, by a metric of a real Prometheus and by two people."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import apps
from examples.loopback import Fleet, ask
from examples.processes import free_ports, wait_for

from fakes.prometheus import RealPrometheus, needs_prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), needs_prometheus]

STAGING = ["s1"]
PRODUCTION = ["p1", "p2", "p3"]
WAIT_S = 120.0
TO_PRODUCTION = ("promote", "hello", "--from", "staging", "--to", "production", "--max-unavailable", "3")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[RealPrometheus]:
    """Return a running Prometheus that scrapes one gauge."""
    with RealPrometheus(tmp_path / "prometheus") as running:
        yield running


def begin(fleet: Fleet, tmp_path: Path, url: str) -> dict[str, int]:
    """Start a server that knows Prometheus, hosts of two environments, and release hello 1.0.0; return their ports."""
    with (fleet.server_folder / "server.toml").open("a") as settings:
        settings.write(f'prometheus_url = "{url}"\n')
    fleet.start_server()
    for environment, names in (("staging", STAGING), ("production", PRODUCTION)):
        token = fleet.token(environment=environment, uses=len(names))
        for name in names:
            fleet.enrol(name, token)
            fleet.start_agent(name)
    hosts = [*STAGING, *PRODUCTION]
    fleet.wait_online(hosts)
    ports = dict(zip(hosts, free_ports(len(hosts)), strict=True))
    # s1 and p1 by their environment and their label, the others by themselves.
    fleet.towpath("parameter", "set", "--environment", "staging", f"hello.port={ports['s1']}")
    fleet.towpath("host", "set", "p1", "--label", "wave=canary")
    label = ("--label", "wave=canary")
    fleet.towpath("parameter", "set", "--environment", "production", *label, f"hello.port={ports['p1']}")
    for name in PRODUCTION[1:]:
        fleet.towpath("host", "set", name, f"hello.port={ports[name]}")
    for version in ("1.0.0", "1.1.0"):
        fleet.publish(apps.hello(tmp_path / "sources" / version, version), version)
    return ports


def serving(ports: dict[str, int], names: list[str]) -> list[str]:
    """Return what these hosts' apps themselves say that they are."""
    answers = [ask(ports[name]) for name in names]
    return [answer.headers["X-Hello-Version"] if answer else "" for answer in answers]


def newest(fleet: Fleet) -> dict[str, Any]:
    """Return the newest rollout in production."""
    rows = fleet.towpath("rollout", "list", "hello", "--environment", "production", "-o", "json").json()
    return dict(rows[0])


def until(fleet: Fleet, what: str, look: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the newest rollout in production once `look` likes it."""
    return wait_for(what, lambda: now if look(now := newest(fleet)) else None, WAIT_S, fleet.logs)


def test_a_release_passes_order_metric_and_people_and_a_bad_metric_takes_the_next_one_back(
    fleet: Fleet, tmp_path: Path, prometheus: RealPrometheus
) -> None:
    """By what the apps serve: nobody in production moves early, the second release goes back though its hosts are well."""
    ports = begin(fleet, tmp_path, prometheus.url)
    after_staging = ("environment", "set", "production", "--after", "staging", "--healthy-for")
    fleet.towpath(*after_staging, "60m")
    bob, carol = tmp_path / "bob", tmp_path / "carol"
    for folder in (bob, carol):
        fleet.towpath("operator", "create", folder.name, str(folder))

    stage = ("deploy", "hello", "1.0.0", "--environment", "staging", "--all-hosts", "--wait", "--timeout", "90s")
    fleet.towpath(*stage, timeout_s=WAIT_S)
    prometheus.set(0.0)
    gates = ("--waves", "canary:2s+metric=errors+approve=2,100%", "--metric", "errors=max(errors) < 0.01..0.05")
    fleet.towpath(*TO_PRODUCTION, *gates)
    assert "it has to be healthy in staging for 60m first" in newest(fleet)["reason"]
    assert serving(ports, ["s1", *PRODUCTION]) == ["1.0.0", "", "", ""]
    fleet.towpath(*after_staging, "1s")
    waiting = until(fleet, "it waits for people", lambda now: now["waves"][0]["waits"].startswith("needs 2 of 2"))
    assert serving(ports, PRODUCTION) == ["1.0.0", "", ""]
    approve = ("rollout", "approve", waiting["assignment"])
    assert "who made a rollout does not approve it" in fleet.towpath(*approve, code=1).err
    for folder in (bob, carol):
        fleet.towpath(*approve, "--dir", str(folder))
    fleet.towpath("rollout", "watch", waiting["assignment"], "--timeout", "90s", timeout_s=WAIT_S)
    assert serving(ports, PRODUCTION) == ["1.0.0"] * 3
    assert "(from label wave=canary)" in fleet.towpath("host", "show", "p1").out
    assert "(from environment staging)" in fleet.towpath("why", "s1", "hello").out

    fleet.towpath(*(word.replace("1.0.0", "1.1.0") for word in stage), timeout_s=WAIT_S)
    gates = ("--waves", "canary:60s+metric=errors,100%", *gates[2:], "--on-breach", "revert")
    fleet.towpath(*TO_PRODUCTION, *gates)
    until(fleet, "the canary soaks", lambda now: now["waves"][0]["state"] == "soaking")
    assert serving(ports, PRODUCTION) == ["1.1.0", "1.0.0", "1.0.0"]
    prometheus.set(0.5)
    back = until(fleet, "it is taken back", lambda now: now["state"] == "reverted")
    assert "metric errors is bad: it is 0.5" in back["reason"]
    assert serving(ports, PRODUCTION) == ["1.0.0"] * 3
    acts = [
        entry["actor"] for entry in fleet.towpath("audit", "-o", "json").json() if entry["act"] == "rollout.approve"
    ]
    assert acts[1:] == ["operator/bob", "operator/carol"]
