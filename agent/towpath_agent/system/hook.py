"""Run one program to its end, with a deadline and a cap on its output.

The program gets its own session, so that everything it starts can be killed as one group: at the deadline (TERM, then
KILL) and after its end. Its output is drained while it runs, of which the last `log_limit` bytes are kept; a daemon
that it leaves behind with the output still open is not waited for.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath_agent.errors import StartError
from towpath_agent.system.clock import Clock, Deadline, pause
from towpath_agent.system.proc import session_members
from towpath_agent.system.scopes import own_unit, set_apart

_SLICE_S = 0.1
_CHUNK_BYTES = 2**16
# What is read at most after the program's end: a daemon that goes on writing must not keep us.
_LAST_CHUNKS = 64
_UNKILLABLE_S = 5.0
_CLEAR_S = 0.005
# Stops itself before it becomes the program, so that nothing of that runs before it has its own control group.
_GATE = ("/bin/sh", "-c", 'kill -STOP $$\nexec "$@"', "towpath-hook")


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a program ended. `status` is negative for a signal, None where the kernel could not end it."""

    status: int | None
    timed_out: bool
    output: str

    @property
    def ok(self) -> bool:
        """Return True where it ended by itself with status 0."""
        return self.status == 0 and not self.timed_out


class Tail:
    """The last bytes of what a program writes."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self.descriptor = descriptor
        self.limit = limit
        self._data = b""
        self.open = True

    def drain(self, chunks: int) -> None:
        """Read what is there, at most `chunks` times."""
        for _ in range(chunks):
            if not self.open:
                return
            try:
                part = os.read(self.descriptor, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not part:
                self.open = False
            self.take(part)

    def take(self, part: bytes) -> None:
        """Keep the last bytes."""
        self._data = (self._data + part)[-self.limit :]

    def text(self) -> str:
        """Return what was kept; bytes that are no text are shown as such."""
        return self._data.decode("utf-8", "replace")


def start_error(program: str, error: OSError) -> StartError:
    """Return the error to raise where `program` could not be started."""
    if isinstance(error, FileNotFoundError):
        return StartError(f"cannot start {program}: it, its interpreter or its folder is missing")
    if isinstance(error, PermissionError):
        return StartError(f"cannot start {program}: it is not executable; set its mode to 0755")
    return StartError(f"cannot start {program}: {error.strerror or error}")


def run_hook(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float,
    clock: Clock,
    log_limit: int = 8192,
    kill_grace_s: float = 2.0,
    name: str = "",
) -> HookResult:
    """Run `argv` in `cwd` with exactly `env`; StartError where it cannot be started at all.

    `name` says for whom it runs, where it shall have a control group of its own; `timeout_s` begins when it has that.
    """
    deadline = Deadline(clock, timeout_s)
    apart = bool(name) and bool(own_unit()) and _starts_by_itself(argv[0])
    read_end, write_end = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [*_GATE, *argv] if apart else list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise start_error(argv[0], error if isinstance(error, OSError) else OSError(str(error))) from error
        finally:
            os.close(write_end)
        if apart:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            set_apart([process.pid], name)
            deadline = Deadline(clock, timeout_s)  # what systemd took is not the hook's
            _signal_group(process.pid, signal.SIGCONT)
        os.set_blocking(read_end, False)
        tail = Tail(read_end, log_limit)
        timed_out = end_group(process.pid, [tail], deadline, clock, kill_grace_s)
        return HookResult(process.poll(), timed_out, tail.text())
    finally:
        os.close(read_end)


def _starts_by_itself(program: str) -> bool:
    """Return whether the kernel starts this file: a shell would take any text for a script of its own."""
    try:
        with Path(program).open("rb") as file:
            return file.read(4).startswith((b"#!", b"\x7fELF"))
    except OSError:
        return False


def end_group(pid: int, tails: Sequence[Tail], deadline: Deadline, clock: Clock, kill_grace_s: float) -> bool:
    """Drain `tails` until the child `pid` ends, or end it at `deadline` (True); kill what it leaves of its group.

    At the deadline comes TERM, after `kill_grace_s` KILL; KILL at once where that is 0. The child is not reaped. After
    a deadline nothing of its session runs any more: what is done next must not meet half of a killed tool.
    """
    timed_out = not _wait(pid, tails, deadline)
    if timed_out and kill_grace_s > 0:
        _signal_group(pid, signal.SIGTERM)
        _signal_group(pid, signal.SIGCONT)
        _wait(pid, tails, Deadline(clock, kill_grace_s))
    # Before the leader is reaped: until then its zombie keeps the group's number from being used again.
    _signal_group(pid, signal.SIGKILL)
    _wait(pid, tails, Deadline(clock, _UNKILLABLE_S))
    if timed_out:
        _clear_session(pid, Deadline(clock, _UNKILLABLE_S))
    for tail in tails:
        tail.drain(_LAST_CHUNKS)
    return timed_out


def _ended(pid: int) -> bool:
    """Return True where our child has ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(pid: int, tails: Sequence[Tail], deadline: Deadline) -> bool:
    """Drain output until the child has ended (True) or the deadline has passed."""
    try:
        ending = os.pidfd_open(pid)
    except OSError:
        ending = -1
    try:
        poll = select.poll()
        if ending >= 0:
            poll.register(ending, select.POLLIN)
        watched = [tail for tail in tails if tail.open]
        for tail in watched:
            poll.register(tail.descriptor, select.POLLIN | select.POLLHUP)
        while not _ended(pid):
            left = deadline.remaining()
            if left <= 0:
                return False
            slice_s = min(left, _SLICE_S if ending >= 0 else _SLICE_S / 5)
            poll.poll(slice_s * 1000)
            for tail in list(watched):
                tail.drain(_LAST_CHUNKS)
                if not tail.open:
                    poll.unregister(tail.descriptor)
                    watched.remove(tail)
        return True
    finally:
        if ending >= 0:
            os.close(ending)


def _clear_session(leader: int, deadline: Deadline) -> None:
    """Kill what is left of a session, in whatever group, until it is gone: a killed process needs a moment to end."""
    while (left := session_members(leader)) and not deadline.expired:
        for stat in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(stat.pid, signal.SIGKILL)
        pause(_CLEAR_S)


def _signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to all of a group; nobody there is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
