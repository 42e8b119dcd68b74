"""Operators steer a rollout that is under way: pause, resume, advance, halt, retry, cancel, revert; undo a done one.

Each act is one row of `domain.rollout_table`, checked first, done in one transaction and audited. Nothing here moves a
host: admissions are taken back from who has not switched, and the reconciler does the rest.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from towpath.errors import InputError
from towpath.names import check_app, check_environment
from towpath.waves import effective
from towpath_server.domain import approval, gates, returning, rolling, timing
from towpath_server.domain import assignment as rules
from towpath_server.domain.model import Assignment, RolloutState
from towpath_server.domain.rollout_table import Act as Happening
from towpath_server.domain.rollout_table import ordered
from towpath_server.domain.standing import Phase, RolloutView, Standings, standing, stay
from towpath_server.domain.why import rule_options
from towpath_server.ports import Transaction
from towpath_server.services import rollouts
from towpath_server.services.context import Act, Context, acting
from towpath_server.services.deploying import check_floor, check_known, selector_words

MIN_PREFIX = 4
MAX_REASON = 200
_ID = re.compile(r"[0-9a-f]{1,64}")
_BAD = (Phase.FAILED, Phase.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class _Case:
    """One act in progress: the rollout as it is, and what it will be."""

    context: Context
    act: Act
    place: rollouts.Environment
    one: Assignment
    after: Assignment
    view: RolloutView
    standings: Standings

    @property
    def name(self) -> str:
        return name_of(self.one)

    def bad(self) -> list[str]:
        """Return the ids of hosts that failed or are inconclusive."""
        return [host.host_id for host, where in self.standings if where.phase in _BAD]


def name_of(one: Assignment) -> str:
    """Return a rollout as people read it."""
    return f"{one.app} {one.version} in {one.environment}"


def find(tx: Transaction, rollout: str) -> Assignment:
    """Return the assignment with this id, or the only one whose id begins so; InputError `not-found` otherwise."""
    exact = tx.assignment(rollout)
    if exact is not None:
        return exact
    if not _ID.fullmatch(rollout) or len(rollout) < MIN_PREFIX:
        raise InputError(f"cannot find rollout {rollout[:80]!r}: see 'towpath rollout list'", code="not-found")
    found = [one for one in tx.assignments(removed=True) if one.id.startswith(rollout)]
    if len(found) != 1:
        many = f"{len(found)} rollouts begin so" if found else "none begins so"
        raise InputError(f"cannot find rollout {rollout!r}: {many}; see 'towpath rollout list'", code="not-found")
    return found[0]


def steer(context: Context, actor: str, verb: str, rollout: str, reason: str = "") -> Assignment:
    """Do `verb` to a rollout and return it; InputError where it is unknown or cannot be, nothing changed then."""
    with acting(context, actor, f"rollout.{verb[:20]}", f"rollout/{rollout[:64]}") as act:
        if verb not in _VERBS:
            raise InputError(f"cannot do {verb[:40]!r} to a rollout: one of {', '.join(_VERBS)}")
        one = find(act.tx, rollout)
        act.subject = f"rollout/{one.id}"
        state = ordered(one.state, _ACTS.get(verb) or Happening(verb), name_of(one))
        place = rollouts.load(context, act.tx, one.environment)
        seen = rollouts.view(context, act.tx, place, one)
        standings = [(host, standing(seen, host, place.now_unix_ms)) for host in seen.hosts]
        why = " ".join(reason.split())[:MAX_REASON]
        said = f"{verb} by {actor}" + (f": {why}" if why else "")
        after = _VERBS[verb](_Case(context, act, place, one, replace(one, state=state, reason=said), seen, standings))
        act.tx.put_assignment(after)
        act.environments.add(one.environment)
        act.detail = f"{name_of(one)}: {one.state} to {after.state}" + (f", {why}" if why else "")
    return after


def _pause(case: _Case) -> Assignment:
    return case.after


def _resume(case: _Case) -> Assignment:
    """Go on in the same wave; who has failed until now does not count again."""
    timing.check_not_over(case.one, "resume", case.place.now_unix_ms)
    bad = case.bad()
    if case.one.state is RolloutState.PAUSED:
        return replace(case.after, resumed_unix_ms=case.place.now_unix_ms)
    if rolling.nobody_left(case.standings):
        raise InputError(
            f"cannot resume {case.name}: every host failed it, so that nobody is left; towpath rollout retry "
            f"{case.one.id}, or deploy another release"
        )
    excused = tuple(sorted({*case.one.excused, *bad}))
    approvals = approval.forgotten(case.one.approvals, case.one.wave)
    return replace(case.after, excused=excused, approvals=approvals, resumed_unix_ms=case.place.now_unix_ms)


def _advance(case: _Case) -> Assignment:
    """Pass the newest open wave's gate now, whatever it waits for but the approvals of others."""
    waves = effective(case.one.waves)
    if case.view.entry:
        return replace(case.after, entered_unix_ms=case.place.now_unix_ms)
    now = gates.gate(case.view, case.standings, gates.members(case.view), case.place.now_unix_ms)
    number = min(case.one.wave, len(waves) - 1)
    missing = approval.waits(waves[number], number, case.one.approvals, case.one.approvers)
    if missing:
        raise InputError(
            f"cannot advance {case.name}: wave {number + 1} {missing}; towpath rollout approve {case.one.id}",
            code="impossible",
        )
    if number < len(waves) - 1:
        return replace(case.after, wave=number + 1, wave_done_unix_ms=0)
    if not (now.soak_until_unix_ms or waves[-1].manual or waves[-1].metrics) or not now.done_unix_ms:
        raise InputError(
            f"cannot advance {case.name}: its last wave is open already; it is done when its hosts have finished",
            code="impossible",
        )
    return replace(case.after, state=RolloutState.DONE, done_unix_ms=case.place.now_unix_ms)


