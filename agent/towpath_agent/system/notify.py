"""What the service manager is told (sd_notify): that the agent is ready, and that it still makes progress.

Parties: systemd, through the socket that it names in the environment; where there is none, nothing is said to nobody.
Rules: progress is told by the thread that does the work, in passing (`progress`): where it waits with a deadline, and
at each piece of a file. An agent that hangs in one call falls silent and is restarted; one that watches a hook of ten
minutes is not. The names are taken out of the environment: apps and hooks are no part of it.
Not handled here: how long silence may last (`WatchdogSec` in the unit).
"""

import os
import socket
import threading
import time
from collections.abc import Callable, MutableMapping

_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
# Half of what the manager waits is asked for by systemd's own documentation; a quarter leaves room for a slow turn.
_SHARE = 4


class Manager:
    """The service manager of this process, if any."""

    def __init__(
        self, environment: MutableMapping[str, str] | None = None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Take what the manager left in the environment. The thread that makes this is the one that counts."""
        source = os.environ if environment is None else environment
        address, limit, pid = (source.pop(name, "") for name in _NAMES)
        self._now_s = now_s  # not the agent's clock, which calls `progress` itself
        self._thread = threading.get_ident()
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = not pid or pid == str(os.getpid())
        self._every_s = int(limit) / 1e6 / _SHARE if limit.isdecimal() and mine else 0.0
        self._next_s = 0.0
        self.environment = {
            name: value for name, value in zip(_NAMES, (address, limit, pid), strict=True) if value
        }  # for what takes this process's place

    def ready(self, text: str) -> None:
        """Say that the start is over; `text` is what `systemctl status` shows."""
        self._send(f"READY=1\nSTATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def progress(self) -> None:
        """Say that the work goes on, no more often than the manager needs. From other threads it says nothing."""
        if not self._every_s or threading.get_ident() != self._thread:
            return
        now = self._now_s()
        if now >= self._next_s:
            self._next_s = now + self._every_s
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto(text.encode(), self._address)
        except OSError:
            return  # a manager that does not listen is no reason to stop working
