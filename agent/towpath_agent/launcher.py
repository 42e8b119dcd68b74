"""The launcher: starts the agent that this host should run. A program of its own: `launcher.py COMMAND [ARGUMENTS]`.

Parties: whoever starts the agent; the packaged agent (COMMAND); releases of the agent below the agent's folder.
It is fixed: no update of the agent replaces it, so it is small, stands on nothing but Python, and decides next to
nothing. What it knows stands in DIR/launch.json, which the agent writes too (`engine.selfupdate` describes it). Any
trouble with that file, or with a release, ends at COMMAND.
A release that is on trial is the launcher's child: it has so many starts and one deadline to be confirmed (by what it
writes into launch.json itself), else what ran before is started. Each start is on disk before it happens. Everything
else is started in the launcher's place, so that a service manager and a person see one process as ever.
Not handled here: what an agent must do to be confirmed, and remembering for good that one failed (the agent's journal).
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

POINTER = "launch.json"
RELEASES = "apps/towpath-agent/releases"
PROGRAM = "bin/towpath-agent"
DEFAULT_DIR = "/var/lib/towpath"
VARIABLE = "TOWPATH_LAUNCH"
MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
EXIT_AGAIN = 75  # the agent asks to be started anew: it has written what should run now
MAX_BYTES = 65536
MAX_DEADLINE_S = 86400.0
MAX_TRIALS = 3
# Of a confirmed release that never got as far as its first round: its files are broken, or worse. One that ends because
# of its settings takes its start back in launch.json itself: it has the launcher's place, nobody else sees how it ends.
MAX_STARTS = 10
TAIL_BYTES = 2048
LOOK_S = 0.2
MAX_LAST_WORDS = 16  # pieces of a pipe
PR_SET_PDEATHSIG = 1
NOTHING: dict[str, Any] = {"current": "", "trying": "", "deadline_s": 0.0, "starts": 0, "failed": "", "output": ""}


def folder_of(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the agent's folder, as its command would understand the words."""
    found = environment.get("TOWPATH_AGENT_DIR") or DEFAULT_DIR
    for number, word in enumerate(words):
        if word.startswith("--dir="):
            found = word[len("--dir=") :]
        elif word == "--dir" and number + 1 < len(words):
            found = words[number + 1]
    return os.path.abspath(found)


def read(folder: str) -> dict[str, Any]:
    """Return what should run; where that cannot be told, or others may have written it: the packaged agent."""
    try:
        with open(os.path.join(folder, POINTER), "rb") as file:
            if os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
                return dict(NOTHING)
            return read_bytes(file.read(MAX_BYTES))
    except OSError:
        return dict(NOTHING)


