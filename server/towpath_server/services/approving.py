"""Operators approve a wave of a rollout. Nothing here moves a host: the reconciler reads what is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towpath.waves import effective
from towpath_server.domain import approval
from towpath_server.domain.approval import Approval
from towpath_server.domain.model import Assignment
from towpath_server.domain.rollout_table import Act as Happening
from towpath_server.domain.rollout_table import ordered
from towpath_server.services.context import Context, acting
from towpath_server.services.steering import MAX_REASON, find, name_of


@dataclass(frozen=True, slots=True)
class Approved:
    """A wave of a rollout, who has approved it, and how many are asked for; `again`: this operator had already."""

    assignment: Assignment
    wave: int
    names: Sequence[str]
    needed: int
    again: bool


def approve(context: Context, actor: str, rollout: str, *, wave: int | None = None, reason: str = "") -> Approved:
    """Approve a wave (None: the newest open one) as `actor`; InputError or Refusal where it cannot be."""
    with acting(context, actor, "rollout.approve", f"rollout/{rollout[:64]}") as act:
        one = find(act.tx, rollout)
        act.subject = f"rollout/{one.id}"
        what = name_of(one)
        ordered(one.state, Happening.APPROVE, what)
        waves = effective(one.waves)
        newest = min(one.wave, len(waves) - 1)
        number = newest if wave is None else wave
        after = approval.approve(
            waves=waves,
            number=newest,
            approvals=one.approvals,
            approvers=one.approvers,
            author=one.created_by,
            new=Approval(number, approval.name_of(actor), context.clock.now_unix_ms()),
        )
        again = after == one.approvals
        if not again:
            one = replace(one, approvals=after)
            act.tx.put_assignment(one)
        act.environments.add(one.environment)
        names = approval.given(after, number)
        why = " ".join(reason.split())[:MAX_REASON]
        counted = f"{len(names)} of {waves[number].approve}" + (", approved before" if again else "")
        act.detail = f"{what}: wave {number + 1}, {counted}" + (f", {why}" if why else "")
    return Approved(one, number, names, waves[number].approve, again)
