"""Which version of the agent runs: the file launch.json, and every decision about it. Pure.

Parties: the agent that runs, and its launcher, which starts what this file says (`towpath_agent.launcher`).
An update of the agent is an ordinary transaction of the app `towpath-agent`. Its start puts the new release on trial
and ends the old agent; from then on the new one drives that very transaction. It is kept once that is confirmed. What
dies on trial, or is late, is marked as failed by the launcher, which starts what ran before; that one finds the mark
where it looks how its app runs, and goes back as for any app. What goes back by itself leaves the same mark, since the
one before may be unable to read a journal that it has written in its own way, and then only has the copy.
Rules: nothing else of a host moves while the agent does, and the agent moves only while nothing else does (ADR 30).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from towpath.selfupdate import AGENT_APP
from towpath.status import State

POINTER = "launch.json"
# The journal as it was when the newest trial began, beside the journal; kept as long as the trial lasts.
JOURNAL_BEFORE = "state.before-update.db"
MAX_POINTER_BYTES = 65536
# What has lived so long and is in the middle of a fetch works: with a slow line its first round may take days.
WORKS_S = 10.0
# The launcher kills only what is so late that its own judgement, which can say why, must have failed.
_LATE_FACTOR = 1.5
_LATE_S = 5.0
_MAX_REASON_CHARS = 900
_LIVE = (State.SWITCHING, State.SWITCHED, State.WATCHING, State.REVERTING)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What launch.json says. Releases by their id on this host; empty: the packaged agent, or nothing on trial.

    `failed` is why `trying` was given up, `output` the last that it printed. `starts` counts those of what is on trial,
    or of `current` as long as that has not got through its first round.
    """

    current: str = ""
    trying: str = ""
    deadline_s: float = 0.0
    starts: int = 0
    failed: str = ""
    output: str = ""

    @property
    def on_trial(self) -> str:
        """Return what is still on trial; empty where nothing is."""
        return "" if self.failed else self.trying


def to_bytes(pointer: Pointer) -> bytes:
    """Return the file for `pointer`."""
    return json.dumps(asdict(pointer)).encode()


def from_bytes(data: bytes) -> Pointer | None:
    """Return what the file says; None where it is garbled: then the packaged agent runs, as for a missing one."""
    try:
        raw = json.loads(data)
        return Pointer(
            current=str(raw["current"]),
            trying=str(raw["trying"]),
            deadline_s=float(raw["deadline_s"]),
            starts=int(raw["starts"]),
            failed=str(raw["failed"]),
            output=str(raw["output"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def begin(pointer: Pointer, release: str, health_deadline_ms: int, why: str = "") -> Pointer:
    """Return what makes `release` run next: on trial, or at once where it is what ran before a trial.

    `why` is what speaks against the one on trial, which asks for that.
    """
    if release == pointer.current:
        return _given_up(pointer, why) if pointer.trying else Pointer(current=release)
    deadline_s = health_deadline_ms / 1000 * _LATE_FACTOR + _LATE_S
    return Pointer(current=pointer.current, trying=release, deadline_s=deadline_s)


def _given_up(pointer: Pointer, why: str) -> Pointer:
    """Return what is left where the one on trial gives itself up: the mark that its launcher would leave, once."""
    if pointer.failed:
        return pointer
    return replace(pointer, starts=0, failed=why[:_MAX_REASON_CHARS] or "it went back by itself")


def uncounted(pointer: Pointer, release: str) -> Pointer:
    """Return what is left where a start of `release`, which is kept, ended by no fault of its files.

    A person has something to mend, or the agent was told to end and did.
    On trial it counts all the same: that a release does not take what the one before did shows there alone, and that
    one is started then.
    """
    if pointer.current != release or pointer.trying or not pointer.starts:
        return pointer
    return replace(pointer, starts=pointer.starts - 1)


def deserves_another(pointer: Pointer, current: str, state: State | None) -> bool:
    """Return whether what was given up on its trial had passed it, and only had not noted yet that it is kept.

    `current` and `state` as in `Own`. What was given up after it was kept has no deadline on record.
    """
    return bool(pointer.failed and pointer.deadline_s) and pointer.trying == current and state is State.CONFIRMED


def dropped(pointer: Pointer, release: str) -> Pointer:
    """Return what is left where `release` is not wanted any more: nothing is on trial."""
    return Pointer(current=pointer.current, starts=pointer.starts) if pointer.trying == release else pointer


class Step(StrEnum):
    """What to do about the agent itself after a round of its work."""

    STAY = "stay"
    SETTLE = "settle"  # it works: its starts count from none again
    KEEP = "keep"  # proven: it is what runs from now on, and is started anew without anybody who watches it
    LEAVE = "leave"  # it runs, and should not: the packaged agent takes over
    FORGET = "forget"  # what was given up has been gone back from: it may be put on trial again


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Where the agent itself stands. `release` empty: the packaged one. `current`: of the app, by the journal."""

    release: str
    trial: bool
    pointer: Pointer
    current: str
    state: State | None  # of the transaction of its app


def after_round(own: Own) -> Step:
    """Return what is next. Asked after each round, so that a crash at any instruction costs a round, nothing else."""
    if own.state in (*_LIVE, State.STUCK):
        return Step.STAY
    if own.pointer.failed and own.pointer.trying != own.current:
        return Step.FORGET
    if not own.release:
        return Step.STAY
    if not own.current:
        return Step.LEAVE
    if own.trial:
        return Step.KEEP if own.current == own.release else Step.STAY
    if own.pointer.current == own.release and own.pointer.starts and not own.pointer.trying:
        return Step.SETTLE
    return Step.STAY


def apply(step: Step, pointer: Pointer, release: str, why: str = "") -> Pointer:
    """Return what launch.json says after `step`; `why` the release was not kept, where it leaves on trial."""
    if step in (Step.SETTLE, Step.KEEP):
        return Pointer(current=release)
    if step is Step.FORGET:
        return dropped(pointer, pointer.trying)
    if step is Step.LEAVE:
        return replace(_given_up(pointer, why), current="") if pointer.on_trial == release else Pointer()
    return pointer


def waits(app: str, states: Mapping[str, State], *, server_answers: bool) -> str:
    """Return why `app`, which is prepared, may not switch now for the agent's sake; empty where it may.

    `states` are of all transactions by app. One that is stuck is no reason: it may be so until a newer agent comes.
    """
    if app != AGENT_APP:
        return f"the agent's own update is {states[AGENT_APP]}" if moves(states.get(AGENT_APP)) else ""
    over = (State.CONFIRMED, State.REVERTED, State.STUCK)
    busy = sorted(other for other, state in states.items() if other != app and state not in over)
    if busy:
        return f"the agent is not changed while others are: {', '.join(busy)}"
    return "" if server_answers else "the server does not answer, and a new agent must report to be kept"


def moves(state: State | None) -> bool:
    """Return whether the agent itself is on the move, so that nothing else of the host may begin to."""
    return state in _LIVE
