"""The store of objects: resume, lies, bombs, damage on disk, batches, interruption, flat memory."""

import hashlib
import os
import random
import tracemalloc
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import zstandard

from fakes.server import FakeServer
from towpath.errors import Refusal, Unavailable
from towpath_agent.errors import DiskFull
from towpath_agent.ports import CHUNK_BYTES, MAX_WANTS, Chunk, Want
from towpath_agent.store import ObjectMissing, Store
from towpath_agent.store.incoming import carried_cap
from towpath_agent.system.files import Files


def random_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def server() -> FakeServer:
    """Return an empty server."""
    return FakeServer()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store", Files())


def partials(tmp_path: Path) -> dict[str, int]:
    """Return what is kept of cut-off fetches: name to size."""
    return {path.name: path.stat().st_size for path in (tmp_path / "store" / "partial").iterdir()}


def test_fetched_content_is_there(store: Store, server: FakeServer) -> None:
    """What was fetched is read back, is no longer missing, and is not asked for again."""
    contents = [b"", b"small", random_bytes(3 * CHUNK_BYTES)]
    wanted = {server.add_object(content): len(content) for content in contents}
    assert store.missing(wanted) == wanted
    result = store.fetch(wanted, server)
    assert (result.objects_received, result.interrupted) == (3, False)
    assert result.bytes_received == sum(len(server.carried[digest]) for digest in wanted)
    assert store.missing(wanted) == {}
    assert [store.read(digest, size) for digest, size in wanted.items()] == contents
    assert store.fetch(wanted, server).bytes_received == 0
    assert len(server.fetches) == 1


def test_only_what_is_lacking_travels(store: Store, server: FakeServer) -> None:
    """Objects shared with an earlier release are not asked for."""
    old = {server.add_object(random_bytes(1000, seed)): 1000 for seed in range(5)}
    store.fetch(old, server)
    new = server.add_object(b"new")
    store.fetch({**old, new: 3}, server)
    assert server.fetches[-1] == (Want("object", digest=new),)


@pytest.mark.parametrize("cut", [1, 17, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 99])
def test_a_cut_off_fetch_goes_on_at_that_byte(tmp_path: Path, server: FakeServer, cut: int) -> None:
    """A fetch cut at any byte is resumed by another Store (another process) with exactly the bytes that are lacking."""
    content = random_bytes(3 * CHUNK_BYTES)
    digest = server.add_object(content)
    server.cut_after = cut
    with pytest.raises(Unavailable):
        Store(tmp_path / "store", Files()).fetch({digest: len(content)}, server)
    assert partials(tmp_path) == {digest.hex(): cut}

    server.cut_after = None
    again = Store(tmp_path / "store", Files())
    assert again.missing({digest: len(content)})
    result = again.fetch({digest: len(content)}, server)
    assert server.fetches[-1] == (Want("object", digest=digest, offset=cut),)
    assert result.bytes_received == len(server.carried[digest]) - cut
    assert again.read(digest, len(content)) == content
    assert partials(tmp_path) == {}


def test_many_cuts_never_lose_a_byte(tmp_path: Path, server: FakeServer) -> None:
    """However often a fetch is cut, every carried byte travels once."""
    content = random_bytes(2 * CHUNK_BYTES)
    digest = server.add_object(content)
    server.cut_after = 40_001
    received = tries = 0
    while True:
        store = Store(tmp_path / "store", Files())
        try:
            store.fetch({digest: len(content)}, server)
        except Unavailable:
            tries += 1
            continue
        break
    received = server.sent_bytes
    assert tries == len(server.carried[digest]) // 40_001
    assert received == len(server.carried[digest])
    assert store.read(digest, len(content)) == content


