"""The process that makes one delta: a job and carried objects come on stdin, the delta goes out on stdout.

`python -m towpath_server.deltas.child CPU_S SCRATCH PARENT`. The job is one line of JSON: {"base": [[digest, size],
...], "new": [[digest, size, like], ...], "new_archives": [number, ...], "room": bytes}, digests in hex, `like` the
number of a base object or null. Then each object in that order: 8 bytes (big endian) with the length of its carried
form, and that. Archives are opened as long as their opened forms have room; where no new one is, the process ends with
exit code 4.

Rules: it must never be in the way of what serves hosts. It has the lowest priority, its CPU time is limited by the
kernel, it dies with its parent, and what it unpacks lies in files without names below SCRATCH, which are gone with it.
Objects are proven before they are used: a damaged one ends the process (exit code 3), not in a wrong delta.
"""

import ctypes
import hashlib
import json
import mmap
import os
import resource
import signal
import sys
import tempfile
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import IO, BinaryIO

import zstandard

from towpath.delta.opened import MAX_HEAD_BYTES, put_head
from towpath_server.deltas.encoder import encode
from towpath_server.deltas.opening import Opener, Part, put_magic
from towpath_server.deltas.pairing import NewObject
from towpath_server.deltas.process import EXIT_DAMAGED, EXIT_NOTHING, LENGTH_BYTES

NICE = 19
_PIECE_BYTES = 256 * 1024
_PR_SET_PDEATHSIG = 1


class _Damaged(Exception):
    """An object is not what its digest says, or the job is cut off."""


class NothingOpenedError(Exception):
    """No archive can be opened."""


class _Content:
    """Where an object's content goes: hashed, counted, written."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        self._out.write(data)
        return len(data)


def _humble(cpu_s: int, parent: int) -> None:
    """End with the process `parent`, which asked for this, and be the last in every queue."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this knew of it
        sys.exit(1)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def _take(source: BinaryIO, digest: bytes, size: int, out: IO[bytes]) -> None:
    left = int.from_bytes(_exactly(source, LENGTH_BYTES))
    content = _Content(out)
    writer = zstandard.ZstdDecompressor().stream_writer(content, closefd=False)  # type: ignore[arg-type]
    try:
        while left:
            piece = _exactly(source, min(left, _PIECE_BYTES))
            left -= len(piece)
            writer.write(piece)
    except zstandard.ZstdError as error:
        raise _Damaged from error
    if content.size != size or content.sha256.digest() != digest:
        raise _Damaged


def _exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise _Damaged
    return data


def _map(file: IO[bytes]) -> memoryview:
    file.flush()
    size = file.seek(0, os.SEEK_END)
    return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)) if size else memoryview(b"")


def make(source: BinaryIO, out: BinaryIO, scratch: Path) -> None:
    """Make the delta of the job on `source`; NothingOpenedError where it is to see into archives and cannot."""
    job = json.loads(source.readline())
    base = [(bytes.fromhex(digest), size) for digest, size in job["base"]]
    new = [(bytes.fromhex(digest), NewObject(size, like)) for digest, size, like in job["new"]]
    objects = [it for _, it in new]
    with ExitStack() as stack:
        packed, forms, old_content, new_content = (
            stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(4)
        )
        for digest, size in base:
            _take(source, digest, size, packed)
        packed.flush()
        starts = list(accumulate((size for _, size in base), initial=0))
        old = [Part(packed, start, size) for start, (_, size) in zip(starts, base, strict=False)]
        opener = Opener(scratch, job["room"], forms)
        for number, (digest, it) in enumerate(new):
            if number not in job["new_archives"] or it.like is None:
                _take(source, digest, it.size, new_content)
                continue
            with tempfile.TemporaryFile(dir=scratch) as archive:
                _take(source, digest, it.size, archive)
                size = opener.new(number, archive, it.like, old[it.like], new_content)
                objects[number] = NewObject(size, it.like)
        if job["new_archives"]:
            if not opener.made or len(put_head(opener.head)) > MAX_HEAD_BYTES:
                raise NothingOpenedError
            for number, part in enumerate(old):
                base[number] = opener.base(number, part, old_content) or base[number]
            out.write(put_magic(opener.head))
        content = old_content if opener.made else packed
        for piece in encode(base, _map(content), objects, _map(new_content), index_last=True):
            out.write(piece)
            out.flush()


def main() -> int:
    """Run one job."""
    cpu_s, scratch, parent = sys.argv[1:]
    _humble(int(cpu_s), int(parent))
    try:
        make(sys.stdin.buffer, sys.stdout.buffer, Path(scratch))
    except _Damaged:
        return EXIT_DAMAGED
    except NothingOpenedError:
        return EXIT_NOTHING
    return 0


if __name__ == "__main__":
    sys.exit(main())
