"""Sockets that keep one deadline over all that is done with them, and names that resolve within it."""

import ipaddress
import socket
from typing import Any

from towpath_agent.system import beside
from towpath_agent.system.clock import Deadline

_LOCAL = {"localhost": ("127.0.0.1", "::1")}


class DeadlineSocket(socket.socket):
    """A stream socket on which no sequence of operations outlasts `deadline`: a byte a second keeps no one here."""

    deadline: Deadline | None = None

    def _limit(self) -> None:
        if self.deadline is not None:
            left = self.deadline.remaining()
            if left <= 0:
                raise TimeoutError("timed out")
            self.settimeout(left)

    def sendall(self, *args: Any) -> None:
        """Send all of the data."""
        self._limit()
        super().sendall(*args)

    def recv_into(self, *args: Any, **named: Any) -> int:
        """Receive into a buffer; what files made of the socket read by."""
        self._limit()
        return super().recv_into(*args, **named)


def connect(host: str, port: int, deadline: Deadline) -> DeadlineSocket:
    """Return a connection to the first address of `host` that answers; OSError where none does in time."""
    last: OSError = OSError(f"no address for {host}")
    for address in _addresses(host, deadline):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = DeadlineSocket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(deadline.remaining(), 0.001))
            connection.connect((address, port))
        except OSError as error:
            connection.close()
            last = error
            continue
        connection.deadline = deadline
        return connection
    raise last


def _addresses(host: str, deadline: Deadline) -> tuple[str, ...]:
    """Return the addresses of `host`."""
    if host in _LOCAL:
        return _LOCAL[host]
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return beside.ask(f"the name {host}", lambda: _look_up(host), deadline)


def _look_up(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(str(error)) from error
    return tuple(str(item[4][0]) for item in found)
