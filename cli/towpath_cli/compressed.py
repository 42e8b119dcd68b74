"""Files of a release that are compressed already: what a delta between releases cannot see into.

A changed byte changes all that a packer writes behind it, so two versions of an archive share little. Objects and
deltas are compressed on their way anyway: what goes into a release uncompressed costs no more the first time, and every
time after that only what changed. The name makes a file suspect, its bytes decide: packers can store as well.
Archives that deltas see into (gzip and zip by zlib) are not told of; that is found out by opening them and putting them
back. Of a large one only the entries in its front are tried, and one that is a single large stream is told of.
"""

import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import IO

import zstandard

from towpath.delta import archives
from towpath.delta.closing import ReadAt, runs_of
from towpath.index import Entry, EntryType
from towpath.quantity import format_size
from towpath_cli.output import count
from towpath_cli.tree import Tree

SMALLEST_BYTES = 256 * 1024  # together; below that nobody waits for them
_SHOWN = 3
_LOOKED_CHUNKS = 4  # of a MiB: what comes first may be a table of contents in the clear
_SAVES = 0.9
_OPENED_PACKED_BYTES = 64 * 2**20  # so much of an archive is looked into
_COMPARED_BYTES = 64 * 2**20  # so much content is packed again
_PACKED = (".deb", ".rpm", ".gz", ".tgz", ".xz", ".txz", ".zst", ".tzst", ".bz2", ".tbz2", ".lz4", ".7z", ".br", ".zip",
           ".whl", ".jar", ".war", ".ear", ".egg", ".nupkg", ".apk", ".tar", ".oci")  # fmt: skip
_ADVICE = {
    "deb": "build it with dpkg-deb -Znone",
    "rpm": "build it with rpmbuild --define '_binary_payload w.ufdio'",
    "oci": "save it with layers that are not compressed (podman save --format docker-archive)",
}
_ELSE = "unpack it, or pack it without compression"


def notes(kind: str, tree: Tree) -> list[str]:
    """Return a line of advice where an update of this release would travel nearly whole for no good reason."""
    suspects = [
        entry for entry in tree.entries if entry.type is EntryType.FILE and entry.path.lower().endswith(_PACKED)
    ]
    if sum(entry.size for entry in suspects) < SMALLEST_BYTES:
        return []
    packed = [entry for entry, chunks in tree.source.read(suspects) if _is_packed(chunks)]
    size = sum(entry.size for entry in packed)
    if size < SMALLEST_BYTES:
        return []
    largest: list[Entry] = sorted(packed, key=lambda entry: (-entry.size, entry.path))[:_SHOWN]
    named = ", ".join(repr(entry.path) for entry in largest) + (", ..." if len(packed) > _SHOWN else "")
    are, them = ("is", "it") if len(packed) == 1 else ("are", "them")
    what = f"{count(len(packed), 'file')} ({named}; {format_size(size)}) {are} compressed already"
    advice = _ADVICE.get(kind, _ELSE)
    return [f"{what}: deltas cannot see into {them}, and updates travel nearly whole; {advice}"]


def _is_packed(chunks: Iterator[bytes]) -> bool:
    first = list(islice(chunks, _LOOKED_CHUNKS)) or [b""]
    if len(zstandard.ZstdCompressor(level=1).compress(first[-1])) <= _SAVES * len(first[-1]):
        return False
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as opened:
        for chunk in (*first, *chunks):
            packed.write(chunk[: _OPENED_PACKED_BYTES - packed.tell()])
            if packed.tell() >= _OPENED_PACKED_BYTES:
                break
        return not _comes_back(packed, opened)


def _comes_back(packed: IO[bytes], opened: IO[bytes]) -> bool:
    """Return whether deltas see into the archive: each stream that is looked at can be packed again as it was."""
    limit = archives.most_opened(packed.tell())
    is_cut = packed.tell() >= _OPENED_PACKED_BYTES
    packed.seek(0)
    streams: list[archives.Stream] = []
    try:
        archives.open_archive(packed.read, opened.write, limit=limit, found=streams.append)
    except archives.NotOpenedError:
        if not is_cut:
            return False
    total, few = 0, list[archives.Stream]()
    for stream in streams:
        total += stream.opened
        few.append(stream)
        if total >= _COMPARED_BYTES:
            break
    return bool(few) and runs_of(few, _reader(packed), _reader(opened)) is not None


def _reader(file: IO[bytes]) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read_at
