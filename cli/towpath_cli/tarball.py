"""Tar archives (.tar, .tar.gz, .tar.xz, .tar.zst) as a tree's source, read as a stream and never unpacked to disk.

Rules: names are normalized (`./a//b` is `a/b`) and folders that an archive leaves out are added, so that the same files
give the same tree however they were packed. A hard link is a file with the content of the member that it names; one to
outside the archive is refused, and so is a path that is there twice. A cut archive is an error.
"""

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import zstandard

from towpath.errors import InputError, Refusal
from towpath.index import MAX_ENTRIES, Entry, EntryType
from towpath_cli.tree import CHUNK_BYTES, Progress, file_mode, hash_chunks

_GZIP = (".tar.gz", ".tgz")
_XZ = (".tar.xz", ".txz")
_ZSTD = (".tar.zst", ".tar.zstd", ".tzst")
_SUFFIXES = (".tar", *_GZIP, *_XZ, *_ZSTD)
_MAX_WINDOW_BYTES = 2**27  # what `zstd --long` makes; more would let an archive claim any memory


def is_tar(name: str) -> bool:
    """Return True where a lower-case file name says that it is a tar that can be read."""
    return name.endswith(_SUFFIXES)


def _normal(name: str, whole: str) -> str:
    if name.startswith("/"):
        raise Refusal(f"cannot use {name[:200]!r} of {whole}: a path is relative", code="path-traversal")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refusal(f"cannot use {name[:200]!r} of {whole}: '..' is not allowed", code="path-traversal")
    return "/".join(parts)


class TarSource:
    """A tar file; both passes stream through it."""

    def __init__(self, path: Path) -> None:
        """Take the archive at `path`; the compression is told by its name."""
        self._path = path
        self._holders: dict[bytes, str] = {}

    @contextmanager
    def _open(self) -> Iterator[tarfile.TarFile]:
        name = self._path.name.lower()
        with self._one_line_errors(), self._path.open("rb") as raw:
            stream: IO[bytes] = raw
            if name.endswith(_GZIP):
                stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
            elif name.endswith(_XZ):
                stream = cast("IO[bytes]", lzma.LZMAFile(raw))  # noqa: SIM115 - its file is closed by the with
            elif name.endswith(_ZSTD):
                unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
                stream = cast("IO[bytes]", unpacker.stream_reader(raw, read_across_frames=True, closefd=False))
            with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK_BYTES) as tar:
                yield tar

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}") from error
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise InputError(
                f"cannot read {self._path}: it is no whole tar archive ({error}); pack it again"
            ) from error

    def _members(self, tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member for seeking; a stream has no use for them
            path = _normal(member.name, self._path.name)
            if path:
                yield path, member
        # tarfile takes an archive that was cut between two members for a whole one: its block of zeros must be there.
        if cast("IO[bytes]", tar.fileobj).tell() <= tar.offset:
            raise tarfile.ReadError("its end is missing")

    def _bytes(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
        with self._one_line_errors():
            file = tar.extractfile(member)
            left = member.size
            while left and file is not None:
                chunk = file.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise tarfile.ReadError("unexpected end of data")
                left -= len(chunk)
                yield chunk

    def scan(self, progress: Progress) -> list[Entry]:
        """Return every entry of the archive."""
        found: dict[str, Entry] = {}
        with self._open() as tar:
            for path, member in self._members(tar):
                if len(found) >= MAX_ENTRIES:
                    raise Refusal(f"cannot use {self._path}: more than {MAX_ENTRIES} entries", code="endless-data")
                old = found.get(path)
                if old is not None and not (member.isdir() and old.type is EntryType.DIRECTORY):
                    raise Refusal(f"cannot use {path!r} of {self._path.name}: it is there twice", code="path-traversal")
                found[path] = self._entry(path, member, tar, found, progress)
        if "oci-layout" in found:
            raise InputError(f"cannot use {self._path}: it is an image archive; write install: {{kind: oci}}")
        for path in list(found):
            parent = path.rpartition("/")[0]
            while parent and parent not in found:
                found[parent] = Entry(parent, EntryType.DIRECTORY)
                parent = parent.rpartition("/")[0]
        return list(found.values())

    def _entry(
        self, path: str, member: tarfile.TarInfo, tar: tarfile.TarFile, found: dict[str, Entry], progress: Progress
    ) -> Entry:
        if member.isdir():
            return Entry(path, EntryType.DIRECTORY)
        if member.issym():
            return Entry(path, EntryType.LINK, target=member.linkname)
        if member.islnk():
            first = found.get(_normal(member.linkname, self._path.name))
            if first is None or first.type is not EntryType.FILE:
                raise Refusal(
                    f"cannot use {path!r} of {self._path.name}: it is a hard link to {member.linkname[:200]!r}, "
                    "which is no file of this archive",
                    code="path-traversal",
                )
            return Entry(path, EntryType.FILE, first.mode, first.size, first.sha256)
        if not member.isreg():
            raise Refusal(f"cannot use {path!r}: a tree has files, folders and links, no devices", code="device")
        mode = file_mode(path, member.mode)
        size, sha256 = hash_chunks(self._bytes(tar, member), progress)
        self._holders.setdefault(sha256, path)
        return Entry(path, EntryType.FILE, mode, size, sha256)

    def read(self, entries: Collection[Entry]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Yield the wanted files in the archive's order."""
        # A path of the tree may be a hard link: its bytes stand at the member that held this content first.
        left = {self._holders[entry.sha256]: entry for entry in entries}
        if not left:
            return
        with self._open() as tar:
            for path, member in self._members(tar):
                if path in left and member.isreg():
                    yield left.pop(path), self._bytes(tar, member)
        if left:
            raise InputError(f"cannot publish {min(left)!r}: {self._path} changed; publish again", code="changed")
