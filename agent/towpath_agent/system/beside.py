"""Calls that know no deadline of their own (a name to look up, a file on a mount that hangs), made beside the caller.

Such a call runs in a thread; at the deadline the caller goes on, and the thread is left to the kernel, which alone can
end it. Where the same thing is asked again while an earlier call about it still hangs, no second thread joins it: that
times out too, so what hangs for ever costs one thread and not one at each look.
Not handled here: calls that change something; one that is left behind may still do so later.
"""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from towpath_agent.system.clock import Deadline

T = TypeVar("T")

_hanging: dict[str, threading.Thread] = {}


def ask(about: str, call: Callable[[], T], deadline: Deadline) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError at the deadline. One thread asks at a time."""
    earlier = _hanging.get(about)
    if earlier is not None and earlier.is_alive():
        earlier.join(deadline.remaining())
        if earlier.is_alive():
            raise TimeoutError(f"timed out: an earlier look at {about} still hangs")
    _hanging.pop(about, None)
    answers: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
            answers.put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="beside")
    thread.start()
    try:
        value, error = answers.get(timeout=deadline.remaining())
    except queue.Empty:
        _hanging[about] = thread
        raise TimeoutError(f"timed out: {about} does not answer") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value] # there is one where there is no error
