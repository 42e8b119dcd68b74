"""A process makes a delta of objects that it is handed, within what it may cost, and never outlives who asked for it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fakes.deltas import apply, named
from fakes.live_server import eventually
from fakes.memory_server import MemoryBlobs
from towpath_server.deltas.pairing import NewObject, Pairing
from towpath_server.deltas.process import STOPPED, Allowance, Maker

OLD = [bytes(range(256)) * 2000, b"", b"the old index"]
NEW = [OLD[0][:300_000] + b"what is new", b"the new index"]


def blobs_of(*contents: bytes) -> MemoryBlobs:
    import zstandard

    blobs = MemoryBlobs()
    for content, (digest, _) in zip(contents, named(contents), strict=True):
        blobs.carried[digest] = zstandard.ZstdCompressor().compress(content)
    return blobs


def pairing(old: list[bytes] = OLD, new: list[bytes] = NEW) -> Pairing:
    return Pairing(named(old), [NewObject(len(it)) for it in new], [digest for digest, _ in named(new)])


def maker(tmp_path: Path, blobs: MemoryBlobs, cpu_s: int = 60) -> Maker:
    return Maker(blobs, Allowance(cpu_s, tmp_path))


def test_a_process_makes_what_the_encoder_makes(tmp_path: Path) -> None:
    """Of carried objects; what it unpacked is gone with it."""
    pieces: list[bytes] = []
    assert maker(tmp_path, blobs_of(*OLD, *NEW)).make(pairing(), pieces.append, cap=10**6) == ""
    assert bytes(apply(b"".join(pieces), OLD).all) == b"".join(NEW)
    assert not list(tmp_path.iterdir())


def test_of_nothing_something_can_be_made(tmp_path: Path) -> None:
    """Releases whose files are all empty."""
    old, new = [b""], [b"", b"the index"]
    pieces: list[bytes] = []
    assert maker(tmp_path, blobs_of(*old, *new)).make(pairing(old, new), pieces.append, cap=10**6) == ""
    assert bytes(apply(b"".join(pieces), old).all) == b"the index"


@pytest.mark.parametrize("how", ["garbled", "another", "cut", "short"])
def test_an_object_that_is_not_what_its_name_says_ends_it(tmp_path: Path, how: str) -> None:
    """In a reason, not in a wrong delta."""
    blobs = blobs_of(*OLD, *NEW)
    digest = named(OLD)[0][0]
    carried = blobs.carried[digest]
    blobs.carried[digest] = {
        "garbled": carried[:50] + b"\xff" * 50 + carried[100:],
        "another": blobs.carried[named(NEW)[0][0]],
        "cut": carried[:-10],
        "short": carried[:9],
    }[how]
    pieces: list[bytes] = []
    assert "damaged" in maker(tmp_path, blobs).make(pairing(), pieces.append, cap=10**6)


def test_what_gets_as_long_as_its_objects_is_given_up(tmp_path: Path) -> None:
    """Not a byte beyond is taken, and the process is gone."""
    new = [os.urandom(100_000), b"index"]
    taken: list[bytes] = []
    assert "would not save" in maker(tmp_path, blobs_of(*OLD, *new)).make(pairing(OLD, new), taken.append, cap=50_000)
    assert sum(map(len, taken)) < 50_000


def test_cpu_time_is_limited(tmp_path: Path) -> None:
    """The kernel ends it, and the reason names the limit."""
    new = [os.urandom(12_000_000), b"index"]
    said = maker(tmp_path, blobs_of(*OLD, *new), cpu_s=1).make(pairing(OLD, new), lambda _: None, cap=10**9)
    assert "more than 1 s of CPU" in said


def test_a_stopped_maker_ends_at_once_and_begins_nothing_more(tmp_path: Path) -> None:
    """A server that stops does not wait for a delta."""
    new = [os.urandom(20_000_000), b"index"]
    one = maker(tmp_path, blobs_of(*OLD, *new))
    said: list[str] = []
    began = threading.Event()

    def write(_piece: bytes) -> None:
        began.set()

    thread = threading.Thread(target=lambda: said.append(one.make(pairing(OLD, new), write, cap=10**9)))
    thread.start()
    assert began.wait(60)
    one.stop()
    thread.join(60)
    assert said == [STOPPED]
    assert one.make(pairing(), lambda _: None, cap=10**6) == STOPPED


def test_the_process_is_the_last_in_the_queue_and_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves nothing behind that would go on for minutes."""
    script = """
import os, subprocess, sys
words = ["-m", "towpath_server.deltas.child", "60", sys.argv[1], str(os.getpid())]
child = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, child) == 19, "it is humble", 60)
    held = os.open(f"/proc/{child}/fd/0", os.O_WRONLY)  # its stdin has no end: only the parent's death can end it
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    eventually(gone, "it is gone", 60)
    os.close(held)
    for pipe in (parent.stdin, parent.stdout):
        assert pipe is not None
        pipe.close()
