"""THE rollout decision: who may move to a release now, who is told to stay, and whether the rollout goes on.

    rolling --every wave has passed--> done          done --failures--> halted
    rolling --a failure limit, or one inconclusive--> halted, or reverting where the policy says so

Rules, each a named test:
- a breach stops in the same tick, also in the last wave, while paused, and after `done`; hosts in flight that have not
  switched are told to stay. A halt ends only by a person's word, and goes on in the wave that failed; a host that
  failed may be told to try again by a person on it (`towpath-agent retry`).
- more than `max_failures` hosts failed, or more than `max_failure_share` of the finished ones, or every host: a breach.
  Who was excused by a `resume` does not count again. Where the policy is to revert, it does so until the rollout is
  done: later a breach halts, because by then other things than the release fail hosts.
- a metric that is bad is a breach and blames the release; one that is inconclusive for too long halts and blames none.
- inconclusive (the previous release fails its probes too): the world is broken. It halts, and blames no release.
- at most `max_unavailable` in flight, across all waves; a host that confirmed and then fell ill holds its slot, and so
  does one that a superseded assignment left between two releases.
- nobody moves before its wave is open; a newcomer whose wave is open moves at once.
- offline hosts neither block nor count; they are admitted when they come back.
- hosts that a person on the host holds neither block nor count: one that was let in and has not switched is withdrawn,
  one past the switch finishes, and each is admitted in its turn when the hold ends, with a whole deadline.
- who is first follows hash(assignment, host): not always the same hosts, and neighbours by name are spread.

Pure: the caller applies the decision in the transaction in which it read the view, one rollout at a time.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from towpath.quantity import format_duration
from towpath.waves import ALL, effective, format_share
from towpath_server.domain import returning
from towpath_server.domain.gates import breached, gate
from towpath_server.domain.metric import Finding
from towpath_server.domain.model import OnBreach, RolloutState
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import (
    Decision,
    HostView,
    Phase,
    RolloutView,
    Standing,
    Standings,
    busy,
    in_order,
    limit,
    standing,
    stay,
)
from towpath_server.domain.waves import membership

_NAMED_IN_REASON = 3
# What a wave waits for that its hosts do not say themselves.
_SAID = ("soaks", "a person", "paused", "metric", "needs")


@dataclass(frozen=True, slots=True)
class Breach:
    """Why a rollout stops; `blames`: whether it is the release's fault."""

    reason: str
    blames: bool = True


def decide(view: RolloutView, now_unix_ms: int) -> Decision:
    """Return what is to be done for `view` at `now_unix_ms`."""
    if view.state.returning:
        return returning.decide(view, now_unix_ms)
    same = Decision(view.state, view.reason, wave=view.wave, wave_done_unix_ms=view.wave_done_unix_ms)
    if not view.state.active:
        return same
    if view.state is RolloutState.HALTED:
        # Who moves now was told to by a person on the host: hosts are told to stay in the tick of the breach alone.
        return same
    standings = [(host, standing(view, host, now_unix_ms)) for host in in_order(view)]
    breach = _breach(view, standings) or _metric(view, now_unix_ms)
    if breach is None:
        return _go_on(view, standings, now_unix_ms)
    if breach.blames and view.on_breach is OnBreach.REVERT and view.state is not RolloutState.DONE:
        state = next_state(view.state, Act.TAKE_BACK)
        return returning.decide(replace(view, state=state, reason=breach.reason), now_unix_ms)
    return replace(same, state=next_state(view.state, Act.BREACH), reason=breach.reason, withdraw=stay(view))


def _go_on(view: RolloutView, standings: Standings, now_unix_ms: int) -> Decision:
    numbers = membership(view.waves, [(host.host_id, host.labels) for host, _ in standings])
    now = gate(view, standings, numbers, now_unix_ms)
    state, wave, done, waits = view.state, now.wave, now.done_unix_ms, now.waits
    if state is RolloutState.PAUSED:
        # What was seen to finish is remembered, what would open stays closed.
        wave, done = view.wave, done if now.wave == view.wave else view.wave_done_unix_ms or now_unix_ms
        waits = "paused"
    elif state is RolloutState.DONE:
        wave, done, waits = len(effective(view.waves)) - 1, view.wave_done_unix_ms, ""
    elif now.passed:
        state = next_state(state, Act.FINISH)
    held = [host for host, where in standings if where.phase is Phase.HELD]
    admit = () if state is RolloutState.PAUSED or view.entry else _admit(view, standings, numbers, wave)
    return Decision(
        state,
        _progress(replace(view, state=state), standings, wave, waits),
        admit=admit,
        withdraw=tuple(host.host_id for host in held if host.admitted_unix_ms is not None),
        wave=wave,
        wave_done_unix_ms=done,
    )


