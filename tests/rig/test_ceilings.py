"""What the agent's unit allows, enforced by the kernel: it holds the agent, not its apps and hooks; and a soak of updates.

The host is booted with the controllers that this machine has (RIG_CGROUP=v1 where they are of version 1), because only
then memory, CPU and tasks are limited inside it. `SOAK_S` is how long the soak lasts (default 90).
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import Fleet

from rig.fleets import RigFleet, serves
from rig.hosts import Host, Hosts, why_not

pytestmark = [
    pytest.mark.rig,
    pytest.mark.long,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]

MIB = 2**20
SOAK_S = float(os.environ.get("SOAK_S", "90"))
IDLE_S = 20.0
SCOPE = "/towpath.slice/towpath-apps.slice/towpath-app-"
AGENT = "/system.slice/towpath-agent.service"
# An app that needs more than the agent may have, and a hook that says where it runs.
HUNGRY = """\
app: hungry
artifact: ./app
install: {kind: tree}
run: {kind: process, command: [bin/eat]}
hooks: {prepare: bin/where, timeout: 60s}
probes: [{process: {interval: 200ms}}]
health: {healthy_for: 2s, deadline: 60s, probation: 1s}
"""
EAT = "#!/usr/bin/python3\nimport time\neaten = bytearray(b'x' * (1100 * 2**20))\ntime.sleep(1e6)\n"
WHERE = "#!/bin/sh\ncat /proc/self/cgroup > /run/hook-groups\n"
# Puts itself into the agent's group of every hierarchy (0: whoever writes it), then runs what follows.
INTO = (
    "for group in $(find /sys/fs/cgroup -type d -path '*/system.slice/towpath-agent.service'); do "
    "echo 0 > $group/cgroup.procs; done; "
)
LIMITED = {"cpu", "memory", "pids"}
KILLED = 128 + 9
# Two processes that want a core each for five seconds; the cores that they got.
BUSY = """
import os, time
began = time.monotonic()
for _ in range(2):
    if not os.fork():
        while time.monotonic() < began + 5: pass
        os._exit(0)
for _ in range(2): os.wait()
used = os.times()
print((used.children_user + used.children_system) / (time.monotonic() - began))
"""


@pytest.fixture(scope="module")
def one(hosts: Hosts, base: Path, fleet: Fleet) -> Iterator[RigFleet]:
    """Give one host whose kernel enforces ceilings, running hello."""
    one = RigFleet(hosts, base, fleet, "ceilings")
    try:
        one.boot(1, RIG_CGROUP="v1")
        one.deploy("hello", "1.0.0")
        yield one
    finally:
        one.close()


def only(fleet: RigFleet) -> Host:
    (host,) = fleet.there.values()
    return host


def groups_of(host: Host, pid: str) -> str:
    return host(f"cat /proc/{pid}/cgroup")


def resident_mib(host: Host, pid: str) -> int:
    return int(host(f"grep VmRSS /proc/{pid}/status").split()[1]) // 1024


def test_ceilings_hold_the_agent_and_neither_apps_nor_hooks(one: RigFleet) -> None:
    """What runs away in the agent's group is ended and the agent lives; an app may have more than the agent."""
    host = only(one)
    agent, hello = host.show("MainPID"), host("pgrep -f '[b]in/serve'")
    assert AGENT in groups_of(host, agent)
    assert SCOPE in groups_of(host, hello)
    assert AGENT not in groups_of(host, hello)

    folder = one.fleet.root / "sources/hungry"
    (folder / "app/bin").mkdir(parents=True)
    for name, text in (("eat", EAT), ("where", WHERE)):
        (folder / "app/bin" / name).write_text(text)
        (folder / "app/bin" / name).chmod(0o755)
    (folder / "towpath.yaml").write_text(HUNGRY)
    one.fleet.publish(folder / "towpath.yaml", "1")
    one.deploy("hungry", "1")
    hook = host("cat /run/hook-groups")
    assert SCOPE in hook
    assert AGENT not in hook
    eater = host("pgrep -f '[b]in/eat'")
    assert resident_mib(host, eater) > 1024

    assert (host.show("MemoryMax"), host.show("TasksMax")) == (str(1024 * MIB), "512")
    groups = [line.split(":") for line in host(f"{INTO} cat /proc/self/cgroup").splitlines()]
    assert {name for _, name, path in groups if path.endswith(AGENT)} >= LIMITED, groups
    host(f"{INTO} exec python3 -c \"x = bytearray(b'x' * (1500 * 2**20))\"", code=KILLED)
    assert "hungry" not in host("journalctl -k -b --no-pager | grep -i 'killed process' || true")
    assert (host.show("MainPID"), host.show("NRestarts"), host.show("ActiveState")) == (agent, "0", "active")
    assert (host("pgrep -f '[b]in/serve'"), host("pgrep -f '[b]in/eat'")) == (hello, eater)

    cores = float(host(f"{INTO} exec python3 -c '{BUSY}'"))
    print(f"two busy loops in the agent's group: {cores:.2f} cores")
    assert cores < 1.2
    host("systemctl stop towpath-agent")
    assert (host("pgrep -f '[b]in/serve'"), host("pgrep -f '[b]in/eat'")) == (hello, eater)
    host("systemctl start towpath-agent")
    one.fleet.towpath("undeploy", "hungry", "--environment", "dev")
    one.wait("hungry is gone", lambda: host("pgrep -f '[b]in/eat'", code=None) == "")


