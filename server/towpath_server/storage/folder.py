"""Objects in a folder: `objects/ab/cdef...`, each in its carried form, one zstandard frame.

Rules:
- An object is checked while it arrives (`frames.FrameCheck`), written to a unique temporary name, made durable,
  renamed to its digest, and the folder made durable: what is there is whole, also after a power cut. Many small
  objects share one syncfs: an fsync each would cost milliseconds per file of a release. Leftovers are swept at
  opening.
- Reading for a host sends the stored bytes as they are: the host checks the digest. `read`, for the server's own use,
  checks it too.
- What is proven damaged is renamed to `cdef....damaged`: it is missing from then on, and comes again with the next
  upload. A file that is too short for a frame is missing as it is, one of another length than what comes is replaced.
Not handled here: which objects are still needed (nothing is deleted yet), object stores other than a folder.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import zstandard

from towpath.errors import Broken, InputError, Refusal
from towpath_server.ports import BlobWriter
from towpath_server.storage.frames import MAX_WINDOW_BYTES, SHORTEST_BYTES, FrameCheck

_DIGEST_BYTES = 32
_PIECE_BYTES = 256 * 1024
_FEW = 4
_DAMAGED = ".damaged"


def _sync(paths: Sequence[Path]) -> None:
    """Make files or folders of one filesystem durable: one by one where they are few, else with one syncfs."""
    if not paths:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    whole = len(paths) > _FEW and hasattr(libc, "syncfs")
    for path in paths[:1] if whole else paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            if not whole:
                os.fsync(handle)
            elif libc.syncfs(handle) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(handle)


def _broken(what: str, error: OSError) -> Broken:
    return Broken(f"cannot {what}: {error.strerror or error}; look at the disk of the server")


def hold(incoming: Path) -> int:
    """Make the folder for what arrives, and return a handle that holds it until it is closed.

    Who holds it alone sweeps what an upload left that a crash cut; what others receive there now stays.
    """
    incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(incoming, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for leftover in incoming.iterdir():
            leftover.unlink()
    except BlockingIOError:
        pass
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


class FolderBlobs:
    """`ports.Blobs` in a folder."""

    def __init__(self, root: Path, *, looking: bool = False) -> None:
        """Make the folder where it is missing, and sweep what an interrupted upload left; not where only `looking`."""
        self._objects = root
        self._incoming = root / "incoming"
        if looking:
            return
        weakref.finalize(self, os.close, hold(self._incoming))
        for first in range(256):
            (root / f"{first:02x}").mkdir(mode=0o700, exist_ok=True)

    def _path(self, digest: bytes) -> Path:
        if len(digest) != _DIGEST_BYTES:
            raise InputError(f"cannot look up an object: a digest has {_DIGEST_BYTES} bytes, not {len(digest)}")
        name = digest.hex()
        return self._objects / name[:2] / name[2:]

    def missing(self, digests: Iterable[bytes], *, anew: bool = False) -> list[bytes]:  # noqa: ARG002 - it always is
        """See `ports.Blobs`."""
        return [digest for digest in dict.fromkeys(digests) if self.carried_size(digest) is None]

    def carried_size(self, digest: bytes) -> int | None:
        """See `ports.Blobs`."""
        return _size(self._path(digest))

    def link(self, digest: bytes) -> None:
        """See `ports.Blobs`: nobody reaches this folder but the server."""

    def _open(self, digest: bytes) -> BinaryIO:
        try:
            file = self._path(digest).open("rb")
        except FileNotFoundError as error:
            raise _gone(digest) from error
        if os.fstat(file.fileno()).st_size < SHORTEST_BYTES:
            file.close()
            raise _gone(digest)
        return file

    def chunks(self, digest: bytes, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """See `ports.Blobs`."""
        try:
            with self._open(digest) as file:
                file.seek(offset)
                while data := file.read(chunk_bytes):
                    yield data
        except OSError as error:
            raise _broken(f"read object {digest.hex()[:16]}", error) from error

    def writer(self, digest: bytes, size: int) -> "FolderWriter":
        """See `ports.Blobs`."""
        return FolderWriter(self._path(digest), self._incoming / secrets.token_hex(16), FrameCheck(digest, size))

    def publish(self, writers: Sequence[BlobWriter]) -> int:
        """See `ports.Blobs`."""
        mine = [writer for writer in writers if isinstance(writer, FolderWriter)]
        fresh = {writer.path: writer for writer in mine if _size(writer.path) != writer.size}
        try:
            _sync([writer.temporary for writer in fresh.values()])
            for path, writer in fresh.items():
                writer.temporary.rename(path)
            _sync(sorted({path.parent for path in fresh}))
        except OSError as error:
            raise _broken("store objects", error) from error
        for writer in mine:
            writer.abort()
        return len(fresh)

    def read(self, digest: bytes, limit: int) -> bytes:
        """See `ports.Blobs`."""
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        with self._open(digest) as file, decompressor.stream_reader(file, closefd=False) as reader:
            try:
                data = reader.read(limit + 1)
            except zstandard.ZstdError as error:
                raise self._damaged(digest, file) from error
            if len(data) > limit:
                raise Refusal(f"cannot read object {digest.hex()[:16]}: more than {limit} bytes", code="endless-data")
            if hashlib.sha256(data).digest() != digest:
                raise self._damaged(digest, file)
        return data

    def set_aside(self, digest: bytes, size: int) -> bool:
        """See `ports.Blobs`. What the disk cannot give is damaged too; all else that it says is Broken."""
        try:
            with self._open(digest) as file:
                if _whole(file, FrameCheck(digest, size)):
                    return False
                self._rename(digest, file)
        except InputError:
            return False
        except OSError as error:
            raise _broken(f"put object {digest.hex()[:16]} aside", error) from error
        return True

    def _damaged(self, digest: bytes, file: BinaryIO) -> Broken:
        """Put `file` aside; return what is said of it."""
        try:
            self._rename(digest, file)
        except OSError as error:
            why = error.strerror or error
            return Broken(
                f"cannot read object {digest.hex()[:16]}: it is damaged, and cannot be put aside ({why}); remove "
                f"{self._path(digest)} and upload it again"
            )
        return Broken(f"cannot read object {digest.hex()[:16]}: it is damaged; upload it again")

    def _rename(self, digest: bytes, file: BinaryIO) -> None:
        """Let the object be missing that `file` is, but not one that another server put in its place meanwhile."""
        path = self._path(digest)
        aside = path.with_name(path.name + _DAMAGED)
        try:
            path.rename(aside)
            if not os.path.samestat(aside.stat(), os.fstat(file.fileno())):
                aside.rename(path)  # it is whole, and so is what a third one may have put there
        except FileNotFoundError:  # another server puts it aside, too
            return


def _size(path: Path) -> int | None:
    """Return the length of an object's file; None where it is not there, or can be no object."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    return size if size >= SHORTEST_BYTES else None