def _admit(view: RolloutView, standings: Standings, numbers: Mapping[str, int], wave: int) -> tuple[str, ...]:
    """Return who moves now: hosts that run it already take no slot; hosts that are down anyway go first."""
    newcomers = [
        (host, where)
        for host, where in standings
        if host.admitted_unix_ms is None and host.online and not host.blocked and numbers[host.host_id] <= wave
    ]
    identical = [host.host_id for host, where in newcomers if where.phase is Phase.HEALTHY]
    turn = [host for host, where in newcomers if where.phase is Phase.WAITING]
    down = [host.host_id for host in turn if busy(host)]
    calm = [host.host_id for host in turn if not busy(host)]
    in_flight = sum(1 for _, where in standings if where.phase is Phase.IN_FLIGHT)
    between = sum(1 for host, where in standings if where.phase in (Phase.WAITING, Phase.HELD) and busy(host))
    slots = max(0, limit(view) - in_flight)
    return tuple(identical + down[:slots] + calm[: max(0, slots - between)])


def _breach(view: RolloutView, standings: Standings) -> Breach | None:
    """Return why the rollout stops, or None."""
    every = [(host, where) for host, where in standings if where.phase is Phase.FAILED]
    failed = [(host, where) for host, where in every if host.host_id not in view.excused]
    unclear = [(host, where) for host, where in standings if where.phase is Phase.INCONCLUSIVE]
    healthy = sum(1 for _, where in standings if where.phase is Phase.HEALTHY)
    finished = len(every) + len(unclear) + healthy
    counted = view.max_failures > 0 or not view.max_failure_share
    if counted and len(failed) > view.max_failures:
        return Breach(f"{_of(failed, finished)} finished hosts failed, {view.max_failures} allowed: {_named(failed)}")
    if view.max_failure_share and len(failed) * ALL > view.max_failure_share * finished:
        share = format_share(view.max_failure_share)
        return Breach(f"{_of(failed, finished)} finished hosts failed, {share} allowed: {_named(failed)}")
    if failed and len(every) == len(standings):
        return Breach(f"every host failed, {_of(every, len(standings))}: {_named(every)}")
    doubts = [(host, where) for host, where in unclear if host.host_id not in view.excused]
    if doubts:
        return Breach(f"inconclusive on {_of(doubts, finished)} finished hosts: {_named(doubts)}", blames=False)
    return None


def _metric(view: RolloutView, now_unix_ms: int) -> Breach | None:
    """Return that a metric of the newest open wave stops the rollout, or None."""
    found = breached(view, now_unix_ms)
    if found is None:
        return None
    late = f", for longer than {format_duration(found.metric.patience_ms)}" if found.over else ""
    return Breach(f"wave {view.wave + 1}: {found.text}{late}", blames=found.finding is Finding.BAD)


def _of(some: Standings, total: int) -> str:
    return f"{len(some)} of {total}"


def _named(standings: Standings) -> str:
    shown = [f"{host.name}: {where.reason}" for host, where in standings[:_NAMED_IN_REASON]]
    more = len(standings) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _progress(view: RolloutView, standings: Standings, wave: int, waits: str) -> str:
    if not standings:
        return "no host matches yet"
    count = Counter(where.phase for _, where in standings)
    parts = [f"{count[Phase.HEALTHY]} of {len(standings)} hosts healthy"]
    shown = (Phase.IN_FLIGHT, Phase.WAITING, Phase.HELD, Phase.FAILED, Phase.INCONCLUSIVE, Phase.OFFLINE)
    parts += [f"{count[phase]} {phase.replace('_', ' ')}" for phase in shown if count[phase]]
    blocked: list[tuple[HostView, Standing]] = [
        (host, Standing(Phase.WAITING, host.blocked)) for host, _ in standings if host.blocked
    ]
    if blocked:
        parts.append(f"blocked: {_named(blocked)}")
    waves = effective(view.waves)
    said = f"wave {wave + 1} of {len(waves)} ({waves[wave].what})" if len(waves) > 1 else ""
    if view.state is not RolloutState.DONE and (view.entry or waits.startswith(_SAID)):
        said = f"{said} {waits}".strip()
    elif view.state is RolloutState.DONE:
        said = ""
    return "; ".join(part for part in (said, ", ".join(parts)) if part)
