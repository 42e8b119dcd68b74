"""What ends a wait in which no host of a simulated rollout moves: the clock, the calendar, or people.

Rules, each a named test:
- a soak, a freeze and a closed window end when they end.
- people do what is asked of them after `person_ms`: they advance a manual wave, and as many approve as have to.
- how long the environment before takes to be healthy nobody knows: it is named, and takes no time.
- what a host lacks (a parameter, a platform) nobody gives it: there the run ends.

Pure. Not handled here: hosts that come back (`domain.simulation`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from towpath.waves import effective
from towpath_server.domain import approval
from towpath_server.domain.gates import Gate
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import RolloutView
from towpath_server.domain.timing import Bar, said

Then = Callable[[RolloutView, int, int], RolloutView]


@dataclass(frozen=True, slots=True)
class Awaited:
    """Until when nothing moves (None: for ever), what is waited for, and what then is done to the rollout, if anything.

    `then` takes the rollout, the number of the wave, and the time.
    """

    until_unix_ms: int | None
    waits: str
    then: Then | None = None


def awaited(view: RolloutView, seen: Gate, bars: Sequence[Bar], now_unix_ms: int, person_ms: int) -> Awaited:
    """Return what ends the wait of a rollout that stands at the gate `seen`; `bars`: of hosts that wait."""
    wave = effective(view.waves)[seen.wave]
    if view.entry:
        return Awaited(now_unix_ms, seen.waits, _enter)
    if seen.soak_until_unix_ms:
        return Awaited(seen.soak_until_unix_ms, seen.waits)
    ends = [bar.until_unix_ms for bar in bars if bar.until_unix_ms]
    if ends:
        return Awaited(min(ends), said(dict.fromkeys(bars)))
    if seen.done_unix_ms and wave.manual:
        return Awaited(now_unix_ms + person_ms, seen.waits, _advance)
    if seen.done_unix_ms and approval.waits(wave, seen.wave, view.approvals, view.approvers):
        return Awaited(now_unix_ms + person_ms, seen.waits, _approve)
    return Awaited(None, seen.waits)


def _enter(view: RolloutView, _wave: int, _now_unix_ms: int) -> RolloutView:
    return replace(view, entry="")


def _advance(view: RolloutView, wave: int, _now_unix_ms: int) -> RolloutView:
    """Return what `towpath rollout advance` makes of a wave that waits for a person."""
    if wave < len(effective(view.waves)) - 1:
        return replace(view, wave=wave + 1, wave_done_unix_ms=0)
    return replace(view, state=next_state(view.state, Act.FINISH))


def _approve(view: RolloutView, wave: int, now_unix_ms: int) -> RolloutView:
    needed = effective(view.waves)[wave].approve
    given = tuple(approval.Approval(wave, f"operator {number}", now_unix_ms) for number in range(needed))
    return replace(view, approvals=(*approval.forgotten(view.approvals, wave), *given))
