"""Drift of what runs: what counts as damage, how much to look at and when, and when to say so. Pure.

A look costs one stat per path; a file is read only where its stat is not the one that was seen when it was last proven,
or when its turn comes in the slow round that reads everything. Numbers are for an idle host: all of it together must
stay below a thousandth of a core.
Not handled here: processes and units (their service knows), files that the app keeps beside its own (they are its own).
"""

import stat
from dataclasses import dataclass
from enum import StrEnum

from towpath.index import Entry, EntryType
from towpath_agent.engine.pacing import backoff_s

# Everything is looked at once in this time, in shares; with a share each 10 s damage is found within a minute.
SWEEP_S = 40.0
# A look costs some 6 us, so that these are a thousandth of a core: beyond 6,000 paths a sweep takes longer.
LOOKS_PER_S = 150
# Everything is read once a day, and soon after a start: what changed while nobody looked shows only in its digest.
READ_EVERY_S = 86_400.0
FIRST_READ_BYTES_PER_S = 4 * 2**20
LEAST_READ_BYTES_PER_S = 64 * 2**10
READ_WITHIN_S = 6 * 3600.0

# An installer is asked by running programs: where files show damage, hardly ever without need; else each 40 s, with a
# pause of a thousand times what the last answer took, so that a slow driver cannot burn the host.
ASK_EVERY_S = 40.0
ASK_ANYWAY_S = 3_600.0
ASK_MOST_S = 3_600.0
ASK_PAUSES = 1_000
# What has changed is asked about soon; what keeps changing without harm must not cost more than a hundredth of a core.
ASK_PAUSES_CHANGED = 100

REPAIR_FIRST_S = 30.0
REPAIR_MOST_S = 3_600.0
# Longer than the longest pause: else what comes back after each pause would look like something new.
CALM_S = 3 * REPAIR_MOST_S
RECURS = 3


class Look(StrEnum):
    """What one stat tells of a path."""

    FINE = "is fine"
    MISSING = "was deleted"
    KIND = "was replaced by something else"
    MODE = "has other permissions"
    CHANGED = "was changed"
    DOUBT = "may have been changed"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the disk says of a path. `mark` is one number for inode, times, size and mode; `target` is a link's."""

    mode: int
    size: int
    mark: int
    target: str | None = None


def look(entry: Entry, facts: Facts | None, mark: int) -> Look:
    """Compare a signed entry with the disk; `mark` is of when it was last proven, 0 for never."""
    if facts is None:
        return Look.MISSING
    if entry.type is EntryType.LINK:
        if facts.target is None:
            return Look.KIND
        return Look.FINE if facts.target == entry.target else Look.CHANGED
    is_kind = stat.S_ISDIR if entry.type is EntryType.DIRECTORY else stat.S_ISREG
    if not is_kind(facts.mode):
        return Look.KIND
    if entry.type is EntryType.FILE and facts.size != entry.size:
        return Look.CHANGED
    if stat.S_IMODE(facts.mode) != entry.mode:
        return Look.MODE if entry.type is EntryType.DIRECTORY or facts.mark == mark else Look.DOUBT
    return Look.FINE if entry.type is EntryType.DIRECTORY or facts.mark == mark else Look.DOUBT


def share(count: int, elapsed_s: float) -> int:
    """Return how many of `count` paths to look at, `elapsed_s` after the last share: at least one, at most all."""
    return min(count, int(min(count / SWEEP_S, LOOKS_PER_S) * elapsed_s) + 1)


def readable_bytes(total: int, elapsed_s: float, *, first: bool) -> float:
    """Return how many of `total` bytes may be read for their digest in `elapsed_s`; `first`: not read since a start."""
    rate = FIRST_READ_BYTES_PER_S if first else max(LEAST_READ_BYTES_PER_S, total / READ_WITHIN_S)
    return rate * elapsed_s


def question_is_due(rest_s: float, cost_s: float, *, shows: bool, changed: bool) -> bool:
    """Return whether to ask an installer whether all is in place, `rest_s` after the last time, which took `cost_s`.

    `shows`: damage shows in files that are looked at; `changed`: one of them has changed since the last good answer.
    """
    if changed:
        return rest_s >= min(cost_s * ASK_PAUSES_CHANGED, ASK_MOST_S)
    return rest_s >= min(max(ASK_ANYWAY_S if shows else ASK_EVERY_S, cost_s * ASK_PAUSES), ASK_MOST_S)


class Tell(StrEnum):
    """What to report of a repair. Nothing: it was said before."""

    REPAIRED = "drift-repaired"
    RECURS = "drift-recurs"
    FAILED = "drift-not-repaired"
    NOTHING = ""


@dataclass(frozen=True, slots=True)
class Repairs:
    """The repairs of one app in a row, without a calm time between; times are monotonic seconds."""

    count: int = 0
    last_s: float = 0.0
    failing: bool = False

    def again_s(self) -> float:
        """Return before when nothing is to be repaired."""
        if not self.count:
            return self.last_s
        return self.last_s + backoff_s(self.count, REPAIR_FIRST_S, REPAIR_MOST_S)


def after_repair(repairs: Repairs, now_s: float, *, ok: bool) -> tuple[Repairs, Tell]:
    """Return the repairs with one more, and what to tell of it: what fails or comes back is told once."""
    if now_s - repairs.last_s > CALM_S:
        repairs = Repairs()
    count = repairs.count + 1
    if not ok:
        tell = Tell.NOTHING if repairs.failing else Tell.FAILED
    elif repairs.failing:
        tell = Tell.REPAIRED
    else:
        tell = told(count)
    return Repairs(count, now_s, not ok), tell


def told(count: int) -> Tell:
    """Return what to tell of the `count`-th repair in a row."""
    return Tell.REPAIRED if count < RECURS else Tell.RECURS if count == RECURS else Tell.NOTHING
