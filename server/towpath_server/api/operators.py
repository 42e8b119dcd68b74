"""Hosts, Releases, Assignments and Audit: what operators and publishers ask."""

import asyncio
from collections.abc import AsyncIterator

from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath.wire.reports import to_app_state, to_event
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.api.messages import (
    approved_message,
    audit_message,
    deployed_message,
    draft_of,
    entry_message,
    host_message,
    order_of,
    progress_message,
    release_message,
    status_message,
    steered_message,
)
from towpath_server.services import (
    approving,
    calendar,
    deploying,
    enrolment,
    hosting,
    publishing,
    reading,
    steering,
    weighing,
)
from towpath_server.services.context import Context, note
from towpath_server.services.gating import check_queries
from towpath_server.services.hosting import HostChange
from towpath_server.services.publishing import Publication
from towpath_server.services.thread import StorageThread, Workers
from towpath_server.services.uploading import Intake


class HostsServicer(operator_pb2_grpc.HostsServicer):
    """Tokens and hosts."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def CreateToken(self, request: pb.CreateTokenRequest, _call: ServicerContext) -> pb.CreateTokenResponse:
        """See the .proto file."""
        token, expires = await self._thread.run(
            enrolment.create_token,
            self._context,
            CALLER.get().actor,
            environment=request.environment,
            labels=dict(request.labels),
            uses=request.uses,
            ttl_ms=request.ttl_ms,
        )
        return pb.CreateTokenResponse(token=token, expires_unix_ms=expires)

    async def ListHosts(self, _request: pb.ListHostsRequest, _call: ServicerContext) -> pb.ListHostsResponse:
        """See the .proto file."""
        cards = await self._thread.run(reading.hosts, self._context)
        return pb.ListHostsResponse(hosts=[host_message(card) for card in cards])

    async def GetHost(self, request: pb.GetHostRequest, _call: ServicerContext) -> pb.GetHostResponse:
        """See the .proto file."""
        card, states, events = await self._thread.run(reading.host, self._context, request.name)
        return pb.GetHostResponse(
            host=host_message(card),
            apps=[to_app_state(state) for state in states],
            events=[to_event(event) for event in events],
        )

    async def SetHost(self, request: pb.SetHostRequest, _call: ServicerContext) -> pb.SetHostResponse:
        """See the .proto file."""
        change = HostChange(
            dict(request.parameters),
            tuple(request.unset_parameters),
            dict(request.labels),
            tuple(request.unset_labels),
        )
        _, notes = await self._thread.run(hosting.set_host, self._context, CALLER.get().actor, request.name, change)
        card, _, _ = await self._thread.run(reading.host, self._context, request.name)
        return pb.SetHostResponse(host=host_message(card), notes=notes)

    async def RevokeHost(self, request: pb.RevokeHostRequest, _call: ServicerContext) -> pb.RevokeHostResponse:
        """See the .proto file."""
        await self._thread.run(hosting.revoke_host, self._context, CALLER.get().actor, request.name, request.reason)
        return pb.RevokeHostResponse()

    async def Why(self, request: pb.WhyRequest, _call: ServicerContext) -> pb.WhyResponse:
        """See the .proto file."""
        reasons = await self._thread.run(reading.explain, self._context, request.host, request.app)
        return pb.WhyResponse(reasons=[pb.Reason(fact=one.fact, command=one.command) for one in reasons])


class ReleasesServicer(operator_pb2_grpc.ReleasesServicer):
    """What publishers bring."""

    def __init__(self, context: Context, thread: StorageThread, objects: Workers) -> None:
        self._context = context
        self._thread = thread
        self._objects = objects

    async def GetRepository(
        self, _request: pb.GetRepositoryRequest, _call: ServicerContext
    ) -> pb.GetRepositoryResponse:
        """See the .proto file."""
        files = publishing.repository(self._context)
        return pb.GetRepositoryResponse(files=[pb.MetadataFile(name=name, data=files[name]) for name in sorted(files)])

    async def FindMissing(self, request: pb.FindMissingRequest, _call: ServicerContext) -> pb.FindMissingResponse:
        """See the .proto file."""
        missing = await self._objects.run(publishing.find_missing, self._context, list(request.sha256))
        return pb.FindMissingResponse(sha256=missing)

    async def Upload(self, requests: AsyncIterator[pb.UploadRequest], _call: ServicerContext) -> pb.UploadResponse:
        """See the .proto file."""
        intake = Intake(self._context.blobs, self._context.clock.monotonic_ms)
        try:
            async for message in requests:
                await self._objects.run(
                    intake.take, message.object_sha256, message.size, message.data, last=message.last
                )
            stored = await self._objects.run(intake.end)
        finally:
            await self._objects.run(intake.abort)
        actor = CALLER.get().actor
        detail = f"{stored} new"
        await self._thread.run(note, self._context, actor, "objects.upload", "objects", detail=detail, outcome="done")
        return pb.UploadResponse(stored=stored)

    async def Publish(self, request: pb.PublishRequest, _call: ServicerContext) -> pb.PublishResponse:
        """See the .proto file."""
        publication = Publication(
            request.target_path, request.release, {file.name: file.data for file in request.metadata}
        )
        version = await self._thread.run(publishing.publish, self._context, CALLER.get().actor, publication)
        return pb.PublishResponse(snapshot_version=version)

    async def ListReleases(self, request: pb.ListReleasesRequest, _call: ServicerContext) -> pb.ListReleasesResponse:
        """See the .proto file."""
        rows = await self._thread.run(publishing.releases, self._context, request.app)
        return pb.ListReleasesResponse(releases=[release_message(row) for row in rows])

    async def WeighRelease(self, request: pb.WeighReleaseRequest, _call: ServicerContext) -> pb.WeighReleaseResponse:
        """See the .proto file."""
        known = await self._thread.run(weighing.know, self._context, request.app, request.version)
        found = await self._objects.run(weighing.weigh, self._context, known)
        ways = [
            pb.WayToRelease(
                version=way.version, hosts=way.hosts, objects=way.objects, delta=way.delta, no_delta=way.no_delta
            )
            for way in found.ways
        ]
        return pb.WeighReleaseResponse(unpacked=found.unpacked, carried=found.carried, objects=found.count, ways=ways)


class AssignmentsServicer(operator_pb2_grpc.AssignmentsServicer):
    """Who runs what."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def Deploy(self, request: pb.DeployRequest, _call: ServicerContext) -> pb.DeployResponse:
        """See the .proto file."""
        order = order_of(request)
        if order.metrics:
            await asyncio.to_thread(check_queries, self._context, order.metrics)
        deployed = await self._thread.run(deploying.deploy, self._context, CALLER.get().actor, order)
        return deployed_message(deployed)

    async def Undeploy(self, request: pb.UndeployRequest, _call: ServicerContext) -> pb.UndeployResponse:
        """See the .proto file."""
        selector = dict(request.selector) if request.by_rule else None
        count = await self._thread.run(
            deploying.undeploy, self._context, CALLER.get().actor, request.app, request.environment, selector
        )
        return pb.UndeployResponse(assignments=count)

    async def GetAssignment(self, request: pb.GetAssignmentRequest, _call: ServicerContext) -> pb.GetAssignmentResponse:
        """See the .proto file."""
        picture, failures = await self._thread.run(reading.assignment, self._context, request.assignment)
        return progress_message(picture, failures)

    async def Status(self, request: pb.StatusRequest, _call: ServicerContext) -> pb.StatusResponse:
        """See the .proto file."""
        rows = await self._thread.run(reading.status, self._context, request.app)
        notice = await self._thread.run(reading.notice, self._context)
        return pb.StatusResponse(rows=[status_message(row) for row in rows], notice=notice)


