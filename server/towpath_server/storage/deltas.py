"""Deltas in a folder: `deltas/<old index, hex>-<new index, hex>`, beside the objects; `.opened` sees into archives.

Rules:
- What has its name is whole: it is written below `incoming/`, made durable and renamed.
- Who makes a delta holds a lock on its file there. A second server on the same folder sees that and leaves it; the lock
  of one that was killed is gone with it, and its leftover is written over, or swept by the next server that opens.
- The time of a file is when a host last fetched it. `<name>.none` says why there is no delta; after a day it counts no
  more, for the trouble may have been a passing one.
"""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from towpath.errors import Broken, InputError
from towpath_server.domain.deltas import Kept, Pair

REFUSED_S = 24 * 3600.0
_MAX_REASON_BYTES = 1000
_NAME = re.compile(r"([0-9a-f]{64})-([0-9a-f]{64})(\.opened)?")
_NONE = ".none"
_OPENED = ".opened"


def _name(pair: Pair) -> str:
    return f"{pair.old.hex()}-{pair.new.hex()}{_OPENED if pair.opened else ''}"


def _broken(error: OSError) -> Broken:
    return Broken(f"cannot keep a delta: {error.strerror or error}; look at the disk of the server")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _lock(path: Path) -> BinaryIO | None:
    """Open `path`, made where it is missing, and lock it; None where another has it, or it is renamed meanwhile."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here, mine = path.stat(), os.fstat(file.fileno())
    except (BlockingIOError, FileNotFoundError):
        file.close()
        return None
    if (here.st_dev, here.st_ino) != (mine.st_dev, mine.st_ino):
        file.close()
        return None
    return file


class FolderDeltas:
    """`ports.Deltas` in a folder."""

    def __init__(self, root: Path) -> None:
        """Make the folder where it is missing, and sweep what a server that was killed left."""
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                file = _lock(leftover)
                if file is not None:
                    leftover.unlink()
                    file.close()

    def size(self, pair: Pair) -> int | None:
        """See `ports.Deltas`."""
        try:
            return (self._root / _name(pair)).stat().st_size
        except FileNotFoundError:
            return None

    def chunks(self, pair: Pair, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """See `ports.Deltas`."""
        path = self._root / _name(pair)
        try:
            file = path.open("rb")
            os.utime(file.fileno())
        except FileNotFoundError as error:
            raise InputError("cannot read a delta: it is not here", code="not-found") from error
        with file:
            file.seek(offset)
            while data := file.read(chunk_bytes):
                yield data

    def room(self) -> int:
        """See `ports.Deltas`."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def scratch(self) -> IO[bytes]:
        """See `ports.Deltas`."""
        return tempfile.TemporaryFile(dir=self._incoming)

    def begin(self, pair: Pair) -> "FolderDeltaWriter | None":
        """See `ports.Deltas`."""
        temporary = self._incoming / _name(pair)
        try:
            file = _lock(temporary)
            if file is None:
                return None
            file.truncate(0)
        except OSError as error:
            raise _broken(error) from error
        return FolderDeltaWriter(self._root / _name(pair), temporary, file)

    def refuse(self, pair: Pair, why: str) -> None:
        """See `ports.Deltas`."""
        path, temporary = self._root / f"{_name(pair)}{_NONE}", self._incoming / f"{_name(pair)}{_NONE}"
        try:
            with temporary.open("wb") as file:
                file.write(why.encode()[:_MAX_REASON_BYTES])
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            _sync_folder(self._root)
        except OSError as error:
            raise _broken(error) from error

    def refusal(self, pair: Pair) -> str:
        """See `ports.Deltas`."""
        path = self._root / f"{_name(pair)}{_NONE}"
        try:
            if path.stat().st_mtime + REFUSED_S < time.time():
                path.unlink()
                return ""
            return path.read_bytes()[:_MAX_REASON_BYTES].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def kept(self) -> list[Kept]:
        """See `ports.Deltas`."""
        found = []
        for path in self._root.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                pair = Pair(bytes.fromhex(match[1]), bytes.fromhex(match[2]), bool(match[3]))
                found.append(Kept(pair, facts.st_size, facts.st_mtime_ns // 1_000_000))
        return found

    def remove(self, pair: Pair) -> None:
        """See `ports.Deltas`."""
        (self._root / _name(pair)).unlink(missing_ok=True)


class FolderDeltaWriter:
    """`ports.DeltaWriter` to a locked file."""

    def __init__(self, path: Path, temporary: Path, file: BinaryIO) -> None:
        self._path, self._temporary, self._file = path, temporary, file
        self._published = False

    def write(self, data: bytes) -> None:
        """See `ports.DeltaWriter`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise _broken(error) from error

    def publish(self) -> None:
        """See `ports.DeltaWriter`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.rename(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise _broken(error) from error
        self._published = True
        self._file.close()

    def abort(self) -> None:
        """See `ports.DeltaWriter`."""
        if self._published or self._file.closed:
            return
        # Removed under the lock: another server that opened it finds that it is not the named file any more.
        self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be written is not wanted
            self._file.close()
