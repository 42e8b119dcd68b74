"""Control groups of their own for what the agent starts for others, apps and hooks: transient scopes of systemd.

Why: the agent's unit has ceilings (MemoryMax, CPUQuota, TasksMax) that count its whole control group. What is started
for an app must neither be held by them nor use them up (docs/adr/0041). At shutdown the agent ends first, then the
scopes, so that it sees no app die.
Rules: only where this process is a unit `towpath-agent*.service` of systemd; under another supervisor and in a terminal
nothing is done. Where systemd does not take a process within seconds (it is asked over D-Bus, which a host may lack),
the process stays in the agent's group and the unit's ceilings are lifted until the next boot: no app is ever held by
them. Asked by systemd's own commands, so no dependency comes with it.
Not handled here: what apps may use; `systemctl edit towpath-apps.slice` limits all of them.
"""

import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.proc import environment, pids

SLICE = "towpath-apps.slice"
_TIMEOUT_S = 5.0
_POLL_S = 0.005
# How long systemd waits for an app at a shutdown, between TERM and KILL.
_STOP_US = 30_000_000
_PROC = Path("/proc")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
    "StartTransientUnit",
)
_NO_CEILINGS = ("MemoryHigh=infinity", "MemoryMax=infinity", "TasksMax=infinity", "CPUQuota=")
_UNIT = re.compile(r"(?:0:|\d+:name=systemd):(?:/\S*)?/(towpath-agent[^/\s]*\.service)$", re.MULTILINE)


def own_unit(groups: str | None = None) -> str:
    """Return the agent's unit that this process is, empty where it is none; `groups`: the text of /proc/self/cgroup."""
    found = _UNIT.search(_groups(os.getpid()) if groups is None else groups)
    return found[1] if found is not None else ""


def set_apart(processes: Sequence[int], name: str) -> bool:
    """Move processes into one scope of their own; `name` says whose they are. Return whether all of them are there."""
    unit = own_unit()
    if not unit or not processes:
        return False
    scope = f"towpath-app-{re.sub('[^A-Za-z0-9_.]', '-', name)[:100]}-{processes[0]}-{secrets.token_hex(4)}.scope"
    arguments = scope_arguments(scope, processes, unit=unit, name=name)
    asked = _call("busctl", "--quiet", f"--timeout={_TIMEOUT_S:g}", "call", *_MANAGER, *arguments)
    if asked and _moved(processes, scope):
        return True
    _call("systemctl", "--runtime", "set-property", unit, *_NO_CEILINGS)
    return False


def set_apart_what_stayed(variable: str) -> int:
    """Move out every process of the agent's group with `variable` in its environment, one scope for each of its values.

    What is there was started before there were scopes, or while systemd did not answer. Return how many stayed.
    """
    if not own_unit():
        return 0
    here, found = _groups(os.getpid()), dict[str, list[int]]()
    for pid in pids():
        if pid != os.getpid() and _groups(pid) == here:
            whose = environment(pid).get(variable, "")
            if whose:
                found.setdefault(whose, []).append(pid)
    return sum(len(group) for whose, group in found.items() if not set_apart(group, Path(whose).name))


def scope_arguments(scope: str, processes: Sequence[int], *, unit: str, name: str) -> list[str]:
    """Return what StartTransientUnit is given: name, mode, properties, no further units."""
    properties = [
        ["PIDs", "au", str(len(processes)), *map(str, processes)],
        ["Slice", "s", SLICE],
        ["Description", "s", f"Towpath app {name}"],
        ["Before", "as", "1", unit],
        ["CollectMode", "s", "inactive-or-failed"],
        ["TimeoutStopUSec", "t", str(_STOP_US)],
    ]
    words = [word for one in properties for word in one]
    return ["ssa(sv)a(sa(sv))", scope, "fail", str(len(properties)), *words, "0"]


def _call(*words: str) -> bool:
    """Run one of systemd's commands; return whether it ended well."""
    try:
        done = subprocess.run(
            words,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * _TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _moved(processes: Sequence[int], scope: str) -> bool:
    """Wait until each process is in the scope, or gone."""
    deadline = Deadline(SystemClock(), _TIMEOUT_S)
    for pid in processes:
        while (groups := _groups(pid)) and scope not in groups:
            if deadline.expired:
                return False
            pause(_POLL_S)
    return True


def _groups(pid: int) -> str:
    """Return the control groups of a process as the kernel lists them, empty where it is gone."""
    try:
        return (_PROC / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
