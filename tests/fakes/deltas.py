"""Deltas in memory: content in, carried bytes out and back again, by the real encoder and the real decoder; and deltas by hand."""

import hashlib
from collections.abc import Sequence

from towpath.delta.decoder import Decoder
from towpath.delta.frame import Extent, put_extents
from towpath.delta.layout import MAGIC, Codec, basis, put_signed, put_varint
from towpath_server.deltas.encoder import NewObject, encode


def named(contents: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """(digest, size) of each."""
    return [(hashlib.sha256(content).digest(), len(content)) for content in contents]


def make(old: Sequence[bytes], new: Sequence[bytes], *, index_last: bool = False, alike: bool = False) -> bytes:
    """A delta; with `alike` each new object is the namesake of the base object of its number."""
    objects = [NewObject(len(it), at if alike and at < len(old) else None) for at, it in enumerate(new)]
    base, content = memoryview(b"".join(old)), memoryview(b"".join(new))
    return b"".join(encode(named(old), base, objects, content, index_last=index_last))


class Made:
    """A sink, and the reader of base and made content."""

    def __init__(self, old: Sequence[bytes]) -> None:
        self.base = b"".join(old)
        self.all = bytearray()
        self.objects: list[tuple[bytes, int]] = []

    def write(self, piece: bytes) -> None:
        self.all += piece

    def end(self, digest: bytes, size: int) -> None:
        self.objects.append((digest, size))

    def read(self, address: int, length: int) -> bytes:
        made = max(address - len(self.base), 0), max(address + length - len(self.base), 0)
        return self.base[address : address + length] + bytes(self.all[made[0] : made[1]])


def apply(delta: bytes, old: Sequence[bytes], *, limit: int = 2**30, piece: int = 2**16) -> Made:
    """What the delta makes, fed in pieces; its Refusal where it is none."""
    made = Made(old)
    decoder = Decoder(named(old), limit=limit, read=made.read, sink=made)
    for at in range(0, len(delta), piece):
        decoder.feed(delta[at : at + piece])
    decoder.finish()
    return made


def numbers(*values: int) -> bytes:
    out = bytearray()
    for value in values:
        put_varint(out, value)
    return bytes(out)


def stored(data: bytes) -> bytes:
    return numbers(len(data) << 2 | Codec.STORED) + data


def delta(old: Sequence[bytes], sizes: list[int], *frames: bytes, header: bytes | None = None) -> bytes:
    """A delta of hand-made frames."""
    if header is None:
        header = stored(numbers(sum(map(len, old)), len(sizes), *sizes))
    return MAGIC + basis(named(old)) + numbers(len(header)) + header + b"".join(frames)


def frame(length: int, kind: int, body: bytes) -> bytes:
    return numbers(length, len(body) << 2 | kind) + body


def difference(
    extents: list[Extent], control: bytes, gaps: bytes = b"", values: bytes = b"", extra: bytes = b""
) -> bytes:
    return b"".join(map(stored, (put_extents(extents), control, gaps, values, extra)))


def steps(*each: tuple[int, int, int]) -> bytes:
    """A control stream of (copy, own, seek)."""
    out = bytearray(numbers(len(each), *(it[0] for it in each), *(it[1] for it in each)))
    for it in each:
        put_signed(out, it[2])
    return bytes(out)
