"""What every use case stands on, and the memory that makes a sync cheap.

The cache is written on the storage thread only (after the commit that it reflects) and read from the event loop too:
an entry is replaced as a whole, never changed. A host's entry is forgotten whenever its desired set, row or status
changes, and filled again by whoever asks next.
"""

import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from towpath.errors import TowpathError
from towpath.manifest import DesiredApp
from towpath.repository import split_name
from towpath.wire import decode_release
from towpath_server.domain.assignment import resolve
from towpath_server.domain.leasing import Claim
from towpath_server.domain.manifests import KnownRelease, desired
from towpath_server.domain.metadata import OnlineKeys, snapshot_version
from towpath_server.domain.metric import Trail
from towpath_server.domain.model import Assignment, AuditEntry, Host, HostStatus, PublishedRelease
from towpath_server.ports import Blobs, Clock, Hints, Metrics, Storage, Transaction
from towpath_server.services.authority import Authority
from towpath_server.services.presence import Presence

if TYPE_CHECKING:
    from towpath_server.services.ticking import Roster

MAX_AUDIT_CHARS = 1024


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host as a sync needs it: its row and its complete desired set."""

    host: Host
    apps: tuple[DesiredApp, ...]


@dataclass(slots=True)
class Cache:
    """See the module."""

    entries: dict[str, HostEntry] = field(default_factory=dict)
    releases: dict[tuple[str, str], KnownRelease] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    snapshot_version: int = 0
    unpruned: dict[str, int] = field(default_factory=dict)
    rosters: dict[str, "Roster"] = field(default_factory=dict)
    stamp: int = 0
    followed: int = 0
    waiting: set[str] = field(default_factory=set)  # environments to be decided again soon: nobody may report anything

    def set_metadata(self, files: dict[str, bytes]) -> None:
        """Keep the newest files; see `newest`."""
        self.metadata = newest(files)
        self.snapshot_version = snapshot_version(self.metadata)


def newest(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return every root, the newest version of each other role, and the timestamp."""
    best: dict[str, int] = {}
    for name in files:
        parts = split_name(name)
        if parts is not None:
            best[parts[0]] = max(parts[1], best.get(parts[0], 0))
    result = {}
    for name, data in files.items():
        parts = split_name(name)
        if parts is None or parts[0] == "root" or parts[1] == best[parts[0]]:
            result[name] = data
    return result


@dataclass(slots=True)
class Context:
    """The server's parts, as the use cases see them.

    `trails`: what metrics have said, by rollout and number of the wave, then by name; the storage thread's alone.
    """

    storage: Storage
    blobs: Blobs
    clock: Clock
    hints: Hints
    authority: Authority
    keys: OnlineKeys
    started_unix_ms: int
    agent_address: str = ""
    metrics: Metrics | None = None
    trails: dict[tuple[str, int], dict[str, Trail]] = field(default_factory=dict)
    cache: Cache = field(default_factory=Cache)
    presence: Presence = field(default_factory=Presence)
    claim: Claim = field(default_factory=lambda: Claim(secrets.token_hex(8)))

    def release(self, tx: Transaction, app: str, version: str) -> KnownRelease | None:
        """Return a published release, decoded once per run of the server."""
        known = self.cache.releases.get((app, version))
        if known is None:
            row = tx.release(app, version)
            if row is None:
                return None
            known = self.remember(row)
        return known

    def remember(self, row: PublishedRelease) -> KnownRelease:
        """Return a published release as decisions need it."""
        known = KnownRelease(decode_release(row.data), row.sha256, len(row.data))
        self.cache.releases[row.app, row.version] = known
        return known

    def releases(self, tx: Transaction, app: str) -> list[KnownRelease]:
        """Return all releases of an app, oldest first."""
        return [self.cache.releases.get((row.app, row.version)) or self.remember(row) for row in tx.releases(app)]

    def resolved(self, tx: Transaction, host: Host) -> dict[str, Assignment]:
        """Return app to assignment that `host` runs."""
        admitted = tx.admitted_to([host.id])[host.id]
        return resolve(tx.assignments(environment=host.environment), admitted, host)

    def entry(self, tx: Transaction, host_id: str) -> HostEntry | None:
        """Return the host's entry, filled where it is missing; None for an unknown host."""
        entry = self.cache.entries.get(host_id)
        if entry is None:
            host = tx.host(host_id)
            if host is None:
                return None
            apps: tuple[DesiredApp, ...] = ()
            if host.status is HostStatus.ACTIVE:
                resolved = self.resolved(tx, host)
                known = {}
                for one in resolved.values():
                    release = self.release(tx, one.app, one.version)
                    if release is not None:
                        known[one.app, one.version] = release
                apps = desired(host, resolved, known, tx.settings(host.environment))
            entry = HostEntry(host, apps)
            self.cache.entries[host_id] = entry
        return entry

    def changed(self, host_ids: Collection[str]) -> None:
        """Forget what is known of these hosts and tell them to ask. After the commit, on the storage thread."""
        for host_id in host_ids:
            self.cache.entries.pop(host_id, None)
        if host_ids:
            self.hints.changed(host_ids)


@dataclass(slots=True)
class Act:
    """One audited act in progress: fill in what becomes known, name the hosts and environments that it touches."""

    tx: Transaction
    subject: str
    detail: str = ""
    hosts: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)


def note(context: Context, actor: str, act: str, subject: str, *, detail: str, outcome: str) -> None:
    """Write one audit entry in a transaction of its own."""
    with context.storage.transaction() as tx:
        tx.add_audit(_entry(context, (actor, act, subject, detail), outcome))


def _entry(context: Context, texts: tuple[str, str, str, str], outcome: str) -> AuditEntry:
    actor, act, subject, detail = (text[:MAX_AUDIT_CHARS] for text in texts)
    return AuditEntry(context.clock.now_unix_ms(), actor, act, subject, detail, outcome)


@contextmanager
def acting(context: Context, actor: str, act: str, subject: str) -> Iterator[Act]:
    """Run one act in a transaction that also audits it; audit a refusal too, then let it go on."""
    try:
        with context.storage.transaction() as tx:
            done = Act(tx, subject)
            yield done
            tx.add_audit(_entry(context, (actor, act, done.subject, done.detail), "done"))
    except TowpathError as error:
        note(context, actor, act, subject, detail=f"{error.code}: {error}", outcome="refused")
        raise
    context.changed(done.hosts)
    for environment in done.environments:
        context.hints.due(environment)
