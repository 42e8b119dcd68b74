"""What a Fetch is answered with: objects, deltas and metadata in pieces, in the order they were asked for.

Short objects are read some at a time and travel together, for askers that take them so: in messages that are no longer
than one piece would be, and at once when what was read is through.
Not handled here: who may ask (`gate`), how long pieces are (`pace`), when a delta is made (`services.encoding`).
"""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Container, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from towpath.errors import Broken, InputError, Refusal, TowpathError
from towpath.v1 import agent_pb2
from towpath.weburl import MAX_ORIGINS, parse_web_url
from towpath.wire.packing import Packer
from towpath_server.api.pace import Pace
from towpath_server.domain.deltas import Pair, ready
from towpath_server.services import encoding, publishing
from towpath_server.services.context import Context, HostEntry
from towpath_server.services.thread import StorageThread, Workers

CHUNK_BYTES = 256 * 1024
MAX_WANTS = 512
DIGEST_BYTES = 32
# A smaller object is here before a connection elsewhere would stand.
DIRECT_BYTES = 2**20
# Read ahead no more than that, and no longer: objects may be in a bucket far away.
AHEAD_BYTES, AHEAD_S = CHUNK_BYTES, 0.02


@dataclass(frozen=True, slots=True)
class Carried:
    """What a want leads to: its carried length, its first bytes, and the rest in chunks."""

    size: int
    first: bytes
    rest: Iterator[bytes]


