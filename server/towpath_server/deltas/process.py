"""Has a delta made by a process of its own (`deltas.child`), and watches over it.

Whoever calls waits, so it is called on a thread that nobody else needs. The process is ended where its delta gets as
long as the objects that it should save, where it takes too long, and when the server stops.
Not handled here: which deltas are wanted, where they are kept (`services.encoding`).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from towpath_server.deltas.pairing import Pairing
from towpath_server.ports import Blobs

# What `deltas.child` speaks; it is not imported here, for the server shall not carry what encoding needs.
LENGTH_BYTES = 8
EXIT_DAMAGED = 3
EXIT_NOTHING = 4
STOPPED = "the server stops"
_PIECE_BYTES = 256 * 1024
# The lowest priority on a busy machine: so many times the CPU time, and this long in any case.
_PATIENCE = 10
_LEAST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one delta may cost: seconds of CPU; and the folder that what is unpacked goes to."""

    cpu_s: int
    scratch: Path


class Maker:
    """Makes one delta at a time. `stop` may be called from another thread, once and for all."""

    def __init__(self, blobs: Blobs, allowance: Allowance) -> None:
        self._blobs, self._allowance = blobs, allowance
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        """End what runs; nothing begins any more."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def make(self, pairing: Pairing, write: Callable[[bytes], None], *, cap: int, room: int = 0) -> str:
        """Hand the delta to `write` piece by piece; return why there is none, or an empty text where it is whole.

        It has fewer than `cap` bytes; archives are opened while their forms have `room`. Broken, InputError:
        an object is not here any more.
        """
        process = self._start()
        if process is None:
            return STOPPED
        limit_s = _LEAST_WAIT_S + _PATIENCE * self._allowance.cpu_s
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, give_up)
        timer.start()
        try:
            made = self._run(process, _job(pairing, room), pairing, write, cap)
        finally:
            timer.cancel()
            process.kill()  # harmless where it has ended
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    _open(pipe).close()
            with self._lock:
                self._process = None
        if made >= cap:
            return f"it would have {cap} bytes or more, which it would not save"
        return "" if process.returncode == 0 else self._why(process.returncode, late=late.is_set(), limit_s=limit_s)

    def _start(self) -> subprocess.Popen[bytes] | None:
        words = [str(self._allowance.cpu_s), str(self._allowance.scratch), str(os.getpid())]
        with self._lock:
            if self._stopped:
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "towpath_server.deltas.child", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            return self._process

    def _run(
        self,
        process: subprocess.Popen[bytes],
        job: bytes,
        pairing: Pairing,
        write: Callable[[bytes], None],
        cap: int,
    ) -> int:
        """Return how many bytes were written; the process has ended by itself unless they reached `cap`."""
        with contextlib.suppress(BrokenPipeError):  # it ended: its exit code says why
            self._feed(_open(process.stdin), job, pairing)
        source = _open(process.stdout)
        made = 0
        while made < cap and (piece := source.read1(_PIECE_BYTES)):  # type: ignore[attr-defined]
            made += len(piece)
            if made < cap:
                write(piece)
        if made < cap:
            process.wait()
        return made

    def _feed(self, out: IO[bytes], job: bytes, pairing: Pairing) -> None:
        out.write(job)
        for digest in (*(digest for digest, _ in pairing.base), *pairing.new_digests):
            size = self._blobs.carried_size(digest) or 0
            out.write(size.to_bytes(LENGTH_BYTES))
            for piece in self._blobs.chunks(digest, 0, _PIECE_BYTES):
                out.write(piece)
        out.close()

    def _why(self, code: int, *, late: bool, limit_s: float) -> str:
        if self._stopped:
            return STOPPED
        if late:
            return f"making it took longer than {limit_s:g} s"
        if code == EXIT_DAMAGED:
            return "an object of one of the releases is damaged here"
        if code == EXIT_NOTHING:
            return "no archive of it can be opened within delta_largest and put back bit for bit"
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"making it took more than {self._allowance.cpu_s} s of CPU, or more memory than there is"
        return f"the process that makes it failed (exit {code})"


def _job(pairing: Pairing, room: int) -> bytes:
    """Return the first line that the process reads."""
    new = zip(pairing.new_digests, pairing.new, strict=True)
    job = {
        "base": [(digest.hex(), size) for digest, size in pairing.base],
        "new": [(digest.hex(), it.size, it.like) for digest, it in new],
        "new_archives": pairing.new_archives,
        "room": room,
    }
    return json.dumps(job).encode() + b"\n"


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - it was asked for
    return pipe
