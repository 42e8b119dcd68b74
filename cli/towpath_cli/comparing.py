"""What a fleet file asks for against what the server has: what is new, what differs, what is not in the file.

A rule is app, environment and selector. What was halted, reverted or cancelled and stands in the file as it was is no
difference: to apply a file again must never try a failed release again. It is told, and a person decides. Where such a
one was taken back, an older one of its rule counts again, and a file that asks for that one is in place. What the file
says nothing of is left alone: a section, an environment, a host that is not in it.

Pure. Not handled here: reading the file (`towpath_cli.fleetfile`), what surrounds the rules
(`towpath_cli.surroundings`), doing it (`towpath_cli.commands.apply`).
"""

from collections.abc import Iterable, Mapping, Sequence

from towpath_cli.changes import Act, Change, Kind
from towpath_cli.model import DeployOrder, Rollout
from towpath_cli.policy import POLICY_OPTIONS
from towpath_cli.steps import Undeploy
from towpath_cli.wishes import FleetFile, Place

SECTION = "assignment"
_ACTIVE = ("rolling", "paused", "done", "halted")
_LEAVING = ("reverting", "reverted", "cancelled")
_STOPPED = ("halted", *_LEAVING)
_SAID = {one.name: one.said for one in POLICY_OPTIONS if one.said is not None}


def compare(file: FleetFile, rollouts: Sequence[Rollout], *, prune: bool) -> list[Act]:
    """Return what there is to do about each rule, in the order of the file; those that are not in it come last."""
    newest: dict[object, Rollout] = {}
    active: dict[object, Rollout] = {}
    for one in sorted(rollouts, key=lambda it: it.generation):
        rule = _rule(one.app, one.environment, one.selector)
        if one.state in _ACTIVE + _LEAVING:
            newest[rule] = one
        if one.state in _ACTIVE:
            active[rule] = one
    acts = []
    for order, place in zip(file.orders, file.places, strict=True):
        rule = _rule(order.app, order.environment, order.selector)
        acts.append(_of_order(order, place, _meant(order, newest.get(rule), active.pop(rule, None))))
    strangers = [one for one in active.values() if one.environment in file.names]
    return [*acts, *(_of_stranger(one, prune=prune) for one in strangers)]


def _rule(app: str, environment: str, selector: Mapping[str, str]) -> object:
    return app, environment, tuple(sorted(selector.items()))


def _name(app: str, environment: str, selector: Mapping[str, str]) -> str:
    words = ",".join(f"{key}={selector[key]}" for key in sorted(selector)) or "(every host)"
    return f"{app} in {environment} {words}"


def _meant(order: DeployOrder, newest: Rollout | None, active: Rollout | None) -> Rollout | None:
    """Return what an order is compared with: the newest of its rule, or the active one where that alone is as asked."""
    if newest is None or active is None or _equal(order, newest):
        return newest
    return active if _equal(order, active) else newest


def _equal(order: DeployOrder, there: Rollout) -> bool:
    return order.version == there.version and all(said.equal(order, there) for said in _SAID.values())


def _of_order(order: DeployOrder, place: Place, there: Rollout | None) -> Act:
    name = _name(order.app, order.environment, order.selector)
    wanted = {"version": order.version} | {key: said.order(order) for key, said in _SAID.items()}
    if there is None:
        told = {key: text for key, text in wanted.items() if key not in _SAID or text not in _SAID[key].usual}
        return Act(Change(Kind.ADD, SECTION, name, {}, told), order, place)
    differing = [key for key, said in _SAID.items() if not said.equal(order, there)]
    was, will = (
        {key: getattr(said, side)(one) for key, said in _SAID.items() if key in differing}
        for side, one in (("rollout", there), ("order", order))
    )
    if order.version != there.version:
        was, will = {"version": there.version} | was, {"version": order.version} | will
    if will:
        return Act(Change(Kind.CHANGE, SECTION, name, was, will), order, place)
    about = f"{order.version} is {there.state}"
    if there.state in _STOPPED:
        note = f"{about} ({there.reason}): not tried again; see towpath rollout show {there.assignment}"
        return Act(Change(Kind.STOPPED, SECTION, name, {}, {}, note))
    return Act(Change(Kind.SAME, SECTION, name, {}, {}, about))


def _of_stranger(one: Rollout, *, prune: bool) -> Act:
    name, was = _name(one.app, one.environment, one.selector), {"version": one.version}
    if prune:
        return Act(Change(Kind.REMOVE, SECTION, name, was, {}), Undeploy(one.app, one.environment, one.selector))
    return Act(Change(Kind.LEFT, SECTION, name, was, {}))


# Which key of an assignment the server means: the words of its refusal, and the key.
_MEANT = (
    ("there is no such release", "version"),
    ("no release of", "version"),
    ("its publisher allows only", "environment"),
    ("cannot use environment", "environment"),
    ("no host is in", "environment"),
    ("no host of", "select"),
    (" by wave ", "waves"),
    ("failures allowed", "max_failures"),
    ("progress deadline", "progress_deadline"),
    ("--expires", "expires"),
    ("--at", "at"),
    ("time zone", "windows"),
    ("approv", "approvers"),
    ("metric", "metrics"),
    ("limit above", "max_unavailable"),
)


def key_of(reason: str) -> str:
    """Return the key of an assignment that a refusal of the server is about, an empty text where it does not say."""
    return next((key for words, key in _MEANT if words in reason), "")


def lines(changes: Iterable[Change]) -> list[str]:
    """Return a line for each change that a person wants to know of."""
    return [line for change in changes if (line := change.line())]
