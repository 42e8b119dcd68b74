"""What a deploy or a promotion would do: it is done in a transaction that is then undone, and played over its hosts.

Two steps, because only the first needs the rows: `draft` on the storage thread, `measure` (the simulation and the sizes
of objects) on any other, so that a plan of a large fleet keeps no host waiting.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from towpath.errors import Broken, TowpathError
from towpath.index import objects
from towpath.wire import decode_index
from towpath_server.domain import planning
from towpath_server.domain.deltas import Pair, ready
from towpath_server.domain.manifests import KnownRelease
from towpath_server.domain.model import Assignment
from towpath_server.domain.planning import Plan
from towpath_server.domain.simulated import Dated, Times
from towpath_server.domain.standing import RolloutView
from towpath_server.ports import Transaction
from towpath_server.services import deploying, rollouts
from towpath_server.services.context import Act, Context
from towpath_server.services.deploying import Deployed, Order


@dataclass(frozen=True, slots=True)
class Draft:
    """A deploy that was not done: the rollout as it would begin, and which releases each host has by its reports."""

    assignment: Assignment
    unchanged: bool
    view: RolloutView
    now_unix_ms: int
    times: Times
    release: KnownRelease
    has: Mapping[str, tuple[KnownRelease, ...]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan with bytes: host id to how many travel to it at most, from `towpath plan`'s point of view."""

    draft: Draft
    plan: Plan
    at_most_bytes: Mapping[str, int]


class _Undone(Exception):
    """Ends the transaction of a draft: everything in it is undone."""


def draft(context: Context, actor: str, order: Order, source: str = "") -> Draft:
    """Return what `deploying.deploy` would begin; the same errors, nothing changed. On the storage thread.

    `source`: what `deploying.promote` from there would.
    """
    drawn: list[Draft] = []
    with contextlib.suppress(_Undone), context.storage.transaction() as tx:
        act = Act(tx, "")
        if source:
            deployed = deploying.promote_inside(context, actor, act, source, order)
        else:
            deployed = deploying.assign(context, actor, act, order, verb="plan")
        drawn.append(_drawn(context, tx, deployed))
        raise _Undone
    return drawn[0]


def _drawn(context: Context, tx: Transaction, deployed: Deployed) -> Draft:
    one = deployed.assignment
    place = rollouts.load(context, tx, one.environment)
    release = context.release(tx, one.app, one.version)
    if release is None:
        raise Broken(f"cannot plan {one.app} {one.version}: its release is not stored")
    seen = rollouts.view(context, tx, place, one)
    seen = replace(seen, hosts=tuple(replace(host, expected=False) for host in seen.hosts))  # of a server that stays up
    has: dict[str, tuple[KnownRelease, ...]] = {host.host_id: () for host in seen.hosts}
    for (host_id, app), reported in place.reported.items():
        known = context.release(tx, app, reported.state.current_version)
        if known is not None and host_id in has:
            has[host_id] += (known,)
    times = Dated(one, place.calendar, place.notices)
    return Draft(one, deployed.unchanged, seen, place.now_unix_ms, times, release, has)


def measure(context: Context, drawn: Draft) -> Measured:
    """Return the plan, and what travels to each host that would move. On no particular thread."""
    plan = planning.plan(drawn.view, drawn.now_unix_ms, times=drawn.times)
    wanted = carried(context, drawn.release)
    sizes: dict[tuple[bytes, ...], int] = {}
    contents: dict[bytes, frozenset[bytes]] = {}
    result = {}
    for one in planning.moving(plan):
        has = drawn.has[one.host.host_id]
        key = tuple(sorted(known.sha256 for known in has))
        if key not in sizes:
            for known in has:
                if known.sha256 not in contents:
                    contents[known.sha256] = frozenset(carried(context, known))
            there = frozenset[bytes]().union(*(contents[known.sha256] for known in has))
            full = sum(size for digest, size in wanted.items() if digest not in there)
            sizes[key] = min([full, *_deltas(context, drawn.release, has)])
        result[one.host.host_id] = sizes[key]
    return Measured(drawn, plan, result)


def _deltas(context: Context, new: KnownRelease, has: Sequence[KnownRelease]) -> list[int]:
    """Return the sizes of the deltas to `new` that a host would be given, from what it has of the same app."""
    deltas = context.deltas
    if deltas is None:
        return []
    index = new.release.artifact.index_sha256
    same = [known.release.artifact.index_sha256 for known in has if known.release.app == new.release.app]
    given = (ready(Pair(old, index, opened=True), deltas.size) for old in same)
    return [one[1] for one in given if one is not None]


def carried(context: Context, known: KnownRelease) -> dict[bytes, int]:
    """Return the objects of a release and their carried sizes; none where its index cannot be read any more."""
    artifact = known.release.artifact
    try:
        index = context.blobs.read(artifact.index_sha256, artifact.index_size)
    except TowpathError:
        return {}
    digests = [artifact.index_sha256, *objects(decode_index(index))]
    return {digest: context.blobs.carried_size(digest) or 0 for digest in digests}
