"""What `ports.Storage` and `ports.Blobs` promise when many ask at once, and when a process dies in the middle."""

import hashlib
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
import zstandard

from fakes.memory_server import MemoryBlobs, MemoryStorage
from towpath.errors import InputError, Refusal
from towpath.reports import Event
from towpath_server.domain.model import EnrolmentToken, Host, TokenUse
from towpath_server.ports import Blobs, Storage
from towpath_server.storage import FolderBlobs, SqlStorage
from towpath_server.storage.frames import MAX_WINDOW_BYTES

THREADS = 8
USES = 5
WAIT_S = 60.0

Opener = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return what opens the same storage once more: a storage is used from one thread at a time."""
    opened: list[Storage] = []
    memory = MemoryStorage()

    def open_again() -> Storage:
        sqlite = request.param == "sqlite"
        opened.append(SqlStorage(tmp_path / "towpath.db") if sqlite else cast("Storage", memory))
        return opened[-1]

    yield open_again
    for each in opened:
        each.close()


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Return an empty store."""
    return cast("Blobs", MemoryBlobs()) if request.param == "memory" else FolderBlobs(tmp_path / "objects")


def token(uses: int) -> EnrolmentToken:
    return EnrolmentToken("t1", b"s" * 32, "dev", uses, 9_000, 1_000, "operator/root")


def host(name: str) -> Host:
    return Host(f"id-{name}", name, "dev", "1", name.encode().ljust(32), b"pem", 10_000, 1_000)


def at_once(act: Callable[[int], object]) -> list[object]:
    """Return what `act(number)` returns in each of several threads that begin together."""
    together = threading.Barrier(THREADS)

    def body(number: int) -> object:
        together.wait(WAIT_S)
        return act(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(WAIT_S) for future in [pool.submit(body, number) for number in range(THREADS)]]


def test_uses_of_a_token_are_spent_exactly_once_by_many_at_once(opener: Opener) -> None:
    """Eight writers want five uses, three times each: five get one, and who got one is written with it."""
    storages = [opener() for _ in range(THREADS)]
    with storages[0].transaction() as tx:
        tx.add_token(token(USES))

    def spend(number: int) -> int:
        won = 0
        for attempt in range(3):
            with storages[number].transaction() as tx:
                if tx.spend_token("t1"):
                    tx.put_token_use(TokenUse("t1", bytes([number, attempt]), f"id-{number}", b"pem"))
                    won += 1
        return won

    assert sum(cast("list[int]", at_once(spend))) == USES
    with opener().transaction() as tx:
        left = tx.token("t1")
        assert left is not None
        assert left.uses_left == 0
        uses = [tx.token_use("t1", bytes([one, attempt])) for one in range(THREADS) for attempt in range(3)]
        assert sum(use is not None for use in uses) == USES


def test_a_read_that_decides_and_its_write_are_one(opener: Opener) -> None:
    """Counting up from what was read loses no step, and generations are given out once, by many at once."""
    storages = [opener() for _ in range(THREADS)]

    def count(number: int) -> list[int]:
        given = []
        for _ in range(5):
            with storages[number].transaction() as tx:
                tx.put_number("n", tx.number("n") + 1)
                given.append(tx.next_generation())
        return given

    given = [one for each in cast("list[list[int]]", at_once(count)) for one in each]
    assert sorted(given) == list(range(1, 5 * THREADS + 1))
    with storages[0].transaction() as tx:
        assert tx.number("n") == 5 * THREADS


def test_one_name_is_taken_by_one_of_many(opener: Opener) -> None:
    """Eight machines with the same name: one is in, seven are told that it is taken."""
    storages = [opener() for _ in range(THREADS)]

    def add(number: int) -> bool:
        row = Host(f"id-{number}", "same", "dev", "1", b"k" * 32, b"pem", 10_000, 1_000)
        try:
            with storages[number].transaction() as tx:
                tx.add_host(row)
        except InputError as error:
            assert error.code == "exists"
            return False
        return True

    assert at_once(add).count(True) == 1
    with storages[0].transaction() as tx:
        assert len(tx.hosts()) == 1


def test_the_same_report_from_many_calls_is_kept_once(opener: Opener) -> None:
    """The id decides per host, whoever comes first: each event is new to exactly one call."""
    storages = [opener() for _ in range(THREADS)]
    events = [Event(f"e{number}", number, "transition") for number in range(20)]

    def add(number: int) -> int:
        with storages[number].transaction() as tx:
            return tx.add_events("x", events) + tx.add_events(f"own-{number}", events)

    assert sum(cast("list[int]", at_once(add))) == 20 + 20 * THREADS
    with storages[0].transaction() as tx:
        assert tx.events("x", 100) == events
        assert tx.events("own-3", 100) == events


