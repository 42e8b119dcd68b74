"""How much room the set under way still needs on this host: what the store lacks of it, and the trees to unpack.

Counted by what is here already: objects that another release brought, shared ones once, trees that are staged. Where
the index of a release is not here yet its signed sizes stand in, which is never too little.
Not handled here: what apps write themselves (`requires: {disk: ...}` asks for that), and a fetch that was cut off,
whose part counts as lacking.
"""

from collections.abc import Iterable
from itertools import chain

from towpath.errors import TowpathError
from towpath.index import Entries, objects
from towpath.objects import Objects
from towpath.wire import decode_release
from towpath_agent.engine.planning import disk_needed
from towpath_agent.journal import Deployed
from towpath_agent.runner.site import Site

MARGIN_BYTES = 32 * 2**20


def lacking(site: Site, deployed: Deployed) -> int:
    """Return the bytes that the store lacks of a release, at least one where it lacks anything; 0: it has all."""
    artifact = decode_release(deployed.release).artifact
    try:
        entries = site.entries(deployed)
    except (TowpathError, OSError):
        return max(1, artifact.index_size + artifact.tree_size)
    missing = site.store.missing(objects(entries))
    return max(len(missing) and 1, missing.total)


def needed(site: Site, releases: Iterable[Deployed]) -> int:
    """Return the bytes that must be free to fetch and stage all of `releases`, with a margin."""
    lacking = Objects()
    unknown = unpack = extra = 0
    for deployed in releases:
        release = decode_release(deployed.release)
        extra += release.requires_disk_bytes
        try:
            entries = site.entries(deployed)
        except (TowpathError, OSError):
            unknown += release.artifact.index_size + release.artifact.tree_size
            entries = Entries()
        lacking = Objects(chain(lacking.items(), site.store.missing(objects(entries)).items()))
        if not site.files.is_dir(site.plan(deployed, entries).folder):
            unpack += release.artifact.tree_size
    return disk_needed(fetch=unknown + lacking.total, unpack=unpack, extra=extra, margin=MARGIN_BYTES)
