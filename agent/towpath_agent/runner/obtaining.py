"""Obtains all objects of a verified release for this host, for a change and ahead of one: out of a delta, and whole.

A delta is asked for where nothing of the new release is here yet; where there is none ready nobody waits for it. What a
wrong delta did not make is fetched whole, and what was wrong is told.
Not handled here: pacing and back-off (`runner.staging`), how bytes come and are proven (`store`).
"""

from collections.abc import Callable

from towpath.delta.base import base_objects
from towpath.errors import Refusal, TowpathError
from towpath.index import MAX_INDEX_BYTES, Entries, objects
from towpath.objects import Objects
from towpath.release import Artifact
from towpath.wire import decode_release
from towpath_agent.journal import Deployed
from towpath_agent.ports import Source
from towpath_agent.runner.site import Site
from towpath_agent.runner.transferring import Watched
from towpath_agent.store.deltas import Bounds, Pair, Taken
from towpath_agent.store.incoming import carried_cap


def _silent(_wrong: Refusal) -> None:
    pass


def obtain(
    site: Site,
    new: Deployed,
    source: Source,
    interrupted: Callable[[], bool],
    *,
    old: Deployed | None = None,
    tell: Callable[[Refusal], None] = _silent,
    watched: Watched | None = None,
) -> Entries | None:
    """Return the tree of `new`, all of its objects here; None: interrupted, go on later.

    `old`: what may help to make them; `tell` hears of wrong deltas, `watched` of bytes that come.
    Unavailable, Refusal, ObjectMissing: as for `Store.fetch`.
    """
    store, artifact = site.store, decode_release(new.release).artifact
    if artifact.index_size > MAX_INDEX_BYTES:
        raise Refusal(f"cannot fetch an index of {artifact.index_size} bytes", code="endless-data")
    index = {artifact.index_sha256: artifact.index_size}
    if watched is not None:
        source = watched.over(source)
        watched.expect(index, artifact.index_size + artifact.tree_size)
    pair = _pair(site, artifact, old) if old is not None and store.missing(index) else None
    if pair is not None:
        size = artifact.index_size + artifact.tree_size
        bounds = Bounds(size, carried_cap(size))
        try:
            taken = store.deltas.take(
                pair, source, bounds, lacking=lambda: _lacking(site, new), interrupted=interrupted
            )
        except Refusal as wrong:
            tell(wrong)
        else:
            if taken is Taken.INTERRUPTED:
                return None
    if store.fetch(index, source, interrupted=interrupted).interrupted:
        return None
    entries = site.entries(new)
    wanted = objects(entries)
    if watched is not None:
        watched.expect(wanted, store.missing_bytes(wanted))
    if store.fetch(wanted, source, interrupted=interrupted).interrupted:
        return None
    return entries


def _pair(site: Site, artifact: Artifact, old: Deployed) -> Pair | None:
    """Return from what a delta to `artifact` could start; None where not all of that is here."""
    before = decode_release(old.release).artifact
    try:
        base = base_objects(site.entries(old), before.index_sha256, before.index_size)
    except (TowpathError, OSError):
        return None
    return None if site.store.missing(Objects(base)) else Pair(before.index_sha256, artifact.index_sha256, base)


def _lacking(site: Site, new: Deployed) -> int:
    """Return how many objects of `new` are not here, its index being so."""
    try:
        return len(site.store.missing(objects(site.entries(new))))
    except Refusal:  # the publisher signed a tree that nobody can use, which is told by whoever uses it
        return 0
