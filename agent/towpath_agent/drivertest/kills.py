"""Cases of `driver test` in which the driver is killed at random moments and asked again.

Each move (first install, upgrade, revert, removal) is done once unharmed, to know how long it takes and where it ends.
Then it is killed one to three times in a row at moments of that time, and either done again, which must end where the
unharmed one did, or undone, which must end where it began: an agent may decide either after a crash.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from towpath_agent.drivertest.place import ONE, TWO, CaseFailed, Place
from towpath_agent.installers.driver import Verb
from towpath_agent.system.clock import Deadline, SystemClock

# A little longer than the unharmed call, so that its very end is hit too.
STRETCH = 1.1
_LONG_S = 3600.0
_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Move:
    """`verb` with its arguments, after `before` was done; `back` undoes it."""

    name: str
    what: str
    before: Callable[[Place], None]
    verb: Verb
    version: str
    previous: str | None
    back: Callable[[Place], None]


def _nothing(_place: Place) -> None:
    """Begin on an empty place."""


def _one(place: Place) -> None:
    place.switch(ONE)


def _two(place: Place) -> None:
    place.switch(ONE)
    place.switch(TWO, ONE)


def _again_two(place: Place) -> None:
    place.switch(TWO, ONE)


MOVES: tuple[Move, ...] = (
    Move(
        "killed_first_install", "a first install", _nothing, Verb.SWITCH, ONE, None, lambda place: place.unswitch(ONE)
    ),
    Move("killed_upgrade", "an upgrade", _one, Verb.SWITCH, TWO, ONE, _one),
    Move("killed_revert", "a revert", _two, Verb.SWITCH, ONE, None, _again_two),
    Move("killed_removal", "a removal", _one, Verb.UNSWITCH, ONE, None, _one),
)


def sentence(move: Move) -> str:
    """Return the sentence of the table."""
    return f"Killed at random moments of {move.what}, it ends well when it is asked again, or asked to go back."


def run(move: Move, new_place: Callable[[], Place], kills: int, chance: random.Random) -> str:
    """Kill and repeat `kills` times; return what was done. CaseFailed names the moment that did harm."""
    place = new_place()
    move.before(place)
    began = place.seen()
    clock = Deadline(SystemClock(), _LONG_S)
    place.ask(move.verb, move.version, move.previous)
    took_s = max(clock.elapsed_ms(), 1) / 1000
    ended = place.seen()
    hits = 0
    reach_s = took_s * STRETCH
    for number in range(kills):
        place = new_place()
        move.before(place)
        moments = []
        for _ in range(1 + number % _IN_A_ROW):
            moments.append(chance.uniform(0.0, reach_s))
            hit = place.kill(move.verb, move.version, move.previous, moments[-1])
            hits += hit
            # The unharmed call may have been slow by chance (a busy machine): what comes too late comes sooner next.
            reach_s = min(reach_s * 2, took_s * STRETCH) if hit else reach_s / 2
        told = ", ".join(f"{moment * 1000:.1f} ms" for moment in moments)
        if number % 2:
            move.back(place)
            place.require_same(began, f"killed after {told} and asked to go back")
        else:
            place.ask(move.verb, move.version, move.previous)
            place.require_same(ended, f"killed after {told} and asked again")
    if kills and not hits:
        raise CaseFailed(f"it was never at work when it was to be killed ({kills} tries); give more --kills")
    return f"killed {hits} times while at work"
