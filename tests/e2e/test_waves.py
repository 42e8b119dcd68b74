"""Six real hosts, a canary wave: good releases go through, bad ones end there, and a killed server forgets nothing."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench import apps
from examples.loopback import Fleet, ask
from examples.processes import FleetError, free_ports, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HOSTS = [f"h{n}" for n in range(1, 7)]
CANARIES = ["h1", "h2"]
SOAK_MS = 15_000
WAIT_S = 90.0
DEPLOY = ("deploy", "hello")
WHERE = ("--environment", "dev", "--select", "role=web")


def release(fleet: Fleet, folder: Path, version: str, change: Callable[[Path], None] = lambda _: None) -> None:
    """Publish hello at `version`, changed by `change`; ill health is judged within seconds."""
    release_file = apps.hello(folder / "sources" / version, version)
    release_file.write_text(release_file.read_text().replace("deadline: 20s", "deadline: 6s"))
    change(release_file.parent / "app")
    fleet.publish(release_file, version)


def rollout(fleet: Fleet, version: str) -> dict[str, Any]:
    """Return the newest rollout of a version, as the operator sees it."""
    rows = fleet.towpath("rollout", "list", "hello", "--all", "-o", "json").json()
    return next(row for row in rows if row["version"] == version)


def moment_of(fleet: Fleet, host: str, version: str, state: str) -> list[int]:
    """Return when a host said that it had reached a state with a version."""
    events = fleet.history(host)
    return [e["at_unix_ms"] for e in events if (e["version"], e["state"]) == (version, state)]


def serving(ports: dict[str, int]) -> dict[str, str]:
    """Return what each host's app itself says that it is."""
    answers = {host: ask(port) for host, port in ports.items()}
    return {host: answer.headers["X-Hello-Version"] if answer else "" for host, answer in answers.items()}


def what_keeps_wave(fleet: Fleet, version: str, number: int) -> str:
    """Return what the newest wave waits for, nothing while the server is away."""
    try:
        return str(rollout(fleet, version)["waves"][number]["waits"])
    except FleetError:
        return ""


def test_good_releases_pass_their_waves_bad_ones_end_in_their_canary(fleet: Fleet, tmp_path: Path) -> None:
    """Through the waves with the server killed twice, halted in the canary, taken back, undone: by what the apps serve."""
    ports = dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))
    fleet.start_server(fleet.fixed_addresses())
    fleet.add_hosts(HOSTS)
    for host, port in ports.items():
        label = ("--label", "wave=canary") if host in CANARIES else ()
        fleet.towpath("host", "set", host, f"hello.port={port}", *label)
    release(fleet, tmp_path, "1.0.0")
    fleet.deploy("hello", "1.0.0", "--max-unavailable", "6", timeout_s=WAIT_S)
    assert serving(ports) == dict.fromkeys(HOSTS, "1.0.0")

    waves = ("--waves", "canary:15s,4:manual,100%", "--max-unavailable", "2")
    release(fleet, tmp_path, "1.1.0")
    fleet.towpath(*DEPLOY, "1.1.0", *WHERE, *waves)
    assert fleet.server is not None
    for number, waits in ((0, "soaks until"), (1, "a person has to advance it")):
        wait_for(
            f"wave {number + 1} waits",
            lambda n=number, w=waits: what_keeps_wave(fleet, "1.1.0", n).startswith(w),
            WAIT_S,
            fleet.logs,
        )
        fleet.server.kill()
        fleet.start_server()
    fleet.towpath("rollout", "advance", rollout(fleet, "1.1.0")["assignment"])
    told = fleet.towpath("rollout", "watch", rollout(fleet, "1.1.0")["assignment"], "--timeout", "90s", timeout_s=120)
    assert "wave 3 of 3 (100%): passed, 2 of 2 hosts finished" in told.out
    assert serving(ports) == dict.fromkeys(HOSTS, "1.1.0")
    passed_in_order(fleet, "1.1.0")

    def broken(app: Path) -> None:
        (app / "pages" / "news.txt").write_text("what is new in ${nothing}\n")

    release(fleet, tmp_path, "1.2.0", broken)
    fleet.deploy("hello", "1.2.0", "--waves", "canary,100%", "--max-unavailable", "2", code=1, timeout_s=WAIT_S)
    assert rollout(fleet, "1.2.0")["state"] == "halted"
    assert serving(ports) == dict.fromkeys(HOSTS, "1.1.0")
    for host in set(HOSTS) - set(CANARIES):
        assert not [event for event in fleet.history(host) if event["version"] == "1.2.0"], host

    def broken_on_h2(app: Path) -> None:
        serve = app / "bin" / "serve"
        guard = f"import sys\nif '{ports['h2']}' in sys.argv:\n    (HERE / 'pages' / 'news.txt').write_text('${{nothing}}')\n"
        text = serve.read_text().replace("\nVERSION = ", f"\n{guard}VERSION = ", 1)
        assert guard in text
        serve.write_text(text)

    release(fleet, tmp_path, "1.3.0", broken_on_h2)
    words = ("--waves", "canary,100%", "--max-unavailable", "2", "--on-breach", "revert")
    failed = fleet.deploy("hello", "1.3.0", *words, code=1, timeout_s=WAIT_S)
    assert "h2" in failed.err
    assert rollout(fleet, "1.3.0")["state"] == "reverted"
    assert moment_of(fleet, "h1", "1.3.0", "Confirmed"), "h1 had taken it"
    assert serving(ports) == dict.fromkeys(HOSTS, "1.1.0")
    assert rollout(fleet, "1.1.0")["state"] == "done"

    undone = fleet.towpath("undo", "hello", "--environment", "dev", "--wait", "--timeout", "90s", timeout_s=120)
    assert "6 of 6 hosts are back" in undone.out
    assert serving(ports) == dict.fromkeys(HOSTS, "1.0.0")
    told = fleet.towpath("audit", "-o", "json").json()
    acts = [entry["act"] for entry in told if entry["actor"] != "server"]
    assert acts.count("deploy") == 4
    assert acts[-1] == "undo"


def passed_in_order(fleet: Fleet, version: str) -> None:
    """Check, by the hosts' own journals, that nobody began before the wave before had finished and soaked."""
    hosts = rollout(fleet, version)["hosts"]
    waves = [[row["host"] for row in hosts if row["wave"] == number] for number in range(3)]
    assert sorted(waves[0]) == CANARIES
    assert [len(wave) for wave in waves] == [2, 2, 2]
    for (before, after), soak_ms in zip(pairwise(waves), (SOAK_MS, 0), strict=True):
        finished = max(moment_of(fleet, host, version, "Confirmed")[0] for host in before)
        for host in after:
            (began,) = moment_of(fleet, host, version, "Planned")
            assert began >= finished + soak_ms, f"{host} began before its wave was open"
