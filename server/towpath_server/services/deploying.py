"""Operators say what should run where: deploy, promote, undeploy.

Nothing here moves a host: assignments are written, and the reconciler admits. Not handled here: acts on a rollout that
is under way (`services.steering`), what is set on one host (`services.hosting`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from towpath.budgets import check_priority, parse_budgets, parse_order
from towpath.errors import InputError
from towpath.metrics import Metric
from towpath.names import check_app, check_environment
from towpath.release import Release
from towpath.status import State
from towpath.waves import LARGE, Wave, check_waves, words
from towpath_server.domain import assignment as rules
from towpath_server.domain import attendance, manifests, standing, timing
from towpath_server.domain.model import Assignment, OnBreach, RolloutState
from towpath_server.domain.rollout_table import Act as Happening
from towpath_server.domain.rollout_table import next_state
from towpath_server.domain.standing import Phase
from towpath_server.domain.waves import default_waves
from towpath_server.ports import Transaction
from towpath_server.services import ordering, rollouts
from towpath_server.services.context import Act, Context, Need, acting
from towpath_server.services.gating import gated

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for with `deploy`. Zeros mean the defaults; `allow_empty`: hosts are to come."""

    app: str
    version: str
    environment: str
    selector: Mapping[str, str]
    max_unavailable: int = 0
    max_failures: int = 0
    progress_deadline_ms: int = 0
    whole_environment: bool = False
    waves: tuple[Wave, ...] = ()
    max_failure_share: int = 0
    on_breach: str = ""
    allow_empty: bool = False
    windows: tuple[str, ...] = ()
    at: str = ""
    expires: str = ""
    override_freeze: str = ""
    offline_wait_ms: int = 0
    newcomers: str = ""
    approvers: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    prefetch: bool = False
    budgets: tuple[str, ...] = ()
    priority: int = 0
    order: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The assignment that stands now, how many hosts it covers, and whether it stood before."""

    assignment: Assignment
    hosts: int
    unchanged: bool


def deploy(context: Context, actor: str, order: Order) -> Deployed:
    """Write the assignment; InputError where the release is not published or does not fit a matching host."""
    with acting(context, actor, "deploy", f"app/{order.app[:64]}") as act:
        return assign(context, actor, act, order)


def promote(context: Context, actor: str, source: str, order: Order) -> Deployed:
    """Deploy the very release that is proven in the environment `source`; InputError where none is."""
    with acting(context, actor, "promote", f"app/{order.app[:64]}") as act:
        return promote_inside(context, actor, act, source, order)


def promote_inside(context: Context, actor: str, act: Act, source: str, order: Order) -> Deployed:
    """Write what `promote` writes inside `act`; a plan does the very same and undoes it (`services.planning`)."""
    check_app(order.app)
    check_environment(source)
    if source == order.environment:
        raise InputError(f"cannot promote {order.app} from {source} to itself: name another environment")
    proven = _proven(context, act.tx, source, order.app)
    order = replace(order, version=proven.version)
    deployed = assign(context, actor, act, order, sha256=proven.release_sha256, verb="promote")
    act.detail = f"from {source}: {act.detail}"
    return deployed


def _proven(context: Context, tx: Transaction, source: str, app: str) -> Assignment:
    """Return the assignment whose release every host of `source` that is there has proven."""
    place = rollouts.load(context, tx, source)
    check_known(tx, place, source)
    found = [one for one in place.of_app(app) if one.state.active and place.covered(one)]
    where = f"cannot promote {app} from {source}"
    if not found:
        raise InputError(f"{where}: no host there should run it; towpath status {app}", code="not-found")
    versions = sorted({one.version for one in found})
    if len({one.release_sha256 for one in found}) > 1:
        raise InputError(f"{where}: it runs {' and '.join(versions)}; deploy the one that is meant")
    for one in found:
        if one.state is not RolloutState.DONE:
            raise InputError(
                f"{where}: {one.version} is {one.state} there: {one.reason}; towpath rollout show {one.id}"
            )
        seen = rollouts.view(context, tx, place, one)
        for host in seen.hosts:
            now = standing.standing(seen, host, place.now_unix_ms)
            if now.phase not in (Phase.HEALTHY, Phase.OFFLINE, Phase.HELD, Phase.NEWCOMER):
                raise InputError(
                    f"{where}: {one.version} is not healthy on {host.name}: {now.reason}; towpath why {host.name} {app}"
                )
    return found[0]


def check_known(tx: Transaction, place: rollouts.Environment, name: str) -> None:
    """Raise InputError where the environment is not declared and nobody and nothing is in it: a typing mistake."""
    if not place.hosts and not place.assignments:
        ordering.check_declared(tx, name, "no host and no assignment is in it, and ")


def assign(
    context: Context, actor: str, act: Act, order: Order, *, sha256: bytes = b"", verb: str = "deploy"
) -> Deployed:
    """Write the assignment inside `act`; a plan does the very same and undoes it (`services.planning`).

    `sha256`: of no other release than this; `verb`: what the operator calls it, for errors.
    """
    check_app(order.app)
    deadline = rules.check_request(
        environment=order.environment,
        selector=order.selector,
        whole_environment=order.whole_environment,
        progress_deadline_ms=order.progress_deadline_ms,
        verb=verb,
    )
    on_breach = rules.check_limits(
        max_unavailable=order.max_unavailable,
        max_failures=order.max_failures,
        max_failure_share=order.max_failure_share,
        on_breach=order.on_breach,
        verb=verb,
    )
    when = timing.check_timing(
        windows=order.windows,
        at=order.at,
        expires=order.expires,
        override=order.override_freeze,
        now_unix_ms=context.clock.now_unix_ms(),
        verb=verb,
    )
    tx = act.tx
    known = _release(context, tx, order, verb)
    act.needs.append(Need(order.app, order.version))
    if sha256 not in (b"", known.sha256):
        raise InputError(f"cannot promote {order.app} {order.version}: it is published as another release by now")
    place = rollouts.load(context, tx, order.environment)
    check_known(tx, place, order.environment)
    draft = Assignment(
        id=_new_id(tx, order, known.sha256),
        app=order.app,
        version=order.version,
        release_sha256=known.sha256,
        environment=order.environment,
        selector=dict(order.selector),
        generation=0,
        max_unavailable=order.max_unavailable,
        max_failures=order.max_failures,
        progress_deadline_ms=deadline,
        created_unix_ms=context.clock.now_unix_ms(),
        created_by=actor,
        waves=check_waves(order.waves) if order.waves else (),
        max_failure_share=order.max_failure_share,
        on_breach=on_breach,
        timing=when,
        offline_wait_ms=order.offline_wait_ms,
        budgets=parse_budgets(order.budgets),
        priority=check_priority(order.priority),
        order_label=parse_order(order.order),
        newcomers=attendance.check_attendance(order.offline_wait_ms, order.newcomers),
        prefetch=order.prefetch,
        **gated(context, actor, waves=order.waves, approvers=order.approvers, metrics=order.metrics),
    )
    labels = [host.labels for host in place.hosts if rules.matches(draft, host)]
    if not order.waves:
        draft = replace(draft, waves=default_waves(len(labels)))
    rules.check_reach(draft, labels, allow_empty=order.allow_empty, verb=verb)
    _check_hosts(place, draft, known.release, [one.release for one in context.releases(tx, order.app)], verb)
    counting = [one for one in place.assignments if rules.same_rule(one, order.app, order.environment, order.selector)]
    for one in counting:
        # Default waves that a larger fleet would not get today are no other policy.
        wanted = replace(draft, waves=one.waves) if not order.waves and one.waves in ((), LARGE) else draft
        if rules.unchanged(one, wanted, failed=_failed(context, tx, place, one)):
            act.detail = f"{order.version} to {order.environment}: unchanged, generation {one.generation}"
            return Deployed(one, len(place.covered(one)), unchanged=True)
    if on_breach is OnBreach.REVERT:
        for one in counting:
            if one.state is RolloutState.DONE and one.release_sha256 != known.sha256:
                check_floor(context, tx, draft, one)
    final = replace(draft, generation=tx.next_generation())
    for one in counting:
        _supersede(context, act, place, one, final)
    tx.add_assignment(final)
    act.environments.add(order.environment)
    by = f" by waves {words(final.waves)}" if final.waves else ""
    by += f" {timing.words(when)}" if timing.words(when) else ""
    by += " with downloads ahead" if final.prefetch else ""
    where = f"{order.environment} {selector_words(order.selector)}{by}"
    act.detail = f"{order.version} to {where}: generation {final.generation}, {final.id}"
    covered = len(rollouts.load(context, tx, order.environment).covered(final))
    return Deployed(final, covered, unchanged=False)


def _new_id(tx: Transaction, order: Order, sha256: bytes) -> str:
    """Return the id that a rollout of this release by this rule has: the first of a sequence that nobody took.

    It is no random number, because hosts are ordered by it: what `towpath plan` shows is what a deploy then does.
    """
    rule = json.dumps([order.app, sha256.hex(), order.environment, sorted(order.selector.items())])
    number = 0
    while tx.assignment(found := hashlib.sha256(f"{rule} {number}".encode()).hexdigest()[:16]) is not None:
        number += 1
    return found


def selector_words(selector: Mapping[str, str]) -> str:
    """Return a selector as people read it."""
    return ",".join(f"{key}={selector[key]}" for key in sorted(selector)) or "(every host)"


def _release(context: Context, tx: Transaction, order: Order, verb: str) -> manifests.KnownRelease:
    known = context.release(tx, order.app, order.version)
    if known is None:
        versions = [row.version for row in tx.releases(order.app)][-_SHOWN:]
        published = f"published are {', '.join(versions)}" if versions else f"no release of {order.app} is published"
        raise InputError(
            f"cannot {verb} {order.app} {order.version}: there is no such release; {published}", code="not-found"
        )
    allowed = known.release.environments
    if allowed and order.environment not in allowed:
        raise InputError(
            f"cannot {verb} {order.app} {order.version} to {order.environment}: its publisher allows only "
            f"{', '.join(allowed)}"
        )
    return known


def _check_hosts(
    place: rollouts.Environment, draft: Assignment, release: Release, others: Sequence[Release], verb: str
) -> None:
    for host in place.hosts:
        if rules.matches(draft, host):
            try:
                manifests.check_parameters(release, manifests.texts_of(host, release.app, place.settings), others)
            except InputError as error:
                raise InputError(
                    f"cannot {verb} {release.app} {release.version}: host {host.name}: {error}; "
                    f"towpath host set {host.name} {release.app}.NAME=VALUE, or --unset {release.app}.NAME"
                ) from error


def _failed(context: Context, tx: Transaction, place: rollouts.Environment, one: Assignment) -> int:
    seen = rollouts.view(context, tx, place, one)
    bad = (Phase.FAILED, Phase.INCONCLUSIVE)
    return sum(1 for host in seen.hosts if standing.standing(seen, host, place.now_unix_ms).phase in bad)


def _supersede(context: Context, act: Act, place: rollouts.Environment, one: Assignment, by: Assignment) -> None:
    """End an assignment; hosts that have not switched are told to stay, the others keep it until they are admitted.

    A host that reverted it does not run it, so it is withdrawn too: whoever takes `by` back shall not bring it to that.
    """
    seen = rollouts.view(context, act.tx, place, one)
    reverted = [
        host.host_id
        for host in seen.hosts
        if host.state is not None and host.state.state is State.REVERTED and standing.untouched(seen, host)
    ]
    gone = (*standing.stay(seen), *reverted)
    act.tx.withdraw(one.id, gone)
    act.hosts.update(gone)
    state = next_state(one.state, Happening.SUPERSEDE)
    reason = f"by {by.version}, generation {by.generation}"
    act.tx.put_assignment(replace(one, state=state, reason=reason))


def undeploy(
    context: Context, actor: str, app: str, environment: str, selector: Mapping[str, str] | None = None
) -> int:
    """Remove every assignment of an app in an environment; its hosts remove the app. Return how many there were.

    `selector`: those of exactly this rule only; a host that another rule covers runs that one's release then.
    """
    with acting(context, actor, "undeploy", f"app/{app[:64]}") as act:
        return take_off(actor, act, app, environment, selector)


def take_off(actor: str, act: Act, app: str, environment: str, selector: Mapping[str, str] | None) -> int:
    """Do what `undeploy` does inside `act`."""
    check_app(app)
    check_environment(environment)
    found = act.tx.assignments(environment=environment, app=app)
    if selector is not None:
        found = [one for one in found if dict(one.selector) == dict(selector)]
    counting = [one for one in found if one.state.active or one.state.leaving]
    if not counting:
        rule = "" if selector is None else f" to {selector_words(selector)}"
        raise InputError(f"cannot undeploy {app}: it is not deployed{rule} in {environment}", code="not-found")
    for one in found:
        state = next_state(one.state, Happening.REMOVE)
        act.tx.put_assignment_state(one.id, state, f"by {actor}")
    act.hosts.update(host.id for host in act.tx.hosts(environment))
    act.environments.add(environment)
    active = sum(1 for one in counting if one.state.active) or len(counting)
    act.detail = f"{active} assignments in {environment}"
    if selector is not None:
        act.detail += f", {selector_words(selector)}"
    return active


def check_floor(context: Context, tx: Transaction, one: Assignment, before: Assignment) -> None:
    """Raise InputError where `one`'s publisher said that `before` may not follow it: hosts would refuse."""
    new, old = context.release(tx, one.app, one.version), context.release(tx, before.app, before.version)
    if new is not None and old is not None and old.release.counter < new.release.rollback_floor:
        raise InputError(
            f"cannot take {one.app} {one.version} back to {before.version}: its publisher allows nothing "
            f"before counter {new.release.rollback_floor}, and {before.version} has {old.release.counter}"
        )
