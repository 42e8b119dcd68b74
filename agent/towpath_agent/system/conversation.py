"""A short-lived child process that is talked to over its stdin and stdout, exact byte counts, under one deadline.

The child gets a clean environment, its own session and nothing of the agent's open files; it is killed and reaped at
`close`, whatever it does. What it writes to stderr goes where the agent's goes.
Not handled here: what the bytes mean (`towpath_agent.trust.frames`), programs that belong to a release (`process`,
`hook`).
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, Self

from towpath.errors import Broken, Unavailable
from towpath_agent.system.clock import Clock, Deadline

_PIECE_BYTES = 64 * 1024
# What a Python needs to be found and started; never the agent's own settings or secrets.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")


class Conversation:
    """One child. Use as a context manager; every method raises Unavailable at the deadline, Broken where it is gone."""

    def __init__(self, argv: Sequence[str], *, clock: Clock, seconds: float) -> None:
        """Start `argv`; it has `seconds` for all it has to do."""
        self._name = " ".join(argv[-2:])
        self._deadline = Deadline(clock, seconds)
        env = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=env,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise Broken(f"cannot start {self._name}: {error.strerror}", code="cannot-start") from error
        assert self._process.stdin is not None  # noqa: S101 - both were asked for above
        assert self._process.stdout is not None  # noqa: S101
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)

    def send(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            self._wait(writable=True)
            try:
                view = view[os.write(self._to.fileno(), view[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone() from error

    def receive(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        parts = []
        while size > 0:
            self._wait(writable=False)
            part = os.read(self._from.fileno(), min(size, _PIECE_BYTES))
            if not part:
                raise self._gone()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, *, writable: bool) -> None:
        left = self._deadline.remaining()
        files = [self._to if writable else self._from]
        ready = select.select([] if writable else files, files if writable else [], [], left)
        if not (ready[0] or ready[1]):
            raise Unavailable(f"cannot wait longer for {self._name}: its deadline is over; it will be tried again")

    def _gone(self) -> Broken:
        self.close()
        return Broken(f"cannot go on: {self._name} ended with status {self._process.returncode}", code="child-died")

    def close(self) -> None:
        """Kill the child where it still runs, and reap it."""
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Return the child's process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def child_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return (reader, writer) of the child's side; whatever else prints to stdout goes to stderr from now on."""
    reader = os.fdopen(os.dup(0), "rb", buffering=0)
    writer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return reader, writer
