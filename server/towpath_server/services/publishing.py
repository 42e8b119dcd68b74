"""Releases: what publishers upload and sign, and what hosts fetch.

Rules:
- A release is published in one transaction: its bytes, the publisher's new roles, and a snapshot and timestamp around
  them (`domain.metadata` decides). Before that its index and every object must be here, and the index must be safe.
- Publishing the same bytes again is harmless and changes nothing: a lost reply can be repeated.
- Older snapshots are kept for hosts that are in the middle of a read.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towpath.errors import Broken, InputError, Refusal
from towpath.index import MAX_INDEX_BYTES, check_entries, objects
from towpath.names import target_path
from towpath.release import Release, check_release
from towpath.repository import split_name
from towpath.wire import MAX_RELEASE_BYTES, decode_index, decode_release
from towpath_server.domain import metadata
from towpath_server.domain.model import PublishedRelease
from towpath_server.ports import Transaction
from towpath_server.services.context import Context, Need, acting

KEPT_SNAPSHOTS = 20
MAX_LOOKUPS = 10_000
_HASHED = re.compile(r"(.*/)?([0-9a-f]{64})\.([^/]+)")
_SHOWN = 5


def adopt(context: Context, files: Mapping[str, bytes]) -> list[str]:
    """Load the repository at start; `files` (of `towpath init`) count only where the storage has none.

    Return warnings about roles that lapse soon. Broken where the repository is not whole.
    """
    with context.storage.transaction() as tx:
        found = stored(tx)
        if not found:
            metadata.check_repository(files, context.clock.now_unix_ms())
            tx.put_metadata(files)
            found = dict(files)
    context.cache.set_metadata(found)
    return metadata.check_repository(context.cache.metadata, context.clock.now_unix_ms())


def stored(tx: Transaction) -> dict[str, bytes]:
    """Return every metadata file of the database, older versions too."""
    files = {}
    for name in tx.metadata_names():
        data = tx.metadata(name)
        if data is not None:
            files[name] = data
    return files


def refresh(context: Context) -> bool:
    """Sign snapshot and timestamp again where they get old; return True where that was so."""
    with context.storage.transaction() as tx:
        added = metadata.refresh(context.cache.metadata, context.keys, context.clock.now_unix_ms())
        tx.put_metadata(added)
        _prune(tx)
    if added:
        context.cache.set_metadata({**context.cache.metadata, **added})
    return bool(added)


def _prune(tx: Transaction) -> None:
    numbered = [
        (parts[1], name) for name in tx.metadata_names() if (parts := split_name(name)) and parts[0] == "snapshot"
    ]
    tx.remove_metadata([name for _, name in sorted(numbered)[:-KEPT_SNAPSHOTS]])


def repository(context: Context) -> dict[str, bytes]:
    """Return every root and the newest file of each other role."""
    return dict(context.cache.metadata)


def metadata_file(context: Context, name: str) -> bytes | None:
    """Return one metadata file, an older version too while it is kept."""
    data = context.cache.metadata.get(name)
    if data is None:
        with context.storage.transaction() as tx:
            data = tx.metadata(name)
    return data


def target(context: Context, path: str) -> bytes | None:
    """Return the release at a TUF target path, also at its consistent-snapshot name (`app/DIGEST.version.release`)."""
    digest = ""
    hashed = _HASHED.fullmatch(path)
    if hashed is not None:
        digest, path = hashed[2], (hashed[1] or "") + hashed[3]
    app, _, rest = path.partition("/")
    version = rest.removesuffix(".release")
    if not app or version == rest:
        return None
    with context.storage.transaction() as tx:
        row = tx.release(app, version)
    if row is None or (digest and row.sha256.hex() != digest):
        return None
    return row.data


def find_missing(context: Context, digests: Sequence[bytes]) -> list[bytes]:
    """Return those objects that are not here."""
    if len(digests) > MAX_LOOKUPS:
        raise InputError(f"cannot look up {len(digests)} objects at once: at most {MAX_LOOKUPS}")
    return context.blobs.missing(digests, anew=True)


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publisher sends: the signed release and the roles that list it."""

    target_path: str
    release: bytes
    metadata: Mapping[str, bytes]