def _whole(file: BinaryIO, check: FrameCheck) -> bool:
    """Return whether `file` is what `check` looks for; OSError but for bytes that the disk has lost."""
    try:
        while data := file.read(_PIECE_BYTES):
            check.feed(data)
        check.finish()
    except Refusal:
        return False
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    return True


def _gone(digest: bytes) -> InputError:
    return InputError(f"cannot read object {digest.hex()[:16]}: it is not here", code="not-found")


class FolderWriter:
    """`ports.BlobWriter` to a temporary file that `FolderBlobs.publish` renames."""

    def __init__(self, path: Path, temporary: Path, check: FrameCheck) -> None:
        self.path = path
        self.temporary = temporary
        self.size = 0  # of the carried form so far
        self._check = check
        try:
            self._file = temporary.open("xb")
        except OSError as error:
            raise _broken("store an object", error) from error

    def write(self, data: bytes) -> None:
        """See `ports.BlobWriter`."""
        for start in range(0, len(data), _PIECE_BYTES):
            self._check.feed(data[start : start + _PIECE_BYTES])
        try:
            self._file.write(data)
        except OSError as error:
            raise _broken("store an object", error) from error
        self.size += len(data)

    def finish(self) -> None:
        """See `ports.BlobWriter`."""
        self._check.finish()
        try:
            self._file.close()
        except OSError as error:
            raise _broken("store an object", error) from error

    def abort(self) -> None:
        """See `ports.BlobWriter`."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self.temporary.unlink()
