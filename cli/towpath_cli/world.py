"""What the commands take from the machine around them: clocks, waiting, a terminal, becoming another program.

Everything here is a parameter, so that tests hand in their own and never patch or sleep.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _become(argv: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(argv[0], list(argv))  # noqa: S606 - the server's own command, never a shell


def _is_tty() -> bool:
    return sys.stdout.isatty()


@dataclass(frozen=True, slots=True)
class World:
    """The machine as a command sees it. Times: `now_ms` Unix milliseconds, `monotonic` and `sleep` seconds."""

    now_ms: Callable[[], int] = _now_ms
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    become: Callable[[Sequence[str]], None] = _become
    is_tty: Callable[[], bool] = _is_tty
