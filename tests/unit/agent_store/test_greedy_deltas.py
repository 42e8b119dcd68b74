"""Deltas made to fill an agent's memory: what each adds stays below what an agent of some 30 MiB has up to its 64."""

import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from fakes.deltas import delta, frame, named, numbers
from towpath.delta import opened
from towpath.delta.frame import MAX_STEPS, Extent, put_extents
from towpath.delta.layout import (
    FRAME_BYTES,
    MAX_EXTENTS,
    MAX_OBJECTS,
    WINDOW_BYTES,
    ZSTD_WINDOW_LOG,
    Codec,
    Kind,
    lzma_filters,
)

MAY_ADD_MIB = 30
BASE = [bytes(range(256)) * (WINDOW_BYTES // MAX_EXTENTS // 256)]
# Everything that a window may be, out of an object of 2 KiB.
WINDOW = put_extents([Extent(0, len(BASE[0]))] * MAX_EXTENTS)

Pack = Callable[[bytes], bytes]


def zstd(data: bytes) -> bytes:
    carried = zstandard.compress(data, 19)
    return numbers(len(data) << 2 | Codec.ZSTD, len(carried)) + carried


def xz(data: bytes) -> bytes:
    carried = lzma.compress(data, lzma.FORMAT_RAW, filters=lzma_filters())
    return numbers(len(data) << 2 | Codec.LZMA, len(carried)) + carried


def streams(*, own: bool) -> tuple[bytes, ...]:
    """As many steps as may be; each byte is corrected, or is the frame's own."""
    each, none = numbers(FRAME_BYTES // MAX_STEPS) * MAX_STEPS, bytes(MAX_STEPS)
    control = numbers(MAX_STEPS) + (none + each if own else each + none) + none
    if own:
        return WINDOW, control, b"", b"", bytes(FRAME_BYTES)
    return WINDOW, control, bytes(FRAME_BYTES), b"\1" * FRAME_BYTES, b""


def apart(pack: Pack, *, own: bool = False) -> bytes:
    body = b"".join(map(pack, streams(own=own)))
    return delta(BASE, [FRAME_BYTES], frame(FRAME_BYTES, Kind.DIFF, body))


def joined(pack: Pack) -> bytes:
    parts = streams(own=False)
    body = pack(numbers(*map(len, parts)) + b"".join(parts))
    return delta(BASE, [FRAME_BYTES], frame(FRAME_BYTES, Kind.JOINED, body))


def prefixed() -> bytes:
    """A frame that names the largest window, and as much carried as a frame may be, most of it empty blocks."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=ZSTD_WINDOW_LOG, write_content_size=False, write_checksum=False
    )
    compressor = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(BASE[0] * MAX_EXTENTS, dict_type=zstandard.DICT_TYPE_RAWCONTENT),
        compression_params=parameters,
    ).compressobj()
    made = compressor.compress(BASE[0] * (FRAME_BYTES // len(BASE[0])))
    made += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    empty = bytes(3) * ((FRAME_BYTES - len(made)) // 3 - 10)  # a raw block without content, and not the last one
    return delta(BASE, [FRAME_BYTES], frame(FRAME_BYTES, Kind.PREFIX, zstd(WINDOW) + made + empty + compressor.flush()))


def with_head(numbers_of_head: bytes) -> bytes:
    stream = zstd(numbers_of_head)
    return opened.MAGIC + numbers(len(stream)) + stream + apart(xz)


def many_archives() -> bytes:
    """New objects of a byte to be opened, each packed in no run: beyond those that are made, no number is looked at."""
    count = (opened.MAX_HEAD_BYTES - 10) // 3
    return with_head(numbers(0, count) + numbers(1, 1, 0) * count)


def many_runs() -> bytes:
    """One new object, packed in as many runs as fit, no two alike."""
    count = (opened.MAX_HEAD_BYTES - 20) // 3
    runs = b"".join(numbers(200 + at % 16_000, 6) for at in range(count))
    return with_head(numbers(0, 1, 0, FRAME_BYTES, count) + runs)


def many_objects() -> bytes:
    """As many as a tree may have, all without content."""
    header = zstd(numbers(len(BASE[0]), MAX_OBJECTS) + bytes(MAX_OBJECTS))
    return delta(BASE, [], header=header)


# What is carried, and what becomes of it.
GREEDY: dict[str, tuple[Callable[[], bytes], str]] = {
    "corrections": (lambda: apart(zstd), "applied"),
    "corrections in xz": (lambda: apart(xz), "applied"),
    "own bytes": (lambda: apart(zstd, own=True), "applied"),
    "joined": (lambda: joined(zstd), "applied"),
    "joined in xz": (lambda: joined(xz), "applied"),
    "prefix": (prefixed, "applied"),
    "archives": (many_archives, "applied"),
    "runs": (many_runs, "corrupt-delta"),
    "objects": (many_objects, "applied"),
}

CHILD = """
import json, sys
from pathlib import Path
from bench.measure import forget_peak, memory, peak_rss_mib
from towpath.errors import Refusal
from towpath_agent.store.applying import Applying
from towpath_agent.system.files import Files

folder = Path(sys.argv[1])
base = [(bytes.fromhex(digest), size) for digest, size in json.loads((folder / "base").read_text())]
objects = folder / "objects"
applying = Applying(Files(), base, limit=2**30, path=lambda it: objects / it.hex(), scratch=folder / "scratch")
said = "applied"
with (folder / "delta").open("rb") as carried:
    import lzma, zstandard  # what an agent that applies deltas has anyway
    forget_peak("self")
    before = memory("self").rss_mib
    try:
        while piece := carried.read(2**16):
            applying.feed(piece)
        applying.finish()
    except Refusal as refusal:
        said = refusal.code
print(json.dumps([said, peak_rss_mib("self") - before]))
"""


@pytest.mark.parametrize("which", GREEDY)
def test_no_delta_takes_more_memory_than_an_agent_has(tmp_path: Path, which: str) -> None:
    """Whether it can be applied or is refused: a few hundred carried bytes can ask for a lot."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / named(BASE)[0][0].hex()).write_bytes(BASE[0])
    (tmp_path / "base").write_text(json.dumps([(digest.hex(), size) for digest, size in named(BASE)]))
    make, becomes = GREEDY[which]
    (tmp_path / "delta").write_bytes(make())
    words = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, check=True, timeout=120)
    said, added_mib = json.loads(done.stdout)
    assert said == becomes
    assert added_mib < MAY_ADD_MIB
