"""Processes of apps: started detached, found again, stopped as a whole.

Rules: a started program lives in its own session and survives the agent. It waits at a gate (a shell that reads one
line) until `recorded` has returned, so a caller that makes the `ProcessId` durable there can be killed at any
instruction: the program either never ran, or is on record. Zombies are dead, and our own are reaped.
Under systemd it gets a control group of its own meanwhile (`scopes`).
Not handled here: restarts and what an app is (services).
"""

import contextlib
import os
import pwd
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Broken
from towpath_agent.errors import StartError, disk_error
from towpath_agent.system.clock import Clock, Deadline, SystemClock, pause
from towpath_agent.system.hook import HookResult, run_hook, start_error
from towpath_agent.system.proc import (
    ProcessId,
    Stat,
    boot_id,
    children,
    command_line,
    environment,
    find_by_env,
    living,
    lock_holder,
    read_stat,
    rss_bytes,
    session_members,
)
from towpath_agent.system.scopes import set_apart

__all__ = [
    "HookResult",
    "ProcessId",
    "alive",
    "boot_id",
    "command_line",
    "environment",
    "find_by_env",
    "find_program",
    "leads_session",
    "lock_holder",
    "memory",
    "memory_of",
    "reap",
    "run_hook",
    "spawn",
    "stop",
]

_GATE = 'read -r go || exit 125\nexec "$@" </dev/null'
_SHELL = "/bin/sh"
_NAME = "towpath-start"
_GATE_S = 5.0
_POLL_S = 0.02
_UNKILLABLE_S = 5.0
_MAX_SHEBANG_BYTES = 256

# Our own children that were not reaped yet. A Popen that is dropped before would warn.
_started: dict[int, subprocess.Popen[bytes]] = {}


def _unrecorded(_process: ProcessId) -> None:
    """Keep no record."""


def find_program(word: str, *, folder: Path, search_path: str) -> Path:
    """Return the program that `word` names for a release in `folder`; StartError says what is wrong with it.

    An absolute path is taken as it is. A path with a slash lies inside `folder`, links followed. A bare name is a file
    in `folder`, or else looked up in `search_path`.
    """
    if word.startswith("/"):
        return _check_program(word, Path(word))
    inside = folder.absolute() / word
    if "/" in word or inside.is_file():
        if not Path(os.path.realpath(inside)).is_relative_to(os.path.realpath(folder)):
            raise StartError(f"cannot start {word}: it lies outside its release")
        return _check_program(word, inside)
    for place in search_path.split(":"):
        if place and Path(place, word).is_file():
            return _check_program(word, Path(place, word))
    raise StartError(f"cannot start {word}: it is neither a file of the release nor in {search_path}")


def _check_program(word: str, path: Path) -> Path:
    if not path.exists():
        raise StartError(f"cannot start {word}: there is no file {path}")
    if not path.is_file():
        raise StartError(f"cannot start {word}: {path} is no regular file")
    if not os.access(path, os.X_OK):
        raise StartError(f"cannot start {word}: {path} is not executable; set its mode to 0755 and publish again")
    with path.open("rb") as file:
        line = file.read(_MAX_SHEBANG_BYTES).partition(b"\n")[0]
    if line.startswith(b"#!"):
        interpreter = os.fsdecode(line[2:].split()[0]) if line[2:].split() else ""
        # A script with Windows line ends fails here too: its interpreter's name ends with a carriage return.
        if line.endswith(b"\r") or not Path(interpreter).is_file():
            raise StartError(f"cannot start {word}: {path} names the interpreter {interpreter!r}, which is not there")
    return path


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    user: str | None = None,
    recorded: Callable[[ProcessId], None] = _unrecorded,
    name: str = "",
) -> ProcessId:
    """Start `argv` detached, output appended to `log`; it runs only once `recorded(process)` has returned.

    `name` says whose it is, where it shall have a control group of its own.
    Where `recorded` raises, nothing runs. StartError where the program or the user is missing.
    """
    reap()
    program = find_program(argv[0], folder=cwd, search_path=env.get("PATH", os.defpath))
    account = _Account() if user is None else _account(user)
    gate_read, gate_write = os.pipe()
    try:
        output = _open_log(log)
        try:
            child = subprocess.Popen(
                [_SHELL, "-c", _GATE, _NAME, str(program), *argv[1:]],
                cwd=cwd,
                env=dict(env),
                stdin=gate_read,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o022,
                user=account.user,
                group=account.group,
                extra_groups=account.groups,
            )
        except OSError as error:
            raise start_error(argv[0], error) from error
        finally:
            os.close(output)
            os.close(gate_read)
        _started[child.pid] = child
        stat = read_stat(child.pid)
        if stat is None:
            raise StartError(f"cannot start {argv[0]}: it was gone at once")
        recorded(stat.process)
        if name:
            set_apart([child.pid], name)
        try:
            os.write(gate_write, b"go\n")
        except BrokenPipeError:
            # Killed while it waited: it is on record and will be seen as dead.
            return stat.process
        return stat.process
    finally:
        os.close(gate_write)


