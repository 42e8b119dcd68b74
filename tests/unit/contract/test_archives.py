"""An archive is opened and comes back bit for bit, or it is not opened; a host is safe from whoever makes deltas."""

import gzip
import io
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.delta import archives, closing
from towpath.delta.archives import NotOpenedError, Stream, TooLargeError, most_opened, open_archive
from towpath.delta.closing import SETTINGS, close_archive, is_usual, packed_sample, runs_of
from towpath.delta.layout import Codec, put_varint
from towpath.delta.opened import MAGIC, Head, OpenedNew, put_head, take_head
from towpath.errors import Refusal

TEXT = b"".join(b"line %d of a text\n" % (number * 7919) for number in range(3000))


def reader(data: bytes) -> closing.ReadAt:
    return lambda at, length: data[at : at + length]


def opened(data: bytes, limit: int = 2**30) -> tuple[bytes, list[Stream]]:
    out, streams = io.BytesIO(), list[Stream]()
    assert open_archive(io.BytesIO(data).read, out.write, limit=limit, found=streams.append) == out.tell()
    return out.getvalue(), streams


def closed(data: bytes, runs: closing.Runs) -> bytes:
    out = io.BytesIO()
    close_archive(reader(data), len(data), runs, out.write)
    return out.getvalue()


def round_trip(data: bytes) -> list[tuple[int, int]] | None:
    """The runs of an archive that comes back; None where it is carried as it is."""
    form, streams = opened(data)
    runs = runs_of(streams, reader(data), reader(form))
    if runs is not None:
        assert closed(form, runs) == data
    return runs


def zipped(level: int = 6, how: int = zipfile.ZIP_DEFLATED, *, streamed: bool = False) -> bytes:
    class Pipe(io.RawIOBase):
        """A file that cannot seek: sizes come behind each entry."""

        data = b""

        def writable(self) -> bool:
            return True

        def write(self, piece: object) -> int:
            taken = bytes(piece)  # type: ignore[call-overload]
            self.data += taken
            return len(taken)

    pipe, buffer = Pipe(), io.BytesIO()
    with zipfile.ZipFile(pipe if streamed else buffer, "w", how, compresslevel=level) as archive:
        for number in range(4):
            archive.writestr(f"module{number}.py", TEXT[number * 50 :])
        archive.writestr("stored.bin", TEXT[:500], zipfile.ZIP_STORED)
        archive.writestr("empty", b"")
    return pipe.data if streamed else buffer.getvalue()


@pytest.mark.parametrize("level", range(1, 10))
def test_what_python_packs_comes_back(level: int) -> None:
    """Gzip and zip at each level; the content stands there in the clear."""
    data = gzip.compress(TEXT, level)
    assert TEXT in opened(data)[0]
    assert round_trip(data) is not None
    assert round_trip(zipped(level)) is not None


