"""Environments and Parameters: what operators say about places and not about single hosts."""

from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.api.messages import environment_message
from towpath_server.services import ordering
from towpath_server.services.context import Context
from towpath_server.services.ordering import EnvironmentRow
from towpath_server.services.thread import StorageThread


class EnvironmentsServicer(operator_pb2_grpc.EnvironmentsServicer):
    """Which environments there are, and their order."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def ListEnvironments(
        self, _request: pb.ListEnvironmentsRequest, _call: ServicerContext
    ) -> pb.ListEnvironmentsResponse:
        """See the .proto file."""
        rows = await self._thread.run(ordering.list_environments, self._context)
        return pb.ListEnvironmentsResponse(environments=[environment_message(row) for row in rows])

    async def SetEnvironment(
        self, request: pb.SetEnvironmentRequest, _call: ServicerContext
    ) -> pb.SetEnvironmentResponse:
        """See the .proto file."""
        rule = await self._thread.run(
            ordering.set_environment,
            self._context,
            CALLER.get().actor,
            request.name,
            after=request.after if request.HasField("after") else None,
            healthy_for_ms=request.healthy_for_ms if request.HasField("healthy_for_ms") else None,
        )
        return pb.SetEnvironmentResponse(environment=environment_message(EnvironmentRow(rule, 0)))
