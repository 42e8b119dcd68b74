"""What every use case stands on, and the memory that makes a sync cheap.

The cache is written on the storage thread only (after the commit that it reflects) and read from the event loop too:
an entry is replaced as a whole, never changed. A host's entry is forgotten whenever its desired set, row or status
changes, and filled again by whoever asks next.
"""

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from towpath.errors import TowpathError
from towpath.manifest import DesiredApp
from towpath.repository import split_name
from towpath.wire import decode_release
from towpath_server.domain.announcing import announced, announces
from towpath_server.domain.assignment import resolve
from towpath_server.domain.hosts import LostTime
from towpath_server.domain.leasing import Claim
from towpath_server.domain.manifests import KnownRelease, blocked, desired
from towpath_server.domain.metadata import OnlineKeys, snapshot_version
from towpath_server.domain.metric import Trail
from towpath_server.domain.model import Ahead, Assignment, AuditEntry, Gap, Host, HostStatus, PublishedRelease
from towpath_server.ports import Blobs, Clock, Deltas, Hints, Metrics, Storage, Transaction
from towpath_server.services.authority import Authority
from towpath_server.services.presence import Presence

if TYPE_CHECKING:
    from towpath_server.services.ticking import Roster

MAX_AUDIT_CHARS = 1024
ITSELF = "server"  # the actor of what nobody ordered


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host as a sync needs it: its row, its complete desired set, and what it may fetch ahead."""

    host: Host
    apps: tuple[DesiredApp, ...]
    prefetch: tuple[DesiredApp, ...] = ()


@dataclass(slots=True)
class Cache:
    """See the module."""

    entries: dict[str, HostEntry] = field(default_factory=dict)
    releases: dict[tuple[str, str], KnownRelease] = field(default_factory=dict)
    indexes: dict[bytes, str] = field(default_factory=dict)  # index digest of each of `releases` to its app
    metadata: dict[str, bytes] = field(default_factory=dict)
    snapshot_version: int = 0
    unpruned: dict[str, int] = field(default_factory=dict)
    rosters: dict[str, "Roster"] = field(default_factory=dict)
    stamp: int = 0
    followed: int = 0
    gaps: tuple[Gap, ...] = ()
    ahead: dict[str, Ahead] = field(default_factory=dict)
    behind: frozenset[str] = frozenset()  # environments in which hosts know more than the database
    announced: frozenset[tuple[str, str, int]] = frozenset()  # environment, id, generation of what announces releases
    rules: int = -1  # up to which change of rules that was followed
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


@dataclass(frozen=True, slots=True)
class Need:
    """Deltas that would help: to this release from the one with the index `old`, or (empty) from what hosts run."""

    app: str
    version: str
    old: bytes = b""


class Needs(Protocol):
    """Who is told that deltas would help. From any thread; never blocks, never raises."""

    def ask(self, need: Need) -> None:
        """Note it."""
        ...


class NoNeeds:
    """A server that makes no deltas."""

    def ask(self, need: Need) -> None:
        """Nobody hears it."""


@dataclass(slots=True)
class Context:
    """The server's parts, as the use cases see them.

    `heard_unix_ms`: when any host was last heard before this server started, 0 for never.
    `lost`: what a restore made the database forget.
    `trails`: what metrics have said, by rollout and number of the wave, then by name; the storage thread's alone.
    `asking_since_unix_ms`: since when this server is the one that asks.
    """

    storage: Storage
    blobs: Blobs
    clock: Clock
    hints: Hints
    authority: Authority
    keys: OnlineKeys
    started_unix_ms: int
    heard_unix_ms: int = 0
    agent_address: str = ""
    metrics: Metrics | None = None
    trails: dict[tuple[str, int], dict[str, Trail]] = field(default_factory=dict)
    asking_since_unix_ms: int = 0
    cache: Cache = field(default_factory=Cache)
    presence: Presence = field(default_factory=Presence)
    lost: LostTime = field(default_factory=LostTime)
    claim: Claim = field(default_factory=lambda: Claim(secrets.token_hex(8)))
    deltas: Deltas | None = None
    needs: Needs = field(default_factory=NoNeeds)

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
        self.cache.indexes[known.release.artifact.index_sha256] = row.app
        return known

    def releases(self, tx: Transaction, app: str) -> list[KnownRelease]:
        """Return all releases of an app, oldest first."""
        return [self.cache.releases.get((row.app, row.version)) or self.remember(row) for row in tx.releases(app)]

    def resolved(self, tx: Transaction, host: Host) -> dict[str, Assignment]:
        """Return app to assignment that `host` runs."""
        admitted = tx.admitted_to([host.id])[host.id]
        return resolve(tx.assignments(environment=host.environment), admitted, host)

    def _ahead(
        self, tx: Transaction, host: Host, rules: Sequence[Assignment], bound: Collection[str]
    ) -> tuple[DesiredApp, ...]:
        """Return what `host` may fetch before it is let in, nothing that it could not run. `bound`: what let it in."""
        if not any(announces(one) for one in rules):
            return ()
        runs = resolve(rules, bound, host)
        leaving = {back.assignment_id for back in tx.retreats_of([host.id]) if not back.arrived_unix_ms}
        found = announced(rules, host, bound={*bound, *leaving}, runs=runs)
        settings = tx.settings(host.environment)
        known = {}
        for app, one in found.items():
            release = self.release(tx, app, one.version)
            if release is not None and not blocked(release, host, {*runs, *found}, settings):
                known[app, one.version] = release
        fit = {app: one for app, one in found.items() if (app, one.version) in known}
        return desired(host, fit, known, settings)

    def entry(self, tx: Transaction, host_id: str) -> HostEntry | None:
        """Return the host's entry, filled where it is missing; None for an unknown host."""
        entry = self.cache.entries.get(host_id)
        if entry is None:
            host = tx.host(host_id)
            if host is None:
                return None
            apps: tuple[DesiredApp, ...] = ()
            ahead: tuple[DesiredApp, ...] = ()
            if host.status is HostStatus.ACTIVE:
                rules = tx.assignments(environment=host.environment)
                admitted = tx.admitted_to([host.id])[host.id]
                resolved = resolve(rules, admitted, host)
                known = {}
                for one in resolved.values():
                    release = self.release(tx, one.app, one.version)
                    if release is not None:
                        known[one.app, one.version] = release
                apps = desired(host, resolved, known, tx.settings(host.environment))
                ahead = self._ahead(tx, host, rules, admitted)
            entry = HostEntry(host, apps, ahead)
            self.cache.entries[host_id] = entry
        return entry

    def follow_announcements(self, tx: Transaction) -> None:
        """Forget what the hosts of an environment are told where the rollouts that announce releases there changed.

        Such a rollout concerns hosts that it never let in. Nobody is hinted: a download that nobody waits for begins
        after each host's next sync, which spreads a fleet.
        """
        rules = tx.rules()
        if rules == self.cache.rules:
            return
        now = frozenset((one.environment, one.id, one.generation) for one in tx.assignments() if announces(one))
        places = {environment for environment, *_ in now ^ self.cache.announced}
        if places:
            entries = self.cache.entries
            for host_id in [one for one, entry in entries.items() if entry.host.environment in places]:
                del entries[host_id]
        self.cache.announced, self.cache.rules = now, rules

    def changed(self, host_ids: Collection[str]) -> None:
        """Forget what is known of these hosts and tell them to ask. After the commit, on the storage thread."""
        for host_id in host_ids:
            self.cache.entries.pop(host_id, None)
        if host_ids:
            self.hints.changed(host_ids)