def test_a_fetch_that_goes_on_writes_no_content_before_its_last_byte(tmp_path: Path, server: FakeServer) -> None:
    """However often a fetch is cut, content is written when all of it is here: not anew after each cut."""
    content = random_bytes(2 * CHUNK_BYTES)
    digest = server.add_object(content)
    server.cut_after = 40_001
    written = 0

    def count(verb: str, path: Path) -> None:
        nonlocal written
        written += verb == "write" and path.parent.name == "objects"

    store = Store(tmp_path / "store", Files(before=count))
    with pytest.raises(Unavailable):
        store.fetch({digest: len(content)}, server)
    first = written
    tries = 0
    while partials(tmp_path)[digest.hex()] + 40_001 < len(server.carried[digest]):
        tries += 1
        with pytest.raises(Unavailable):
            store.fetch({digest: len(content)}, server)
    assert tries > 8
    assert written == first
    store.fetch({digest: len(content)}, server)
    assert store.read(digest, len(content)) == content


def test_a_partial_of_this_process_is_not_looked_through(tmp_path: Path, server: FakeServer) -> None:
    """Only what an earlier process left can have been damaged meanwhile; the other costs no second look."""
    content = random_bytes(CHUNK_BYTES)
    digest = server.add_object(content)
    server.cut_after = 1000
    store = Store(tmp_path / "store", Files())
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.fetch({digest: len(content)}, server)
    partial = tmp_path / "store" / "partial" / digest.hex()
    partial.write_bytes(b"damaged" + bytes(1993))
    with pytest.raises(Unavailable):
        store.fetch({digest: len(content)}, server)
    with pytest.raises(Unavailable):
        Store(tmp_path / "store", Files()).fetch({digest: len(content)}, server)
    assert [wants[0].offset for wants in server.fetches] == [0, 1000, 2000, 0]


def test_a_complete_partial_needs_no_more_bytes(tmp_path: Path, server: FakeServer) -> None:
    """Killed between the last byte and the end: the next fetch asks from the end and gets an empty answer."""
    content = random_bytes(1000)
    digest = server.add_object(content)
    store = Store(tmp_path / "store", Files())
    (tmp_path / "store" / "partial" / digest.hex()).write_bytes(server.carried[digest])
    assert store.fetch({digest: 1000}, server).bytes_received == 0
    assert store.read(digest, 1000) == content


@pytest.mark.parametrize(
    ("where", "asked"),
    [(0, [0]), (5, [200_000, 0]), (100_000, [200_000, 0])],
    ids=["magic", "header", "middle"],
)
def test_a_damaged_partial_is_dropped_and_fetched_anew(
    tmp_path: Path, server: FakeServer, where: int, asked: list[int]
) -> None:
    """A partial that a power cut damaged costs an attempt from zero, before more of it comes where that can be seen."""
    content = random_bytes(2 * CHUNK_BYTES)
    digest = server.add_object(content)
    damaged = bytearray(server.carried[digest][:200_000])
    damaged[where] ^= 0xFF
    store = Store(tmp_path / "store", Files())
    (tmp_path / "store" / "partial" / digest.hex()).write_bytes(damaged)
    store.fetch({digest: len(content)}, server)
    assert [wants[0].offset for wants in server.fetches] == asked
    assert store.read(digest, len(content)) == content


def test_a_partial_longer_than_anything_possible_is_dropped(tmp_path: Path, server: FakeServer) -> None:
    """A partial that cannot be of this object is not even offered for resuming."""
    digest = server.add_object(b"tiny")
    store = Store(tmp_path / "store", Files())
    (tmp_path / "store" / "partial" / digest.hex()).write_bytes(bytes(carried_cap(4) + 1))
    store.fetch({digest: 4}, server)
    assert server.fetches[0][0].offset == 0
    assert store.read(digest, 4) == b"tiny"


def test_another_carried_form_after_a_cut_is_survived(tmp_path: Path, server: FakeServer) -> None:
    """A server that compressed the object anew between two attempts only costs a fetch from zero."""
    content = bytes(range(256)) * 20_000
    digest = server.add_object(content, level=1)
    server.cut_after = 300
    store = Store(tmp_path / "store", Files())
    with pytest.raises(Unavailable):
        store.fetch({digest: len(content)}, server)
    server.cut_after = None
    server.add_object(content, level=19)
    store.fetch({digest: len(content)}, server)
    assert store.read(digest, len(content)) == content


