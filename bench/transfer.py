"""Bytes that a host receives for the next release, beside the tools that people use. `python -m bench.transfer`.

Ends with ONE line of JSON on stdout; what goes on is told on stderr. Each pair is two consecutive published versions.
The tools (bsdiff, xdelta3, zstd --patch-from) get both trees as plain tar files, sorted, with equal times and owners;
`best` is the smallest of them, of those that are installed. `ours` is the delta of the release against the old one that
a host gets, the new index included: the plain one or the one that sees into archives (`opened`), whichever is shorter.
It is made as the server's process makes it and applied by the agent's own code from a folder of objects, in a process
of its own, and every file of the new tree is compared with what was published before a number is printed.

`geomean` and `worst` are of ours / best; `over_goal` names pairs above 1.10 and 4 KiB of it. CPU is user and system
seconds of one core: `encode_cpu_s` of making the delta, or both, `bsdiff_cpu_s` beside it, `apply_cpu_s` of applying.
`apply_peak_mib` is the most resident memory of the process that applies, the interpreter included.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from bench.measure import note
from bench.published import PAIRS, Missing, Pair, take
from towpath.index import EntryType
from towpath_cli.tree import Tree, read_tree
from towpath_server.deltas.child import NothingOpenedError, make
from towpath_server.deltas.pairing import Named, Pairing, pair, with_archives
from towpath_server.deltas.process import LENGTH_BYTES

CACHE = Path("build/transfer")
TIMEOUT_S = 3600.0
# Below this a difference to the best tool does not count: it is the size of one packet or three.
SLACK_BYTES = 4096
GOAL_WORST = 1.10
TOOLS: dict[str, Callable[[Path, Path, Path], list[str]]] = {
    "bsdiff": lambda old, new, out: ["bsdiff", str(old), str(new), str(out)],
    "xdelta3": lambda old, new, out: [
        *["xdelta3", "-q", "-f", "-9", "-S", "lzma", "-B", str(2**31 - 1), "-e", "-s"],
        *[str(old), str(new), str(out)],
    ],
    "zstd": lambda old, new, out: [
        *["zstd", "-q", "-f", "-19", "--long=31", "--single-thread", f"--patch-from={old}"],
        *[str(new), "-o", str(out)],
    ],
}


@dataclass(frozen=True, slots=True)
class Release:
    """An unpacked version as a publisher's tool reads it."""

    folder: Path
    tree: Tree

    @property
    def named(self) -> Named:
        """What a delta is paired by."""
        artifact = self.tree.artifact
        return Named(self.tree.entries, artifact.index_sha256, artifact.index_size)

    def contents(self, digests: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the content of each of these objects."""
        places = {entry.sha256: entry.path for entry in self.tree.entries if entry.type is EntryType.FILE}
        for digest in digests:
            place = places.get(digest)
            yield self.tree.index if place is None else (self.folder / place).read_bytes()


def _plain_tar(tree: Path, out: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        return member.replace(mtime=0, uid=0, gid=0, uname="", gname="", deep=False)

    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(tree, arcname=".", filter=plain)  # sorted by name, says its description


def _tool(name: str, old: Path, new: Path, out: Path) -> tuple[int, float]:
    """Return bytes and CPU seconds of one tool."""
    process = subprocess.Popen(TOOLS[name](old, new, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Missing(f"cannot measure {name}: it ended with {process.returncode}")
    return out.stat().st_size, usage.ru_utime + usage.ru_stime


def _write_job(pairing: Pairing, old: Release, new: Release, out: Path) -> None:
    """Write what the server's process that makes a delta is handed."""
    job = {
        "base": [(digest.hex(), size) for digest, size in pairing.base],
        "new": [(digest.hex(), it.size, it.like) for digest, it in zip(pairing.new_digests, pairing.new, strict=True)],
        "new_archives": pairing.new_archives,
        "room": 2**32,
    }
    compressor = zstandard.ZstdCompressor(level=1)
    with out.open("wb") as file:
        file.write(json.dumps(job).encode() + b"\n")
        for release, digests in ((old, [digest for digest, _ in pairing.base]), (new, pairing.new_digests)):
            for content in release.contents(digests):
                carried = compressor.compress(content)
                file.write(len(carried).to_bytes(LENGTH_BYTES) + carried)


def _encode(pairing: Pairing, old: Release, new: Release, folder: Path) -> tuple[bytes, float]:
    """Return the delta, as the server makes it, and CPU seconds; nothing where no archive can be opened."""
    _write_job(pairing, old, new, folder / "job")
    out = io.BytesIO()
    began = time.process_time()
    with (folder / "job").open("rb") as source, contextlib.suppress(NothingOpenedError):
        make(source, out, folder)
    return out.getvalue(), time.process_time() - began


def _store(pairing: Pairing, old: Release, folder: Path) -> None:
    """Lay out the base objects as a host has them, and say which they are."""
    (folder / "objects").mkdir()
    digests = [digest for digest, _ in pairing.base]
    for digest, content in zip(digests, old.contents(digests), strict=True):
        (folder / "objects" / digest.hex()).write_bytes(content)
    wanted = sum(it.size for it in pairing.new)
    named = [[digest.hex(), size] for digest, size in pairing.base]
    (folder / "job.json").write_text(json.dumps({"base": named, "limit": wanted}))


def _apply(folder: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "bench.applying", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def _proven(pairing: Pairing, new: Release, folder: Path, made: object) -> None:
    """Raise where what was applied is not the published tree: a number of a wrong delta is worth nothing."""
    if made != [digest.hex() for digest in pairing.new_digests]:
        raise AssertionError("the delta made other objects than the release has")
    for entry in new.tree.entries:
        if entry.type is EntryType.FILE:
            data = (folder / "objects" / entry.sha256.hex()).read_bytes()
            if data != (new.folder / entry.path).read_bytes():
                raise AssertionError(f"{entry.path} is not what was published")
    index = (folder / "objects" / new.tree.artifact.index_sha256.hex()).read_bytes()
    if hashlib.sha256(index).digest() != new.tree.artifact.index_sha256:
        raise AssertionError("the index is not what was published")


def measure(it: Pair, cache: Path, tools: Sequence[str]) -> dict[str, object]:
    """Return the numbers of one pair."""
    note(f"{it.name} {it.versions[0]} -> {it.versions[1]}")
    old, new = (Release(folder, read_tree(folder)) for folder in take(it, cache))
    pairing = pair(old.named, new.named)
    with tempfile.TemporaryDirectory(prefix="towpath-bench-") as name:
        folder = Path(name)
        delta, encode_s = _encode(pairing, old, new, folder)
        plain = len(delta)
        pairing = with_archives(pairing, old.named, new.named)
        if pairing.new_archives:
            opened, more_s = _encode(pairing, old, new, folder)
            delta, encode_s = (opened if 0 < len(opened) < plain else delta), encode_s + more_s
        ours = len(delta)
        (folder / "delta").write_bytes(delta)
        _store(pairing, old, folder)
        applied = _apply(folder)
        _proven(pairing, new, folder, applied["made"])
        shutil.rmtree(folder / "objects")
        _plain_tar(old.folder, folder / "old.tar")
        _plain_tar(new.folder, folder / "new.tar")
        taken = {tool: _tool(tool, folder / "old.tar", folder / "new.tar", folder / "patch") for tool in tools}
        full = len(zstandard.ZstdCompressor(level=19).compress((folder / "new.tar").read_bytes()))
    best = min(size for size, _ in taken.values())
    result: dict[str, object] = {
        "name": it.name,
        "full": full,
        "best": best,
        "ours": ours,
        "opened": ours < plain,
        "ratio": round(ours / best, 3),
        "encode_cpu_s": round(encode_s, 2),
        "apply_cpu_s": round(float(str(applied["cpu_s"])), 2),
        "apply_peak_mib": applied["peak_mib"],
        **{tool: size for tool, (size, _) in taken.items()},
        **{f"{tool}_cpu_s": round(cpu_s, 2) for tool, (_, cpu_s) in taken.items()},
    }
    note(f"  {result}")
    return result


def summary(pairs: list[dict[str, object]]) -> dict[str, object]:
    """Return the line of JSON: all pairs, the geometric mean of ours / best, the worst that counts."""
    sizes = [(int(str(it["ours"])), int(str(it["best"]))) for it in pairs]
    geomean = math.exp(sum(math.log(ours / best) for ours, best in sizes) / len(sizes))
    worst = max(ours / best for ours, best in sizes)
    over = [it["name"] for it, (a, b) in zip(pairs, sizes, strict=True) if a > max(GOAL_WORST * b, b + SLACK_BYTES)]
    return {"pairs": pairs, "geomean": round(geomean, 3), "worst": round(worst, 3), "over_goal": over}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="every pair: an hour and more, and 1.5 GB of downloads")
    parser.add_argument("--pairs", help="names of pairs, with commas between")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where published versions are kept ({CACHE})")
    options = parser.parse_args()
    names = options.pairs.split(",") if options.pairs else [it.name for it in PAIRS if options.all or it.short]
    chosen = [it for it in PAIRS if it.name in names]
    tools = [tool for tool in TOOLS if shutil.which(tool)]
    for name in set(names) - {it.name for it in PAIRS}:
        note(f"bench: cannot measure {name!r}: it is none of {', '.join(it.name for it in PAIRS)}")
        return 2
    if not tools:
        note(f"bench: cannot compare: install one of {', '.join(TOOLS)} (apt-get install bsdiff xdelta3 zstd)")
        return 2
    note(f"beside {', '.join(tools)}")
    try:
        result = summary([measure(it, options.cache, tools) for it in chosen])
    except Missing as error:
        note(f"bench: {error}")
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