@dataclass(slots=True)
class Act:
    """One audited act in progress: fill in what becomes known, name the hosts and environments that it touches.

    `needs`: deltas that will help once it is done.
    """

    tx: Transaction
    subject: str
    detail: str = ""
    hosts: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)
    needs: list[Need] = field(default_factory=list)


def note(context: Context, actor: str, act: str, subject: str, *, detail: str, outcome: str) -> None:
    """Write one audit entry in a transaction of its own."""
    with context.storage.transaction() as tx:
        tx.add_audit(_entry(context, (actor, act, subject, detail), outcome))


def decided(context: Context, tx: Transaction, act: str, subject: str, detail: str) -> None:
    """Write what this server decided by itself into the audit log, in the transaction of the decision."""
    tx.add_audit(_entry(context, (ITSELF, act, subject, detail), "done"))


def _entry(context: Context, texts: tuple[str, str, str, str], outcome: str) -> AuditEntry:
    actor, act, subject, detail = (text[:MAX_AUDIT_CHARS] for text in texts)
    return AuditEntry(context.clock.now_unix_ms(), actor, act, subject, detail, outcome)


def audited(context: Context, actor: str, act: str, done: Act) -> None:
    """Write down in its own transaction that an act is done."""
    done.tx.add_audit(_entry(context, (actor, act, done.subject, done.detail), "done"))


def told(context: Context, done: Act) -> None:
    """Let everybody whom an act concerns know of it. After the commit."""
    context.changed(done.hosts)
    for environment in done.environments:
        context.hints.due(environment)
    for need in done.needs:
        context.needs.ask(need)


@contextmanager
def acting(context: Context, actor: str, act: str, subject: str) -> Iterator[Act]:
    """Run one act in a transaction that also audits it; audit a refusal too, then let it go on."""
    try:
        with context.storage.transaction() as tx:
            done = Act(tx, subject)
            yield done
            audited(context, actor, act, done)
            context.follow_announcements(tx)
    except TowpathError as error:
        context.cache.rules = -1  # perhaps of rows that were never committed
        note(context, actor, act, subject, detail=f"{error.code}: {error}", outcome="refused")
        raise
    told(context, done)
