"""What a deploy may ask of the gates of its waves: approvals that can be given, metrics that can be asked.

Not handled here: who approves (`services.approving`), asking for metrics (`services.sampling`).
"""

from collections.abc import Sequence
from typing import Any

from towpath.errors import InputError
from towpath.metrics import Metric, check_metrics
from towpath.operators import check_approvals, check_approvers
from towpath.waves import Wave
from towpath_server.domain import approval
from towpath_server.services.context import Context


def gated(
    context: Context, actor: str, *, waves: Sequence[Wave], approvers: Sequence[str], metrics: Sequence[Metric]
) -> dict[str, Any]:
    """Return the fields of an assignment that its gates need; InputError where they could never open."""
    names = check_approvers(approvers)
    check_approvals(waves, names, approval.name_of(actor))
    asked = check_metrics(metrics, [name for wave in waves for name in wave.metrics])
    if asked and context.metrics is None:
        raise InputError(
            f"cannot ask for metric {asked[0].name}: this server was not told where Prometheus is; set prometheus_url "
            "in its server.toml"
        )
    return {"approvers": names, "metrics": asked}


def check_queries(context: Context, metrics: Sequence[Metric]) -> None:
    """Raise InputError where Prometheus says that a query is wrong. Blocks: not on the storage thread.

    One that does not answer now says nothing about the query: the wave will wait for it.
    """
    for one in metrics:
        answer = context.metrics.ask(one.query) if context.metrics is not None else None
        if answer is not None and answer.wrong:
            raise InputError(f"cannot use metric {one.name}: {answer.trouble}")
