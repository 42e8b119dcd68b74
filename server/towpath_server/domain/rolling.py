"""THE rollout decision: who may move to a release now, who is told to stay, and whether the rollout goes on.

    rolling --every wave has passed--> done          done --failures--> halted
    rolling --a failure limit, or one inconclusive--> halted, or reverting where the policy says so
    rolling, paused --its time is over--> cancelled

Rules, each a named test:
- a breach stops in the same tick, also in the last wave, while paused, and after `done`; hosts in flight that have not
  switched are told to stay. A halt ends only by a person's word, and goes on in the wave that failed; a host that
  failed may be told to try again by a person on it (`towpath-agent retry`).
- more than `max_failures` hosts failed, or more than `max_failure_share` of the finished ones, or every host: a breach.
  Who was excused by a `resume` does not count again. Where the policy is to revert, it does so until the rollout is
  done: later a breach halts, because by then other things than the release fail hosts.
- a metric that is bad is a breach and blames the release; one that is inconclusive for too long halts and blames none.
- inconclusive (the previous release fails its probes too): the world is broken. It halts, and blames no release.
- a host moves where every budget has room for it (`domain.budgets`).
- at most `max_unavailable` in flight, across all waves; a host that confirmed and then fell ill holds its slot, and so
  does one that a superseded assignment left between two releases.
- nobody moves before its wave is open; a newcomer whose wave is open moves at once.
- nobody moves while the clock or the calendar bars it (`domain.timing`): then who has not switched is told to stay.
- offline hosts neither block nor count; they are admitted when they come back.
- hosts that a person on the host holds neither block nor count: one that was let in and has not switched is withdrawn,
  one past the switch finishes, and each is admitted in its turn when the hold ends, with a whole deadline.
- who is first follows hash(assignment, host): not always the same hosts, and neighbours by name are spread. A rollout
  may go by the value of a label instead.

Pure: the caller applies the decision in the transaction in which it read the view, one rollout at a time.
"""

from dataclasses import dataclass, replace

from towpath.quantity import format_duration
from towpath.waves import ALL, effective, format_share
from towpath_server.domain import attendance, returning
from towpath_server.domain.gates import breached, opened
from towpath_server.domain.metric import Finding
from towpath_server.domain.model import OnBreach, RolloutState
from towpath_server.domain.rollout_table import Act, next_state
from towpath_server.domain.standing import Decision, Phase, RolloutView, Standings, limit, stay
from towpath_server.domain.tally import Group, Tally

_NAMED_IN_REASON = 3
_SHOWN = (
    Phase.IN_FLIGHT,
    Phase.WAITING,
    Phase.HELD,
    Phase.FAILED,
    Phase.INCONCLUSIVE,
    Phase.OFFLINE,
    Phase.NEWCOMER,
)
# What a wave waits for that its hosts do not say themselves.
_SAID = ("soaks", "a person", "paused", "metric", "needs", "waits for")


@dataclass(frozen=True, slots=True)
class Breach:
    """Why a rollout stops; `blames`: whether it is the release's fault."""

    reason: str
    blames: bool = True


def decide(view: RolloutView, now_unix_ms: int) -> Decision:
    """Return what is to be done for `view` at `now_unix_ms`."""
    return decided(Tally(view, now_unix_ms) if counts_hosts(view) else None, view)


def counts_hosts(view: RolloutView) -> bool:
    """Return whether the decision reads the hosts at all."""
    return view.state.returning or (view.state.active and view.state is not RolloutState.HALTED)


def decided(tally: Tally | None, view: RolloutView) -> Decision:
    """Return `decide` of hosts that are counted already, at the tally's time; None where `counts_hosts` says no."""
    same = Decision(view.state, view.reason, wave=view.wave, wave_done_unix_ms=view.wave_done_unix_ms)
    if tally is None:
        # A halt too: who moves then was told to by a person on the host; only the breach's tick tells hosts to stay.
        return same
    if view.state.returning:
        return returning.decided(tally)
    breach = _breach(tally) or _metric(view, tally.now_unix_ms)
    if breach is None:
        return _go_on(tally)
    whole = tally.whole()
    if breach.blames and view.on_breach is OnBreach.REVERT and view.state is not RolloutState.DONE:
        state = next_state(view.state, Act.TAKE_BACK)
        return decide(replace(whole, state=state, reason=breach.reason), tally.now_unix_ms)
    return replace(same, state=next_state(view.state, Act.BREACH), reason=breach.reason, withdraw=stay(whole))


def nobody_left(standings: Standings) -> bool:
    """Return whether every host failed a rollout or is inconclusive: `resume` excuses those, and would move nobody."""
    return bool(standings) and all(where.phase in (Phase.FAILED, Phase.INCONCLUSIVE) for _, where in standings)