def publish(context: Context, actor: str, publication: Publication) -> int:
    """Publish a release; return the snapshot version that holds it. InputError, Refusal: nothing changed."""
    with acting(context, actor, "release.publish", f"release/{publication.target_path[:200]}") as act:
        digest = hashlib.sha256(publication.release).digest()
        release = _check_release(publication)
        known = act.tx.release(release.app, release.version)
        if known is not None:
            if known.sha256 != digest:
                raise Refusal(
                    f"cannot publish {release.app} {release.version}: this version is taken by other bytes; choose "
                    "another --version",
                    code="version-taken",
                )
            act.detail = "published before, unchanged"
            return context.cache.snapshot_version
        _check_objects(context, release)
        now = context.clock.now_unix_ms()
        added = metadata.admit(
            context.cache.metadata,
            publication.metadata,
            target_path=publication.target_path,
            release=publication.release,
            keys=context.keys,
            now_ms=now,
        )
        row = PublishedRelease(release.app, release.version, release.counter, digest, publication.release, now, actor)
        act.tx.add_release(row)
        act.tx.put_metadata(added)
        _prune(act.tx)
        act.detail = f"counter {release.counter}, sha256 {digest.hex()}"
    context.cache.set_metadata({**context.cache.metadata, **added})
    context.remember(row)
    context.needs.ask(Need(release.app, release.version))
    return context.cache.snapshot_version


def _check_release(publication: Publication) -> Release:
    if len(publication.release) > MAX_RELEASE_BYTES:
        raise Refusal("cannot publish: the release is too long", code="endless-data")
    release = check_release(decode_release(publication.release))
    if publication.target_path != target_path(release.app, release.version):
        raise Refusal(
            f"cannot publish {publication.target_path[:120]!r}: it is {release.app} {release.version}",
            code="mix-and-match",
        )
    return release


def _check_objects(context: Context, release: Release) -> None:
    """Return where index and objects of the release are here and safe to unpack; raise otherwise."""
    what = f"{release.app} {release.version}"
    artifact = release.artifact
    if artifact.index_size > MAX_INDEX_BYTES:
        raise Refusal(f"cannot publish {what}: its index is too long", code="endless-data")
    if context.blobs.missing([artifact.index_sha256]):
        raise InputError(f"cannot publish {what}: its index is not uploaded; upload it first", code="missing-objects")
    index = context.blobs.read(artifact.index_sha256, artifact.index_size)
    if len(index) != artifact.index_size:
        raise Refusal(f"cannot publish {what}: its index has another length than signed", code="mix-and-match")
    entries = check_entries(decode_index(index))
    sizes = objects(entries)
    if sum(entry.size for entry in entries) != artifact.tree_size:
        raise Refusal(f"cannot publish {what}: its tree has another size than signed", code="mix-and-match")
    missing = context.blobs.missing(sizes)
    if missing:
        shown = ", ".join(digest.hex()[:12] for digest in missing[:_SHOWN])
        raise InputError(
            f"cannot publish {what}: {len(missing)} objects are not uploaded ({shown}); upload them first",
            code="missing-objects",
        )


def releases(context: Context, app: str) -> list[PublishedRelease]:
    """Return all releases, of one app where `app` is not empty."""
    with context.storage.transaction() as tx:
        return tx.releases(app or None)


def check_whole(context: Context) -> None:
    """Raise Broken where a published release is not the one that its row says: a damaged database."""
    with context.storage.transaction() as tx:
        for row in tx.releases():
            if hashlib.sha256(row.data).digest() != row.sha256:
                raise Broken(f"cannot serve {row.app} {row.version}: its row is damaged; restore the database")
