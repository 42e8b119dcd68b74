"""May this manifest stand on this host as a whole? Objections to single apps, before anything changes.

Pure. An app that is objected to stays as it is, the others go on; so an objection may lead to further ones (what
needed the app, what moves together with it, what wanted its old port), until none is left to make. Objected to are:

- who claims a port, path, unit or package that another claims as well: the newcomer, or both where both are new;
- who requires an app that will not be on the host: the manifest does not name it, or it was refused or failed here;
- a circle in `requires`, or in the order of switching (two apps that want each other's port);
- who moves together with an app that may not move now;
- the removal of an app that something on the host still needs.

Not handled here: disk space (known only when indexes are), single releases (`towpath.manifest.admit_release`).
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from towpath_agent.engine.sets import Footprint, Move, circle, edges, groups, widened


@dataclass(frozen=True, slots=True)
class Standing:
    """A release as it runs or would run on this host."""

    version: str
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an app stays as it is; `code` is stable."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What is asked. `wanted` and `current` by app; `held`: why a named app does not move now (refused, failed before).

    An app of `current` that is neither wanted nor held is to be removed.
    """

    wanted: Mapping[str, Standing]
    current: Mapping[str, Standing]
    moving: Collection[str]
    held: Mapping[str, str]


def objections(situation: Situation) -> dict[str, Objection]:
    """Return every app that may not move as the manifest says, and why."""
    found: dict[str, Objection] = {}
    while True:
        outlook = _Outlook(situation, found)
        fresh = next((fresh for rule in _RULES if (fresh := dict(rule(outlook)))), None)
        if fresh is None:
            return found
        found.update(fresh)


class _Outlook:
    """The host as it would be with the objections made so far."""

    def __init__(self, situation: Situation, objected: Mapping[str, Objection]) -> None:
        self.situation, self.objected = situation, objected
        self.out = {**situation.held, **{app: it.message for app, it in objected.items()}}
        self.movers = sorted(app for app in situation.moving if app in situation.wanted and app not in self.out)
        self.standing = {app: it for app, it in situation.current.items() if app in situation.wanted or app in self.out}
        self.standing |= {app: situation.wanted[app] for app in self.movers}
        self.removed = sorted(set(situation.current) - set(self.standing))

    def named(self, app: str) -> str:
        return f"{app} {self.situation.wanted[app].version}"

    def moves(self) -> dict[str, Move]:
        return {
            app: Move(_footprint(self.situation.current.get(app)), _footprint(self.standing.get(app)))
            for app in (*self.movers, *self.removed)
        }


Found = Iterator[tuple[str, Objection]]


def _footprint(standing: Standing | None) -> Footprint | None:
    return None if standing is None else standing.footprint


def _clashes(outlook: _Outlook) -> Found:
    claimed = {claim for standing in outlook.standing.values() for claim in standing.footprint.claims}
    for claim in sorted(claimed):
        apps = sorted(app for app, standing in outlook.standing.items() if claim in standing.footprint.claims)
        for app in apps:
            others = [other for other in apps if other != app]
            if others and app in outlook.movers:
                other = f"{others[0]} {outlook.standing[others[0]].version}"
                yield (
                    app,
                    Objection(
                        f"{claim.kind}-claimed-twice",
                        f"cannot run {outlook.named(app)}: {claim} is claimed by {other} as well; "
                        "change a parameter or a release of one of them",
                    ),
                )


def _missing(outlook: _Outlook) -> Found:
    for app in outlook.movers:
        for other in sorted(outlook.standing[app].footprint.requires - set(outlook.standing)):
            why = outlook.out.get(other, "no assignment of this host names it")
            yield app, Objection("missing-dependency", f"cannot run {outlook.named(app)}: it requires {other}: {why}")


def _needed(outlook: _Outlook) -> Found:
    for app in outlook.removed:
        for other, standing in sorted(outlook.standing.items()):
            if app in standing.footprint.requires:
                message = f"cannot remove {app}: {other} {standing.version}, which stays on this host, requires it"
                yield app, Objection("still-required", message)


def _circles(outlook: _Outlook) -> Found:
    need = {app: it.footprint.requires for app, it in outlook.standing.items()}
    for app in outlook.movers:
        way = circle(need, app)
        if way:
            text = " requires ".join(way)
            yield app, Objection("requires-cycle", f"cannot run {outlook.named(app)}: {text}; break the circle")


def _orders(outlook: _Outlook) -> Found:
    moves = outlook.moves()
    sets = groups({app: move.new.together if move.new is not None else () for app, move in moves.items()})
    need = widened(edges(moves), sets)
    for app in outlook.movers:
        way = circle(need, app)
        if way:
            text = " after ".join(way)
            message = f"cannot switch {outlook.named(app)}: the order goes in a circle ({text}); move one of them first"
            yield app, Objection("order-cycle", message)


def _split(outlook: _Outlook) -> Found:
    wanted = outlook.situation.wanted
    links = {app: wanted[app].footprint.together for app in outlook.situation.moving if app in wanted}
    links |= {app: frozenset() for app in outlook.out if app not in links}
    sets = groups(links)
    for app in outlook.movers:
        for other in sorted(sets[app] & set(outlook.out)):
            message = f"cannot run {outlook.named(app)}: it moves together with {other}: {outlook.out[other]}"
            yield app, Objection("set-held", message)


_RULES = (_clashes, _missing, _needed, _circles, _orders, _split)
