"""Start, watch, kill and surely end real processes: what a fleet on loopback is made of.

Every process is started in a session of its own, writes to a log file, and is ended by its own process id or group.
Apps outlive their agent on purpose, so they are found by the marker that the agent puts into their environment.

Not handled here: what the processes are (`examples.loopback`).
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import TypeVar

# Says that something hangs, not that the machine is busy.
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
# Below the range from which Linux takes ports for outgoing connections: what is free now stays free.
_PORTS = range(20_000, 32_000)
_APP_MARKER = b"TOWPATH_APP_DIR="

T = TypeVar("T")


class FleetError(Exception):
    """A process, command or condition was not what it should be; the message holds the evidence."""


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, evidence: Callable[[], str] = str) -> T:
    """Return the first true result of `look`, FleetError with `evidence` after `timeout_s`."""
    give_up = time.monotonic() + timeout_s
    while True:
        result = look()
        if result:
            return result
        if time.monotonic() >= give_up:
            raise FleetError(f"cannot see that {what} within {timeout_s:g}s: {evidence()}")
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Return distinct TCP ports of 127.0.0.1 that are free now."""
    ports: list[int] = []
    random = Random(os.urandom(8))
    while len(ports) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGHUP interrupt like Ctrl-C, so that what was started is ended; later signals change nothing."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in numbers:
        signal.signal(one, interrupt)


class Daemon:
    """One long-running command, started as often as wanted; its log is appended to."""

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        """Keep how to start it; nothing runs yet."""
        self.argv = list(argv)
        self.log = log
        self._env = dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; FleetError where it was never started."""
        if self._process is None:
            raise FleetError(f"cannot name the process of {self.argv}: it was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """True between start and its end, whoever ended it."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it once more; the same log goes on."""
        if self.running:
            raise FleetError(f"cannot start {self.argv}: it runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what it wrote since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_for_line(self, pattern: str, timeout_s: float = START_TIMEOUT_S) -> re.Match[str]:
        """Return the match of the first line that fits `pattern`; FleetError at its end or after `timeout_s`."""

        def look() -> re.Match[str] | None:
            match = re.search(pattern, self.output(), re.MULTILINE)
            if match is None and not self.running:
                raise FleetError(f"cannot go on: {' '.join(self.argv[:3])} ended by itself:\n{self.output()[-2000:]}")
            return match

        return wait_for(f"{Path(self.argv[0]).name} says {pattern!r}", look, timeout_s, self.output)

    def kill(self) -> None:
        """Kill -9 this one process, as an out-of-memory killer would; what it started stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask it to end and return its exit code; after `timeout_s` its whole group is killed."""
        if self._process is None:
            return 0
        if self.running:
            self._process.terminate()
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        return code


def apps_below(folder: Path) -> list[int]:
    """Return the ids of processes that an agent started for an app below `folder`."""
    marker = _APP_MARKER + os.fsencode(folder) + b"/"
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if any(word.startswith(marker) for word in environ.read_bytes().split(b"\0")):
                found.append(int(environ.parent.name))
    return found


def end_apps_below(folder: Path, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End every app below `folder`; the agents must be gone, or they start them again."""

    def sweep(number: signal.Signals) -> bool:
        pids = apps_below(folder)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return not pids

    sweep(signal.SIGTERM)
    wait_for(
        "the apps ended",
        lambda: not [pid for pid in apps_below(folder) if _alive(pid)] or sweep(signal.SIGKILL),
        timeout_s,
    )


def _alive(pid: int) -> bool:
    """Return whether `pid` is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
