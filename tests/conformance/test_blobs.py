"""What every `towpath_server.ports.Blobs` promises: the folder, and the tests' objects in memory."""

import errno
import gc
import hashlib
import os
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import zstandard

from fakes.memory_server import MemoryBlobs
from fakes.s3 import Bucket
from towpath.errors import Broken, InputError, Refusal
from towpath_server.ports import Blobs
from towpath_server.storage import FolderBlobs
from towpath_server.storage.frames import FrameCheck
from towpath_server.storage.s3 import S3Blobs


@pytest.fixture(params=["memory", "folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Return an empty store."""
    match request.param:
        case "memory":
            return cast("Blobs", MemoryBlobs())
        case "folder":
            return FolderBlobs(tmp_path / "objects")
        case _:
            bucket = request.getfixturevalue("bucket")
            return S3Blobs(bucket.url, tmp_path / "arriving", endpoint=bucket.endpoint)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def frame(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def put(blobs: Blobs, data: bytes, carried: bytes | None = None, piece: int = 1_000) -> int:
    """Store `data`, `piece` bytes at a time; return how many objects were new."""
    writer = blobs.writer(digest(data), len(data))
    carried = frame(data) if carried is None else carried
    try:
        for at in range(0, len(carried), piece):
            writer.write(carried[at : at + piece])
        writer.finish()
        return blobs.publish([writer])
    finally:
        writer.abort()


CONTENTS = [b"", b"x", b"\0" * 1_000_000, os.urandom(300_000), b"text " * 50_000]


@pytest.mark.parametrize("data", CONTENTS, ids=["empty", "one byte", "zeros", "noise", "text"])
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_an_object_comes_back(blobs: Blobs, data: bytes, piece: int) -> None:
    """Whatever the content and however it was cut: the carried form is the one that was sent, the content verified."""
    carried = frame(data)
    assert put(blobs, data, carried, piece if len(carried) < 1_000 else 50_000) == 1
    assert blobs.missing([digest(data), digest(b"other"), digest(b"other")]) == [digest(b"other")]
    assert blobs.carried_size(digest(data)) == len(carried)
    assert b"".join(blobs.chunks(digest(data), 0, 4_096)) == carried
    assert b"".join(blobs.chunks(digest(data), 5, 4_096)) == carried[5:]
    assert blobs.read(digest(data), len(data)) == data


@pytest.mark.parametrize("options", [{"write_checksum": True}, {"write_content_size": False}], ids=str)
def test_any_single_frame_is_taken(blobs: Blobs, options: dict[str, bool]) -> None:
    """With checksum or without, with its length or without: one frame is one frame."""
    data = b"abc" * 100_000
    assert put(blobs, data, frame(data, **options)) == 1
    assert blobs.read(digest(data), len(data)) == data


def test_the_same_object_twice_is_stored_once(blobs: Blobs) -> None:
    """A second upload is harmless, in another call and in the same batch."""
    assert put(blobs, b"same") == 1
    assert put(blobs, b"same") == 0
    writers = [blobs.writer(digest(b"twin"), 4) for _ in range(2)]
    for writer in writers:
        writer.write(frame(b"twin"))
        writer.finish()
    assert blobs.publish(writers) == 1


def test_many_objects_are_published_together(blobs: Blobs) -> None:
    """A batch is visible after `publish` and not before."""
    contents = [f"object {number}".encode() for number in range(50)]
    writers = []
    for data in contents:
        writer = blobs.writer(digest(data), len(data))
        writer.write(frame(data))
        writer.finish()
        writers.append(writer)
    assert len(blobs.missing(map(digest, contents))) == 50
    assert blobs.publish(writers) == 50
    assert blobs.missing(map(digest, contents)) == []


DATA = b"honest content " * 1_000


@pytest.mark.parametrize(
    ("name", "carried", "code"),
    [
        ("another content", lambda: frame(DATA[:-1] + b"!"), "corrupt-object"),
        ("too short", lambda: frame(DATA[:-1]), "corrupt-object"),
        ("too long", lambda: frame(DATA + b"!"), "endless-data"),
        ("a bomb", lambda: frame(b"\0" * 50_000_000), "endless-data"),
        ("cut off", lambda: frame(DATA)[:-1], "corrupt-object"),
        ("nothing", lambda: b"", "corrupt-object"),
        ("no frame", lambda: b"plain bytes " * 10, "corrupt-object"),
        ("bytes behind it", lambda: frame(DATA) + b"!", "corrupt-object"),
        ("a second frame behind it", lambda: frame(DATA) + frame(b""), "corrupt-object"),
        ("two halves", lambda: frame(DATA[:100]) + frame(DATA[100:]), "corrupt-object"),
        ("endless bytes", lambda: frame(DATA) + b"\0" * 50_000, None),
    ],
)
def test_what_is_not_the_object_is_refused_and_never_visible(
    blobs: Blobs, name: str, carried: Callable[[], bytes], code: str | None
) -> None:
    """Wrong content, wrong length, bombs, cut off or padded frames: refused by name, and nothing is left."""
    with pytest.raises(Refusal) as caught:
        put(blobs, DATA, carried())
    assert caught.value.code == code or code is None, name
    assert blobs.missing([digest(DATA)]) == [digest(DATA)]


def test_an_aborted_object_is_forgotten(blobs: Blobs) -> None:
    """Abort may come at any time, and twice, and after publishing; it never takes anything away."""
    writer = blobs.writer(digest(b"gone"), 4)
    writer.write(frame(b"gone")[:3])
    writer.abort()
    writer.abort()
    assert blobs.missing([digest(b"gone")]) == [digest(b"gone")]
    writer = blobs.writer(digest(b"here"), 4)
    writer.write(frame(b"here"))
    writer.finish()
    blobs.publish([writer])
    writer.abort()
    assert blobs.missing([digest(b"here")]) == []


def test_what_is_not_there_is_said(blobs: Blobs) -> None:
    """An unknown digest has no size and no bytes; a text that is no digest is an error."""
    assert blobs.carried_size(digest(b"?")) is None
    with pytest.raises(InputError) as caught:
        next(blobs.chunks(digest(b"?"), 0, 10))
    assert caught.value.code == "not-found"
    with pytest.raises(InputError):
        blobs.read(digest(b"?"), 10)
    with pytest.raises(InputError, match="32 bytes"):
        blobs.missing([b"short"])


def test_reading_has_a_limit(blobs: Blobs) -> None:
    """The server reads no object that is longer than the release says."""
    put(blobs, b"12345")
    with pytest.raises(Refusal) as caught:
        blobs.read(digest(b"12345"), 4)
    assert caught.value.code == "endless-data"


def test_damage_on_disk_is_found_when_read(tmp_path: Path) -> None:
    """An object that rotted is Broken for the server's own use; hosts check what they fetch themselves."""
    blobs = FolderBlobs(tmp_path / "objects")
    put(blobs, b"fresh content")
    name = digest(b"fresh content").hex()
    path = tmp_path / "objects" / name[:2] / name[2:]
    for rotten in (frame(b"other content"), b"rotten bytes"):
        path.write_bytes(rotten)
        with pytest.raises(Broken, match="upload it again"):
            blobs.read(digest(b"fresh content"), 100)


def test_damage_in_a_bucket_is_found_when_read(bucket: Bucket, tmp_path: Path) -> None:
    """The same for a bucket; and an object that somebody deleted there is said to be gone, and can be put again."""
    blobs = S3Blobs(bucket.url, tmp_path / "arriving", endpoint=bucket.endpoint)
    put(blobs, b"fresh content")
    name = digest(b"fresh content").hex()
    path = bucket.folder / "fleet" / name[:2] / name[2:]
    for rotten in (frame(b"other content"), b"rotten bytes"):
        path.write_bytes(rotten)
        with pytest.raises(Broken, match="upload it again"):
            blobs.read(digest(b"fresh content"), 100)
    path.unlink()
    with pytest.raises(InputError, match="not here"):
        blobs.read(digest(b"fresh content"), 100)
    assert put(blobs, b"fresh content") == 1


NOISE = os.urandom(12_000)


def spoil(blobs: Blobs, request: pytest.FixtureRequest, how: Callable[[bytes], bytes]) -> None:
    """Damage NOISE where it is kept."""
    if isinstance(blobs, MemoryBlobs):
        blobs.carried[digest(NOISE)] = how(blobs.carried[digest(NOISE)])
        return
    top = request.getfixturevalue("tmp_path") / "objects"
    if isinstance(blobs, S3Blobs):
        top = request.getfixturevalue("bucket").folder / "fleet"
    path = top / digest(NOISE).hex()[:2] / digest(NOISE).hex()[2:]
    path.write_bytes(how(path.read_bytes()))


def flipped(carried: bytes) -> bytes:
    return carried[:2000] + bytes([carried[2000] ^ 1]) + carried[2001:]


@pytest.mark.parametrize(
    ("how", "proven"),
    [
        (flipped, "read"),
        (lambda it: it[:5000], "read"),
        (flipped, "set aside"),
        (lambda it: it[:5000], "set aside"),
        (lambda it: it + b"x", "set aside"),  # which the server's own reading does not mind
    ],
    ids=["flipped, read", "cut, read", "flipped", "cut", "longer"],
)
def test_what_is_proven_damaged_is_missing_and_an_upload_heals_it(
    blobs: Blobs, request: pytest.FixtureRequest, how: Callable[[bytes], bytes], proven: str
) -> None:
    """As every message about it advises: without anybody's hand in the store."""
    put(blobs, NOISE)
    assert not blobs.set_aside(digest(NOISE), len(NOISE))
    spoil(blobs, request, how)
    if proven == "read":
        with pytest.raises(Broken, match="damaged"):
            blobs.read(digest(NOISE), len(NOISE))
    else:
        assert blobs.set_aside(digest(NOISE), len(NOISE))
    assert blobs.missing([digest(NOISE)]) == blobs.missing([digest(NOISE)], anew=True) == [digest(NOISE)]
    with pytest.raises(InputError, match="not here"):
        b"".join(blobs.chunks(digest(NOISE), 0, 1000))
    with pytest.raises(InputError, match="not here"):
        blobs.read(digest(NOISE), len(NOISE))
    assert not blobs.set_aside(digest(NOISE), len(NOISE))
    assert put(blobs, NOISE) == 1
    assert blobs.read(digest(NOISE), len(NOISE)) == NOISE


@pytest.mark.parametrize("left", [b"", frame(NOISE)[:8], frame(NOISE)[:9000]], ids=["empty", "short", "half"])
def test_an_upload_replaces_what_has_another_length(blobs: Blobs, request: pytest.FixtureRequest, left: bytes) -> None:
    """What an older version, a copy or a full disk left there; too little for a frame is not even looked for."""
    put(blobs, NOISE)
    spoil(blobs, request, lambda _: left)
    if len(left) < 9:
        assert blobs.missing([digest(NOISE)], anew=True) == [digest(NOISE)]
        assert blobs.carried_size(digest(NOISE)) is None
    assert put(blobs, NOISE) == 1
    assert blobs.carried_size(digest(NOISE)) == len(frame(NOISE))
    assert blobs.read(digest(NOISE), len(NOISE)) == NOISE
    assert put(blobs, NOISE) == 0


def test_what_another_server_put_in_its_place_meanwhile_stays(tmp_path: Path) -> None:
    """Two servers on one folder: one finds damage while the other heals it."""
    blobs, other = FolderBlobs(tmp_path / "objects"), FolderBlobs(tmp_path / "objects")
    put(blobs, NOISE)
    path = tmp_path / "objects" / digest(NOISE).hex()[:2] / digest(NOISE).hex()[2:]
    path.write_bytes(flipped(path.read_bytes()))
    with path.open("rb") as damaged:
        path.write_bytes(b"")  # the same file, so that the other one replaces it
        assert put(other, NOISE) == 1
        blobs._rename(digest(NOISE), damaged)
    assert blobs.read(digest(NOISE), len(NOISE)) == NOISE
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_put_aside_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes nothing: what to remove by hand. And bytes that the disk has lost are damage too."""
    blobs = FolderBlobs(tmp_path / "objects")
    put(blobs, NOISE)
    path = tmp_path / "objects" / digest(NOISE).hex()[:2] / digest(NOISE).hex()[2:]
    path.write_bytes(flipped(path.read_bytes()))

    def full(_self: Path, _to: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(Broken, match=rf"cannot be put aside \(Read-only file system\); remove {path} and"):
            blobs.read(digest(NOISE), len(NOISE))
        with pytest.raises(Broken, match="aside: Read-only file system"):
            blobs.set_aside(digest(NOISE), len(NOISE))

    def lost(code: int) -> Callable[[FrameCheck, bytes], None]:
        def feed(_self: FrameCheck, _data: bytes) -> None:
            raise OSError(code, os.strerror(code))

        return feed

    with monkeypatch.context() as patch:
        patch.setattr(FrameCheck, "feed", lost(errno.EACCES))
        with pytest.raises(Broken):
            blobs.set_aside(digest(NOISE), len(NOISE))
        assert not blobs.missing([digest(NOISE)])
        patch.setattr(FrameCheck, "feed", lost(errno.EIO))
        assert blobs.set_aside(digest(NOISE), len(NOISE))
    assert blobs.missing([digest(NOISE)])


def test_servers_on_one_bucket_learn_what_another_put_aside(bucket: Bucket, tmp_path: Path) -> None:
    """Without being started again: where somebody wants to upload, and where a host asks for it from any byte."""
    one, two, three = (
        S3Blobs(bucket.url, tmp_path / name, endpoint=bucket.endpoint) for name in ("one", "two", "three")
    )
    put(one, NOISE)
    assert not two.missing([digest(NOISE)])
    assert not three.missing([digest(NOISE)])
    path = bucket.folder / "fleet" / digest(NOISE).hex()[:2] / digest(NOISE).hex()[2:]
    path.write_bytes(flipped(path.read_bytes()))
    damaged = path.read_bytes()
    assert one.set_aside(digest(NOISE), len(NOISE))
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged
    assert two.missing([digest(NOISE)], anew=True) == [digest(NOISE)]
    with pytest.raises(InputError, match="not here"):
        next(three.chunks(digest(NOISE), 100, 1000))
    assert S3Blobs(bucket.url, tmp_path / "four", endpoint=bucket.endpoint).missing([digest(NOISE)])
    assert put(two, NOISE) == 1
    assert one.read(digest(NOISE), len(NOISE)) == three.read(digest(NOISE), len(NOISE)) == NOISE


def test_a_server_that_starts_finds_what_another_put(bucket: Bucket, tmp_path: Path) -> None:
    """Two servers on one bucket, one started before the other put something: both have it; strangers' keys do not matter."""
    early = S3Blobs(bucket.url, tmp_path / "early", endpoint=bucket.endpoint)
    put(early, b"one")
    (bucket.folder / "fleet" / "README").write_text("mine")
    late = S3Blobs(bucket.url, tmp_path / "late", endpoint=bucket.endpoint)
    put(late, b"two")
    both = [digest(b"one"), digest(b"two")]
    assert early.missing(both) == late.missing(both) == []
    assert early.read(both[1], 3) == b"two"


def test_leftovers_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    """An upload that a crash cut leaves no file behind after the next start, and whole objects stay."""
    put(FolderBlobs(tmp_path / "objects"), b"whole")
    (tmp_path / "objects" / "incoming" / "half").write_bytes(frame(b"half")[:2])
    again = FolderBlobs(tmp_path / "objects")
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []
    assert again.missing([digest(b"whole"), digest(b"half")]) == [digest(b"half")]


def test_a_second_server_on_the_folder_leaves_running_uploads_alone(tmp_path: Path) -> None:
    """It opens the folder while the first receives something, which arrives whole; who comes when both are gone sweeps."""
    first = FolderBlobs(tmp_path / "objects")
    writer = first.writer(digest(b"content"), 7)
    writer.write(frame(b"content"))
    second = FolderBlobs(tmp_path / "objects")
    writer.finish()
    assert first.publish([writer]) == 1
    assert second.read(digest(b"content"), 7) == b"content"
    del writer, first
    gc.collect()
    (tmp_path / "objects" / "incoming" / "half").write_bytes(b"half")
    third = FolderBlobs(tmp_path / "objects")
    assert len(list((tmp_path / "objects" / "incoming").iterdir())) == 1  # the second one may be receiving it
    del second, third
    gc.collect()
    FolderBlobs(tmp_path / "objects")
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """A frame of some kilobytes that would expand to 8 GiB is refused within a few megabytes."""
    blobs = FolderBlobs(tmp_path / "objects")
    # One RLE block of 128 KiB is four bytes; magic, descriptor (no size, no checksum), window 128 KiB come first.
    bomb = b"\x28\xb5\x2f\xfd\x00\x38" + ((131_072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0") * 65_536
    tracemalloc.start()
    try:
        writer = blobs.writer(digest(b"small"), 2**20)
        with pytest.raises(Refusal) as caught:
            writer.write(bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
        writer.abort()
    assert caught.value.code == "endless-data"


def test_without_a_setting_nobody_gets_an_address(blobs: Blobs) -> None:
    """All of them say that there is no other way than the server's."""
    put(blobs, b"content")
    assert blobs.link(digest(b"content")) is None


def test_an_address_gives_one_object_for_a_while(bucket: Bucket, tmp_path: Path) -> None:
    """Its carried form, to whoever has the address; another object's key does not go with its signature."""
    blobs = S3Blobs(bucket.url, tmp_path / "arriving", endpoint=bucket.endpoint, direct=timedelta(minutes=5))
    put(blobs, b"content")
    put(blobs, b"another")
    url = blobs.link(digest(b"content"))
    assert url is not None
    assert url.startswith(bucket.endpoint)
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == frame(b"content")
    names = [digest(data).hex() for data in (b"content", b"another")]
    other = url.replace(*(f"{name[:2]}/{name[2:]}" for name in names))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(other, timeout=30)