def test_apps_of_an_agent_that_systemd_did_not_answer_are_held_by_nothing(one: RigFleet) -> None:
    """Without D-Bus an app stays in the agent's group and the ceilings are lifted; with it, the next agent moves it out."""
    host = only(one)
    one.wait("hello runs", lambda: serves(host) != "")
    host("mv /usr/bin/busctl /usr/bin/busctl.away")
    try:
        version = "30.0.0"
        one.publish_hello(version)
        one.deploy("hello", version)
        hello = host("pgrep -f '[b]in/serve'")
        assert AGENT in groups_of(host, hello)
        assert (host.show("MemoryMax"), host.show("TasksMax")) == ("infinity", "infinity")
    finally:
        host("mv /usr/bin/busctl.away /usr/bin/busctl")
    host("systemctl revert towpath-agent; systemctl restart towpath-agent")
    one.wait("hello has a scope", lambda: SCOPE in groups_of(host, hello))
    assert host("pgrep -f '[b]in/serve'") == hello
    assert host.show("MemoryMax") == str(1024 * MIB)


def test_a_soak_of_updates_stays_far_below_the_ceilings(one: RigFleet) -> None:
    """Update after update: one main process, no restart, nothing ended for want of memory, and memory that does not grow."""
    host = only(one)
    one.wait("hello runs", lambda: serves(host) != "")

    def memory() -> int:
        return int(host.show("MemoryCurrent")) // MIB

    def resident() -> int:
        return resident_mib(host, host.show("MainPID"))

    def cpu_s() -> float:
        """Return what the agent and its ended children have used."""
        stat = host(f"cat /proc/{host.show('MainPID')}/stat; getconf CLK_TCK").rpartition(")")[2].split()
        return sum(map(int, stat[11:15])) / int(stat[-1])

    host("systemctl restart towpath-agent")
    time.sleep(IDLE_S)  # idle is what is measured
    cpu, began = cpu_s(), time.monotonic()
    time.sleep(IDLE_S)
    idle = (cpu_s() - cpu) / (time.monotonic() - began)
    print(f"idle: control group {memory()} MiB, resident {resident()} MiB, CPU {idle:.2%} of a core")
    main, cpu, began = host.show("MainPID"), cpu_s(), time.monotonic()
    number, seen = 0, []
    while time.monotonic() - began < SOAK_S:
        number += 1
        one.publish_hello(f"31.{number}.0", bulk=2_000_000)
        one.deploy("hello", f"31.{number}.0")
        seen.append((memory(), resident()))
    used = cpu_s() - cpu
    peak = host("cat /sys/fs/cgroup/memory/system.slice/towpath-agent.service/memory.max_usage_in_bytes || true")
    print(
        f"soak: {number} updates in {time.monotonic() - began:.0f} s, control group {min(seen)[0]} to {max(seen)[0]} MiB, "
        f"resident {min(r for _, r in seen)} to {max(r for _, r in seen)} MiB, {used / number:.2f} CPU seconds an update, "
        f"peak {peak if not peak.isdecimal() else int(peak) // MIB} MiB"
    )
    assert (host.show("MainPID"), host.show("NRestarts")) == (main, "0")
    assert max(usage for usage, _ in seen) < 512
    assert max(rss for _, rss in seen) < 200
