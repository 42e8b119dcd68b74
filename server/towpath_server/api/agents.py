"""Enrollment and AgentApi: what agents ask. The host is the certificate's, never a field of a request."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterator
from dataclasses import dataclass

from towpath.errors import Broken, InputError, Refusal
from towpath.v1 import agent_pb2, agent_pb2_grpc
from towpath.weburl import MAX_ORIGINS, parse_web_url
from towpath.wire.holds import from_holds
from towpath.wire.reports import from_app_state, from_event
from towpath_server.api.gate import CALLER, AgentGate, Caller, ServicerContext
from towpath_server.api.hub import Hub
from towpath_server.api.pace import Pace
from towpath_server.domain.deltas import Pair, ready
from towpath_server.services import encoding, enrolment, identities, publishing, restoring, syncing
from towpath_server.services.context import Context, HostEntry
from towpath_server.services.enrolment import Candidate
from towpath_server.services.syncing import Sequencer, SyncQuestion
from towpath_server.services.thread import StorageThread, Workers

CHUNK_BYTES = 256 * 1024
MAX_WANTS = 512
DIGEST_BYTES = 32
# A smaller object is here before a connection elsewhere would stand.
DIRECT_BYTES = 2**20
RECHECK_S = 30.0


class EnrollmentServicer(agent_pb2_grpc.EnrollmentServicer):
    """On the enrolment port."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def Enroll(self, request: agent_pb2.EnrollRequest, _call: ServicerContext) -> agent_pb2.EnrollResponse:
        """See the .proto file."""
        candidate = Candidate(
            request.token_id,
            request.token_secret,
            request.name,
            request.csr_der,
            request.platform,
            request.agent_version,
        )
        enrolled = await self._thread.run(enrolment.enroll, self._context, candidate)
        return agent_pb2.EnrollResponse(
            host_id=enrolled.host.id,
            name=enrolled.host.name,
            environment=enrolled.host.environment,
            certificate_pem=enrolled.certificate_pem,
            ca_pem=self._context.authority.ca_pem,
            root_json=enrolled.root_json,
            agent_address=self._context.agent_address,
        )

    async def Recover(self, request: agent_pb2.RecoverRequest, _call: ServicerContext) -> agent_pb2.RenewResponse:
        """See the .proto file."""
        pem = await self._thread.run(
            identities.recover,
            self._context,
            request.certificate_pem,
            request.csr_der,
            request.at_unix_ms,
            request.signature,
        )
        return agent_pb2.RenewResponse(certificate_pem=pem, ca_pem=self._context.authority.ca_pem)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a want leads to: its carried length, its first bytes, and the rest in chunks."""

    size: int
    first: bytes
    rest: Iterator[bytes]


class AgentServicer(agent_pb2_grpc.AgentApiServicer):
    """On the agent port."""

    def __init__(
        self,
        context: Context,
        thread: StorageThread,
        objects: Workers,
        *,
        gate: AgentGate,
        hub: Hub,
        sequencer: Sequencer,
    ) -> None:
        self._context = context
        self._thread = thread
        self._objects = objects
        self._gate = gate
        self._hub = hub
        self._sequencer = sequencer

    async def Sync(self, request: agent_pb2.SyncRequest, _call: ServicerContext) -> agent_pb2.SyncResponse:
        """See the .proto file."""
        caller = CALLER.get()
        entry = _entry(caller)
        question = SyncQuestion(
            request.nonce,
            request.state_revision,
            request.agent_version,
            request.platform,
            request.boot_id,
            from_holds(request.holds),
            request.accepted_sequence,
            frozenset(request.features),
        )
        if restoring.is_new(self._context, entry.host, question.accepted_sequence):
            await self._thread.run(restoring.heard, self._context, entry.host.id, question.accepted_sequence)
        if syncing.told_something_new(entry.host, question):
            await self._thread.run(syncing.learn, self._context, entry.host.id, question)
            caller = await self._gate.refreshed(caller)
            entry = _entry(caller)
        keep = restoring.keep(self._context, entry.host)
        if keep:
            return agent_pb2.SyncResponse(keep=keep, known_state_revision=syncing.known_revision(entry.host))
        now = self._context.clock.now_unix_ms()
        sequence = self._sequencer.take(now)
        while sequence is None:
            await self._thread.run(self._sequencer.reserve)
            sequence = self._sequencer.take(now)
        envelope = syncing.answer(
            self._context,
            entry,
            caller.key_sha256,
            nonce=request.nonce,
            sequence=sequence,
            features=question.features,
        )
        return agent_pb2.SyncResponse(envelope=envelope, known_state_revision=syncing.known_revision(entry.host))

    async def Watch(
        self, _request: agent_pb2.WatchRequest, _call: ServicerContext
    ) -> AsyncIterator[agent_pb2.WatchResponse]:
        """See the .proto file. The first hint comes at once: something may have changed before the stream was open."""
        caller = CALLER.get()
        host = _entry(caller).host
        with self._hub.watching(host.id) as watch:
            self._context.presence.watch(host.id)
            try:
                self._context.hints.due(host.environment)
                watch.woken.set()
                while True:
                    hinted = await _woken(watch.woken)
                    if watch.closed:
                        return
                    await self._gate.refreshed(caller)
                    if hinted:
                        yield agent_pb2.WatchResponse(change=self._hub.change)
            finally:
                self._context.presence.unwatch(host.id, self._context.clock.now_unix_ms())

    async def Fetch(
        self, request: agent_pb2.FetchRequest, _call: ServicerContext
    ) -> AsyncIterator[agent_pb2.FetchResponse]:
        """See the .proto file."""
        if len(request.wants) > MAX_WANTS:
            raise Refusal(f"cannot fetch {len(request.wants)} things at once: at most {MAX_WANTS}", code="endless-data")
        direct_from = set(request.direct_from[:MAX_ORIGINS])
        pace = Pace(self._now_s())
        for number, want in enumerate(request.wants):
            carried = await self._carried(want)
            if carried is None:
                yield agent_pb2.FetchResponse(want=number, missing=True, last=True)
                continue
            if direct_from and (url := await self._elsewhere(want, carried, direct_from)):
                yield agent_pb2.FetchResponse(want=number, url=url, carried_size=carried.size)
                continue
            sent, data, first = want.offset, carried.first, carried.size
            while True:
                piece = data[: pace.next_bytes(self._now_s())]
                data = data[len(piece) :]
                sent += len(piece)
                last = sent >= carried.size
                yield agent_pb2.FetchResponse(want=number, data=piece, last=last, carried_size=first)
                if last:
                    break
                pace.sent(len(piece))
                first = 0
                data = data or await self._objects.run(next, carried.rest, b"")
                if not data:
                    raise Broken("cannot send an object: it is shorter than it was; look at the disk of the server")

    async def _elsewhere(self, want: agent_pb2.Want, carried: Carried, direct_from: set[str]) -> str:
        """Return where the host may get an object by itself, empty where it may not or it would not pay."""
        if want.WhichOneof("what") != "object_sha256" or carried.size - want.offset < DIRECT_BYTES:
            return ""
        url = await self._objects.run(self._context.blobs.link, want.object_sha256)
        return url if url is not None and may_go(url, direct_from) else ""

    def _now_s(self) -> float:
        return self._context.clock.monotonic_ms() / 1000

    async def _carried(self, want: agent_pb2.Want) -> Carried | None:
        match want.WhichOneof("what"):
            case "object_sha256":
                return await self._objects.run(self._object, want.object_sha256, want.offset)
            case "delta":
                pair = Pair(want.delta.old_index_sha256, want.delta.new_index_sha256, want.delta.opened)
                if {len(pair.old), len(pair.new)} != {DIGEST_BYTES}:
                    raise Refusal("cannot fetch: a delta is named by two digests of 32 bytes", code="garbled")
                return await self._objects.run(self._delta, _entry(CALLER.get()), pair, want.offset)
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

    async def Report(self, request: agent_pb2.ReportRequest, _call: ServicerContext) -> agent_pb2.ReportResponse:
        """See the .proto file."""
        host = _entry(CALLER.get()).host
        events = [from_event(event) for event in request.events]
        apps = [from_app_state(app) for app in request.apps]
        known = await self._thread.run(syncing.report, self._context, host.id, events, apps, request.state_revision)
        return agent_pb2.ReportResponse(acknowledged=known)

    async def Renew(self, request: agent_pb2.RenewRequest, _call: ServicerContext) -> agent_pb2.RenewResponse:
        """See the .proto file."""
        caller = CALLER.get()
        pem = await self._thread.run(identities.renew, self._context, caller.name, caller.serial, request.csr_der)
        return agent_pb2.RenewResponse(certificate_pem=pem, ca_pem=self._context.authority.ca_pem)


def may_go(url: str, origins: Container[str]) -> bool:
    """Return whether a host that named `origins` will ask `url`."""
    return parse_web_url(url).origin in origins


def _entry(caller: Caller) -> HostEntry:
    if caller.entry is None:
        raise Refusal("cannot answer: this port is for hosts", code="wrong-role")
    return caller.entry


async def _woken(event: asyncio.Event) -> bool:
    """Wait for a hint; False where none came in time and the caller is to be looked at again."""
    try:
        async with asyncio.timeout(RECHECK_S):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
