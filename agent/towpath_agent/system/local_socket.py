"""A Unix stream socket in a folder: made without a moment of wrong rights, found again, and who is at the other end.

Rules: it is bound under a temporary name, given its mode, then renamed into place; so a stale one of a killed agent is
replaced in one step, and nobody ever finds one with other rights. A name in `sun_path` has at most 107 bytes, so both
sides reach the folder through /proc/self/fd, whatever the length of its path. The kernel says who the peer is.
Not handled here: what is said (`control.protocol`), who may (`control.listener`).
"""

import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import InputError, Unavailable
from towpath_agent.errors import disk_error
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import temporary

BACKLOG = 128
_CREDENTIALS = struct.Struct("iII")
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a short name for `path` that works while the block runs."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def listen(path: Path, *, group: int | None = None) -> socket.socket:
    """Return a listening, non-blocking socket at `path`, mode 0600; with `group`, 0660 for that group too.

    The caller makes sure (by the agent's lock) that no living process listens there.
    """
    temp = temporary(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with _short(temp) as name:
            server.bind(name)
            if group is not None:
                os.chown(name, -1, group)
            os.chmod(name, 0o600 if group is None else 0o660)  # noqa: PTH101  (the short name is no Path)
        temp.rename(path)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        temp.unlink(missing_ok=True)
        raise disk_error("listen on", path, error) from error
    return server


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection to `path`, each of whose waits ends after `timeout_s`.

    FileNotFoundError or ConnectionRefusedError where nobody listens; InputError `denied` where this user may not;
    Unavailable where the other side is too busy to accept.
    """
    deadline = Deadline(SystemClock(), timeout_s)
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        client.settimeout(timeout_s)
        try:
            with _short(path) as name:
                client.connect(name)
            return client
        except BlockingIOError as error:  # a full queue of a Unix socket is an error at once, never a wait
            client.close()
            if deadline.expired:
                raise Unavailable(f"cannot reach the agent at {path}: too many callers; try again") from error
            pause(_LOOK_S)
        except PermissionError as error:
            client.close()
            raise InputError(
                f"cannot reach the agent at {path}: permission denied; be root or the agent's own user", code="denied"
            ) from error
        except OSError:
            client.close()
            raise


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end of an accepted connection."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Peer(*_CREDENTIALS.unpack(raw))


def user_name(uid: int) -> str:
    """Return the name of a user, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_id(name: str) -> int:
    """Return the number of a group; InputError where there is none of that name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise InputError(f"cannot let group {name[:60]!r} control the agent: there is no such group") from error


def is_member(peer: Peer, group: int) -> bool:
    """Return whether the peer's user belongs to `group`, by its process or by the user database."""
    if peer.gid == group:
        return True
    try:
        return group in os.getgrouplist(pwd.getpwuid(peer.uid).pw_name, peer.gid)
    except KeyError:
        return False


def open_folder_to(folder: Path, group: int) -> None:
    """Let members of `group` pass through `folder` to names that they know, without listing it."""
    try:
        os.chown(folder, -1, group)
        folder.chmod(0o710)
    except OSError as error:
        raise disk_error("open to a group", folder, error) from error


def close_folder(folder: Path) -> None:
    """Shut a folder that was opened to a group; nothing where its owner alone may enter, or where it is not ours."""
    facts = folder.stat()
    if stat.S_IMODE(facts.st_mode) == 0o710 and facts.st_uid == os.geteuid():
        folder.chmod(0o700)
