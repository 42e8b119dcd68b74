"""What the service manager hears from the agent, over a real socket."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from towpath_agent.system import progress
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import Files
from towpath_agent.system.notify import Manager


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.bind(str(path))
        self.end.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "40000000", "WATCHDOG_PID": str(os.getpid())}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self.end.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(tmp_path / "notify")
    yield manager
    manager.end.close()


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """What a test listens to does not outlive it."""
    yield
    progress.on_progress(lambda: None)


def test_the_manager_hears_start_progress_and_end(systemd: Systemd) -> None:
    """READY with a line of status, WATCHDOG once in a quarter of the limit however often work gets on, STOPPING."""
    clock = FakeClock()
    manager = Manager(systemd.environment, clock.monotonic)
    manager.ready("host one:\nruns")
    for _ in range(3):
        manager.progress()
    assert systemd.heard() == ["READY=1\nSTATUS=host one: runs", "WATCHDOG=1"]
    clock.advance(9.9)
    manager.progress()
    assert systemd.heard() == []
    clock.advance(0.2)
    manager.progress()
    manager.stopping()
    assert systemd.heard() == ["WATCHDOG=1", "STOPPING=1"]


def test_apps_do_not_inherit_the_managers_names(systemd: Systemd) -> None:
    """What systemd put into the environment for the agent is gone from it, so no app speaks in the agent's name."""
    environment = {**systemd.environment, "PATH": "/bin"}
    Manager(environment)
    assert environment == {"PATH": "/bin"}


def test_only_the_working_thread_counts(systemd: Systemd) -> None:
    """A thread beside the work that goes on waiting does not feed the watchdog of an agent that hangs."""
    manager = Manager(systemd.environment, FakeClock().monotonic)
    other = threading.Thread(target=manager.progress)
    other.start()
    other.join()
    assert systemd.heard() == []


@pytest.mark.parametrize(
    "change",
    [{"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "much"}, {"WATCHDOG_PID": "1"}, {"NOTIFY_SOCKET": "/nowhere/at/all"}],
)
def test_without_a_watchdog_of_its_own_nothing_is_fed(systemd: Systemd, change: dict[str, str]) -> None:
    """No limit, a garbled one, one for another process, or a manager that is gone: the work goes on in silence."""
    manager = Manager({**systemd.environment, **change})
    manager.progress()
    manager.ready("")
    assert "WATCHDOG=1" not in systemd.heard()


def test_waits_and_pieces_of_files_are_progress(tmp_path: Path) -> None:
    """A wait, a look at a deadline, a pause, and each piece of a file that is read, written or copied counts."""
    steps: list[str] = []
    files, clock = Files(), SystemClock()
    (tmp_path / "file").write_bytes(b"x")
    cases = {
        "wait": lambda: clock.wait(None, 0),
        "time": clock.monotonic,
        "deadline": lambda: Deadline(clock, 1).remaining(),
        "pause": lambda: pause(0),
        "read": lambda: files.read(tmp_path / "file", 10),
        "write": lambda: files.write_atomic(tmp_path / "other", b"y"),
        "copy": lambda: files.copy(tmp_path / "file", tmp_path / "copy"),
    }
    for name, act in cases.items():
        progress.on_progress(lambda name=name: steps.append(name))
        act()
    assert list(dict.fromkeys(steps)) == list(cases)


def test_work_of_the_agents_clock_feeds_the_watchdog(systemd: Systemd) -> None:
    """Wired as in the daemon, one wait of its clock is heard, once."""
    manager = Manager(systemd.environment)
    progress.on_progress(manager.progress)
    SystemClock().wait(None, 0)
    SystemClock().monotonic()
    assert systemd.heard() == ["WATCHDOG=1"]
