"""Where the work of this process says in passing that it gets on: at each wait with a deadline, each piece of a file.

Who hears it is `notify`, and nobody where no service manager asked. It must cost next to nothing.
"""

from collections.abc import Callable

_told: list[Callable[[], None]] = []


def on_progress(tell: Callable[[], None]) -> None:
    """Have `tell`, and nothing else, called at each step from now on, in whatever thread that is made."""
    _told[:] = [tell]


def progressed() -> None:
    """Say that a step of work is over."""
    for tell in _told:
        tell()