def _halt(case: _Case) -> Assignment:
    _tell_to_stay(case)
    return case.after


def _retry(case: _Case) -> Assignment:
    """Give the rollout a new generation, so that hosts forget their failure; the same wave goes on."""
    timing.check_not_over(case.one, "retry", case.place.now_unix_ms)
    bad = case.bad()
    if not bad:
        raise InputError(f"cannot retry {case.name}: no host failed it", code="impossible")
    moving = [host.name for host, where in case.standings if where.phase is Phase.IN_FLIGHT and host.online]
    if moving:
        raise InputError(f"cannot retry {case.name}: {moving[0]} is in flight; wait for it", code="impossible")
    case.act.tx.withdraw(case.one.id, bad)
    case.act.hosts.update(host.host_id for host in case.view.hosts)
    now = case.place.now_unix_ms
    approvals = approval.forgotten(case.one.approvals, case.one.wave)
    generation = case.act.tx.next_generation()
    roster = tuple(sorted({*case.one.roster, *bad})) if case.one.roster is not None else None
    return replace(
        case.after, generation=generation, excused=(), approvals=approvals, resumed_unix_ms=now, roster=roster
    )


def _cancel(case: _Case) -> Assignment:
    """End the rollout: who runs the release keeps it, what was done before counts again for the others."""
    _tell_to_stay(case)
    rollouts.restore(case.act.tx, case.place, case.one, case.place.now_unix_ms, other_release=False)
    return replace(case.after, done_unix_ms=0)


def _revert(case: _Case) -> Assignment:
    """Take this rollout back, as `undo` does to what counts for a rule."""
    before = _take_back(case.context, case.act, case.place, case.one)
    return replace(case.after, reason=f"{case.after.reason}; back to {before.version}", done_unix_ms=0)


def _tell_to_stay(case: _Case) -> None:
    ids = stay(case.view)
    case.act.tx.withdraw(case.one.id, ids)
    case.act.hosts.update(ids)


_VERBS: Mapping[str, Callable[[_Case], Assignment]] = {
    "pause": _pause,
    "resume": _resume,
    "advance": _advance,
    "halt": _halt,
    "retry": _retry,
    "cancel": _cancel,
    "revert": _revert,
}
# Verbs whose row of the table has another name.
_ACTS: Mapping[str, Happening] = {"revert": Happening.UNDO}


def undo(context: Context, actor: str, app: str, environment: str, selector: Mapping[str, str] | None) -> Assignment:
    """Take an app in an environment back to the release that was done there before; return the rollout that is undone.

    `selector` None: the only rule of the app there; InputError where there are several, or nothing to go back to.
    """
    with acting(context, actor, "undo", f"app/{app[:64]}") as act:
        check_app(app)
        check_environment(environment)
        place = rollouts.load(context, act.tx, environment)
        check_known(act.tx, place, environment)
        one = _undone(place, app, environment, selector)
        act.subject = f"rollout/{one.id}"
        state = ordered(one.state, Happening.UNDO, name_of(one))
        before = _take_back(context, act, place, one)
        reason = f"undo by {actor}: back to {before.version}"
        after = replace(one, state=state, reason=reason, done_unix_ms=0)
        act.tx.put_assignment(after)
        act.environments.add(environment)
        act.detail = f"{name_of(one)}: back to {before.version}, generation {before.generation}"
    return after


def _take_back(context: Context, act: Act, place: rollouts.Environment, one: Assignment) -> Assignment:
    """Let the release before `one` count again and return it; InputError where there is none, or it may not follow."""
    before = returning.predecessor(place.of_app(one.app), one)
    if before is None:
        raise InputError(
            f"cannot undo {name_of(one)}: no other release was done there before; towpath deploy {one.app} VERSION "
            f"--environment {one.environment}{rule_options(one)}",
            code="not-found",
        )
    check_floor(context, act.tx, one, before)
    rollouts.restore(act.tx, place, one, place.now_unix_ms, other_release=True)
    return before


def _undone(place: rollouts.Environment, app: str, environment: str, selector: Mapping[str, str] | None) -> Assignment:
    active = [one for one in place.of_app(app) if one.state.active]
    if selector is not None:
        active = [one for one in active if rules.same_rule(one, app, environment, selector)]
    if not active:
        rule = "" if selector is None else f" to {selector_words(selector)}"
        raise InputError(f"cannot undo {app}: it is not deployed{rule} in {environment}", code="not-found")
    if len(active) > 1:
        shown = ", ".join(selector_words(one.selector) for one in active)
        raise InputError(
            f"cannot undo {app}: {len(active)} rules are active in {environment} ({shown}); choose with --select, or "
            "--all-hosts for the one of every host"
        )
    return active[0]
