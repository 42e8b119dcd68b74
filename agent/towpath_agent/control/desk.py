"""The desk between the thread that hears people and the main thread, which owns all state (ADR 10, ADR 17).

A ticket is handed in by one thread and done by the other. Whoever handed it in may call it back until the main thread
has taken it: so "not done" is the truth, and a command that nobody waits for is not carried out later.
"""

import threading
from collections.abc import Callable

from towpath.errors import TowpathError, Unavailable
from towpath_agent.control.protocol import Answer, Request


class Ticket:
    """One request on its way. `by` is the person as the kernel knows them."""

    def __init__(self, request: Request, by: str, done: Callable[[], None]) -> None:
        """Call `done` (from the main thread) when `answer` is there."""
        self.request = request
        self.by = by
        self.answer: Answer | TowpathError | None = None
        self._done = done

    def close(self, answer: Answer | TowpathError) -> None:
        """Answer, and wake who waits."""
        self.answer = answer
        self._done()


class Desk:
    """A queue of tickets. All methods may be called from any thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there is something to take."""
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: list[Ticket] = []
        self._closed = False

    def put(self, ticket: Ticket) -> None:
        """Hand in a ticket; one that comes too late is answered so."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._waiting.append(ticket)
        if closed:
            ticket.close(Unavailable("cannot do it: the agent is stopping; start it again: towpath-agent run"))
        else:
            self._wake()

    def call_back(self, ticket: Ticket) -> bool:
        """Take a ticket away again; False where the main thread has it already."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return True
            return False

    def take(self, *, only_looks: bool = False) -> list[Ticket]:
        """Return the tickets to be done now, oldest first; with `only_looks` those that change nothing."""
        if not self._waiting:  # asked at every chunk of a fetch; a ticket that comes right now is taken the next time
            return []
        with self._lock:
            taken = [ticket for ticket in self._waiting if not (only_looks and ticket.request.changes)]
            self._waiting = [ticket for ticket in self._waiting if ticket not in taken]
            return taken

    @property
    def waiting(self) -> bool:
        """Return whether something was handed in and not yet taken."""
        return bool(self._waiting)

    def close(self) -> None:
        """Take no more, and answer what still waits."""
        with self._lock:
            self._closed = True
            rest, self._waiting = self._waiting, []
        for ticket in rest:
            ticket.close(Unavailable("cannot do it: the agent is stopping; nothing was changed"))
