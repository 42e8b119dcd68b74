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


class _Refused(Exception):
    """Ends the transaction for the step that cannot be."""

    def __init__(self, step: int, error: TowpathError) -> None:
        super().__init__(str(error))
        self.step, self.error = step, error


def apply(context: Context, actor: str, steps: Sequence[Step], *, dry_run: bool) -> Refused | None:
    """Do every step; or none, and return which cannot be. `dry_run`: none in any case, and no word in the audit log.

    What is no step's doing (the database is away) is raised.
    """
    if len(steps) > MAX_STEPS:
        raise InputError(f"cannot apply {len(steps)} changes at once: at most {MAX_STEPS}; apply parts of the file")
    acts: list[Act] = []
    try:
        _do(context, actor, steps, acts, dry_run=dry_run)
    except _Undone:
        return None
    except _Refused as refused:
        if not dry_run:
            step, detail = steps[refused.step], f"{refused.error.code}: {refused.error}"
            note(context, actor, step.act, step.subject, detail=detail, outcome="refused")
        return Refused(refused.step, str(refused.error))
    except TowpathError:
        context.cache.rules = -1  # perhaps of rows that were never committed
        raise
    for act in acts:
        told(context, act)
    return None


def _do(context: Context, actor: str, steps: Sequence[Step], acts: list[Act], *, dry_run: bool) -> None:
    """Do the steps in one transaction; `acts` gets each."""
    with context.storage.transaction() as tx:
        for number, step in enumerate(steps):
            act = Act(tx, step.subject)
            acts.append(act)
            try:
                step.do(act)
            except TowpathError as error:
                raise _Refused(number, error) from error
            audited(context, actor, step.act, act)
        if dry_run:
            raise _Undone
        context.follow_announcements(tx)
