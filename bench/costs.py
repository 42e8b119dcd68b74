"""What waiting costs: an idle agent's memory and CPU, its start, a hint's way, and a sync that changes nothing."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from examples.loopback import Fleet, clean_env
from examples.processes import Daemon, wait_for

from bench import apps, calls, echo
from bench.measure import cpu_s, median, memory, note, reaped_cpu_s

HINT_TIMEOUT_S = 10.0
SETTLE_TIMEOUT_S = 60.0
ROUNDS = 5
WARM_UP_CALLS = 200
# A host may call 200 times at once, then 50 times a second: stay below, and let its allowance fill up between rounds.
MAX_CALLS_PER_HOST = 150
ALLOWANCE_S = 4.0


def hint(fleet: Fleet, repeats: int) -> dict[str, object]:
    """From a change to the hint on a host's Watch stream, and to the moment that the host's agent plans to act on it.

    The change is one parameter of one host: first by a bare operator's call, then by the command as people type it.
    """
    fleet.publish(apps.five_files(fleet.root / "sources" / "five-hint"), "2.0.0")
    fleet.deploy("five", "2.0.0")
    call, call_plan, command, command_plan = [], [], [], []
    with calls.Hints(calls.host(fleet, "h1")) as hints, calls.Operator(fleet) as operator:

        def timed(change: Callable[[], object]) -> tuple[float, float]:
            count, confirmed = hints.count, _confirmed(fleet)
            began, began_ms = time.monotonic(), time.time_ns() / 1e6
            change()
            hinted_ms = (hints.next_after(count, HINT_TIMEOUT_S) - began) * 1000
            wait_for("h1 confirms", lambda: _confirmed(fleet) > confirmed, SETTLE_TIMEOUT_S, fleet.logs)
            planned_ms = max(event["at_unix_ms"] for event in fleet.history("h1") if event["state"] == "Planned")
            return hinted_ms, planned_ms - began_ms

        for number in range(repeats):
            hinted, acted = timed(partial(operator.set_parameter, "h1", "five.note", f"call {number}"))
            call.append(hinted)
            call_plan.append(acted)
            hinted, acted = timed(partial(fleet.towpath, "host", "set", "h1", f"five.note=command {number}"))
            command.append(hinted)
            command_plan.append(acted)
    result: dict[str, object] = {
        "call_to_hint_ms": median(call, 1),
        "call_to_planned_ms": median(call_plan, 1),
        "command_to_hint_ms": median(command, 1),
        "command_to_planned_ms": median(command_plan, 1),
    }
    note(f"  {result}")
    return result


def _confirmed(fleet: Fleet) -> int:
    """Return how often h1's agent said that it confirmed; reading its log disturbs nothing that is measured."""
    return fleet.agents["h1"].output().count(": Confirmed ")


def _quiet(fleet: Fleet) -> None:
    """Wait until h1 has nothing under way."""

    def look() -> bool:
        return all(row["state"] == "Confirmed" for row in fleet.own_status("h1").values())

    wait_for("h1 has nothing under way", look, SETTLE_TIMEOUT_S, fleet.logs)


def agent_start(fleet: Fleet, repeats: int) -> dict[str, object]:
    """From the start of `towpath-agent run` to its first signed manifest, with the apps that the host has by then."""
    agent = fleet.agents["h1"]
    seconds = []
    with calls.Operator(fleet) as operator:
        for _ in range(repeats):
            agent.stop()
            seen = operator.last_seen_ms("h1")
            began_ms = time.time_ns() / 1e6
            fleet.start_agent("h1")
            wait_for("the agent synced", lambda s=seen: operator.last_seen_ms("h1") > s, SETTLE_TIMEOUT_S)  # type: ignore[misc]
            seconds.append((operator.last_seen_ms("h1") - began_ms) / 1000)
    result: dict[str, object] = {"first_sync_s": median(seconds), "each_s": [round(one, 3) for one in seconds]}
    note(f"  {result}")
    return result


def idle(fleet: Fleet, window_s: float) -> dict[str, object]:
    """Memory and CPU share of h1's agent with its apps confirmed and their probation over, and of one without apps."""
    names = ["h1", "idle1"]
    fleet.add_hosts(["idle1"], label="role=none")
    _quiet(fleet)
    time.sleep(min(15.0, window_s))  # after its last work an agent gives memory back; that, too, is part of being idle
    pids = {name: fleet.agents[name].pid for name in names}
    before = {name: (cpu_s(pid), reaped_cpu_s(pid)) for name, pid in pids.items()}
    time.sleep(window_s)  # the window of the measurement itself
    result: dict[str, object] = {"window_s": window_s}
    for name, pid in pids.items():
        used = cpu_s(pid) - before[name][0]
        children = reaped_cpu_s(pid) - before[name][1]
        size = memory(pid)
        result["with_apps" if name == "h1" else "without_apps"] = {
            "pss_mib": size.pss_mib,
            "pss_alone_mib": size.pss_alone_mib,
            "rss_mib": size.rss_mib,
            "cpu_percent": round(used / window_s * 100, 3),
            "children_cpu_percent": round(children / window_s * 100, 3),
        }
    note(f"  {result}")
    return result


def sync(fleet: Fleet, count: int) -> dict[str, object]:
    """CPU of the server for each nothing-to-do Sync, beside a bare echo; both called by turns from this process."""
    fleet.agents["h1"].stop()
    assert fleet.server is not None
    # By turns over all hosts: one host alone would meet its rate limit.
    with ExitStack() as stack:
        towpath = [stack.enter_context(calls.host(fleet, name).channel()) for name in fleet.agents]
        count = min(count, MAX_CALLS_PER_HOST * len(towpath))
        _, size = calls.call_many(towpath, calls.SYNC, calls.sync_request, WARM_UP_CALLS)
        ca, identity = echo.make_certificates(fleet.root / "echo")
        yardstick = Daemon(
            [sys.executable, "-m", "bench.echo", str(fleet.root / "echo"), str(size)],
            log=fleet.root / "logs" / "echo.log",
            env=clean_env(PYTHONPATH=":".join(path for path in sys.path if path)),
            cwd=fleet.root,
        )
        yardstick.start()
        try:
            address = yardstick.wait_for_line(r"^echo on (\S+)$")[1]
            with calls.Party(address, ca, identity).channel() as bare:
                calls.call_many([bare], echo.METHOD, calls.sync_request, WARM_UP_CALLS)
                costs: dict[str, list[float]] = {"sync": [], "echo": []}
                walls: dict[str, list[float]] = {"sync": [], "echo": []}
                for _ in range(ROUNDS):
                    for name, channel, method, pid in (
                        ("echo", [bare], echo.METHOD, yardstick.pid),
                        ("sync", towpath, calls.SYNC, fleet.server.pid),
                    ):
                        time.sleep(ALLOWANCE_S / 2)
                        began = cpu_s(pid)
                        seconds, _ = calls.call_many(channel, method, calls.sync_request, count)
                        costs[name].append((cpu_s(pid) - began) / count * 1e6)
                        walls[name].append(seconds / count * 1e6)
        finally:
            yardstick.stop()
    fleet.start_agent("h1")
    result: dict[str, object] = {
        "calls": count * ROUNDS,
        "response_bytes": size,
        "server_cpu_us": median(costs["sync"], 1),
        "echo_cpu_us": median(costs["echo"], 1),
        "times_echo": round(median(costs["sync"]) / median(costs["echo"]), 2),
        "wall_us": median(walls["sync"], 1),
        "echo_wall_us": median(walls["echo"], 1),
    }
    note(f"  {result}")
    return result
