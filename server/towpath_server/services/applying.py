"""Many acts of an operator at once: all of them in one transaction, or none; or only tried.

What each does, checks and says in the audit log is what its own command does. Not handled here: what a fleet file asks
for and how that differs from what there is (the operator's tool).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from towpath.errors import InputError, TowpathError
from towpath_server.services.context import Act, Context, audited, note, told

MAX_STEPS = 2_000


@dataclass(frozen=True, slots=True)
class Step:
    """One act: its name and subject in the audit log, and what does it inside an `Act`."""

    act: str
    subject: str
    do: Callable[[Act], object]


@dataclass(frozen=True, slots=True)
class Refused:
    """Which step (from 0) cannot be, and why. Nothing was done."""

    step: int
    reason: str


class _Undone(Exception):
    """Ends the transaction of a dry run: everything in it is undone."""


def apply(context: Context, actor: str, steps: Sequence[Step], *, dry_run: bool) -> Refused | None:
    """Do every step; or none, and return which cannot be. `dry_run`: none in any case, and no word in the audit log."""
    if len(steps) > MAX_STEPS:
        raise InputError(f"cannot apply {len(steps)} changes at once: at most {MAX_STEPS}; apply parts of the file")
    acts: list[Act] = []
    try:
        _do(context, actor, steps, acts, dry_run=dry_run)
    except _Undone:
        return None
    except TowpathError as error:
        number = len(acts) - 1
        if not dry_run:
            step, detail = steps[number], f"{error.code}: {error}"
            note(context, actor, step.act, step.subject, detail=detail, outcome="refused")
        return Refused(number, str(error))
    for act in acts:
        told(context, act)
    return None


def _do(context: Context, actor: str, steps: Sequence[Step], acts: list[Act], *, dry_run: bool) -> None:
    """Do the steps in one transaction; `acts` gets those that were begun, also where one fails."""
    with context.storage.transaction() as tx:
        for step in steps:
            act = Act(tx, step.subject)
            acts.append(act)
            step.do(act)
            audited(context, actor, step.act, act)
        if dry_run:
            raise _Undone
