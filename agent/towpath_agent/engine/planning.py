"""Which transactions to open or drop: the difference between what a host should run and what it runs.

Pure. The complete desired set comes in; apps that are missing in it are to be removed, refused ones stay as they are.
Failure memory: a release that failed is not tried again with the same parameters until its assignment gets a new
generation; one that only could not be reached is tried again later. What failed as a set is remembered as a set: its
members are tried again together, or when one of them should run something else.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from towpath.parameters import Value
from towpath.status import State, Verdict


@dataclass(frozen=True, slots=True)
class Wish:
    """What the host should run of one app. `sha256` empty: nothing, the app is to be removed.

    `slot` is the host's own choice among the ports of a release with a handover (`engine.slots`); no server knows it.
    """

    app: str
    sha256: bytes = b""
    version: str = ""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    generation: int = 0
    slot: int = 0

    def same_as(self, other: "Wish | None") -> bool:
        """Return whether both run the same bits with the same parameters; generation and slot do not matter."""
        if other is None:
            return not self.sha256
        return self.sha256 == other.sha256 and dict(self.parameters) == dict(other.parameters)


@dataclass(frozen=True, slots=True)
class Failure:
    """A wish that failed. `retry_unix_ms` None: not again until told."""

    wish: Wish
    reason: str
    verdict: Verdict
    retry_unix_ms: int | None = None
    mates: tuple[Wish, ...] = ()  # what the host should have run of the apps that move together with this one

    def is_of(self, wanted: Mapping[str, Wish]) -> bool:
        """Return whether `wanted` is what failed: this wish beside the same ones of its set."""
        return all(
            mine.same_as(theirs) and mine.generation == theirs.generation
            for mine in (self.wish, *self.mates)
            for theirs in (wanted.get(mine.app, Wish(mine.app)),)
        )

    def blocks(self, wish: Wish, now_unix_ms: int) -> bool:
        """Return whether `wish` must not be tried at `now_unix_ms`."""
        if not wish.same_as(self.wish) or wish.generation != self.wish.generation:
            return False
        return self.retry_unix_ms is None or now_unix_ms < self.retry_unix_ms

    def final(self, wish: Wish) -> bool:
        """Return whether `wish` failed and is not tried again until told."""
        return self.retry_unix_ms is None and wish.same_as(self.wish) and wish.generation == self.wish.generation


@dataclass(frozen=True, slots=True)
class Open:
    """A transaction under way."""

    wish: Wish
    state: State


class Step(StrEnum):
    """What to do about one app."""

    BEGIN = "begin"
    SUPERSEDE = "supersede"
    ADOPT = "adopt"  # it runs already: only the generation is new


@dataclass(frozen=True, slots=True)
class Decision:
    """One step for one app, and why."""

    step: Step
    wish: Wish
    reason: str


def plan(
    wishes: Sequence[Wish],
    *,
    current: Mapping[str, Wish],
    opened: Mapping[str, Open],
    failures: Mapping[str, Failure],
    refused: Collection[str],
    now_unix_ms: int,
    held: Callable[[str], bool] = lambda _app: False,
) -> list[Decision]:
    """Return the steps that bring the host towards `wishes`, in order of app name. Nothing to do: nothing returned.

    An app that is `held` by a person begins nothing and gives nothing up; that it runs what is wanted may be noted.
    """
    wanted = {wish.app: wish for wish in wishes}
    barred = blocked(wanted, opened=opened, failures=failures, now_unix_ms=now_unix_ms)
    decisions = []
    for app in sorted((set(wanted) | set(current) | set(opened)) - set(refused)):
        wish = wanted.get(app, Wish(app))
        decision = _decide(wish, current.get(app), opened.get(app), barred=app in barred)
        if decision is not None and not (decision.step is not Step.ADOPT and held(app)):
            decisions.append(decision)
    return decisions


def blocked(
    wanted: Mapping[str, Wish], *, opened: Mapping[str, Open], failures: Mapping[str, Failure], now_unix_ms: int
) -> set[str]:
    """Return the apps that must not be tried now: they failed so before, or a mate of theirs must still wait."""
    same = {app: failure for app, failure in failures.items() if failure.is_of(wanted)}
    alone = {
        app for app, failure in same.items() if failure.blocks(wanted.get(app, Wish(app)), now_unix_ms=now_unix_ms)
    }
    going_back = {app for app, it in opened.items() if it.state in (State.REVERTING, State.REVERTED, State.STUCK)}
    waiting = alone | going_back
    return alone | {app for app, it in same.items() if any(mate.app in waiting for mate in it.mates)}


def _decide(wish: Wish, current: Wish | None, opened: Open | None, *, barred: bool) -> Decision | None:
    if opened is not None:
        if opened.wish.same_as(wish) and opened.wish.generation == wish.generation:
            return None
        return Decision(Step.SUPERSEDE, wish, f"the host should run {wish.version or 'nothing'} by now")
    if wish.same_as(current):
        if current is not None and current.generation != wish.generation:
            return Decision(Step.ADOPT, replace(wish, slot=current.slot), "it runs already")
        return None
    if barred:
        return None
    return Decision(Step.BEGIN, wish, "desired differs from current")


def disk_needed(*, fetch: int, unpack: int, extra: int, margin: int) -> int:
    """Return bytes to have free for a whole set: what the store lacks, what is to be unpacked, extras and a margin."""
    return fetch + unpack + extra + margin


def to_remember(new: Failure, known: Failure | None, wish: Wish | None, now_unix_ms: int) -> bool:
    """Return whether `new` takes the place of `known`: one failure of an app is kept.

    The one that is in the way of `wish` must not be forgotten for one that is not: a person may go back while what
    should run had failed before.
    """
    in_the_way = known is not None and wish is not None and known.blocks(wish, now_unix_ms)
    return not in_the_way or new.wish.same_as(wish)