class RolloutsServicer(operator_pb2_grpc.RolloutsServicer):
    """What is on its way, and how it is steered."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def ListRollouts(self, request: pb.ListRolloutsRequest, _call: ServicerContext) -> pb.ListRolloutsResponse:
        """See the .proto file."""
        found = await self._thread.run(
            reading.list_rollouts, self._context, request.app, request.environment, history=request.history
        )
        notice = await self._thread.run(reading.notice, self._context)
        return pb.ListRolloutsResponse(rollouts=[progress_message(one) for one in found], notice=notice)

    async def SteerRollout(self, request: pb.SteerRolloutRequest, _call: ServicerContext) -> pb.SteerRolloutResponse:
        """See the .proto file."""
        actor = CALLER.get().actor
        after = await self._thread.run(
            steering.steer, self._context, actor, request.verb, request.rollout, request.reason
        )
        return steered_message(after)

    async def Promote(self, request: pb.PromoteRequest, _call: ServicerContext) -> pb.DeployResponse:
        """See the .proto file."""
        actor = CALLER.get().actor
        order = order_of(request.deploy)
        if order.metrics:
            await asyncio.to_thread(check_queries, self._context, order.metrics)
        return deployed_message(await self._thread.run(deploying.promote, self._context, actor, request.source, order))

    async def Undo(self, request: pb.UndoRequest, _call: ServicerContext) -> pb.SteerRolloutResponse:
        """See the .proto file."""
        actor = CALLER.get().actor
        selector = dict(request.selector) if request.by_rule else None
        after = await self._thread.run(steering.undo, self._context, actor, request.app, request.environment, selector)
        return steered_message(after)

    async def ApproveRollout(
        self, request: pb.ApproveRolloutRequest, _call: ServicerContext
    ) -> pb.ApproveRolloutResponse:
        """See the .proto file."""
        approved = await self._thread.run(
            approving.approve,
            self._context,
            CALLER.get().actor,
            request.rollout,
            wave=request.wave - 1 if request.wave else None,
            reason=request.reason,
        )
        return approved_message(approved)


class CalendarServicer(operator_pb2_grpc.CalendarServicer):
    """When nobody moves."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def AddEntry(self, request: pb.AddEntryRequest, _call: ServicerContext) -> pb.CalendarEntry:
        """See the .proto file."""
        draft = draft_of(request)
        return entry_message(await self._thread.run(calendar.add, self._context, CALLER.get().actor, draft))

    async def ListEntries(self, request: pb.ListEntriesRequest, _call: ServicerContext) -> pb.ListEntriesResponse:
        """See the .proto file."""
        found = await self._thread.run(calendar.entries, self._context, request.kind)
        return pb.ListEntriesResponse(entries=[entry_message(one) for one in found])

    async def RemoveEntry(self, request: pb.RemoveEntryRequest, _call: ServicerContext) -> pb.CalendarEntry:
        """See the .proto file."""
        actor = CALLER.get().actor
        return entry_message(await self._thread.run(calendar.remove, self._context, actor, request.kind, request.id))


class AuditServicer(operator_pb2_grpc.AuditServicer):
    """Who did what."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def ListAudit(self, request: pb.ListAuditRequest, _call: ServicerContext) -> pb.ListAuditResponse:
        """See the .proto file."""
        entries = await self._thread.run(reading.audit, self._context, request.limit)
        return pb.ListAuditResponse(entries=[audit_message(entry) for entry in entries])
