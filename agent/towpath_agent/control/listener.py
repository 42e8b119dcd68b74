"""The agent's end: one thread that hears people on the socket and hands what they ask to the main thread's desk.

Rules: every connection has a deadline at each step and a cap, so that no client stops the agent or another client; at
most MAX_CONNECTIONS are open, the rest wait in the kernel's queue. A command is done at most once: where the main
thread is too busy to take it in time it is called back, and the answer says that nothing was changed. The peer is who
the kernel says: root, the agent's own user, or a member of the group that agent.toml names.
Not handled here: what commands do (`runner.local`).
"""

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from towpath.errors import InputError, TowpathError, Unavailable
from towpath_agent.control.desk import Desk, Ticket
from towpath_agent.control.protocol import (
    BUNDLE,
    MAX_REQUEST_BYTES,
    PING,
    Answer,
    Contact,
    decode_request,
    encode_answer,
)
from towpath_agent.system.clock import Clock
from towpath_agent.system.local_socket import Peer, is_member, peer_of, user_name

MAX_CONNECTIONS = 32
ACCEPT_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long each step of a connection may take, in seconds."""

    request_s: float = 5.0
    take_s: float = 50.0  # until the main thread has time: a sync and a report may each wait 20 s for a server
    do_s: float = 10.0  # from then on
    answer_s: float = 5.0


class _Connection:
    """One client: what it said so far, what it waits for, what it still has to be sent."""

    def __init__(self, end: socket.socket, peer: Peer, give_up_s: float) -> None:
        self.end = end
        self.peer = peer
        self.give_up_s = give_up_s
        self.heard = bytearray()
        self.ticket: Ticket | None = None
        self.taken = False
        self.unsent = memoryview(b"")


class Listener:
    """Serves one socket from a thread of its own."""

    def __init__(
        self,
        server: socket.socket,
        desk: Desk,
        clock: Clock,
        *,
        group: int | None = None,
        patience: Patience | None = None,
        log: Callable[[str], None] = lambda _line: None,
        contact: Callable[[], Contact] = Contact,
    ) -> None:
        """Take over `server`, a listening non-blocking socket; `start` begins.

        `contact` is called in this thread, however busy the main one is.
        """
        self._contact = contact
        self._server, self._desk, self._clock, self._group, self._log = server, desk, clock, group, log
        self._patience = patience or Patience()
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._connections: set[_Connection] = set()
        self._accepting = False
        self._accept_again_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to hear."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and every connection. What waits at the desk is to be closed before."""
        self._stopping.set()
        self._wake()
        self._thread.join(timeout=2)

    def _wake(self) -> None:
        try:
            self._waker.send(b"x")
        except OSError:
            return  # full: it is awake; closed: it is gone

    # -- the thread

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._accept_or_not()
                for key, _ in self._selector.select(self._next_s()):
                    self._serve(key.data)
                self._look_at_all()
        finally:
            self._finish()

    def _finish(self) -> None:
        self._look_at_all()  # the last answers: "the agent is stopping"
        for connection in list(self._connections):
            self._drop(connection)
        for end in (self._server, self._woken, self._waker):
            end.close()
        self._selector.close()

    def _accept_or_not(self) -> None:
        may = len(self._connections) < MAX_CONNECTIONS and self._clock.monotonic() >= self._accept_again_s
        if may and not self._accepting:
            self._selector.register(self._server, selectors.EVENT_READ, self._server)
        elif self._accepting and not may:
            self._selector.unregister(self._server)
        self._accepting = may

    def _next_s(self) -> float | None:
        now = self._clock.monotonic()
        times = [connection.give_up_s for connection in self._connections]
        if self._accept_again_s > now:
            times.append(self._accept_again_s)
        return max(0.0, min(times) - now) if times else None

    def _serve(self, what: object) -> None:
        if what is self._server:
            self._accept()
        elif isinstance(what, _Connection):
            try:
                self._hear(what) if not what.unsent else self._send(what)
            except OSError:
                self._drop(what)  # it is gone, in the middle of whatever it did
            except Exception as error:  # noqa: BLE001 - a bug here must not end local control for good
                self._log(f"control: {type(error).__name__}: {error}")
                self._drop(what)
        else:
            self._woken.recv(4096)

    def _accept(self) -> None:
        try:
            end, _ = self._server.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._log(f"control: cannot accept a connection: {os.strerror(error.errno or 0)}")
            self._accept_again_s = self._clock.monotonic() + ACCEPT_AGAIN_S
            return
        end.setblocking(False)
        connection = _Connection(end, peer_of(end), self._clock.monotonic() + self._patience.request_s)
        self._connections.add(connection)
        self._selector.register(end, selectors.EVENT_READ, connection)

    def _hear(self, connection: _Connection) -> None:
        part = connection.end.recv(MAX_REQUEST_BYTES + 1 - len(connection.heard))
        connection.heard += part
        line, newline, _ = connection.heard.partition(b"\n")
        if newline:
            self._ask(connection, bytes(line))
        elif not part:
            self._drop(connection)
        elif len(connection.heard) > MAX_REQUEST_BYTES:
            self._answer(
                connection,
                InputError(f"cannot read the request: more than {MAX_REQUEST_BYTES} bytes", code="too-large"),
            )

    def _ask(self, connection: _Connection, line: bytes) -> None:
        try:
            self._check_peer(connection.peer)
            request = decode_request(line)
            if request.command == BUNDLE:
                _check_owner(connection.peer)
        except TowpathError as error:
            self._answer(connection, error)
            return
        if request.command == PING:
            self._answer(connection, Answer(data={"pid": os.getpid(), "server": asdict(self._contact())}))
            return
        self._selector.unregister(connection.end)
        name = user_name(connection.peer.uid)
        by = f"{request.login} ({name})" if request.login and connection.peer.uid == 0 else name
        connection.ticket = Ticket(request, by, self._wake)
        connection.give_up_s = self._clock.monotonic() + self._patience.take_s
        self._desk.put(connection.ticket)

    def _check_peer(self, peer: Peer) -> None:
        if peer.uid in (0, os.geteuid()) or (self._group is not None and is_member(peer, self._group)):
            return
        raise InputError(
            f"cannot let {user_name(peer.uid)} control the agent: only root and {user_name(os.geteuid())} may, and the "
            "group that agent.toml names as control_group",
            code="denied",
        )

    def _look_at_all(self) -> None:
        """Send what the main thread answered; give up on what took too long."""
        now = self._clock.monotonic()
        for connection in list(self._connections):
            ticket = connection.ticket
            if ticket is not None and ticket.answer is not None:
                connection.ticket = None
                self._answer(connection, ticket.answer)
            elif now >= connection.give_up_s:
                self._give_up(connection)

    def _give_up(self, connection: _Connection) -> None:
        ticket = connection.ticket
        if ticket is None:
            self._drop(connection)
        elif self._desk.call_back(ticket):
            connection.ticket = None
            self._answer(
                connection,
                Unavailable(
                    "cannot do it now: the agent is busy with a hook or waits for its server; nothing was changed, try "
                    "again",
                    code="busy",
                ),
            )
        elif not connection.taken:
            connection.taken = True
            connection.give_up_s = self._clock.monotonic() + self._patience.do_s
        else:
            connection.ticket = None
            self._answer(
                connection, Unavailable("cannot say how it went yet: it is being done; see: towpath-agent history")
            )

    def _answer(self, connection: _Connection, answer: Answer | TowpathError) -> None:
        connection.unsent = memoryview(encode_answer(answer))
        connection.give_up_s = self._clock.monotonic() + self._patience.answer_s
        try:
            try:
                self._selector.modify(connection.end, selectors.EVENT_WRITE, connection)
            except KeyError:  # it waited for the main thread
                self._selector.register(connection.end, selectors.EVENT_WRITE, connection)
            self._send(connection)
        except OSError:
            self._drop(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            connection.unsent = connection.unsent[connection.end.send(connection.unsent) :]
        except BlockingIOError:
            return
        if not connection.unsent:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        with contextlib.suppress(KeyError):  # it waited for the main thread
            self._selector.unregister(connection.end)
        connection.end.close()


def _check_owner(peer: Peer) -> None:
    """Refuse whoever could not read the agent's files anyway: a path is opened with the agent's rights."""
    if peer.uid not in (0, os.geteuid()):
        raise InputError(
            f"cannot take a bundle of {user_name(peer.uid)}: only root and {user_name(os.geteuid())} may", code="denied"
        )