class Ways(FakeServer):
    """A server that can be reached in several ways, and does not know which of them spoils what comes."""

    others = 0  # ways beside the one in use
    blamed: list[bytes]

    def distrust(self, digest: bytes) -> bool:
        self.blamed.append(digest)
        if self.others:
            self.others -= 1
            return True
        return False


@pytest.fixture
def ways() -> Ways:
    server = Ways()
    server.blamed = []
    return server


def test_nobody_is_blamed_for_what_an_earlier_attempt_left(tmp_path: Path, ways: Ways) -> None:
    """Who sends the rest may be another than who sent the beginning, or the disk's doing: all of it comes anew."""
    content = random_bytes(2 * CHUNK_BYTES)
    digest = ways.add_object(content)
    damaged = bytearray(ways.carried[digest][:200_000])
    damaged[100_000] ^= 0xFF
    store = Store(tmp_path / "store", Files())
    (tmp_path / "store" / "partial" / digest.hex()).write_bytes(damaged)
    store.fetch({digest: len(content)}, ways)
    assert store.read(digest, len(content)) == content
    assert ways.blamed == []


def test_a_way_that_lies_does_not_cost_the_server_an_attempt(tmp_path: Path, ways: Ways) -> None:
    """As many ways as there are may lie; only where there is no other way does what is wrong count."""
    digest = lie(ways, 1000)
    ways.others = 3
    with pytest.raises(Refusal, match="another digest"):
        Store(tmp_path / "store", Files()).fetch({digest: 1000}, ways)
    assert len(ways.fetches) == 3 + 2


def lie(server: FakeServer, size: int) -> bytes:
    """Let the server answer other content of the same size; return the digest."""
    digest = server.add_object(random_bytes(size))
    server.lies[digest] = zstandard.compress(random_bytes(size, seed=2))
    return digest


