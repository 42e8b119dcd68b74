"""A limit on the processor time of a piece of our own code whose cost nobody knows before: a publisher's pattern.

By a timer of the kernel that counts this process's time (ITIMER_VIRTUAL) and a signal whose handler raises. Python
looks for signals in the midst of matching, so even a pattern that would take years ends in time, without a process or
thread for each check. Signals reach the main thread alone, which is the one that owns the agent (docs/adr/0010).
Not handled here: code that waits instead of computing (deadlines), code that catches everything.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from towpath.errors import Broken

_armed: set[int] = set()


class OutOfTime(Exception):
    """The block took all that was left of its budget."""


def _over(number: int, _frame: FrameType | None) -> None:
    if number in _armed:
        raise OutOfTime


class CpuBudget:
    """So many seconds of processor time for all the blocks that are run under it."""

    def __init__(self, seconds: float) -> None:
        """Begin with `seconds`."""
        self._whole = self.left_s = seconds

    @property
    def untouched(self) -> bool:
        """True as long as nothing that counts was taken from it."""
        return self.left_s == self._whole

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Raise OutOfTime inside the block, at any instruction, once the budget is used up."""
        if threading.current_thread() is not threading.main_thread():
            raise Broken("cannot limit processor time outside of the main thread")
        if self.left_s <= 0:
            raise OutOfTime
        if signal.getsignal(signal.SIGVTALRM) is not _over:
            # It stays: a signal that comes late finds a handler that does nothing, not the default one, which kills.
            signal.signal(signal.SIGVTALRM, _over)
        _armed.add(signal.SIGVTALRM)
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, self.left_s)
            yield
        finally:
            _armed.discard(signal.SIGVTALRM)
            # The kernel rounds up to its own ticks.
            self.left_s = min(self.left_s, signal.setitimer(signal.ITIMER_VIRTUAL, 0)[0])
