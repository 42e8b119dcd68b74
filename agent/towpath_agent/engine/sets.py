"""Sets: which transactions move as one, and in which order they switch, go back and are confirmed.

Pure. A set is a connected component of `together` among the transactions under way; it is sealed (given a durable name)
in the commit that lets its first member switch, so that a crash or a newer manifest never changes who belongs to it.

- What is required is confirmed before what requires it switches; inside a set it is proven healthy, as all are
  confirmed in one commit. What is removed goes after what needed it. Who takes a port, path or unit waits until the
  other has let it go.
- One member fails: all go back, in reverse order, and none is judged by its probes before all have gone back.

Not handled here: what may stand on a host at all (`engine.admission`), committing (`runner`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from towpath.claims import Claim
from towpath.status import State

_NOT_READY = (State.PLANNED, State.FETCHING, State.STAGED)
_DECIDED = (State.CONFIRMED, State.REVERTING, State.REVERTED, State.STUCK)

# App to the apps that must be done before it.
Edges = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a release needs of other apps and takes of the host."""

    requires: frozenset[str] = frozenset()
    together: frozenset[str] = frozenset()
    claims: frozenset[Claim] = frozenset()


@dataclass(frozen=True, slots=True)
class Move:
    """From `old` to `new`; None: nothing of the app."""

    old: Footprint | None
    new: Footprint | None


@dataclass(frozen=True, slots=True)
class Member:
    """A transaction that the journal holds, as far as its set needs it.

    `seal` names its set, "" before its first switch. `proven`: it is watched and its probes pass. `gone_back`: it is
    reverting, and what ran before runs again. `touched`: its switch was begun.
    """

    state: State
    move: Move
    seal: str = ""
    touched: bool = False
    proven: bool = False
    gone_back: bool = False


class Pass(StrEnum):
    """Whether a prepared member may switch."""

    GO = "go"
    WAIT = "wait"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Gate:
    """The answer, and for what a person should know that it waits."""

    verdict: Pass
    reason: str = ""


def groups(links: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Return the connected component of each app of `links`; a link to an app that is not there binds nothing."""
    near = {app: {other for other in others if other in links} for app, others in links.items()}
    for app in links:
        for other in list(near[app]):
            near[other].add(app)
    result: dict[str, frozenset[str]] = {}
    for app in links:
        found: set[str] = set()
        todo = [] if app in result else [app]
        while todo:
            here = todo.pop()
            if here not in found:
                found.add(here)
                todo.extend(near[here])
        result.update(dict.fromkeys(found, frozenset(found)))
    return result


def edges(moves: Mapping[str, Move]) -> dict[str, frozenset[str]]:
    """Return after which other moves each one has to come."""
    return {
        app: frozenset(
            other for other, theirs in moves.items() if other != app and _comes_after(app, move, other, theirs)
        )
        for app, move in moves.items()
    }


def _comes_after(app: str, move: Move, other: str, theirs: Move) -> bool:
    if move.new is None:  # a removal: what needed it lets go first
        return theirs.old is not None and app in theirs.old.requires
    if other in move.new.requires:
        return theirs.new is not None
    if theirs.old is None:
        return False
    kept = theirs.new.claims if theirs.new is not None else frozenset()
    return bool(move.new.claims & (theirs.old.claims - kept))


def widened(need: Edges, sets: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return `need`, where a member of another set stands for its whole set: it is confirmed only when all are."""
    return {
        app: frozenset(mate for other in others for mate in ([other] if other in sets[app] else sets[other]))
        for app, others in need.items()
    }


def circle(need: Edges, app: str) -> tuple[str, ...]:
    """Return a shortest way from `app` through `need` back to it, both ends named; () where there is none."""
    ways: list[tuple[str, ...]] = [(app,)]
    seen: set[str] = set()
    for way in ways:  # grows while it is walked
        for other in sorted(need.get(way[-1], frozenset())):
            if other == app:
                return (*way, app)
            if other not in seen:
                seen.add(other)
                ways.append((*way, other))
    return ()


def set_of(app: str, members: Mapping[str, Member]) -> frozenset[str]:
    """Return the apps that move as one with `app`, itself included."""
    member = members[app]
    if member.seal:
        return frozenset(other for other, it in members.items() if it.seal == member.seal)
    if member.state in _DECIDED:
        return frozenset({app})
    links = {
        other: it.move.new.together if it.move.new is not None else frozenset()
        for other, it in members.items()
        if not it.seal and it.state not in _DECIDED
    }
    return groups(links)[app]


def gate(app: str, members: Mapping[str, Member]) -> Gate:
    """Return whether `app`, which is prepared, may switch now.

    Nothing switches before all under way are staged and prepared: else a thief of the line could choose the mix.
    """
    moving = {other: it for other, it in members.items() if not it.state.ended}
    late = sorted(other for other, it in moving.items() if it.state in _NOT_READY)
    if late:
        return Gate(Pass.WAIT, f"{late[0]} is not prepared yet")
    sets = {other: set_of(other, members) for other in moving}
    mine = sets[app]
    if not members[app].seal:
        earlier = sorted(other for other in moving if members[other].seal and _linked(mine, other, members))
        if earlier:
            return Gate(Pass.WAIT, f"an earlier move of {earlier[0]}, which moves together with it, has not ended")
    need = widened(edges({other: it.move for other, it in moving.items()}), sets)
    way = circle(need, app)
    if way:
        return Gate(Pass.NEVER, f"the order goes in a circle: {' after '.join(way)}")
    for other in sorted(need[app]):
        if other in mine:
            if not members[other].proven:
                return Gate(Pass.WAIT, f"{other} is not healthy yet")
        elif members[other].state is State.STUCK:
            return Gate(Pass.NEVER, f"{other}, which has to come first, is stuck")
        else:
            return Gate(Pass.WAIT, f"{other} is not confirmed yet")
    return Gate(Pass.GO)


def _linked(mine: Collection[str], other: str, members: Mapping[str, Member]) -> bool:
    theirs = members[other].move.new
    if theirs is not None and not theirs.together.isdisjoint(mine):
        return True
    own = [members[app].move.new for app in mine]
    return any(new is not None and other in new.together for new in own)


def may_confirm(app: str, members: Mapping[str, Member]) -> bool:
    """Return whether all of the set of `app` are watched and healthy, so that they can be confirmed as one."""
    mates = [members[mate] for mate in set_of(app, members)]
    return all(mate.state is State.WATCHING and mate.proven for mate in mates)


def may_go_back(app: str, members: Mapping[str, Member]) -> bool:
    """Return whether `app`, which reverts, is next: what came after it has gone back, or cannot."""
    mine = set_of(app, members)
    need = edges({mate: members[mate].move for mate in mine})
    return not any(app in need[mate] and _is_to_go_back(members[mate]) for mate in mine)


def may_prove(app: str, members: Mapping[str, Member]) -> bool:
    """Return whether what `app` went back to can be judged: all of its set have gone back, or cannot."""
    return not any(mate != app and _is_to_go_back(members[mate]) for mate in set_of(app, members))


def _is_to_go_back(member: Member) -> bool:
    return member.state is State.REVERTING and member.touched and not member.gone_back
