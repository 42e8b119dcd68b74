"""What the database says: is it whole, of this schema, from the future; hosts, lease, restores."""

from pathlib import Path

from towpath.findings import Finding, fail, ok, warn
from towpath_server.domain.hosts import RECOVERY_GRACE_MS
from towpath_server.domain.model import HostStatus
from towpath_server.options import seat
from towpath_server.ports import Transaction
from towpath_server.services.backups import lost_time, when
from towpath_server.storage.copying import faults, revision
from towpath_server.storage.database import head_revision, known_revisions

# A sequence number may be a minute ahead of the clock that it came from; an audit entry may not.
SKEW_MS = 5_000


def current(database: Path) -> bool:
    """Return whether the database has this Towpath's schema and can be read."""
    return revision(database) == head_revision()


def whole(database: Path) -> list[Finding]:
    """Let SQLite check the file, and name its schema."""
    found = faults(database)
    if found:
        return [
            fail("database", f"{database.name} is damaged ({found[0]}); restore a backup", "towpath server restore")
        ]
    schema, head = revision(database), head_revision()
    findings = [ok("database", f"whole, schema {schema or 'none'}")]
    if schema == head:
        return findings
    if schema in {"", *known_revisions()}:
        text = f"schema {schema or 'none'} is older than this Towpath's {head}; it is upgraded at the next start, or by"
        return [*findings, warn("database", text, "towpath server migrate")]
    return [*findings, fail("database", f"schema {schema} is of a newer Towpath than this one ({head}): run that one")]


def clock(tx: Transaction, now_unix_ms: int) -> Finding:
    """Hold the clock against the newest entry of the audit log."""
    newest = max((entry.at_unix_ms for entry in tx.audit(1)), default=0)
    if newest > now_unix_ms + SKEW_MS:
        return fail(
            "clock",
            f"it says {when(now_unix_ms)}, but this server has lived at {when(newest)}: one of the two was wrong; "
            "set the clock",
        )
    return ok("clock", f"{when(now_unix_ms)}, not before anything that this server did")


def hosts(tx: Transaction, now_unix_ms: int) -> Finding:
    """Count hosts whose certificate has lapsed: those inside the grace recover by themselves when they are back."""
    active = [host for host in tx.hosts() if host.status is HostStatus.ACTIVE]
    lapsed = [host for host in active if host.not_after_unix_ms <= now_unix_ms]
    beyond = [host.name for host in lapsed if host.not_after_unix_ms + RECOVERY_GRACE_MS <= now_unix_ms]
    if beyond:
        return warn(
            "hosts",
            f"{len(beyond)} of {len(active)} have been away so long that they must enrol again, such as {beyond[0]}; "
            "where they are gone for good",
            f"towpath host revoke {beyond[0]} --reason TEXT",
        )
    if lapsed:
        return ok(
            "hosts", f"{len(active)}, of which {len(lapsed)} have a lapsed certificate and recover when they are back"
        )
    return ok("hosts", f"{len(active)}, no certificate has lapsed")


def lease(folder: Path, tx: Transaction, *, running: bool) -> Finding:
    """Say who decides rollouts."""
    row = tx.lease()
    if row is None or not row.holder:
        if running:
            return fail("lease", "nobody decides rollouts though this server runs; look at its log")
        return ok("lease", "free: whoever starts first decides rollouts")
    if row.seat and row.seat == seat(folder):
        return ok("lease", f"this folder's server decides rollouts (epoch {row.epoch})")
    return warn(
        "lease",
        f"another server or boot has it (epoch {row.epoch}): one that starts here takes it over within 10 s, unless "
        "another is alive",
    )


def restored(tx: Transaction) -> list[Finding]:
    """Say that this database once was a backup."""
    lost = lost_time(tx)
    if not lost.until_unix_ms:
        return []
    text = f"restored at {when(lost.until_unix_ms)} from a backup of {when(lost.from_unix_ms)}"
    return [ok("restore", text)]