def _go_on(tally: Tally) -> Decision:
    view = tally.view
    now = opened(view, tally, tally.now_unix_ms)
    if attendance.expired(tally, last_open=now.wave == len(effective(view.waves)) - 1):
        return attendance.expire(tally)
    state, wave, done, waits = view.state, now.wave, now.done_unix_ms, now.waits
    if state is RolloutState.PAUSED:
        # What was seen to finish is remembered, what would open stays closed.
        wave, done = view.wave, done if now.wave == view.wave else view.wave_done_unix_ms or tally.now_unix_ms
        waits = "paused"
    elif state is RolloutState.DONE:
        wave, done, waits = len(effective(view.waves)) - 1, view.wave_done_unix_ms, ""
    elif now.passed and not attendance.unbegun(view, tally.now_unix_ms):
        state = next_state(state, Act.FINISH)
    decision = Decision(
        state,
        _progress(replace(view, state=state), tally, wave, waits),
        admit=() if state is RolloutState.PAUSED or view.entry else _admit(tally, wave),
        withdraw=tuple(tally.first(Group.HELD)),
        wave=wave,
        wave_done_unix_ms=done,
    )
    return attendance.minding(tally, decision)


def _admit(tally: Tally, wave: int) -> tuple[str, ...]:
    """Return who moves now: hosts that run it already take no slot; hosts that are down anyway go first."""
    identical = tally.first(Group.IDENTICAL, wave)
    slots = max(0, limit(tally.view, tally.total) - tally.count(Phase.IN_FLIGHT))
    down = tally.first(Group.DOWN, wave, limit=slots)
    calm = tally.next(wave, max(0, slots - tally.size(Group.BETWEEN)))
    return tuple(identical + down + calm)


def _breach(tally: Tally) -> Breach | None:
    """Return why the rollout stops, or None."""
    view, every, failed = tally.view, tally.size(Group.FAILED), tally.size(Group.BLAMED)
    finished = every + tally.count(Phase.INCONCLUSIVE) + tally.count(Phase.HEALTHY)
    counted = view.max_failures > 0 or not view.max_failure_share
    if counted and failed > view.max_failures:
        who = _named(tally, Group.BLAMED)
        return Breach(f"{_of(failed, finished, 'finished host')} failed, {view.max_failures} allowed: {who}")
    if view.max_failure_share and failed * ALL > view.max_failure_share * finished:
        share = format_share(view.max_failure_share)
        who = _named(tally, Group.BLAMED)
        return Breach(f"{_of(failed, finished, 'finished host')} failed, {share} allowed: {who}")
    if failed and every == tally.total:
        return Breach(f"every host failed, {every} of {every}: {_named(tally, Group.FAILED)}")
    doubts = tally.size(Group.DOUBTED)
    if doubts:
        who = _named(tally, Group.DOUBTED)
        return Breach(f"inconclusive on {_of(doubts, finished, 'finished host')}: {who}", blames=False)
    return None


def _metric(view: RolloutView, now_unix_ms: int) -> Breach | None:
    """Return that a metric of the newest open wave stops the rollout, or None."""
    found = breached(view, now_unix_ms)
    if found is None:
        return None
    late = f", for longer than {format_duration(found.metric.patience_ms)}" if found.over else ""
    return Breach(f"wave {view.wave + 1}: {found.text}{late}", blames=found.finding is Finding.BAD)


def _of(some: int, total: int, what: str) -> str:
    return f"{some} of {total} {what}{'' if total == 1 else 's'}"


def _named(tally: Tally, group: Group) -> str:
    named = tally.named(tally.first(group, limit=_NAMED_IN_REASON))
    shown = [f"{host.name}: {host.blocked if group is Group.BLOCKED else where.reason}" for host, where in named]
    more = tally.size(group) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _progress(view: RolloutView, tally: Tally, wave: int, waits: str) -> str:
    if not tally.total:
        return "no host matches yet"
    parts = [f"{_of(tally.count(Phase.HEALTHY), tally.total, 'host')} healthy"]
    parts += [f"{tally.count(phase)} {phase.replace('_', ' ')}" for phase in _SHOWN if tally.count(phase)]
    if tally.size(Group.BLOCKED):
        parts.append(f"blocked: {_named(tally, Group.BLOCKED)}")
    kept = tally.quotas.said(view.others, wave)
    if kept:
        parts.append(kept)
    waves = effective(view.waves)
    said = f"wave {wave + 1} of {len(waves)} ({waves[wave].what})" if len(waves) > 1 else ""
    if view.state is not RolloutState.DONE and (view.entry or waits.startswith(_SAID)):
        said = f"{said} {waits}".strip()
    elif view.state is RolloutState.DONE:
        said = ""
    return "; ".join(part for part in (said, ", ".join(parts)) if part)
