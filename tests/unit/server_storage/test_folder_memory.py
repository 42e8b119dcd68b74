"""What an upload costs the server: nothing for what has arrived, however much waits to become visible with it."""

import hashlib
import os
from pathlib import Path

import zstandard

from towpath_server.storage import FolderBlobs

OBJECTS = 200
MIB = 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_object_that_has_arrived_holds_no_memory_while_its_batch_goes_on(tmp_path: Path) -> None:
    """A decompressor has a window of up to 8 MiB, and a batch has up to 512 objects."""
    blobs = FolderBlobs(tmp_path)
    content = os.urandom(MIB)
    digest, carried = hashlib.sha256(content).digest(), zstandard.ZstdCompressor().compress(content)
    finished = []
    before = resident_bytes()
    for _ in range(OBJECTS):
        writer = blobs.writer(digest, len(content))
        writer.write(carried)
        writer.finish()
        finished.append(writer)
    assert resident_bytes() - before < OBJECTS * MIB // 4
    assert blobs.publish(finished) == 1
