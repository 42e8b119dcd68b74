"""The file of a backup: a tar, compressed with zstandard, that proves itself.

    towpath-backup.json   first: format, the Towpath and schema that wrote it, when
    towpath.db, ca.pem, ca.key, keys/..., metadata/..., objects/ab/...
    sums.json             last: size and SHA-256 of every file before it

Rules: a file that is cut off, changed in any byte, or holds something else is refused with one line that says so; names
are plain relative ones, so nothing is ever written outside of the folder given; what is unpacked is 0600 in folders
0700.
Not handled here: what belongs into a backup (`backup`), secrecy of the file beyond its mode 0600.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import zstandard

from towpath.errors import Broken, InputError, TowpathError

FORMAT = 1
HEAD = "towpath-backup.json"
SUMS = "sums.json"
LEVEL = 3
MAX_HEAD_BYTES = 64 * 1024
MAX_SUMS_BYTES = 512 * 2**20
PIECE_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")

Said = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Head:
    """What a backup says about itself. `made_unix_ms`: the moment of its database."""

    format: int
    towpath: str
    schema: str
    made_unix_ms: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What a file in the archive has to be."""

    size: int
    sha256: str


class _Hashing:
    """A file that is hashed while tar reads it."""

    def __init__(self, file: IO[bytes], said: Said) -> None:
        self._file, self._said = file, said
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self.size += len(data)
        self._said(len(data))
        return data

    def sum(self) -> Sum:
        return Sum(self.size, self._hash.hexdigest())


class ArchiveWriter:
    """Adds files; `writing` finishes it."""

    def __init__(self, tar: tarfile.TarFile, head: Head, said: Said) -> None:
        self._tar, self._said = tar, said
        self._time = head.made_unix_ms // 1000
        self._sums: dict[str, Sum] = {}
        self._add(HEAD, json.dumps(asdict(head)).encode())

    def add(self, name: str, path: Path) -> None:
        """Add a file under `name`."""
        if _NAME.fullmatch(name) is None:
            raise InputError(f"cannot back up {path}: no file of a server has such a name; move it away")
        with path.open("rb") as file:
            self._put(name, os.fstat(file.fileno()).st_size, file)

    def finish(self) -> int:
        """Add the sums; return how many files there are."""
        count = len(self._sums)
        self._add(SUMS, json.dumps({name: asdict(one) for name, one in self._sums.items()}).encode())
        return count

    def _add(self, name: str, data: bytes) -> None:
        self._put(name, len(data), BytesIO(data))

    def _put(self, name: str, size: int, file: IO[bytes]) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, self._time
        hashing = _Hashing(file, self._said)
        self._tar.addfile(info, hashing)
        self._sums[name] = hashing.sum()


@contextmanager
def writing(path: Path, head: Head, said: Said) -> Iterator[ArchiveWriter]:
    """Yield a writer to a new file at `path`, 0600, durable at the end; Broken where the disk fails."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
            with (
                compressor.stream_writer(out, closefd=False) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
            ):
                writer = ArchiveWriter(tar, head, said)
                yield writer
                writer.finish()
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise Broken(f"cannot write {path}: {error.strerror or error}; is there room for it?") from error


def unpack(path: Path, into: Path | None, said: Said) -> Head:
    """Check all of the archive, and write its files below `into` where that is given; return its head.

    InputError where it is no backup, not whole, or of a newer Towpath. What was written is not yet durable.
    """
    try:
        with path.open("rb") as file:
            return _unpack(path, file, into, said)
    except TowpathError:
        raise
    except (
        tarfile.TarError,
        zstandard.ZstdError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise InputError(f"cannot read the backup: {error.filename or path}: {error.strerror or error}") from error


def _unpack(path: Path, file: IO[bytes], into: Path | None, said: Said) -> Head:
    found: dict[str, Sum] = {}
    head: Head | None = None
    listed: Mapping[str, Sum] | None = None
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=False, closefd=False)
    with tarfile.open(fileobj=reader, mode="r|") as tar:
        for member in tar:
            if listed is not None:
                raise _damaged(path, "something comes after its list of sums")
            name = member.name
            if not member.isreg() or _NAME.fullmatch(name) is None or name in found:
                raise _damaged(path, f"{name[:80]!r} does not belong into it")
            content = tar.extractfile(member)
            if content is None:
                raise _damaged(path, f"{name[:80]!r} has no content")
            if head is None:
                head, found[name] = _head(path, name, _small(path, content, MAX_HEAD_BYTES))
            elif name == SUMS:
                table = json.loads(_small(path, content, MAX_SUMS_BYTES))
                listed = {key: Sum(**value) for key, value in table.items()}
            else:
                found[name] = _take(content, into, name, said)
    if head is None or listed is None:
        raise _damaged(path, "it ends too early")
    for name in sorted(found.keys() | listed.keys()):
        if found.get(name) != listed.get(name):
            raise _damaged(path, f"{name} is not what was written")
    return head


def _small(path: Path, content: IO[bytes], limit: int) -> bytes:
    data = content.read(limit + 1)
    if len(data) > limit:
        raise _damaged(path, "a list in it is too long")
    return data


def _head(path: Path, name: str, data: bytes) -> tuple[Head, Sum]:
    if name != HEAD:
        raise _damaged(path, f"it begins with {name[:80]!r}")
    fields = json.loads(data)
    if fields["format"] != FORMAT:
        raise InputError(
            f"cannot use {path}: a backup of format {fields['format']}, this Towpath knows {FORMAT}; use a newer one"
        )
    return Head(**fields), Sum(len(data), hashlib.sha256(data).hexdigest())


def _take(content: IO[bytes], into: Path | None, name: str, said: Said) -> Sum:
    """Read a file to its end, and write it below `into`."""
    hashing = _Hashing(content, said)
    if into is None:
        while hashing.read(PIECE_BYTES):
            pass
        return hashing.sum()
    target = into / name
    for folder in reversed(target.relative_to(into).parents):
        (into / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        while data := hashing.read(PIECE_BYTES):
            out.write(data)
    return hashing.sum()


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"cannot use {path}: it is no whole backup ({' '.join(why.split())[:200]}); nothing was changed, take another",
        code="damaged-backup",
    )