def test_an_error_that_is_caught_inside_a_transaction_undoes_only_itself(opener: Opener) -> None:
    """A refused row does not spoil the writes around it."""
    storage = opener()
    with storage.transaction() as tx:
        tx.add_host(host("h1"))
        with pytest.raises(InputError):
            tx.add_host(host("h1"))
        tx.add_host(host("h2"))
    with storage.transaction() as tx:
        assert [one.name for one in tx.hosts()] == ["h1", "h2"]


def test_what_was_committed_survives_a_death_and_what_was_not_is_gone(tmp_path: Path) -> None:
    """The files as a killed process leaves them, in the middle of a transaction: the last commit is the state."""
    storage = SqlStorage(tmp_path / "towpath.db")
    with storage.transaction() as tx:
        tx.add_token(token(USES))
        tx.add_events("x", [Event("e1", 1, "started")])
    left = tmp_path / "left"
    left.mkdir()
    with storage.transaction() as tx:
        assert tx.spend_token("t1")
        tx.add_events("x", [Event(f"big-{number}", 1, "started", evidence="x" * 4_000) for number in range(2_000)])
        for path in tmp_path.glob("towpath.db*"):
            shutil.copy(path, left)
    storage.close()
    after = SqlStorage(left / "towpath.db")
    with after.transaction() as tx:
        assert tx.token("t1") == token(USES)
        assert [event.id for event in tx.events("x", 10)] == ["e1"]
    after.close()


# --- objects ----------------------------------------------------------------------------------------------------------


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def put(blobs: Blobs, *contents: bytes) -> int:
    writers = []
    for data in contents:
        writer = blobs.writer(digest(data), len(data))
        writer.write(zstandard.ZstdCompressor().compress(data))
        writer.finish()
        writers.append(writer)
    return blobs.publish(writers)


def test_many_uploads_at_once_leave_every_object_whole(blobs: Blobs) -> None:
    """The same objects and others from many threads: nobody fails, everything is here, no leftover is."""
    same = [os.urandom(50_000), b"small"]
    own = [os.urandom(20_000) for _ in range(THREADS)]
    counts = cast("list[int]", at_once(lambda number: put(blobs, *same, own[number])))
    assert all(count >= 1 for count in counts), "an own object is always new"
    assert blobs.missing(map(digest, [*same, *own])) == []
    for data in (*same, *own):
        assert blobs.read(digest(data), len(data)) == data
    if isinstance(blobs, FolderBlobs):
        assert list((blobs._objects / "incoming").iterdir()) == []


def test_an_object_is_read_whole_while_others_arrive(blobs: Blobs) -> None:
    """A slow reader that began before gets exactly its object."""
    data = os.urandom(200_000)
    put(blobs, data)
    size = blobs.carried_size(digest(data))
    chunks = blobs.chunks(digest(data), 10, 1_000)
    first = next(chunks)
    at_once(lambda number: put(blobs, b"other %d" % number, data))
    rest = b"".join(chunks)
    assert size == 10 + len(first) + len(rest)
    whole = b"".join(blobs.chunks(digest(data), 0, 1_000))
    assert whole[10:] == first + rest
    assert zstandard.ZstdDecompressor().decompress(whole) == data


def test_an_offset_at_or_beyond_the_end_yields_nothing(blobs: Blobs) -> None:
    """A host that has everything gets nothing more, and no error."""
    put(blobs, b"content")
    size = blobs.carried_size(digest(b"content"))
    assert size is not None
    assert list(blobs.chunks(digest(b"content"), size, 10)) == []
    assert list(blobs.chunks(digest(b"content"), size + 5, 10)) == []
    assert list(blobs.chunks(digest(b"content"), size - 1, 10)) == [
        zstandard.ZstdCompressor().compress(b"content")[-1:]
    ]


def test_a_large_honest_object_costs_no_memory(tmp_path: Path) -> None:
    """64 MiB that compress to kilobytes are taken, and neither collected on the way in nor on the way out."""
    size = 64 * 2**20
    carried = zstandard.ZstdCompressor().compress(bytes(size))
    whole = hashlib.sha256(bytes(size)).digest()
    blobs = FolderBlobs(tmp_path / "objects")
    tracemalloc.start()
    try:
        writer = blobs.writer(whole, size)
        writer.write(carried)
        writer.finish()
        assert blobs.publish([writer]) == 1
        assert b"".join(blobs.chunks(whole, 0, 4_096)) == carried
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_a_frame_that_asks_for_a_huge_window_is_refused(tmp_path: Path) -> None:
    """The memory that unpacking needs is not the sender's choice, on no host and not here."""
    data = os.urandom(2**20) * 20
    parameters = zstandard.ZstdCompressionParameters(window_log=25, write_content_size=0)
    assert MAX_WINDOW_BYTES < 2**25
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    carried = compressor.compress(data) + compressor.flush()
    writer = FolderBlobs(tmp_path / "objects").writer(digest(data), len(data))
    with pytest.raises(Refusal) as caught:
        writer.write(carried)
    writer.abort()
    assert caught.value.code == "corrupt-object"
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []
