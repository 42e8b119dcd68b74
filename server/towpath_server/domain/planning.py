"""What a rollout would do, before anything moves: who in which wave and turn, what delays it, who cannot take it.

A plan is the draft of an assignment, played by `domain.simulation` over the hosts as they are, healthy all the way. So
the same engine that will decide has decided here, and a rule that is added to it is in the plan without a word here.

Pure. Not handled here: the checks of a deploy and the bytes that travel (`services.planning`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towpath.quantity import format_duration
from towpath.waves import Wave, effective
from towpath_server.domain.gates import members
from towpath_server.domain.simulated import Assumptions, Certainty, Delay, Run, Times
from towpath_server.domain.simulation import play
from towpath_server.domain.standing import HostView, Phase, RolloutView, Standing, in_order, limit

# Decisions cost by host that changed: where a plan would cost more than this many, its turns end and its waves do not.
MAX_WORK = 1_000_000
ASSUMED = Assumptions()


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One host of a plan. `turn`: its place among those that move, from 1; 0: it does not move by then.

    `before`: the version that it runs, or empty; `stays`: why it does not move (or need not), as people read it.
    """

    host: HostView
    wave: int
    turn: int
    before: str
    stays: str


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """One wave. `asks`: what its gate asks before the next one opens; `opens_ms` after the beginning, -1: not seen."""

    number: int
    text: str
    hosts: int
    asks: str
    opens_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen. `at_once`: hosts in flight; `waits`: what it would wait for without end, or empty.

    `took_ms`: how long it takes where each host takes `ASSUMED.host_ms` and nobody keeps a manual gate waiting.
    """

    waves: tuple[PlannedWave, ...]
    hosts: tuple[PlannedHost, ...]
    delays: tuple[Delay, ...]
    at_once: int
    took_ms: int
    waits: str
    cut: bool


def plan(view: RolloutView, now_unix_ms: int, *, max_work: int = MAX_WORK, times: Times | None = None) -> Plan:
    """Return what the rollout `view` would do from `now_unix_ms` on, hosts sorted by wave and turn."""
    run = play(view, ASSUMED, Certainty(), now_unix_ms, max_work=max_work, times=times)
    numbers = members(view)
    turns = {move.host_id: turn for turn, move in enumerate(run.moves, 1)}
    ends = {host.host_id: where for host, where in run.standings}
    place = {host.host_id: n for n, host in enumerate(in_order(view))}
    hosts = [
        PlannedHost(
            host,
            numbers[host.host_id],
            turns.get(host.host_id, 0),
            host.state.current_version if host.state is not None else "",
            _stays(view, host, ends[host.host_id], cut=run.cut),
        )
        for host in view.hosts
    ]
    hosts.sort(key=lambda one: (one.wave, one.turn or len(hosts) + 1, place[one.host.host_id]))
    return Plan(_waves(view, hosts, run), tuple(hosts), delays(run), limit(view), run.took_ms, run.waits, run.cut)


def delays(run: Run) -> tuple[Delay, ...]:
    """Return what keeps a healthy rollout waiting: THE list of delays, as the gates said them while it was played."""
    return run.delays


def _stays(view: RolloutView, host: HostView, end: Standing, *, cut: bool) -> str:
    if end.phase is Phase.HEALTHY:
        same = host.state is not None and host.state.current_sha256 == view.release_sha256
        return "runs it already" if same else ""
    if end.phase is Phase.IN_FLIGHT or (cut and end.phase is Phase.WAITING and not host.blocked):
        return ""
    return end.reason


def _waves(view: RolloutView, hosts: Sequence[PlannedHost], run: Run) -> tuple[PlannedWave, ...]:
    waves = effective(view.waves)
    count = [0] * len(waves)
    for one in hosts:
        count[one.wave] += 1
    return tuple(
        PlannedWave(n, wave.text, count[n], asks(wave, last=n == len(waves) - 1), run.opened.get(n, -1))
        for n, wave in enumerate(waves)
    )


def asks(wave: Wave, *, last: bool) -> str:
    """Return what the gate of a wave asks, once its hosts have finished and one has proven the release."""
    then = "it is done" if last else "the next one opens"
    if wave.manual:
        return f"{then} when a person says 'towpath rollout advance'"
    when = f"after a soak of {format_duration(wave.soak_ms)}" if wave.soak_ms else "when its hosts have finished"
    also = [f"metric {name} is good" for name in wave.metrics]
    also += (
        [f"{wave.approve} operators approved" if wave.approve > 1 else "an operator approved"] if wave.approve else []
    )
    return ", and ".join((f"{then} {when}", *also))


def moving(plan: Plan) -> list[PlannedHost]:
    """Return who would take the release in their turn; those beyond a cut too."""
    return [one for one in plan.hosts if not one.stays]
