"""Waiting for a rollout: polls the server until the hosts have proven the release, or not.

`verdict` decides, purely. Healthy is only what the hosts proved: an assignment that is done while no host is healthy on
it (none matches yet, all are offline) is still waited for. A halt is waited out until no host is in flight, so that the
last line shows where every host ended. A server that does not answer is waited for: hosts go on without it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from towpath.commandline import clean
from towpath.errors import Unavailable
from towpath_cli.model import HostProgress, Rollout
from towpath_cli.world import World

FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 0.5
GROWTH = 1.3
CALL_SECONDS = 5.0


class Result(IntEnum):
    """How waiting ended; the number is the exit code."""

    HEALTHY = 0
    FAILED = 1
    TIMEOUT = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result, and the last that was seen; `rollout` is None where the server never answered."""

    result: Result
    rollout: Rollout | None
    seconds: float


def verdict(rollout: Rollout) -> Result | None:
    """Return how the rollout ended, or None while it goes on."""
    phases = [host.phase for host in rollout.hosts]
    match rollout.state:
        case "superseded" | "removed" | "reverted" | "cancelled":
            return Result.FAILED
        case "halted":
            return None if any(h.phase == "in_flight" and h.online for h in rollout.hosts) else Result.FAILED
        case "done":
            if any(phase in ("failed", "inconclusive") for phase in phases):
                return Result.FAILED
            return Result.HEALTHY if "healthy" in phases else None
        case _:
            return None


def wait(
    get: Callable[[float], Rollout],
    *,
    world: World,
    timeout_ms: int,
    show: Callable[[Rollout], None],
    note: Callable[[str], None],
    judge: Callable[[Rollout], Result | None] = verdict,
) -> Outcome:
    """Poll `get(deadline in seconds)` until `judge` says how it ended, or `timeout_ms` is over."""
    began = world.monotonic()
    end = began + timeout_ms / 1000
    pause = FIRST_PAUSE_SECONDS
    rollout: Rollout | None = None
    silent = False
    while True:
        try:
            seen = get(max(0.1, min(CALL_SECONDS, end - world.monotonic())))
        except Unavailable as error:
            if not silent:
                note(f"{error}; still waiting")
            silent = True
        else:
            silent = False
            if seen != rollout:
                rollout = seen
                pause = FIRST_PAUSE_SECONDS
                show(seen)
            result = judge(seen)
            if result is not None:
                return Outcome(result, seen, world.monotonic() - began)
        left = end - world.monotonic()
        if left <= 0:
            halted = rollout is not None and rollout.state == "halted"
            return Outcome(Result.FAILED if halted else Result.TIMEOUT, rollout, world.monotonic() - began)
        world.sleep(min(pause, left))
        pause = min(pause * GROWTH, MAX_PAUSE_SECONDS)


# Who was never let in is not moved by a rollout that is taken back: no news, however many they are.
_UNMOVED = ("waiting", "held", "offline", "newcomer")


class ChangeLines:
    """Turns what is seen into one line per change per host."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._seen: dict[str, tuple[str, ...]] = {}
        self._said: dict[str, tuple[str, ...]] = {}

    def changes(self, hosts: Iterable[HostProgress]) -> Iterator[str]:
        """Yield a line for each of these hosts that is not as it was."""
        for host in hosts:
            now = (host.phase, host.state, host.current, host.health)
            before = self._seen.get(host.host)
            if before != now:
                self._seen[host.host] = now
                if not (host.phase == "back" and before is not None and before[0] in (*_UNMOVED, "back")):
                    yield describe(host)
            # What the host saw may arrive after its verdict, and is said once.
            if host.evidence and self._said.get(host.host) != host.evidence:
                self._said[host.host] = host.evidence
                yield from evidence_lines(host)


def evidence_lines(host: HostProgress) -> list[str]:
    """Return what a failed host saw: its probe's evidence and the last lines of the log."""
    return [clean(f"{host.host} | {line}") for line in host.evidence]


# The server's words where it has nothing to say beyond what is on the line already.
_PLAIN = ("", "runs it and is healthy", "waits for its turn")
_NOT_YET = "no report yet"


def describe(host: HostProgress) -> str:
    """Return one line about a host."""
    phase = host.phase.replace("_", " ")
    parts = [phase]
    # Of a host that was not let in, or has not answered yet, it is the state of the release before.
    if host.state and host.phase not in _UNMOVED and not host.reason.startswith(_NOT_YET):
        parts.append(host.state)
    if host.current:
        parts.append(f"runs {host.current}")
    if host.health not in ("", "unknown", host.phase):
        parts.append(host.health)
    reason = host.reason.strip().removeprefix(f"{phase}; ")
    for known in (f"in {host.state}", f"goes back, in {host.state}", f"runs {host.current} again"):
        reason = "" if reason == known else reason.removeprefix(f"{known}, ").removeprefix(f"{known}; ")
    said = "" if reason in _PLAIN else f": {reason}"
    return clean(f"{host.host}: {', '.join(parts)}{said}")
