"""What a server that was put back from a backup has to know before it serves: it may have said more than it remembers.

    sequence of manifests      far above everything that the lost hours may have given out
    snapshot and timestamp     signed again, so that their versions are above what hosts have seen
    generations                far above those of lost deploys: a host compares them
    the lease                  free: who held it is gone
    restored from, restored at what `lost_time` tells: hosts may show certificates that this database never heard of

All in one transaction with the audit entry. Roles of publishers stay as they were signed: what was published in the
lost hours has to be published again.
"""

import datetime
from dataclasses import replace

from towpath.errors import InputError
from towpath_server.domain import manifests, metadata, restoring
from towpath_server.domain.hosts import LostTime
from towpath_server.domain.metadata import OnlineKeys
from towpath_server.domain.model import AuditEntry
from towpath_server.ports import Storage, Transaction
from towpath_server.services.context import Context, newest
from towpath_server.services.publishing import stored

FROM = "restored_from"
AT = "restored_at"
SEQUENCE = "sequence"
GENERATION = "generation"
SEQUENCE_STEP_MS = 86_400_000
GENERATION_STEP = 1_000_000


def lost_time(tx: Transaction) -> LostTime:
    """Return what the last restore made this database forget."""
    return LostTime(tx.number(FROM), tx.number(AT))


def remember(context: Context) -> None:
    """Let a server that starts know what its database does not."""
    with context.storage.transaction() as tx:
        context.lost = lost_time(tx)


def mark(storage: Storage, keys: OnlineKeys, *, made_unix_ms: int, now_unix_ms: int, actor: str) -> int:
    """Make a database that was unpacked from a backup of `made_unix_ms` fit to be served; return how many hosts it has.

    InputError where the clock stands before the backup: nothing would be above what hosts have seen.
    """
    if now_unix_ms < made_unix_ms:
        raise InputError(
            f"cannot restore: the clock of this machine says {when(now_unix_ms)}, the backup was made at "
            f"{when(made_unix_ms)}; set the clock"
        )
    with storage.transaction() as tx:
        hosts = len(tx.hosts())
        sequence = manifests.next_sequence(tx.number(SEQUENCE), now_unix_ms) + SEQUENCE_STEP_MS
        # What lies between was said by the server that is lost, if anybody did: hosts that heard it are asked about.
        lost = restoring.gap(tx.number(SEQUENCE), sequence)
        if lost is not None:
            tx.add_gap(lost, restoring.MAX_GAPS)
        tx.put_number(SEQUENCE, sequence)
        tx.put_number(GENERATION, tx.number(GENERATION) + GENERATION_STEP)
        tx.put_metadata(metadata.sign_again(newest(stored(tx)), keys, now_unix_ms))
        lease = tx.lease()
        if lease is not None:
            tx.put_lease(replace(lease, holder="", seat=""))
        tx.put_number(FROM, made_unix_ms)
        tx.put_number(AT, now_unix_ms)
        detail = f"from a backup of {when(made_unix_ms)} with {hosts} hosts; what was done since is not known here"
        tx.add_audit(AuditEntry(now_unix_ms, actor, "server.restore", "server", detail, "done"))
    return hosts


def when(unix_ms: int) -> str:
    """Return a time as people read it, in UTC."""
    return datetime.datetime.fromtimestamp(unix_ms // 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
