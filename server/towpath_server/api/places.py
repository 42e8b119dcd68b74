"""Environments and Parameters: what operators say about places and not about single hosts."""

from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.api.messages import environment_message
from towpath_server.services import ordering, parameters
from towpath_server.services.context import Context
from towpath_server.services.ordering import EnvironmentRow
from towpath_server.services.parameters import PlaceChange
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


class ParametersServicer(operator_pb2_grpc.ParametersServicer):
    """What is set for environments and labels."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def ListParameters(
        self, request: pb.ListParametersRequest, _call: ServicerContext
    ) -> pb.ListParametersResponse:
        """See the .proto file."""
        rows = await self._thread.run(parameters.list_parameters, self._context, request.environment, request.app)
        return pb.ListParametersResponse(
            parameters=[
                pb.ParameterSetting(
                    environment=one.environment, label=one.label, app=one.app, name=one.name, text=one.text
                )
                for one in rows
            ]
        )

    async def SetParameters(self, request: pb.SetParametersRequest, _call: ServicerContext) -> pb.SetParametersResponse:
        """See the .proto file."""
        hosts, notes = await self._thread.run(
            parameters.set_parameters,
            self._context,
            CALLER.get().actor,
            PlaceChange(request.environment, request.label, dict(request.parameters), tuple(request.unset)),
        )
        return pb.SetParametersResponse(hosts=hosts, notes=notes)
