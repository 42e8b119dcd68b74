"""Ask one program one thing: a request on its stdin, its answer from its stdout, what it says on stderr kept apart.

Ends as a hook does (`system.hook`): its own session, a deadline, the whole group killed with it and after it. The
request lies in memory, not in a pipe, so that a program that never reads it cannot block the caller. Of the answer the
first `answer_limit` bytes are kept, and `overflow` says that there was more; of stderr the last `log_limit`.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.hook import Tail, end_group, start_error

LOG_LIMIT = 8192


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call ended. `status` is negative for a signal, None where the kernel could not end it."""

    status: int | None
    timed_out: bool
    answer: bytes
    overflow: bool
    log: str
    took_s: float


class _Head(Tail):
    """The first bytes of what a program writes; the rest is read and dropped."""

    def __init__(self, descriptor: int, limit: int) -> None:
        super().__init__(descriptor, limit)
        self.data = b""
        self.overflow = False

    def take(self, part: bytes) -> None:
        """Keep what fits."""
        room = self.limit - len(self.data)
        self.overflow = self.overflow or len(part) > room
        self.data += part[:room]


def call(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    request: bytes,
    timeout_s: float,
    clock: Clock,
    answer_limit: int,
    kill_grace_s: float = 2.0,
) -> CallResult:
    """Run `argv` in `cwd` with exactly `env` and `request` on stdin; StartError where it cannot be started at all.

    `kill_grace_s` 0: killed at the deadline without a TERM before, as a power cut would.
    """
    deadline = Deadline(clock, timeout_s)
    with _pipe() as (answer_read, answer_write), _pipe() as (log_read, log_write), _memory(request) as stdin:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=dict(env),
                stdin=stdin,
                stdout=answer_write[0],
                stderr=log_write[0],
                start_new_session=True,
            )
        except OSError as error:
            raise start_error(argv[0], error) from error
        for end in (answer_write, log_write):
            os.close(end.pop())
        answer, log = _Head(answer_read, answer_limit), Tail(log_read, LOG_LIMIT)
        timed_out = end_group(process.pid, [answer, log], deadline, clock, kill_grace_s)
        return CallResult(
            process.poll(), timed_out, answer.data, answer.overflow, log.text(), deadline.elapsed_ms() / 1000
        )


@contextmanager
def _pipe() -> Iterator[tuple[int, list[int]]]:
    """Yield a reading end that does not block, and a list that holds the writing end until it is closed."""
    read_end, write_end = os.pipe()
    left = [write_end]
    try:
        os.set_blocking(read_end, False)
        yield read_end, left
    finally:
        for end in (read_end, *left):
            os.close(end)


@contextmanager
def _memory(content: bytes) -> Iterator[int]:
    """Yield a descriptor from which `content` is read, then the end of the file."""
    descriptor = os.memfd_create("request", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
