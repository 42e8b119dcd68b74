"""Facts about processes, read from /proc.

A process is named by its pid and its start in seconds since boot, as the kernel counts it: pids are used again, and a
start in wall time would move whenever the clock is set.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from towpath_agent.system.clock import pause

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DEAD = frozenset("ZXx")
_LOOKS = 5
_LOOK_S = 0.001


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process; `created` is in seconds since boot."""

    pid: int
    created: float


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of /proc/PID/stat, as far as needed."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    created: float

    @property
    def dead(self) -> bool:
        """Return True for a zombie: it runs no more, only its parent has not looked yet."""
        return self.state in _DEAD

    @property
    def process(self) -> ProcessId:
        """Return its name."""
        return ProcessId(self.pid, self.created)


def boot_id() -> str:
    """Return what changes with every boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read_stat(pid: int) -> Stat | None:
    """Return the facts of `pid`, None where there is no such process."""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself.
    fields = line[line.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode("ascii"),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        created=int(fields[19]) / _TICKS_PER_SECOND,
    )


def pids() -> list[int]:
    """Return all pids in order."""
    return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def living(process: ProcessId) -> Stat | None:
    """Return the facts of exactly this process where it still runs."""
    stat = read_stat(process.pid)
    if stat is None or stat.dead or stat.created != process.created:
        return None
    return stat


def environment(pid: int) -> dict[str, str]:
    """Return the variables with which `pid` was started; empty where they cannot be read."""
    pairs = (os.fsdecode(item).partition("=") for item in _environ(pid).split(b"\0") if item)
    return {name: value for name, _, value in pairs}


def _environ(pid: int) -> bytes:
    """Return the raw environment; empty where it cannot be read.

    It is empty for an instant while a process changes its program, too: one that was missed then might be started a
    second time, so an empty one is looked at again, except a kernel thread's, which has no memory at all.
    """
    data = b""
    for _ in range(_LOOKS):
        try:
            data = (_PROC / str(pid) / "environ").read_bytes()
            if data or (_PROC / str(pid) / "statm").read_bytes().startswith(b"0 "):
                return data
        except OSError:
            return b""
        pause(_LOOK_S)
    return data


def command_line(pid: int) -> list[str]:
    """Return the words with which `pid` was started; empty where they cannot be read."""
    try:
        data = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in data.removesuffix(b"\0").split(b"\0")]


def lock_holder(path: Path) -> int:
    """Return the pid that holds a record lock (fcntl) on the file at `path`; 0 where nobody does."""
    try:
        facts = path.stat()
        lines = (_PROC / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    wanted = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    # "1: POSIX  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; who still waits has "->" behind the number.
    rows = (line.split() for line in lines)
    return next((int(row[4]) for row in rows if len(row) > 5 and row[1] == "POSIX" and row[5] == wanted), 0)


def find_by_env(name: str, value: str) -> list[ProcessId]:
    """Return the running processes that were started with `name` set to `value`, oldest first.

    Those of our own session are left out: an agent that was itself started so must not find itself.

    A program that overwrites its own environment (to change its title) is not found: keep its `ProcessId` too.
    """
    wanted = os.fsencode(f"{name}={value}")
    ours = os.getsid(0)
    found = []
    for pid in pids():
        if wanted in _environ(pid).split(b"\0"):
            stat = read_stat(pid)
            if stat is not None and not stat.dead and stat.session != ours:
                found.append(stat.process)
    return sorted(found, key=lambda process: (process.created, process.pid))


def session_members(leader: int) -> list[Stat]:
    """Return the running processes of the session that `leader` made, itself included."""
    stats = (read_stat(pid) for pid in pids())
    return [stat for stat in stats if stat is not None and not stat.dead and stat.session == leader]


def children(pid: int) -> list[int]:
    """Return the pids of all descendants of `pid` that have not moved to another parent."""
    result: list[int] = []
    todo = [pid]
    while todo:
        here = todo.pop()
        try:
            for thread in (_PROC / str(here) / "task").iterdir():
                text = (thread / "children").read_text(encoding="ascii")
                todo.extend(int(word) for word in text.split())
                result.extend(int(word) for word in text.split())
        except OSError:
            continue
    return result


def rss_bytes(pid: int) -> int:
    """Return the resident memory of one process, 0 where it is gone."""
    try:
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0
