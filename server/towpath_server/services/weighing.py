"""What a release weighs: bytes whole, as they are carried, and what travels to hosts that run another release.

Not handled here: which hosts will move, and what travels to each of them (`services.planning`).
"""

from collections import Counter
from dataclasses import dataclass, replace

from towpath.errors import InputError
from towpath.names import check_app, check_version
from towpath_server.domain.deltas import Pair, ready
from towpath_server.domain.manifests import KnownRelease
from towpath_server.services.context import Context
from towpath_server.services.planning import carried

OFF = "switched off on the server: delta_space is 0"
SAME = "both have the same files"
NOT_YET = "not made yet"


@dataclass(frozen=True, slots=True)
class Known:
    """A release, and how many hosts run each other release of its app."""

    release: KnownRelease
    others: tuple[tuple[KnownRelease, int], ...]


@dataclass(frozen=True, slots=True)
class Way:
    """From another release to this one: `objects` bytes are carried without a delta, `delta` where one is ready.

    `no_delta` says why there is none, as far as that is known here.
    """

    version: str
    hosts: int
    objects: int
    delta: int | None
    no_delta: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of a release: unpacked, and carried; `count` objects, its index included."""

    unpacked: int
    carried: int
    count: int
    ways: tuple[Way, ...]


def know(context: Context, app: str, version: str) -> Known:
    """Return what there is to weigh; InputError where it is not published. On the storage thread."""
    with context.storage.transaction() as tx:
        release = context.release(tx, check_app(app), check_version(version))
        if release is None:
            raise InputError(
                f"cannot show {app} {version}: it is not published; see: towpath release list {app}", code="not-found"
            )
        runs = Counter(one.state.current_version for one in tx.app_states(app=app))
        found = [
            (context.release(tx, app, other), count) for other, count in runs.items() if other not in ("", version)
        ]
    others = [(known, count) for known, count in found if known is not None]
    return Known(release, tuple(sorted(others, key=lambda it: it[0].release.counter, reverse=True)))


def weigh(context: Context, known: Known) -> Weight:
    """Return its bytes. Looks at objects and deltas; on no particular thread."""
    mine = carried(context, known.release)
    artifact = known.release.release.artifact
    ways = []
    for other, hosts in known.others:
        there = carried(context, other)
        pair = Pair(other.release.artifact.index_sha256, artifact.index_sha256)
        objects = sum(size for digest, size in mine.items() if digest not in there)
        ways.append(Way(other.release.version, hosts, objects, *_delta(context, pair)))
    return Weight(artifact.tree_size + artifact.index_size, sum(mine.values()), len(mine), tuple(ways))


def _delta(context: Context, pair: Pair) -> tuple[int | None, str]:
    """Return the bytes of the delta that a host would be given, or why it is given none."""
    if context.deltas is None:
        return None, OFF
    given = ready(replace(pair, opened=True), context.deltas.size)
    if given is not None:
        return given[1], ""
    if pair.old == pair.new:
        return None, SAME
    # One that sees into archives comes on top: what is known of the plain one says whether there is any.
    return None, context.deltas.refusal(pair) or NOT_YET