def test_archives_of_all_shapes_come_back() -> None:
    """Several members, names, comments and extra fields, what follows the end, streamed zips, a tar."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    assert round_trip(tar.getvalue()) is not None
    one, other = gzip.compress(TEXT, 6), gzip.compress(TEXT[::-1], 1)
    assert round_trip(one + other + b"and a tail") == [(1, 6), (1, 1)]
    body = one[10:]
    fancy = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\0abc" + b"name\0" + b"comment\0" + b"\1\2" + body
    assert round_trip(fancy) == [(1, 6)]
    assert round_trip(zipped(streamed=True)) is not None
    assert round_trip(b"".join((zipped(), b"tail" * 30))) is not None
    assert round_trip(zipped()[:-30]) is not None


def test_a_streamed_zip64_and_odd_entries() -> None:
    """Descriptors of 24 bytes, without a name of their own, and entries that end the walk."""
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflater.compress(TEXT) + deflater.flush()

    def entry(flags: int, method: int, size: int = 0) -> bytes:
        return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, flags, method, 0, 0, 0, size, 0, 1, 0) + b"n"

    long = entry(8, 8) + packed + b"PK\7\x08" + bytes(20)
    bare = entry(8, 8) + packed + bytes(12)
    assert round_trip(long + long + b"PK\1\2rest") == [(2, 6)]
    assert len(opened(bare + long)[1]) == 1  # without a mark nobody knows where it ends
    for end in (entry(8, 0), entry(0, 0, 0xFFFFFFFF), entry(0, 12, 2**32 - 1), b"PK\3\4 short"):
        assert round_trip(long + end) == [(1, 6)]
    assert round_trip(entry(1, 8, 5) + b"xxxxx" + long) == [(1, 6)]  # encrypted
    with pytest.raises(NotOpenedError):
        opened(long + entry(0, 0, 10) + b"cut")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"no archive at all",
        gzip.compress(TEXT)[:-5],
        gzip.compress(TEXT)[:500],
        gzip.compress(TEXT)[:5],
        b"\x1f\x8b\x08\x08" + bytes(6) + b"a name without an end",
        gzip.compress(TEXT)[:200] + b"\xff" * 100,
        zipped(how=zipfile.ZIP_STORED),
    ],
    ids=range(9),  # bytes that a clock is in would name a test otherwise in each process
)
def test_what_is_none_cut_off_or_damaged_is_not_opened(data: bytes) -> None:
    """It is carried as it is."""
    with pytest.raises(NotOpenedError):
        opened(data)


def test_what_another_packer_made_is_carried_as_it_is() -> None:
    """Stored blocks, and the program gzip, whose deflate is another than zlib's."""
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    assert round_trip(stored.compress(TEXT) + stored.flush()) is None
    one = gzip.compress(TEXT)
    assert round_trip(one + gzip.compress(TEXT, 0)) is None
    program = shutil.which("gzip")
    if program is not None:
        for level in (1, 6, 9):
            packed = subprocess.run([program, "-n", f"-{level}"], input=TEXT, stdout=subprocess.PIPE, check=True).stdout
            round_trip(packed)  # either way, nothing wrong comes of it


@settings(max_examples=40)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\3\4", gzip.compress(b"abc" * 30), zipped()])
)
def test_any_bytes_are_left_alone_or_come_back(tail: bytes, front: bytes) -> None:
    """Whatever stands there: opened and put back it is the same."""
    try:
        round_trip(front + tail)
    except NotOpenedError:
        return


@settings(max_examples=25)
@given(st.lists(st.tuples(st.binary(max_size=2000), st.sampled_from(SETTINGS)), min_size=1, max_size=4))
def test_any_content_comes_back(members: list[tuple[bytes, int]]) -> None:
    """With each setting of zlib, in any order."""
    data = b""
    for content, setting in members:
        deflater = zlib.compressobj(setting & 15, zlib.DEFLATED, 31, 9 if setting & 16 else 8, setting >> 5)
        data += deflater.compress(content) + deflater.flush()
    assert round_trip(data) is not None


