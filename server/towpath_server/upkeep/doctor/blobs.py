"""The objects: is each that a published release needs where the server keeps them, and what its name says.

What is proven damaged is put aside: as long as it is there nobody uploads it again.
"""

from collections.abc import Iterator, Mapping
from random import Random

from towpath.errors import Broken, InputError, Refusal, TowpathError, Unavailable
from towpath.findings import Finding, fail, ok
from towpath.index import objects
from towpath.wire import decode_index, decode_release
from towpath_server.ports import Blobs, Transaction
from towpath_server.storage.frames import FrameCheck
from towpath_server.upkeep.backup import Progress

SAMPLE = 200
SHOWN = 3
_PIECE_BYTES = 256 * 1024
_AGAIN = "publish the release again from its sources: missing objects are uploaded; or restore objects from a backup"


def wanted(blobs: Blobs, tx: Transaction, found: dict[bytes, int]) -> Iterator[Finding]:
    """Fill `found` with the digest and size of every object that a release needs; say which indexes cannot be read.

    Unavailable where the store does not answer.
    """
    for row in tx.releases():
        artifact = decode_release(row.data).artifact
        try:
            found |= objects(decode_index(blobs.read(artifact.index_sha256, artifact.index_size)))
        except Unavailable:
            raise
        except (TowpathError, OSError) as error:
            trouble = f"{error}{_aside(blobs, artifact.index_sha256, artifact.index_size)}"
            yield fail("objects", f"{row.app} {row.version} cannot be sent: its index: {trouble}; {_AGAIN}")
        else:
            found[artifact.index_sha256] = artifact.index_size


def check(blobs: Blobs, found: Mapping[bytes, int], *, full: bool, progress: Progress) -> Iterator[Finding]:
    """Look for all of `found`, and read all of them (`full`), or a sample that differs from time to time.

    Unavailable where the store does not answer.
    """
    wrong = dict.fromkeys(blobs.missing(found), "missing")
    here = sorted(found.keys() - wrong.keys())
    chosen = here if full or len(here) <= SAMPLE else Random().sample(here, SAMPLE)
    for count, digest in enumerate(chosen):
        progress(count, len(chosen))
        trouble = _trouble(blobs, digest, found[digest])
        if trouble:
            wrong[digest] = trouble
    for digest, trouble in sorted(wrong.items())[:SHOWN]:
        yield fail("objects", f"{digest.hex()[:16]} is {trouble}; {_AGAIN}")
    if len(wrong) > SHOWN:
        yield fail("objects", f"{len(wrong) - SHOWN} more are missing or damaged")
    if not wrong:
        rest = "" if len(chosen) == len(here) else ", the others are there; --full reads all"
        yield ok("objects", f"{len(found)} are needed, {len(chosen)} were read and are whole{rest}")


def _trouble(blobs: Blobs, digest: bytes, size: int) -> str:
    """Return what is wrong with an object whose content has `size` bytes, an empty text for nothing; put it aside."""
    frame = FrameCheck(digest, size)
    try:
        for piece in blobs.chunks(digest, 0, _PIECE_BYTES):
            frame.feed(piece)
        frame.finish()
    except InputError:
        return "missing"
    except Refusal as error:
        return f"damaged ({error}){_aside(blobs, digest, size)}"
    except Broken as error:
        return f"unreadable ({error}){_aside(blobs, digest, size)}"
    return ""


def _aside(blobs: Blobs, digest: bytes, size: int) -> str:
    """Let an object be missing where it is damaged; return what is to be added to what is said of it."""
    try:
        return ", and was put aside" if blobs.set_aside(digest, size) else ""
    except TowpathError as error:
        return f"; {error}"
