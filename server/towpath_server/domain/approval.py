"""Who has approved a wave, and who may: n of m named operators, never the author of the rollout.

Rules, each a named test:
- a person counts once for a wave, however often they say it.
- who made the rollout approves none of its waves, named or not.
- without names, any operator but the author may.
- only the newest open wave is approved: what nobody has seen yet cannot be.
- a halt or a retry takes back what was said about that wave: see `forgotten`.

Pure. Names are those of operators, without `operator/`. Not handled here: when a wave asks (`domain.gates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towpath.errors import InputError, Refusal
from towpath.waves import Wave

OPERATOR = "operator/"


@dataclass(frozen=True, slots=True)
class Approval:
    """That somebody approved the wave with this number, from 0, and when."""

    wave: int
    by: str
    at_unix_ms: int


def name_of(actor: str) -> str:
    """Return an operator's name without what says that it is one."""
    return actor.removeprefix(OPERATOR)


def given(approvals: Sequence[Approval], number: int) -> tuple[str, ...]:
    """Return who has approved a wave, in the order in which they did."""
    return tuple(one.by for one in approvals if one.wave == number)


def waits(wave: Wave, number: int, approvals: Sequence[Approval], approvers: Sequence[str]) -> str:
    """Return what the wave's approval gate waits for, for people; empty where it is open."""
    names = given(approvals, number)
    if len(names) >= wave.approve:
        return ""
    so_far = f" ({', '.join(names)} did)" if names else ""
    left = [name for name in approvers if name not in names]
    of = f" of {', '.join(left)}" if left else ""
    return f"needs {wave.approve - len(names)} of {wave.approve} approvals{of}{so_far}"


def approve(
    *,
    waves: Sequence[Wave],
    number: int,
    approvals: Sequence[Approval],
    approvers: Sequence[str],
    author: str,
    new: Approval,
) -> tuple[Approval, ...]:
    """Return the approvals with `new` among them; InputError or Refusal. `number`: the newest open wave."""
    if not 0 <= new.wave < len(waves):
        raise InputError(f"cannot approve wave {new.wave + 1}: the rollout has {len(waves)}")
    if new.wave != number:
        where = "has passed" if new.wave < number else "is not open yet"
        raise InputError(f"cannot approve wave {new.wave + 1}: it {where}; wave {number + 1} is the newest open one")
    if not waves[number].approve:
        asking = [str(n + 1) for n, wave in enumerate(waves) if wave.approve and n > number]
        later = f"; wave {asking[0]} does, once it is open" if asking else ""
        raise InputError(f"cannot approve wave {number + 1}: it asks nobody{later}")
    if new.by == name_of(author):
        raise Refusal(f"cannot approve it as {new.by}: who made a rollout does not approve it", code="not-yours")
    if approvers and new.by not in approvers:
        raise Refusal(f"cannot approve it as {new.by}: {', '.join(approvers)} may", code="not-yours")
    if new.by in given(approvals, number):
        return tuple(approvals)
    return (*approvals, new)


def forgotten(approvals: Sequence[Approval], number: int) -> tuple[Approval, ...]:
    """Return the approvals without those of a wave: what was said of it before it failed says nothing any more."""
    return tuple(one for one in approvals if one.wave != number)