class Fetching:
    """Answers hosts; `objects` are the threads that read objects."""

    def __init__(self, context: Context, thread: StorageThread, objects: Workers) -> None:
        self._context = context
        self._thread = thread
        self._objects = objects

    async def answers(
        self, request: agent_pb2.FetchRequest, entry: HostEntry
    ) -> AsyncGenerator[agent_pb2.FetchResponse, None]:
        """Yield what answers `request`; `entry` is the host that asks."""
        if len(request.wants) > MAX_WANTS:
            raise Refusal(f"cannot fetch {len(request.wants)} things at once: at most {MAX_WANTS}", code="endless-data")
        pace = Pace(self._now_s())
        async with aclosing(self._messages(request, entry, pace)) as messages:
            async for message in messages:
                yield message
                pace.sent(len(message.data))

    async def _messages(
        self, request: agent_pb2.FetchRequest, entry: HostEntry, pace: Pace
    ) -> AsyncGenerator[agent_pb2.FetchResponse, None]:
        """Yield the messages, each as short as `pace` says."""
        direct_from = set(request.direct_from[:MAX_ORIGINS])
        packer = Packer(takes=request.packed)
        ahead: deque[Carried | None] = deque()
        for number, want in enumerate(request.wants):
            if not ahead:
                # What was read together travels together, and what went well before what may fail.
                for message in packer.rest():
                    yield message
                ahead.extend(await self._ahead(request.wants[number:], entry))
            carried = ahead.popleft()
            async for answer in self._answers(number, want, carried, direct_from, pace):
                for message in packer.add(answer, pace.next_bytes(self._now_s())):
                    yield message
        for message in packer.rest():
            yield message

    async def _answers(
        self, number: int, want: agent_pb2.Want, carried: Carried | None, direct_from: set[str], pace: Pace
    ) -> AsyncIterator[agent_pb2.FetchResponse]:
        """Yield what answers one want."""
        if carried is None:
            yield agent_pb2.FetchResponse(want=number, missing=True, last=True)
            return
        if direct_from and (url := await self._elsewhere(want, carried, direct_from)):
            yield agent_pb2.FetchResponse(want=number, url=url, carried_size=carried.size)
            return
        sent, data, first, last = want.offset, carried.first, carried.size, False
        while not last:
            piece = data[: pace.next_bytes(self._now_s())]
            data = data[len(piece) :]
            sent += len(piece)
            last = sent >= carried.size
            yield agent_pb2.FetchResponse(want=number, data=piece, last=last, carried_size=first)
            first = 0
            data = data or (b"" if last else await self._objects.run(next, carried.rest, b""))
            if not data and not last:
                raise Broken("cannot send an object: it is shorter than it was; look at the disk of the server")

    async def _elsewhere(self, want: agent_pb2.Want, carried: Carried, direct_from: set[str]) -> str:
        """Return where the host may get an object by itself, empty where it may not or it would not pay."""
        if want.WhichOneof("what") != "object_sha256" or carried.size - want.offset < DIRECT_BYTES:
            return ""
        url = await self._objects.run(self._context.blobs.link, want.object_sha256)
        return url if url is not None and may_go(url, direct_from) else ""

    def _now_s(self) -> float:
        return self._context.clock.monotonic_ms() / 1000

    async def _ahead(self, wants: Sequence[agent_pb2.Want], entry: HostEntry) -> Sequence[Carried | None]:
        """Return what the first of `wants` leads to, and where that is an object, what some that follow do."""
        if wants[0].WhichOneof("what") == "object_sha256":
            return await self._objects.run(self._some_objects, wants)
        return [await self._carried(wants[0], entry)]

    async def _carried(self, want: agent_pb2.Want, entry: HostEntry) -> Carried | None:
        match want.WhichOneof("what"):
            case "delta":
                pair = Pair(want.delta.old_index_sha256, want.delta.new_index_sha256, want.delta.opened)
                if {len(pair.old), len(pair.new)} != {DIGEST_BYTES}:
                    raise Refusal("cannot fetch: a delta is named by two digests of 32 bytes", code="garbled")
                return await self._objects.run(self._delta, entry, pair, want.offset)
            case "metadata":
                data = await self._thread.run(publishing.metadata_file, self._context, want.metadata)
            case "target":
                data = await self._thread.run(publishing.target, self._context, want.target)
            case _:
                raise Refusal("cannot fetch: a want names nothing", code="garbled")
        if data is None:
            return None
        rest = (data[at : at + CHUNK_BYTES] for at in range(want.offset, len(data), CHUNK_BYTES))
        return Carried(len(data), next(rest, b""), rest)

    def _some_objects(self, wants: Sequence[agent_pb2.Want]) -> list[Carried | None]:
        """Return the first of `wants` and those that follow, up to one that is not read whole, or not at all."""
        found: list[Carried | None] = []
        held, until_s = 0, self._now_s() + AHEAD_S
        for want in wants:
            if want.WhichOneof("what") != "object_sha256":
                break
            try:
                carried = self._object(want.object_sha256, want.offset)
            except TowpathError:
                if found:  # what is before it is sent first; it is tried again when it is its turn
                    break
                raise
            found.append(carried)
            if carried is not None:
                held += len(carried.first)
                if want.offset + len(carried.first) < carried.size:
                    break
            if held >= AHEAD_BYTES or self._now_s() >= until_s:
                break
        return found

    def _object(self, digest: bytes, offset: int) -> Carried | None:
        size = self._context.blobs.carried_size(digest)
        if size is None:
            return None
        if offset >= size:
            return Carried(size, b"", iter(()))
        rest = self._context.blobs.chunks(digest, offset, CHUNK_BYTES)
        return Carried(size, next(rest, b""), rest)

    def _delta(self, entry: HostEntry, asked: Pair, offset: int) -> Carried | None:
        """Return a delta that is ready. Where none is, nobody waits: it is noted, and the host takes objects."""
        deltas = self._context.deltas
        given = ready(asked, deltas.size) if deltas is not None else None
        if deltas is None or given is None:
            encoding.wanted_by(self._context, entry, asked)
            return None
        pair, size = given
        if offset >= size:
            return Carried(size, b"", iter(()))
        rest = deltas.chunks(pair, offset, CHUNK_BYTES)
        try:
            return Carried(size, next(rest, b""), rest)
        except InputError:  # it went since to make room
            return None


def may_go(url: str, origins: Container[str]) -> bool:
    """Return whether a host that named `origins` will ask `url`."""
    return parse_web_url(url).origin in origins
