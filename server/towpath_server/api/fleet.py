"""The fleet as a whole: fleet files, which are many acts at once, and databases that were put back from a backup."""

import asyncio
from collections.abc import Callable
from functools import partial

from towpath.errors import InputError, Refusal
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.api.messages import draft_of, order_of
from towpath_server.services import applying, calendar, deploying, hosting, ordering, parameters, restoring
from towpath_server.services.applying import Refused, Step
from towpath_server.services.context import Act, Context
from towpath_server.services.gating import check_queries
from towpath_server.services.hosting import HostChange
from towpath_server.services.parameters import PlaceChange
from towpath_server.services.thread import StorageThread


class FleetServicer(operator_pb2_grpc.FleetServicer):
    """All of it, or nothing."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def Apply(self, request: pb.ApplyRequest, _call: ServicerContext) -> pb.ApplyResponse:
        """See the .proto file."""
        actor = CALLER.get().actor
        steps = [_step(self._context, actor, one) for one in request.steps]
        refused = await asyncio.to_thread(_check_metrics, self._context, request)
        if refused is None:
            refused = await self._thread.run(applying.apply, self._context, actor, steps, dry_run=request.dry_run)
        if refused is None:
            return pb.ApplyResponse()
        return pb.ApplyResponse(refused=True, step=refused.step, reason=refused.reason)


class RestoredServicer(operator_pb2_grpc.RestoredServicer):
    """Hosts that know more than the database."""

    def __init__(self, context: Context, thread: StorageThread) -> None:
        self._context = context
        self._thread = thread

    async def ShowRestored(self, _request: pb.ShowRestoredRequest, _call: ServicerContext) -> pb.ShowRestoredResponse:
        """See the .proto file."""
        rows = await self._thread.run(restoring.shown, self._context)
        return pb.ShowRestoredResponse(
            rows=[
                pb.RestoredRow(
                    host=row.host,
                    environment=row.environment,
                    ahead=row.ahead,
                    app=row.app,
                    current=row.current,
                    desired=row.desired,
                )
                for row in rows
            ]
        )

    async def AcceptRestored(
        self, request: pb.AcceptRestoredRequest, _call: ServicerContext
    ) -> pb.AcceptRestoredResponse:
        """See the .proto file."""
        actor = CALLER.get().actor
        return pb.AcceptRestoredResponse(
            hosts=await self._thread.run(restoring.accept, self._context, actor, request.reason)
        )


def _check_metrics(context: Context, request: pb.ApplyRequest) -> Refused | None:
    """Return the first step with a query that Prometheus cannot read. Blocks."""
    for number, one in enumerate(request.steps):
        if one.deploy.metrics:
            try:
                check_queries(context, order_of(one.deploy).metrics)
            except InputError as error:
                return Refused(number, str(error))
    return None


def _step(context: Context, actor: str, step: pb.ApplyStep) -> Step:
    """Return what a step asks for, as its own call would do it."""
    act, subject, do = _act(context, actor, step)
    return Step(act, subject, do)


def _act(context: Context, actor: str, step: pb.ApplyStep) -> tuple[str, str, Callable[[Act], object]]:
    match step.WhichOneof("what"):
        case "environment":
            one = step.environment
            after = one.after if one.HasField("after") else None
            healthy = one.healthy_for_ms if one.HasField("healthy_for_ms") else None
            put = partial(ordering.put_environment, name=one.name, after=after, healthy_for_ms=healthy)
            return "environment.set", f"environment/{one.name[:64]}", put
        case "parameters":
            of = step.parameters
            change = PlaceChange(of.environment, of.label, dict(of.parameters), tuple(of.unset))
            return (
                "parameter.set",
                f"environment/{of.environment[:64]}",
                lambda act: parameters.change_parameters(context, act, change),
            )
        case "host":
            host = step.host
            new = HostChange(dict(host.parameters), tuple(host.unset), {}, ())
            return "host.set", f"host/{host.name[:64]}", lambda act: hosting.change_host(context, act, host.name, new)
        case "add_entry":
            draft = draft_of(step.add_entry)
            return f"{draft.kind[:20]}.add", "calendar", lambda act: calendar.put_entry(context, actor, act, draft)
        case "remove_entry":
            gone = step.remove_entry
            take = partial(calendar.take_entry, kind=gone.kind, name=gone.id)
            return f"{gone.kind[:20]}.remove", f"calendar/{gone.id[:40]}", take
        case "deploy":
            order = order_of(step.deploy)
            return "deploy", f"app/{order.app[:64]}", lambda act: deploying.assign(context, actor, act, order)
        case "undeploy":
            off = step.undeploy
            selector = dict(off.selector) if off.by_rule else None
            return (
                "undeploy",
                f"app/{off.app[:64]}",
                lambda act: deploying.take_off(actor, act, off.app, off.environment, selector),
            )
        case _:
            raise Refusal("cannot apply: a step names nothing that this server knows", code="garbled")
