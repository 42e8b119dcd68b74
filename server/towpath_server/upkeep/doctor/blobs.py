"""The objects: is each that a published release needs here, and what its name says."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from towpath.errors import TowpathError
from towpath.findings import Finding, fail, ok
from towpath.index import objects
from towpath.wire import decode_index, decode_release
from towpath_server.ports import Transaction
from towpath_server.storage import FolderBlobs
from towpath_server.upkeep.backup import Progress

SAMPLE = 200
SHOWN = 3
_AGAIN = "publish the release again from its sources: missing objects are uploaded; or restore objects/ from a backup"


def wanted(folder: Path, tx: Transaction, found: dict[bytes, int]) -> Iterator[Finding]:
    """Fill `found` with the digest and size of every object that a release needs; say which indexes cannot be read."""
    blobs = FolderBlobs(folder / "objects", looking=True)
    for row in tx.releases():
        artifact = decode_release(row.data).artifact
        try:
            found |= objects(decode_index(blobs.read(artifact.index_sha256, artifact.index_size)))
        except (TowpathError, OSError) as error:
            yield fail("objects", f"{row.app} {row.version} cannot be sent: its index: {error}; {_AGAIN}")
        else:
            found[artifact.index_sha256] = artifact.index_size


def check(folder: Path, found: Mapping[bytes, int], *, full: bool, progress: Progress) -> Iterator[Finding]:
    """Look for all of `found`, and read all of them (`full`), or a sample that differs from time to time."""
    blobs = FolderBlobs(folder / "objects", looking=True)
    wrong = dict.fromkeys(blobs.missing(found), "missing")
    here = sorted(found.keys() - wrong.keys())
    chosen = here if full or len(here) <= SAMPLE else Random().sample(here, SAMPLE)
    for count, digest in enumerate(chosen):
        progress(count, len(chosen))
        trouble = blobs.check(digest, found[digest])
        if trouble:
            wrong[digest] = trouble
    for digest, trouble in sorted(wrong.items())[:SHOWN]:
        yield fail("objects", f"{digest.hex()[:16]} is {trouble}; {_AGAIN}")
    if len(wrong) > SHOWN:
        yield fail("objects", f"{len(wrong) - SHOWN} more are missing or damaged")
    if not wrong:
        rest = "" if len(chosen) == len(here) else ", the others are there; --full reads all"
        yield ok("objects", f"{len(found)} are needed, {len(chosen)} were read and are whole{rest}")
