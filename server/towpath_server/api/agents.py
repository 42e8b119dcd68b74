"""Enrollment and AgentApi: what agents ask. The host is the certificate's, never a field of a request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from towpath.errors import Refusal
from towpath.v1 import agent_pb2, agent_pb2_grpc
from towpath.wire.holds import from_holds
from towpath.wire.reports import from_app_state, from_event
from towpath_server.api.fetching import Fetching
from towpath_server.api.gate import CALLER, AgentGate, Caller, ServicerContext
from towpath_server.api.hub import Hub
from towpath_server.services import enrolment, identities, restoring, syncing
from towpath_server.services.context import Context, HostEntry
from towpath_server.services.enrolment import Candidate
from towpath_server.services.syncing import Sequencer, SyncQuestion
from towpath_server.services.thread import StorageThread, Workers

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
        self._fetching = Fetching(context, thread, objects)
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
        async with contextlib.aclosing(self._fetching.answers(request, _entry(CALLER.get()))) as answers:
            async for answer in answers:
                yield answer

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