def test_wrong_bytes_are_fetched_once_more_then_refused(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """Content with another digest is tried twice and then refused by name; nothing of it stays."""
    digest = lie(server, 2 * CHUNK_BYTES)
    with pytest.raises(Refusal) as caught:
        store.fetch({digest: 2 * CHUNK_BYTES}, server)
    assert caught.value.code == "corrupt-object"
    assert len(server.fetches) == 2
    assert store.missing({digest: 2 * CHUNK_BYTES})
    assert list((tmp_path / "store" / "objects").iterdir()) == []
    assert partials(tmp_path) == {}


def test_wrong_bytes_once_heal(store: Store, server: FakeServer) -> None:
    """Bytes that were wrong once (a bad relay) are replaced by the second attempt."""
    digest = lie(server, 500)

    def honest_from_now_on(_: int) -> None:
        if len(server.fetches) == 2:
            server.lies.clear()

    honest = server.carried[digest]
    lies = iter([server.lies[digest], honest])
    server.lies.clear()
    server.before_chunk = honest_from_now_on
    server.bytes_of = lambda want: next(lies)  # type: ignore[method-assign]
    store.fetch({digest: 500}, server)
    assert store.read(digest, 500) == random_bytes(500)


def test_good_objects_beside_a_bad_one_are_kept(store: Store, server: FakeServer) -> None:
    """A lie about one object costs none of the others."""
    before, after = server.add_object(b"before"), server.add_object(b"after")
    bad = lie(server, 100)
    with pytest.raises(Refusal):
        store.fetch({before: 6, bad: 100, after: 5}, server)
    assert not store.missing({before: 6})
    server.lies.clear()
    store.fetch({before: 6, bad: 100, after: 5}, server)
    assert not store.missing({before: 6, bad: 100, after: 5})


@pytest.mark.parametrize(
    "carried",
    [
        b"",
        b"no zstandard at all",
        zstandard.compress(b"short"),
        zstandard.compress(b"x" * 100),
        zstandard.compress(b"x" * 100)[:-3],
        zstandard.compress(b"x" * 99 + b"y") + b"more",
    ],
    ids=["nothing", "garbage", "shorter", "other", "cut", "more"],
)
def test_bytes_that_are_no_frame_are_refused(store: Store, server: FakeServer, carried: bytes) -> None:
    """Empty, garbled, shorter and truncated answers are refused like any other wrong content."""
    digest = server.add_object(b"x" * 99 + b"y")
    server.lies[digest] = carried
    with pytest.raises(Refusal) as caught:
        store.fetch({digest: 100}, server)
    assert caught.value.code == "corrupt-object"


def test_a_decompression_bomb_stops_at_the_signed_size(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """32 KB that expand to a gigabyte never write more than the signed size, nor hold it in memory."""
    digest = server.add_object(b"x" * 1000)
    server.lies[digest] = zstandard.ZstdCompressor(level=3).compress(bytes(2**30))
    written = 0

    def count(verb: str, path: Path) -> None:
        nonlocal written
        if verb == "write" and path.parent.name == "objects":
            written += 1

    watched = Store(tmp_path / "watched", Files(before=count))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            watched.fetch({digest: 1000}, server)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.code == "endless-data"
    assert written == 0  # the very first piece is longer than the object may be


@pytest.mark.parametrize("real", [5000, 2**30])
def test_a_frame_that_lies_about_its_length_is_refused(store: Store, server: FakeServer, real: int) -> None:
    """What a frame says of its content is a claim: neither memory nor a file is made for more than was signed."""
    content = b"x" * 1000
    digest = server.add_object(content)
    honest = zstandard.compress(content)
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(real))
    # The head's descriptor says: four bytes for the window and the content size of a thousand follow (RFC 8878).
    server.lies[digest] = (
        honest[:4] + bytes([frame[4] | 0x40, frame[5]]) + (1000 - 256).to_bytes(2, "little") + frame[6:]
    )
    assert zstandard.frame_content_size(server.lies[digest]) == 1000
    tracemalloc.start()
    try:
        with pytest.raises(Refusal):
            store.fetch({digest: 1000}, server)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert store.missing({digest: 1000})


def test_a_small_object_is_made_and_written_once(tmp_path: Path, server: FakeServer) -> None:
    """Thousands of them make a release: nothing is removed, kept or opened for one besides its own file."""
    done: list[tuple[str, str]] = []
    store = Store(tmp_path / "store", Files(before=lambda verb, path: done.append((verb, path.name))))
    done.clear()
    digest = server.add_object(b"x" * 1000)
    store.fetch({digest: 1000}, server)
    assert done == [("make", digest.hex()), ("write", digest.hex())]


def test_what_has_an_objects_name_and_another_length_gives_way(store: Store, server: FakeServer) -> None:
    """A file that a power cut shortened is replaced, by small objects and by long ones."""
    for content in (b"x" * 1000, random_bytes(3 * CHUNK_BYTES)):
        digest = server.add_object(content)
        store.path(digest).write_bytes(b"cut")
        store.fetch({digest: len(content)}, server)
        assert store.read(digest, len(content)) == content


def test_endless_carried_bytes_are_cut(store: Store, server: FakeServer) -> None:
    """A form that is longer than the content could ever need is refused before it is read to its end."""
    digest = server.add_object(b"tiny")
    # Empty frames one after another: no content, no end.
    server.lies[digest] = zstandard.compress(b"") * 500_000
    with pytest.raises(Refusal) as caught:
        store.fetch({digest: 4}, server)
    assert caught.value.code == "endless-data"
    assert server.sent_bytes < 4 * CHUNK_BYTES


def test_a_frame_that_wants_much_memory_is_refused(store: Store, server: FakeServer) -> None:
    """A window of 128 MiB would break the flat memory of every host; it is no content of ours."""
    content = random_bytes(1000)
    digest = server.add_object(content)
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    server.lies[digest] = packer.compress(content) + packer.flush()
    with pytest.raises(Refusal) as caught:
        store.fetch({digest: 1000}, server)
    assert caught.value.code == "corrupt-object"


@pytest.mark.parametrize("level", [1, 3, 10, 19])
def test_every_level_of_ours_is_accepted(store: Store, server: FakeServer, level: int) -> None:
    """All ordinary levels of zstandard fit the window, however long the content."""
    content = bytes(random.Random(3).choices(b"abcd", k=300_000)) * 40
    digest = server.add_object(content, level=level)
    store.fetch({digest: len(content)}, server)
    assert not store.missing({digest: len(content)})


def test_many_objects_travel_in_few_calls(store: Store, server: FakeServer) -> None:
    """Objects are asked for in calls of at most MAX_WANTS."""
    wanted = {server.add_object(str(number).encode()): len(str(number)) for number in range(MAX_WANTS + 10)}
    store.fetch(wanted, server)
    assert [len(wants) for wants in server.fetches] == [MAX_WANTS, 10]
    assert not store.missing(wanted)


def test_what_the_server_lacks_is_said_after_the_rest_came(store: Store, server: FakeServer) -> None:
    """A missing object is Unavailable (it may be uploaded later); all the others are here."""
    lacking = hashlib.sha256(b"nowhere").digest()
    there = server.add_object(b"there")
    with pytest.raises(ObjectMissing, match=lacking.hex()[:16]):
        store.fetch({lacking: 7, there: 5}, server)
    assert store.read(there, 5) == b"there"


def test_an_interrupted_fetch_stops_and_resumes(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """A superseded fetch stops at the next chunk, keeps what it has, and goes on when it is wanted again."""
    content = random_bytes(4 * CHUNK_BYTES)
    first, second = server.add_object(b"first"), server.add_object(content)
    chunks = 0

    def after_three() -> bool:
        nonlocal chunks
        chunks += 1
        return chunks > 3

    result = store.fetch({first: 5, second: len(content)}, server, interrupted=after_three)
    assert result.interrupted
    assert result.objects_received == 1
    assert partials(tmp_path) == {second.hex(): 2 * CHUNK_BYTES}
    assert not store.fetch({first: 5, second: len(content)}, server).interrupted
    assert server.fetches[-1] == (Want("object", digest=second, offset=2 * CHUNK_BYTES),)


def test_interrupted_before_the_start_asks_nothing(store: Store, server: FakeServer) -> None:
    """A fetch that is not wanted any more makes no call."""
    digest = server.add_object(b"x")
    assert store.fetch({digest: 1}, server, interrupted=lambda: True).interrupted
    assert server.fetches == []


def test_a_stream_that_ends_early_is_unavailable(store: Store, server: FakeServer) -> None:
    """A server that stops answering without a word cannot make the store ask for ever."""
    digest = server.add_object(b"x")
    server.fetch = lambda wants: (chunk for chunk in ())  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as caught:
        store.fetch({digest: 1}, server)
    assert caught.value.code == "cut-off"


def test_damage_on_disk_is_found_when_used_and_healed(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """Incident 5, corrupt bytes on disk: an object that changed on disk is never handed out: it is removed, reported missing and fetched again."""
    digest = server.add_object(b"content")
    for use in (lambda: store.read(digest, 100), lambda: store.materialise(digest, tmp_path / "out", 0o644)):
        store.fetch({digest: 7}, server)
        store.path(digest).write_bytes(b"cOntent")
        with pytest.raises(ObjectMissing, match="damaged"):
            use()
        assert not (tmp_path / "out").exists()
        assert store.missing({digest: 7})
    store.fetch({digest: 7}, server)
    assert store.read(digest, 7) == b"content"


@pytest.mark.parametrize("size", [0, 3])
def test_a_truncated_object_counts_as_missing(store: Store, server: FakeServer, size: int) -> None:
    """A power cut that left a shorter file is seen without reading it."""
    digest = server.add_object(b"content")
    store.fetch({digest: 7}, server)
    os.truncate(store.path(digest), size)
    assert store.missing({digest: 7})
    store.fetch({digest: 7}, server)
    assert store.read(digest, 7) == b"content"


def test_an_object_longer_than_the_limit_is_not_handed_out(store: Store, server: FakeServer) -> None:
    """`read` never returns more than its caller asked for."""
    digest = server.add_object(b"content")
    store.fetch({digest: 7}, server)
    with pytest.raises(ObjectMissing):
        store.read(digest, 6)


def test_using_what_is_not_there_says_so(tmp_path: Path, store: Store) -> None:
    """Both uses of an unknown object raise ObjectMissing, which is worth a retry."""
    digest = hashlib.sha256(b"never").digest()
    with pytest.raises(ObjectMissing, match="not in the store") as caught:
        store.read(digest, 10)
    assert caught.value.retryable
    with pytest.raises(ObjectMissing):
        store.materialise(digest, tmp_path / "out", 0o644)


def test_a_materialised_file_is_its_own(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """The file has the mode asked for and shares no inode with the store: writing to it cannot reach the object."""
    digest = server.add_object(b"content")
    store.fetch({digest: 7}, server)
    store.materialise(digest, tmp_path / "out", 0o755)
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o755
    (tmp_path / "out").write_bytes(b"changed by the program")
    assert store.read(digest, 7) == b"content"


def test_prune_keeps_what_is_named(tmp_path: Path, store: Store, server: FakeServer) -> None:
    """Everything that no kept release needs goes, cut-off fetches included."""
    keep, drop = server.add_object(b"keep"), server.add_object(b"drop")
    store.fetch({keep: 4, drop: 4}, server)
    (tmp_path / "store" / "partial" / ("ab" * 32)).write_bytes(b"x")
    assert store.prune([keep]) == 2
    assert not store.missing({keep: 4})
    assert store.missing({drop: 4})
    assert partials(tmp_path) == {}


def test_a_full_disk_loses_nothing_and_recovers(tmp_path: Path, server: FakeServer) -> None:
    """With no space left the fetch fails by name; once there is space it goes on where it was."""
    content = random_bytes(3 * CHUNK_BYTES)
    digest = server.add_object(content)
    full = False

    def disk(verb: str, path: Path) -> None:
        nonlocal full
        if verb == "write" and path.parent.name == "objects" and path.stat().st_size > CHUNK_BYTES:
            full = True
        if full and verb == "write":
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull):
        Store(tmp_path / "store", Files(before=disk)).fetch({digest: len(content)}, server)
    assert list((tmp_path / "store" / "objects").iterdir()) == []
    store = Store(tmp_path / "store", Files())
    store.fetch({digest: len(content)}, server)
    assert server.fetches[-1][0].offset > 0
    assert store.read(digest, len(content)) == content


SIZE = 200 * 2**20


class Generated:
    """A server that makes one long object on the fly: 200 MB that are never held anywhere."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        for piece in self._content():
            self.sha256.update(piece)

    def _content(self) -> Generator[bytes, None, None]:
        block = random_bytes(2**20)
        for number in range(SIZE // 2**20):
            yield number.to_bytes(8, "big") + block[8:]

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        packer = zstandard.ZstdCompressor(level=1).compressobj()
        for piece in self._content():
            if data := packer.compress(piece):
                yield Chunk(0, data)
        yield Chunk(0, packer.flush(), last=True)


def test_memory_is_flat_for_a_long_object(tmp_path: Path) -> None:
    """200 MB pass through the store, and out of it, in a few megabytes of memory."""
    server = Generated()
    digest = server.sha256.digest()
    store = Store(tmp_path / "store", Files())
    tracemalloc.start()
    try:
        store.fetch({digest: SIZE}, server)  # type: ignore[arg-type]
        store.materialise(digest, tmp_path / "out", 0o644)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
    assert (tmp_path / "out").stat().st_size == SIZE
