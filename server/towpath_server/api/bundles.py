"""Bundles: files that travel, as operators ask for them and bring them back."""

import asyncio
from collections.abc import AsyncIterator

from towpath.errors import InputError, Refusal
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath.wire.reportfile import MAX_REPORT_BYTES
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.domain.bundling import MAX_DELTA_WAIT_MS
from towpath_server.domain.deltas import Pair
from towpath_server.services import bundles, importing
from towpath_server.services.context import Context, Need
from towpath_server.services.intending import Intent, Order, intend
from towpath_server.services.syncing import Sequencer
from towpath_server.services.thread import StorageThread, Workers

LOOK_S = 0.5
_MAX_TEXTS = 1000


class BundlesServicer(operator_pb2_grpc.BundlesServicer):
    """Makes bundles, takes reports."""

    def __init__(self, context: Context, thread: StorageThread, objects: Workers, sequencer: Sequencer) -> None:
        self._context, self._thread, self._objects, self._sequencer = context, thread, objects, sequencer

    async def CreateBundle(
        self, request: pb.CreateBundleRequest, _call: ServicerContext
    ) -> AsyncIterator[pb.CreateBundleResponse]:
        """See the .proto file. Deltas that are not ready are asked for, as for a host, and waited for."""
        actor = CALLER.get().actor
        if max(len(request.hosts), len(request.releases), len(request.since)) > _MAX_TEXTS:
            raise InputError(f"cannot make a bundle of more than {_MAX_TEXTS} things")
        order = Order(tuple(request.hosts), tuple(request.releases), tuple(request.since), request.valid_ms)
        intent = await self._thread.run(intend, self._context, order)
        for note in intent.notes:
            yield pb.CreateBundleResponse(note=note)
        async for note in self._await_deltas(intent, min(request.delta_wait_ms, MAX_DELTA_WAIT_MS)):
            yield pb.CreateBundleResponse(note=note)
        goods = await self._objects.run(bundles.gather, self._context, intent)
        for note in goods.notes:
            yield pb.CreateBundleResponse(note=note)
        sequences = [await self._sequence() for _ in intent.hosts]
        sealed = await self._thread.run(bundles.seal, self._context, actor, intent, goods, sequences)
        pieces = bundles.stream(self._context, sealed)
        size, sent = sealed.size, 0
        while sent < sealed.size:
            data = await self._objects.run(next, pieces, b"")
            sent += len(data)
            yield pb.CreateBundleResponse(size=size, data=data, last=sent >= sealed.size)
            size = 0

    async def _sequence(self) -> int:
        number = self._sequencer.take(self._context.clock.now_unix_ms())
        while number is None:
            await self._thread.run(self._sequencer.reserve)
            number = self._sequencer.take(self._context.clock.now_unix_ms())
        return number

    async def _await_deltas(self, intent: Intent, wait_ms: int) -> AsyncIterator[str]:
        """Yield for people what is waited for, until each delta is here, hopeless, or late."""
        deltas = self._context.deltas
        if deltas is None:
            return

        def lacking(pairs: list[tuple[Need, Pair]]) -> list[tuple[Need, Pair]]:
            return [(need, pair) for need, pair in pairs if deltas.size(pair) is None and not deltas.refusal(pair)]

        left = await self._objects.run(lacking, intent.pairs())
        for need, _ in left:
            self._context.needs.ask(need)
        until_ms = self._context.clock.monotonic_ms() + wait_ms
        if left and wait_ms:
            yield f"waiting for {_deltas(len(left))} to be made"
        while left and self._context.clock.monotonic_ms() < until_ms:
            await asyncio.sleep(LOOK_S)
            left = await self._objects.run(lacking, left)
        if left:
            yield f"not ready: {_deltas(len(left))}; the objects themselves are taken instead"

    async def ImportReports(
        self, requests: AsyncIterator[pb.ImportReportsRequest], _call: ServicerContext
    ) -> pb.ImportReportsResponse:
        """See the .proto file."""
        data = bytearray()
        async for message in requests:
            data += message.data
            if len(data) > MAX_REPORT_BYTES:
                raise Refusal(f"cannot import the reports: more than {MAX_REPORT_BYTES} bytes", code="endless-data")
        actor = CALLER.get().actor
        done = await self._thread.run(importing.import_reports, self._context, actor, bytes(data))
        return pb.ImportReportsResponse(
            host=done.host, events=done.events, added=done.added, state=done.state, made_unix_ms=done.made_unix_ms
        )


def _deltas(number: int) -> str:
    return f"{number} delta{'' if number == 1 else 's'}"
