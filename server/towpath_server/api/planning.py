"""Plans: what a deploy or a promotion would do."""

from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc
from towpath_server.api.gate import CALLER, ServicerContext
from towpath_server.api.messages import order_of
from towpath_server.domain.planning import ASSUMED
from towpath_server.services import planning
from towpath_server.services.context import Context
from towpath_server.services.thread import StorageThread, Workers


class PlansServicer(operator_pb2_grpc.PlansServicer):
    """Nothing here changes anything."""

    def __init__(self, context: Context, thread: StorageThread, objects: Workers) -> None:
        self._context = context
        self._thread = thread
        self._objects = objects

    async def Plan(self, request: pb.PlanRequest, _call: ServicerContext) -> pb.PlanResponse:
        """See the .proto file."""
        order = order_of(request.deploy)
        draft = await self._thread.run(planning.draft, self._context, CALLER.get().actor, order, request.source)
        return _message(await self._objects.run(planning.measure, self._context, draft))


def _message(measured: planning.Measured) -> pb.PlanResponse:
    plan, one = measured.plan, measured.draft.assignment
    return pb.PlanResponse(
        assignment=one.id,
        version=one.version,
        unchanged=measured.draft.unchanged,
        hosts=[
            pb.PlannedHost(
                host=each.host.name,
                wave=each.wave,
                turn=each.turn,
                before=each.before,
                stays=each.stays,
                online=each.host.online,
                at_most_bytes=measured.at_most_bytes.get(each.host.host_id, 0),
                labels=each.host.labels,
            )
            for each in plan.hosts
        ],
        waves=[
            pb.PlannedWave(number=w.number, text=w.text, hosts=w.hosts, asks=w.asks, opens_ms=w.opens_ms)
            for w in plan.waves
        ],
        delays=[
            pb.PlannedDelay(wave=d.wave, waits=d.waits, after_ms=d.after_ms, lasts_ms=d.lasts_ms) for d in plan.delays
        ],
        at_once=plan.at_once,
        took_ms=plan.took_ms,
        waits=plan.waits,
        cut=plan.cut,
        at_most_bytes=sum(measured.at_most_bytes.values()),
        host_ms=ASSUMED.host_ms,
        progress_deadline_ms=one.progress_deadline_ms,
    )
