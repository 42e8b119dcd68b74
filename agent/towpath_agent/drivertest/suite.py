"""Runs all cases against one driver and says how each went. Deciding stands in `cases` and `kills`."""

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import InputError, TowpathError
from towpath_agent.drivertest import kills
from towpath_agent.drivertest.cases import CASES, Case, NotHere
from towpath_agent.drivertest.place import ONE, TWO, CaseFailed, Place, Subject
from towpath_agent.system.clock import Deadline, SystemClock
from towpath_agent.system.scratch import scratch

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
_LONG_S = 86_400.0


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How one case went. `detail` says why it failed or was not run, or what it did."""

    name: str
    sentence: str
    status: str
    detail: str
    took_ms: int


Work = Callable[[Callable[[], Place]], str]


def names() -> list[str]:
    """Return the names of all cases, in order."""
    return [*(case.__name__ for case in CASES), *(move.name for move in kills.MOVES)]


def run(subject: Subject, *, kills_per_move: int, seed: int, only: Collection[str] = ()) -> Iterator[CaseResult]:
    """Yield the result of each case (of `only` these, where given) as it ends.

    The first is always run: where it fails, the others, which build on it, are not.
    """
    first = _judged(*_plain(CASES[0]), subject)
    yield first
    others = [*map(_plain, CASES[1:]), *(_killed(move, kills_per_move, seed) for move in kills.MOVES)]
    for name, sentence, work in others:
        if only and name not in only:
            continue
        if first.status != PASSED:
            yield CaseResult(name, sentence, NOT_RUN, "it cannot put a release in place", 0)
        else:
            yield _judged(name, sentence, work, subject)


def _plain(case: Case) -> tuple[str, str, Work]:
    def work(new_place: Callable[[], Place]) -> str:
        case(new_place())
        return ""

    return case.__name__, (case.__doc__ or "").strip(), work


def _killed(move: kills.Move, times: int, seed: int) -> tuple[str, str, Work]:
    def work(new_place: Callable[[], Place]) -> str:
        if not times:
            raise NotHere("no kills were asked for")
        return kills.run(move, new_place, times, random.Random(f"{seed} {move.name}"))

    return move.name, kills.sentence(move), work


def _judged(name: str, sentence: str, work: Work, subject: Subject) -> CaseResult:
    clock = Deadline(SystemClock(), _LONG_S)
    with ExitStack() as stack:

        def place() -> Place:
            return Place(stack.enter_context(scratch("towpath-driver-test-")), subject)

        try:
            status, detail = PASSED, work(place)
        except CaseFailed as failed:
            status, detail = FAILED, str(failed)
        except NotHere as why:
            status, detail = NOT_RUN, str(why)
        except (TowpathError, OSError) as error:
            status, detail = FAILED, f"{type(error).__name__}: {error}"
    return CaseResult(name, sentence, status, detail, clock.elapsed_ms())


def subject_of(program: Path, options: Mapping[str, str], trees: Sequence[Path], timeout_s: float) -> Subject:
    """Return what to test; InputError where `trees` are neither none nor two."""
    if len(trees) not in (0, 2):
        raise InputError("cannot test with one tree: give --tree twice, for a release and the next one")
    return Subject(program, options, dict(zip((ONE, TWO), trees, strict=False)), timeout_s)
