"""Moments of an update, seen from outside the host as they come, and the plug pulled in one of them.

Journal and launch.json are read through the host's disk, which is mounted here too: nothing runs inside that could be
seen by the agent. A host is stopped dead first (its control group is frozen, which takes no time), then its power is
cut: so a moment of milliseconds can be hit, and what the disk held then is known exactly.
Not handled here: what must be true afterwards.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from rig.fleets import moves
from rig.hosts import Host
from towpath.selfupdate import AGENT_APP

LOOK_S = 0.003
# Every state of an update that succeeds, in their order.
STATES = ("Planned", "Fetching", "Staged", "Prepared", "Switching", "Switched", "Watching", "Confirmed")
# Of the agent's own, launch.json splits the last three: the launcher has to start what is on trial, has started it (and
# counted that, before), may start it no more as it is confirmed and not kept, and starts what is kept for good.
HANDED, TRIAL, UNKEPT, KEPT = "handed over", "on trial", "confirmed on trial", "kept"
OWN_PHASES = (*STATES[:6], HANDED, TRIAL, UNKEPT, KEPT)
# A transaction is gone soon after it is confirmed; what it brought is what runs.
_STATES_OF = """
SELECT state, json_extract(body, '$.wish') FROM txn WHERE app = :app
UNION ALL SELECT 'Confirmed', wish FROM deployed WHERE app = :app AND slot = 'current'
"""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What of launch.json matters here."""

    trying: bool
    starts: int


def phases_of(app: str) -> tuple[str, ...]:
    """Return the phases of an update of `app` in their order."""
    return OWN_PHASES if app == AGENT_APP else STATES


def phase(app: str, state: str, pointer: Pointer) -> str:
    """Return the phase of an update of `app` in `state`: for the agent itself launch.json counts too."""
    if app != AGENT_APP or state not in ("Switched", "Watching", "Confirmed"):
        return state
    if state == "Confirmed":
        return UNKEPT if pointer.trying else KEPT
    if not pointer.trying:
        return "Switched"
    return TRIAL if pointer.starts else HANDED


def pointer_of(host: Host) -> Pointer:
    """Return what launch.json says; it is replaced as one, so it is never half there."""
    try:
        raw = json.loads((host.root / "var/lib/towpath/launch.json").read_bytes())
    except FileNotFoundError:
        return Pointer(trying=False, starts=0)
    return Pointer(trying=bool(raw["trying"]), starts=raw["starts"])


def seen(host: Host, app: str, version: str) -> str:
    """Return the phase of the update of `app` to `version`; empty where there is none, or it cannot be told now.

    The journal is read without locks, or it could not be looked at while it is written, which is most of a short state;
    what is not committed yet may be seen. That does no harm: it says when to cut, and not where the cut fell.
    """
    pointer = pointer_of(host)
    uri = f"{(host.root / 'var/lib/towpath/state.db').as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=0)) as db:
            rows = db.execute(_STATES_OF, {"app": app}).fetchall()
        return next((phase(app, state, pointer) for state, wish in rows if json.loads(wish)["version"] == version), "")
    except (sqlite3.Error, ValueError):  # it is being written
        return ""


def trace(host: Host, app: str, version: str, over: Callable[[], bool], timeout_s: float) -> dict[str, float]:
    """Watch an update until it is `over`; return how long each of its phases took, in seconds, 0 for one not seen."""
    order, first = phases_of(app), dict[str, float]()

    def look() -> str:
        now = seen(host, app, version)
        if now in order:
            first.setdefault(now, time.monotonic())
        return now

    with _before_others():
        _look_until(f"an update of {app} begins to be over", lambda: look() == order[-1], timeout_s)
    _look_until(f"an update of {app} is over", over, timeout_s)
    ends = [*list(first.values())[1:], time.monotonic()]
    lengths = {name: end - begun for (name, begun), end in zip(first.items(), ends, strict=True)}
    return {name: lengths.get(name, 0.0) for name in order}


@dataclass(frozen=True, slots=True)
class Aim:
    """Cut in `phase`, `delay_s` after it is seen first."""

    phase: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut that was made, in Unix milliseconds, and what launch.json said then."""

    at_ms: float
    pointer: Pointer

    def fell_in(self, host: Host, app: str, version: str, since_ms: float) -> str:
        """Return the phase in which it fell, by the journal as the boot found it; "not begun" before the first."""
        states = moves(host, app, version, since_ms=since_ms, until_ms=self.at_ms)
        return phase(app, states[-1], self.pointer) if states else "not begun"


def cut_in(host: Host, app: str, version: str, aim: Aim, timeout_s: float) -> Cut:
    """Pull the plug at `aim`, or at once where that phase has gone by unseen; the host is off afterwards."""
    order = phases_of(app)
    wanted, found = order[order.index(aim.phase) :], ""

    def look() -> bool:
        nonlocal found
        found = seen(host, app, version)
        return found in wanted

    with _before_others():
        _look_until(f"{host.name} gets to {aim.phase} of {app} {version}", look, timeout_s)
        if found == aim.phase:
            time.sleep(aim.delay_s)  # the moment is the case
        host.freeze()
    made = Cut(time.time() * 1000, pointer_of(host))
    host.power_off()
    return made


def freeze_at(host: Host, pointer: Pointer, timeout_s: float) -> None:
    """Stop the host dead as soon as its launch.json says `pointer`; to be followed by `power_off`."""
    with _before_others():
        _look_until(f"{host.name} has {pointer}", lambda: pointer_of(host) == pointer, timeout_s)
        host.freeze()


def _look_until(what: str, look: Callable[[], bool], timeout_s: float) -> None:
    """Look far more often than other tests do: what is waited for may be there for milliseconds."""
    give_up = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < give_up, f"not seen within {timeout_s:g} s: {what}"
        time.sleep(LOOK_S)


@contextmanager
def _before_others() -> Iterator[None]:
    """Let this thread run before all others: on a busy machine a state would be gone before its turn comes to look."""
    was, how = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):  # a machine may keep that from root; then more cuts miss
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, was, how)