def test_a_bomb_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at its limit, and so do streams without number."""
    bomb = gzip.compress(bytes(2**24))
    with pytest.raises(TooLargeError):
        opened(bomb, most_opened(len(bomb)))
    monkeypatch.setattr(archives, "MAX_STREAMS", 2)
    with pytest.raises(TooLargeError):
        opened(gzip.compress(b"") * 3)


def test_a_name_in_a_gzip_is_kept_in_one_piece_and_has_a_limit() -> None:
    """Not byte by byte: many members with long names would cost a server minutes."""

    def named(length: int) -> bytes:
        return b"\x1f\x8b\x08\x18" + bytes(6) + b"n" * length + b"\0comment\0" + gzip.compress(TEXT)[10:]

    longest, pieces = named(archives.MAX_TEXT_BYTES - 1), list[bytes]()
    assert round_trip(longest * 2) is not None
    open_archive(io.BytesIO(longest).read, pieces.append, limit=2**30)
    assert len(pieces) < 20
    with pytest.raises(NotOpenedError):
        opened(named(archives.MAX_TEXT_BYTES))


def form(content: bytes, *table: int, length: int | None = None) -> bytes:
    out = bytearray()
    for number in table:
        put_varint(out, number)
    return content + bytes(out) + (len(out) if length is None else length).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("data", "runs"),
    [
        (b"", [(1, 6)]),
        (b"abc", [(1, 6)]),
        (form(b"abc", length=2**31), [(1, 6)]),
        (form(b"abc", length=1000), [(1, 6)]),
        (form(b"abc", 1, 5), [(1, 6)]),
        (form(b"abc", 1, 1), [(2, 6)]),
        (form(b"abc", 1, 1, 0, 0), [(1, 6)]),
    ],
    ids=range(7),
)
def test_a_form_that_does_not_fit_is_refused(data: bytes, runs: closing.Runs) -> None:
    """No table, one too long, one that says more than there is, more or fewer runs."""
    with pytest.raises(Refusal) as caught:
        closed(data, runs)
    assert caught.value.code == "corrupt-delta"


def test_a_form_that_is_shorter_than_its_size_is_refused() -> None:
    """A file that lost its end meanwhile is no crash."""
    data = form(b"abc", 1, 2)

    def short(at: int, length: int) -> bytes:
        return b"" if at < 2 else data[at : at + length]

    with pytest.raises(Refusal, match="cut off"):
        close_archive(short, len(data), [(1, 6)], lambda _: None)


def test_the_zlib_that_is_here_is_the_usual_one() -> None:
    """Where not, nothing is opened; the sample's digest is that of zlib's own releases."""
    assert is_usual() == (packed_sample() == closing._USUAL)


HEAD = Head({0: 5, 7: 2**33}, {3: OpenedNew(900, [(4, 6), (1, 25)]), 4: OpenedNew(1, [(1, 9)])})


def carried(numbers: bytes) -> bytes:
    stream = bytearray()
    put_varint(stream, len(numbers) << 2)
    out = bytearray(MAGIC)
    put_varint(out, len(stream) + len(numbers))
    return bytes(out + stream) + numbers


def test_a_head_comes_back_however_it_is_cut() -> None:
    """And a delta without one is known by its first bytes."""
    data = carried(put_head(HEAD)) + b"the delta"
    for cut in range(len(data) - len(b"the delta")):
        assert take_head(data[:cut]) is None
    assert take_head(data) == (HEAD, len(data) - len(b"the delta"))
    assert take_head(b"TPDELTA1 and so on") == (None, 0)
    assert (HEAD.base_bytes, HEAD.new_bytes) == (5 + 2**33, 901)
    assert take_head(carried(put_head(Head()))) == (Head(), len(carried(put_head(Head()))))


@pytest.mark.parametrize(
    "data",
    [
        MAGIC + b"\xff" * 4,
        MAGIC + bytes([0xFF, 0xFF, 0x7F]),
        carried(put_head(HEAD) + b"x"),
        carried(put_head(HEAD)[:-1]),
        carried(put_head(Head({}, {0: OpenedNew(5, [(0, 6)])}))),
        carried(put_head(Head({}, {0: OpenedNew(5, [(1, 10)])}))),
        carried(put_head(Head({}, {0: OpenedNew(5, [(1, 250)])}))),
        carried(b"\xff\xff\xff\xff\x0f"),
    ],
    ids=range(8),
)
def test_a_head_out_of_shape_is_refused(data: bytes) -> None:
    """Too long, cut, settings that zlib has not, objects without number."""
    with pytest.raises(Refusal) as caught:
        take_head(data)
    assert caught.value.code == "corrupt-delta"


def test_runs_without_end_are_refused() -> None:
    """A head is short on the line and long in memory: it may not expand to more than any archive needs."""
    many = put_head(Head({}, {number: OpenedNew(5, [(1, 6)] * 2**12) for number in range(33)}))
    stream = bytearray()
    packed = zstandard.compress(many)
    for value in (len(many) << 2 | Codec.ZSTD, len(packed)):
        put_varint(stream, value)
    out = bytearray(MAGIC)
    put_varint(out, len(stream) + len(packed))
    with pytest.raises(Refusal) as caught:
        take_head(bytes(out + stream) + packed)
    assert caught.value.code == "corrupt-delta"


def test_a_stream_that_deflate_does_not_know_is_not_opened() -> None:
    """A block of a kind that there is not; and nobody needs to hear of each stream."""
    with pytest.raises(NotOpenedError):
        opened(b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 50)
    assert open_archive(io.BytesIO(gzip.compress(b"")).read, lambda _: None, limit=100) > 0
