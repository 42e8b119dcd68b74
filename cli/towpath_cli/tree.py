"""An artifact (folder, tar, single file) as a tree: its entries, their digests, and the bytes once more for upload.

Rules: two passes, so that memory stays flat whatever the size: the first hashes, the second hands out only what the
server lacks, and hashes it again, because a file may change in between. Deterministic: entries are sorted by path,
modes are 0755 where the owner may execute and 0644 elsewhere, folders 0755; owners and times are no part of a tree.
Refused, by the same `towpath.index.check_entries` as on the host: devices, sockets, escaping links, unsafe names; and
here also setuid, setgid and sticky files, whose bits would otherwise be lost in silence.

Packages and image archives are single files, for the install kinds that take them; for others, an error says so.
Not handled: OCI layouts as folders. Hard links inside a folder are plain files with equal
content: tools hard-link from their caches, and only the bytes count.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from towpath.errors import InputError, Refusal
from towpath.index import (
    MAX_ENTRIES,
    MAX_INDEX_BYTES,
    MAX_TREE_BYTES,
    Entries,
    Entry,
    EntryType,
    check_entries,
    objects,
)
from towpath.release import Artifact
from towpath.wire import encode_index

CHUNK_BYTES = 2**20
# Of threads that hash or pack: more would not be faster than the disk, and each takes memory.
WORKERS = min(4, os.cpu_count() or 1)
FILE_MODE = 0o644
PROGRAM_MODE = 0o755
UNSUPPORTED = {
    ".deb": "it is a Debian package; write install: {kind: deb}, or unpack it and name the folder",
    ".rpm": "it is an RPM package; write install: {kind: rpm}, or unpack it and name the folder",
    ".tar.bz2": "bzip2 archives are not supported; unpack it and name the folder",
    ".tbz2": "bzip2 archives are not supported; unpack it and name the folder",
}

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Content:
    """One object's bytes. `chunks` must be read to its end before the next content is asked for."""

    sha256: bytes
    size: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """Where a tree's bytes come from; both passes read the same place."""

    def scan(self, progress: Progress) -> list[Entry]:
        """Return the entries in any order, every file hashed; `progress` is called with bytes read."""
        ...

    def read(self, entries: Collection[Entry]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Yield each of these file entries with its bytes, in the source's own order."""
        ...


@dataclass(frozen=True, slots=True)
class Tree:
    """A checked tree and its serialized index."""

    entries: Entries
    index: bytes
    source: Source

    @property
    def artifact(self) -> Artifact:
        """Return what a release signs about this tree."""
        size = sum(entry.size for entry in self.entries if entry.type is EntryType.FILE)
        return Artifact(hashlib.sha256(self.index).digest(), len(self.index), size)

    @property
    def files(self) -> int:
        """Return how many files the tree has."""
        return sum(entry.type is EntryType.FILE for entry in self.entries)

    def objects(self) -> dict[bytes, int]:
        """Return digest to size of the index and of every distinct content."""
        return {self.artifact.index_sha256: len(self.index), **objects(self.entries)}

    def contents(self, wanted: Collection[bytes]) -> Iterator[Content]:
        """Yield each wanted object once; InputError where a file is no longer what was hashed."""
        left = set(wanted)
        index_sha256 = self.artifact.index_sha256
        if index_sha256 in left:
            left.discard(index_sha256)
            yield Content(index_sha256, len(self.index), iter([self.index]))
        chosen: list[Entry] = []
        for entry in self.entries:
            if entry.type is EntryType.FILE and entry.sha256 in left:
                left.discard(entry.sha256)
                chosen.append(entry)
        for entry, chunks in self.source.read(chosen):
            yield Content(entry.sha256, entry.size, _verified(entry, chunks))


def _verified(entry: Entry, chunks: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > entry.size:
            break
        yield chunk
    if size != entry.size or digest.digest() != entry.sha256:
        raise InputError(f"cannot publish {entry.path!r}: it changed while it was read; publish again", code="changed")


def no_progress(size: int) -> None:
    """Show nothing."""


def read_tree(path: Path, progress: Progress = no_progress, *, packed: bool = False) -> Tree:
    """Return the tree of the artifact at `path`, every file read and hashed once.

    With `packed`, for install kinds that take a package, a file is one entry whatever is in it.
    """
    source = open_source(path, packed=packed)
    try:
        entries = check_entries(sorted(source.scan(progress), key=lambda entry: entry.path))
    except OSError as error:
        raise InputError(f"cannot read the artifact {path}: {error.strerror or error}") from error
    index = encode_index(entries)
    if len(index) > MAX_INDEX_BYTES:
        raise Refusal(f"cannot use {path}: its index is longer than {MAX_INDEX_BYTES} bytes", code="endless-data")
    return Tree(entries, index, source)


def open_source(path: Path, *, packed: bool = False) -> Source:
    """Return the reader for an artifact, chosen by what is there and by its name."""
    name = path.name.lower()
    for suffix, reason in UNSUPPORTED.items():
        if name.endswith(suffix) and not packed:
            raise InputError(f"cannot use {path}: {reason}")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InputError(f"cannot read the artifact {path}: {error.strerror}; build it first") from error
    if stat.S_ISDIR(mode):
        if (path / "oci-layout").is_file():
            raise InputError(f"cannot use {path}: it is an OCI layout; pack it: tar -C {path} -cf image.tar .")
        return FolderSource(path)
    if not stat.S_ISREG(mode):
        raise InputError(f"cannot use {path}: an artifact is a folder, a tar or a file")
    if packed:
        return FileSource(path)
    from towpath_cli.tarball import TarSource, is_tar  # noqa: PLC0415 - it builds on this module

    return TarSource(path) if is_tar(name) else FileSource(path)


def file_mode(path: str, mode: int) -> int:
    """Return the normalized mode of a file; Refusal for setuid, setgid and sticky."""
    if mode & 0o7000:
        raise Refusal(
            f"cannot use {path!r}: setuid, setgid and sticky are not allowed; clear them with chmod", code="setuid"
        )
    return PROGRAM_MODE if mode & 0o100 else FILE_MODE


def _chunks(path: Path) -> Iterator[bytes]:
    # O_NOFOLLOW: what was a file when it was listed must not become a link to elsewhere.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def hash_chunks(chunks: Iterator[bytes], progress: Progress) -> tuple[int, bytes]:
    """Return size and SHA-256 of a content."""
    digest = hashlib.sha256()
    size = 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if size > MAX_TREE_BYTES:
            raise Refusal(f"cannot use a file of more than {MAX_TREE_BYTES} bytes", code="endless-data")
        progress(len(chunk))
    return size, digest.digest()


class FileSource:
    """One file: a tree with one entry, named as the file is."""

    def __init__(self, path: Path) -> None:
        """Take the file at `path`; a link to a file is followed."""
        self._path = path.resolve()
        self._name = path.name

    def scan(self, progress: Progress) -> list[Entry]:
        """Return the one entry."""
        mode = file_mode(self._name, self._path.stat().st_mode)
        size, sha256 = hash_chunks(_chunks(self._path), progress)
        return [Entry(self._name, EntryType.FILE, mode, size, sha256)]

    def read(self, entries: Collection[Entry]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Yield the file where it is wanted."""
        for entry in entries:
            yield entry, _read_again(self._path, entry)


class FolderSource:
    """A folder, walked without following links."""

    def __init__(self, path: Path) -> None:
        """Take the folder at `path`."""
        self._path = path

    def scan(self, progress: Progress) -> list[Entry]:
        """Return every entry below the folder; files are hashed side by side."""
        lock = threading.Lock()

        def told(size: int) -> None:
            with lock:
                progress(size)

        found = list(self._walk())
        with ThreadPoolExecutor(WORKERS, "hash") as pool:
            try:
                return list(pool.map(lambda it: self._entry(it[0], it[1], told), found))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        folders, count = [""], 0
        while folders:
            folder = folders.pop()
            with os.scandir(self._path / folder) as found:
                for item in found:
                    path = f"{folder}/{item.name}" if folder else item.name
                    count += 1
                    if count > MAX_ENTRIES:
                        raise Refusal(
                            f"cannot use {self._path}: it has more than {MAX_ENTRIES} entries", code="endless-data"
                        )
                    if item.is_dir(follow_symlinks=False):
                        folders.append(path)
                    yield path, item

    def _entry(self, path: str, item: os.DirEntry[str], progress: Progress) -> Entry:
        mode = item.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            return Entry(path, EntryType.LINK, target=os.readlink(self._path / path))  # noqa: PTH115 - as it is written
        if stat.S_ISDIR(mode):
            return Entry(path, EntryType.DIRECTORY)
        if not stat.S_ISREG(mode):
            raise Refusal(
                f"cannot use {path!r}: a tree has files, folders and links, no devices or sockets", code="device"
            )
        normal = file_mode(path, mode)
        try:
            size, sha256 = hash_chunks(_chunks(self._path / path), progress)
        except OSError as error:
            raise InputError(f"cannot read {path!r} of {self._path}: {error.strerror}") from error
        return Entry(path, EntryType.FILE, normal, size, sha256)

    def read(self, entries: Collection[Entry]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Yield the files in path order."""
        for entry in entries:
            yield entry, _read_again(self._path / entry.path, entry)


def _read_again(path: Path, entry: Entry) -> Iterator[bytes]:
    try:
        yield from _chunks(path)
    except OSError as error:
        raise InputError(
            f"cannot publish {entry.path!r}: {error.strerror} at the second reading; publish again", code="changed"
        ) from error
