"""From the command to proven health: one small release, and a small app on fleets of several sizes.

Times begin when the command is started, its own start-up included, and end at the moment that each host's journal gives
for Confirmed (all clocks are this machine's). `beyond_healthy_for_s` is what is left without the time that the release
itself asks to be watched.
"""

import time

from examples.loopback import Fleet
from examples.processes import free_ports

from bench import apps
from bench.measure import median, note


def states(fleet: Fleet, host: str, version: str) -> dict[str, int]:
    """Return when (Unix ms) `host` reached each state with `version`."""
    return {
        event["state"]: int(event["at_unix_ms"])
        for event in fleet.history(host)
        if event["kind"] == "transition" and event["version"] == version
    }


def timed_deploy(fleet: Fleet, app: str, version: str, hosts: list[str], *words: str) -> tuple[float, float]:
    """Deploy and return seconds to the last host's Confirmed, and to the end of the command."""
    began_ms, began = time.time_ns() / 1e6, time.monotonic()
    fleet.deploy(app, version, *words, timeout_s=120)
    command_s = time.monotonic() - began
    last_ms = max(states(fleet, host, version)["Confirmed"] for host in hosts)
    return (last_ms - began_ms) / 1000, command_s


def small_deploy(fleet: Fleet, repeats: int) -> dict[str, object]:
    """Deploy 5 new files, 1 MB together, to the one host there is, several times."""
    confirmed, command = [], []
    for number in range(1, repeats + 1):
        version = f"1.0.{number}"
        fleet.publish(apps.five_files(fleet.root / "sources" / f"five-{number}"), version)
        seconds, command_s = timed_deploy(fleet, "five", version, ["h1"])
        confirmed.append(seconds)
        command.append(command_s)
    result: dict[str, object] = {
        "files": 5,
        "bytes": 1_000_000,
        "healthy_for_s": apps.HEALTHY_FOR_S,
        "confirmed_s": median(confirmed),
        "beyond_healthy_for_s": round(median(confirmed) - apps.HEALTHY_FOR_S, 3),
        "command_s": median(command),
        "each_s": [round(seconds, 3) for seconds in confirmed],
    }
    note(f"  {result}")
    return result


def fleets(fleet: Fleet, sizes: tuple[int, ...]) -> list[dict[str, object]]:
    """Grow the fleet to each size and upgrade all its hosts at once."""
    results: list[dict[str, object]] = []
    for step, count in enumerate(sizes, 1):
        hosts = [f"h{number}" for number in range(1, count + 1)]
        new = [host for host in hosts if host not in fleet.agents]
        if new:
            note(f"  {len(new)} more hosts")
            fleet.add_hosts(new)
        for host, port in zip(hosts, free_ports(count), strict=True):
            if step == 1 or host in new:
                fleet.towpath("host", "set", host, f"hello.port={port}")
        everyone = ("--max-unavailable", str(count))
        before, after = f"{step}.0.0", f"{step}.1.0"
        for version in (before, after):
            fleet.publish(apps.hello(fleet.root / "sources" / f"hello-{version}", version), version)
        first_s, _ = timed_deploy(fleet, "hello", before, hosts, *everyone)
        upgrade_s, command_s = timed_deploy(fleet, "hello", after, hosts, *everyone)
        results.append(
            {
                "hosts": count,
                "healthy_for_s": apps.HEALTHY_FOR_S,
                "first_s": round(first_s, 3),
                "upgrade_s": round(upgrade_s, 3),
                "beyond_healthy_for_s": round(upgrade_s - apps.HEALTHY_FOR_S, 3),
                "command_s": round(command_s, 3),
            }
        )
        note(f"  {results[-1]}")
    return results
