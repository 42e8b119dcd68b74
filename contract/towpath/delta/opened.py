"""The head of a delta that sees into archives: which objects it takes opened. Behind it is a delta like any other.

`TPDELTA2`, a number: the length of what follows, one stream of numbers: count of opened base objects, for each the
distance of its number from the last one's and its opened size; count of opened new objects, for each the same, and
then its runs: their count, for each the number of streams and the setting (`closing`).
The delta behind it is made against the base with those objects replaced by their opened forms, each under its own
digest and size, and makes the opened forms of new ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towpath.delta.archives import MAX_STREAMS
from towpath.delta.closing import SETTINGS, Runs
from towpath.delta.layout import MAX_ADDRESS, MAX_OBJECTS, Reader, corrupt, put_varint

MAGIC = b"TPDELTA2"
# Some three thousand pairs of archives: a hostile head must not fill an agent's memory with objects or with their runs.
MAX_HEAD_BYTES = 2**15
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class OpenedNew:
    """An object to make opened: its size so, and how its streams are deflated."""

    size: int
    runs: Runs


@dataclass(frozen=True, slots=True)
class Head:
    """By number: base objects with their opened sizes, new objects."""

    base: Mapping[int, int] = field(default_factory=dict)
    new: Mapping[int, OpenedNew] = field(default_factory=dict)

    @property
    def base_bytes(self) -> int:
        """How many bytes the opened base objects have."""
        return sum(self.base.values())

    @property
    def new_bytes(self) -> int:
        """How many bytes the opened new objects have."""
        return sum(it.size for it in self.new.values())


def put_head(head: Head) -> bytes:
    """Return the numbers of a head."""
    out = bytearray()
    put_varint(out, len(head.base))
    last = 0
    for number, size in sorted(head.base.items()):
        put_varint(out, number - last)
        put_varint(out, size)
        last = number
    put_varint(out, len(head.new))
    last = 0
    for number, it in sorted(head.new.items()):
        for value in (number - last, it.size, len(it.runs), *(value for run in it.runs for value in run)):
            put_varint(out, value)
        last = number
    return bytes(out)


def take_head(data: bytes) -> tuple[Head | None, int] | None:
    """Return the head that `data` begins with and its length; (None, 0): a delta without; None: more is needed."""
    if len(data) < len(MAGIC):
        return None
    if not data.startswith(MAGIC):
        return None, 0
    start = data[len(MAGIC) : len(MAGIC) + _LENGTH_BYTES]
    digits = next((at + 1 for at, byte in enumerate(start) if byte < 0x80), None)
    if digits is None:
        if len(start) < _LENGTH_BYTES:
            return None
        raise corrupt("its head is too long")
    length = Reader(start).varint(MAX_HEAD_BYTES)
    begin = len(MAGIC) + digits
    if len(data) < begin + length:
        return None
    outer = Reader(data[begin : begin + length])
    reader = Reader(outer.stream(MAX_HEAD_BYTES))
    outer.end()
    base: dict[int, int] = {}
    number = 0
    for _ in range(reader.varint(MAX_OBJECTS)):
        number += reader.varint(MAX_OBJECTS)
        base[number] = reader.varint(MAX_ADDRESS)
    new: dict[int, OpenedNew] = {}
    number = 0
    for _ in range(reader.varint(MAX_OBJECTS)):
        number += reader.varint(MAX_OBJECTS)
        size = reader.varint(MAX_ADDRESS)
        new[number] = OpenedNew(size, [_run(reader) for _ in range(reader.varint(MAX_STREAMS))])
    reader.end()
    return Head(base, new), begin + length


def _run(reader: Reader) -> tuple[int, int]:
    count, setting = reader.varint(MAX_STREAMS), reader.varint(max(SETTINGS))
    if not count or setting not in SETTINGS:
        raise corrupt("an archive is packed in an unknown way")
    return count, setting