@dataclass(frozen=True, slots=True)
class _Account:
    """As whom a program runs; None leaves it as the agent is."""

    user: int | None = None
    group: int | None = None
    groups: Sequence[int] | None = None


def _account(user: str) -> _Account:
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise StartError(f"cannot start as user {user!r}: there is no such user; create it first") from error
    if entry.pw_uid == os.geteuid():
        return _Account()
    return _Account(entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid))


def _open_log(log: Path) -> int:
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_error("open", log, error) from error


def reap() -> None:
    """Let the kernel forget those of our children that have ended."""
    for pid in [pid for pid, child in _started.items() if child.poll() is not None]:
        del _started[pid]


def alive(process: ProcessId) -> bool:
    """Return True where exactly this process still runs."""
    child = _started.get(process.pid)
    if child is None:
        _await_gate(process)
    if living(process) is not None:
        return True
    reap()  # only now: it may have ended between an earlier look and this one
    if child is None:
        _reap_inherited(process)
    return False


def _reap_inherited(process: ProcessId) -> None:
    """Let the kernel forget a child of the agent whose place this one took (an update of the agent is an exec)."""
    here = read_stat(process.pid)
    if here is not None and here.created == process.created:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def _await_gate(process: ProcessId) -> None:
    """Wait until a process that another agent started has left its gate.

    Where that agent was killed, the program runs or the gate ends within an instant; taken for the program in that
    instant, it would be adopted, and then nothing would run.
    """
    deadline = Deadline(SystemClock(), _GATE_S)
    while living(process) is not None and _NAME in command_line(process.pid)[3:4] and not deadline.expired:
        pause(_POLL_S / 10)


def leads_session(process: ProcessId) -> bool:
    """Return True where it still runs and made its own session, as everything that `spawn` starts does."""
    if not alive(process):
        return False
    stat = living(process)
    return stat is not None and stat.session == stat.pid


def memory(process: ProcessId) -> int:
    """Return the resident bytes of the process and its descendants, 0 where it is gone."""
    return memory_of(process.pid) if alive(process) else 0


def memory_of(pid: int) -> int:
    """Return the resident bytes of `pid` and its descendants, 0 where it is gone. The caller knows whose pid it is."""
    return sum(rss_bytes(one) for one in [pid, *children(pid)])


def stop(process: ProcessId, timeout_s: float, clock: Clock) -> None:
    """End the process and all of its session: TERM to its group, after `timeout_s` KILL to what is left.

    Nothing there is fine. Broken where the kernel cannot end it (a process stuck in a dead disk or mount).
    """
    if not _left(process):
        return
    _send(process, signal.SIGTERM)
    _send(process, signal.SIGCONT)
    if _gone(process, Deadline(clock, timeout_s)):
        return
    deadline = Deadline(clock, _UNKILLABLE_S)
    while left := _left(process):
        if deadline.expired:
            raise Broken(f"cannot stop process {left[0].pid}: it is still there after SIGKILL; see what it waits for")
        for stat in left:
            _kill(stat.pid, signal.SIGKILL)
        _gone(process, Deadline(clock, _POLL_S))


def _left(process: ProcessId) -> list[Stat]:
    """Return what still runs of a process and the session that it leads."""
    reap()
    here = read_stat(process.pid)
    if here is not None and here.created != process.created:
        # The number belongs to another process now, so the kernel knows that nothing of our session is left.
        return []
    if here is not None and here.session != here.pid:
        return [] if here.dead else [here]
    return [stat for stat in session_members(process.pid) if stat.pid != os.getpid()]


def _send(process: ProcessId, number: signal.Signals) -> None:
    here = living(process)
    if here is not None and here.group == here.pid and here.pid != os.getpgrp():
        _kill(-here.pid, number)
        return
    for stat in _left(process):
        _kill(stat.pid, number)


def _kill(target: int, number: signal.Signals) -> None:
    try:
        os.kill(target, number)
    except (ProcessLookupError, PermissionError):
        return


def _gone(process: ProcessId, deadline: Deadline) -> bool:
    """Wait until nothing is left (True) or the deadline has passed."""
    while _left(process):
        left = deadline.remaining()
        if left <= 0:
            return False
        _wait_exit(process, min(left, 10 * _POLL_S))
    return True


def _wait_exit(process: ProcessId, seconds: float) -> None:
    """Wait for the end of the process itself; where it has ended, for a moment."""
    try:
        ending = os.pidfd_open(process.pid)
    except OSError:
        pause(min(seconds, _POLL_S))
        return
    try:
        poll = select.poll()
        poll.register(ending, select.POLLIN)
        if poll.poll(0):
            # Ended, but not reaped by its parent yet.
            pause(min(seconds, _POLL_S))
        else:
            poll.poll(seconds * 1000)
    finally:
        os.close(ending)