def read_bytes(data: bytes) -> dict[str, Any]:
    """Return what a file says."""
    try:
        raw = json.loads(data)
        found = {key: type(value)(raw[key]) for key, value in NOTHING.items()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return dict(NOTHING)
    found["deadline_s"] = min(max(0.0, found["deadline_s"]), MAX_DEADLINE_S)
    names = (found["current"], found["trying"])
    return dict(NOTHING) if any("/" in name or name.startswith(".") for name in names) else found


def write(folder: str, state: dict[str, Any]) -> bool:
    """Make `state` durable, as one; False where the disk does not let us."""
    path = os.path.join(folder, POINTER)
    try:
        with open(path + ".launcher", "wb") as file:
            file.write(json.dumps(state).encode())
            file.flush()
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        os.rename(path + ".launcher", path)
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        say(f"cannot write {path}: {error.strerror}")
        return False
    return True


def say(line: str) -> None:
    """Tell whoever reads the agent's output."""
    with suppress(OSError):
        os.write(2, f"towpath-agent: launcher: {line}\n".encode())


def program(folder: str, release: str) -> str:
    """Return the command of a release of the agent; empty where it has none, or no release is named."""
    path = os.path.join(folder, RELEASES, release, PROGRAM)
    return path if release and os.path.isfile(path) and os.access(path, os.X_OK) else ""


def choose(folder: str, base: str) -> tuple[str, dict[str, Any], bool]:
    """Return the command to start, what is on record, and whether it is on trial; counts the start, durably."""
    state = read(folder)
    if state["trying"] and not state["failed"]:
        if not program(folder, state["trying"]):
            give_up(folder, state, f"its tree has no {PROGRAM}")
        elif state["starts"] >= MAX_TRIALS:
            give_up(folder, state, f"it was started {state['starts']} times, and none lived until it had reported")
        elif write(folder, {**state, "starts": state["starts"] + 1}):
            return program(folder, state["trying"]), {**state, "starts": state["starts"] + 1}, True
    elif state["current"] and state["starts"] >= MAX_STARTS:
        say(f"{state['current']} was started {state['starts']} times and never worked: the packaged agent takes over")
        reason = f"it was started {state['starts']} times and ended each time before its first round"
        failed = {**state, "current": "", "trying": state["current"], "failed": reason}
        write(folder, failed)
        return base, failed, False
    elif program(folder, state["current"]) and not state["trying"]:
        write(folder, {**state, "starts": state["starts"] + 1})
    return program(folder, state["current"]) or base, state, False


def give_up(folder: str, state: dict[str, Any], reason: str, output: str = "") -> None:
    """Put on record that what is on trial failed; where that cannot be written it counts as tried all the same."""
    say(f"{state['trying']} is given up: {reason}; back to {state['current'] or 'the packaged agent'}")
    write(folder, {**state, "failed": reason, "output": output})


def marked(environment: Mapping[str, str], release: str, *, trial: bool) -> dict[str, str]:
    """Return the environment of an agent: it tells how to come back here, which release it is, and in which folder."""
    argv = [sys.executable, "-I", "-S", os.path.abspath(__file__), *sys.argv[1:]]
    about = {"argv": argv, "folder": folder_of(sys.argv[2:], environment)}
    return {**environment, VARIABLE: json.dumps({**about, "release": release, "trial": trial})}


def notify(text: str) -> None:
    """Speak to the service manager for the child, which has no way to it: its main process is the launcher."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def start(command: str, words: Sequence[str], release: str) -> tuple[int, int]:
    """Start what is on trial as a child that dies with the launcher; return its pid and the end of what it prints."""
    environment = {key: value for key, value in os.environ.items() if key not in MANAGER}
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                os.dup2(writing, 1)
                os.dup2(writing, 2)
                os.execve(command, [command, *words], marked(environment, release, trial=True))
        except OSError as error:
            say(f"cannot start {command}: {error.strerror}")
        finally:
            os._exit(127)
    os.close(writing)
    return child, reading


def forward(child: int, stopped: list[int]) -> Callable[[int, FrameType | None], None]:
    """Return what to do when the launcher is told to end: tell the child, and go on until it has ended."""

    def told(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)

    return told


def supervise(folder: str, command: str, words: Sequence[str], state: dict[str, Any]) -> int | None:
    """Run what is on trial to its end; return the code to end with where somebody stopped the launcher."""
    stopped: list[int] = []
    child, reading = start(command, words, state["trying"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward(child, stopped))
    notify(f"READY=1\nSTATUS=agent {state['trying']} on trial, start {state['starts']} of {MAX_TRIALS}")
    code, late, output = watch(folder, child, reading, state, stopped)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    now = read(folder)
    undecided = now["trying"] == state["trying"] and not now["failed"]
    if stopped:
        if undecided:
            write(folder, {**now, "starts": state["starts"] - 1})  # that it was told to end says nothing against it
        return code if code >= 0 else 128 - code
    if not undecided:
        return None  # it was confirmed, or has itself decided against going on
    text = output.decode(errors="replace").strip()
    if late:
        give_up(folder, now, f"it had not reported within {state['deadline_s']:g}s", text)
        return None
    how = f"exit code {code}" if code >= 0 else f"signal {-code}"
    say(f"{state['trying']} ended with {how} before it was confirmed, start {state['starts']} of {MAX_TRIALS}")
    if state["starts"] >= MAX_TRIALS:
        give_up(folder, now, f"it ended {MAX_TRIALS} times before it had reported, the last time with {how}", text)
    return None


def watch(folder: str, child: int, reading: int, state: dict[str, Any], stopped: list[int]) -> tuple[int, bool, bytes]:
    """Pass on what the child prints until it ends, at its deadline at last; return exit code, late, last words."""
    end_s, output, late, poll = time.monotonic() + state["deadline_s"], b"", False, select.poll()
    poll.register(reading, select.POLLIN)
    while True:
        output = (output + passed_on(reading, poll, LOOK_S))[-TAIL_BYTES:]
        notify("WATCHDOG=1")
        while (ended := reaped()) is not None:
            if ended[0] == child:
                # What it said last is in the pipe still. Others may hold the pipe too, and need not ever end.
                for _ in range(MAX_LAST_WORDS):
                    output = (output + passed_on(reading, poll, 0))[-TAIL_BYTES:]
                os.close(reading)
                return os.waitstatus_to_exitcode(ended[1]), late, output
        if not late and not stopped and time.monotonic() >= end_s and read(folder)["trying"] == state["trying"]:
            late = True
            os.kill(child, signal.SIGKILL)


def passed_on(reading: int, poll: select.poll, wait_s: float) -> bytes:
    """Return what the child printed within `wait_s`, printed on our own output too; empty where it was nothing."""
    if not poll.poll(wait_s * 1000):
        return b""
    part = rest = os.read(reading, MAX_BYTES)
    if not part:
        poll.unregister(reading)
    with suppress(OSError):
        while rest:
            rest = rest[os.write(1, rest) :]
    return part


def reaped() -> tuple[int, int] | None:
    """Return a child that has ended, apps of an earlier agent among them, with its status; None where none has."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def main() -> int:
    """Start what should run; returns only where that was told to end."""
    base, words = sys.argv[1], sys.argv[2:]
    folder = folder_of(words, os.environ)
    if words[:1] != ["run"]:
        command = program(folder, read(folder)["current"]) or base
        os.execv(command, [command, *words])
    while True:
        command, state, trial = choose(folder, base)
        if not trial:
            break
        code = supervise(folder, command, words, state)
        if code is not None:
            return code
    release = "" if command == base else state["current"]
    try:
        os.execve(command, [command, *words], marked(os.environ, release, trial=False))
    except OSError as error:
        say(f"cannot start {command}: {error.strerror}; the packaged agent takes over")
        os.execve(base, [base, *words], marked(os.environ, "", trial=False))


if __name__ == "__main__":
    sys.exit(main())
