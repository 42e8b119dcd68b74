"""A terminal that a command runs on: a real pseudo-terminal of a chosen size, and what a person sees on it.

What the command writes goes through a terminal emulator (pyte), so a line that is too long wraps here as it does there,
and a picture that is drawn over another one leaves behind what it would leave behind.
"""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte

SCROLLED_BACK = 2_000
END_S = 60.0


class Screen:
    """One command on a terminal of its own. Use as a context manager; the command ends with it at the latest."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, columns: int = 80, rows: int = 40
    ) -> None:
        """Start the command. Of `env` what would change width or colours is left out."""
        kept = {key: value for key, value in env.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._screen = pyte.HistoryScreen(columns, rows, history=SCROLLED_BACK, ratio=1.0)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        self.pictures: list[list[str]] = []
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**kept, "TERM": "xterm-256color"},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, name="screen")
        self._reader.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the command, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(END_S)
        self._reader.join(END_S)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # EIO: nobody has the other side open any more
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
                now = self._lines()
                if not self.pictures or self.pictures[-1] != now:
                    self.pictures.append(now)

    def _lines(self) -> list[str]:
        width = self._screen.columns
        gone = ["".join(line[x].data for x in range(width)).rstrip() for line in self._screen.history.top]
        lines = gone + [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def lines(self) -> list[str]:
        """What is on it now, with what has scrolled out at its top."""
        with self._lock:
            return self._lines()

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)

    def end(self, timeout_s: float = END_S) -> int:
        """Wait for the command's own end; return its exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(END_S)
        return code
