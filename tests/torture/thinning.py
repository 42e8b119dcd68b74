"""Which of the generated cases are played: all, a sample drawn by the seed, or, of slow kinds, one of each sort.

Where real tools are at work (dpkg, rpm, podman, a driver), a case costs a hundred times what it costs elsewhere, and
most of it is the same for all kinds. Of their situations each step gets one case of each fault, drawn by the seed, and
each call of the installer, each file that it changes and each start of its tool gets one of each fault as well.
"""

import random
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from torture.losses import Crash
from torture.matrix import Case

T = TypeVar("T")


def drawn(cases: Sequence[T], salt: str, *, seed: int, sample: int) -> list[T]:
    """Return `sample` of the cases (0: all), always the same for one seed."""
    if not sample or len(cases) <= sample:
        return list(cases)
    return random.Random(f"{seed} {salt}").sample(cases, sample)


def one_of_each(
    cases: Sequence[T], sort: Callable[[T], Hashable], salt: str, *, seed: int, share: tuple[int, int] = (0, 1)
) -> list[T]:
    """Return one case of each sort, drawn by the seed; of the sorts share `k` of `n`, as `(k, n)`.

    A sort is in one share by its name alone: what two recordings of one run find need not be equal to the last case.
    """
    number, shares = share
    chosen: dict[Hashable, T] = {}
    for case in random.Random(f"{seed} {salt}").sample(cases, len(cases)):
        chosen.setdefault(sort(case), case)
    return [case for it, case in chosen.items() if zlib.crc32(repr(it).encode()) % shares == number]


def sort_of_case(case: Case) -> Hashable:
    """Return the step, the fault and, where the installer is at work, what it is at."""
    point = case.point
    own = point.label.startswith("installer.") or " by" in point.label
    return point.step, point.label if own else "", case.fault


def sort_of_crash(crash: Crash) -> Hashable:
    """Return the step and what sort of thing was lost."""
    return crash.step.state, crash.loss.split(" of ")[0].split(" from ")[0]
