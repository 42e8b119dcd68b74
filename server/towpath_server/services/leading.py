"""One of the servers on a database decides, the others serve: the lease, and what a server learns of the others' acts.

`leads` is asked inside the transaction that decides, so a server that lost the lease cannot write a decision. It says
so when it gets or loses it. `follow_others` is asked every now and then: it renews the lease, and where another process
has written, hosts that are served here hear of decisions made there.
"""

import logging

from towpath_server.domain.leasing import claim, given_back
from towpath_server.ports import Transaction
from towpath_server.services import restoring
from towpath_server.services.context import Context

logger = logging.getLogger(__name__)


def leads(context: Context, tx: Transaction) -> bool:
    """Return whether this server decides; renews or takes the lease in `tx`. What it knows counts after the commit."""
    before = context.claim
    after, row = claim(before, tx.lease(), context.clock.monotonic_ms())
    if row is not None:
        tx.put_lease(row)
    context.claim = after
    if after.epoch != before.epoch:
        context.asking_since_unix_ms = context.clock.now_unix_ms()  # what another one was told is not known here
    if before.epoch and not after.epoch:
        logger.warning(
            "this server decides rollouts no more: another one does (epoch %d); it goes on serving hosts and operators",
            after.seen.epoch if after.seen is not None else 0,
        )
    elif after.epoch > 1 and after.epoch != before.epoch:
        logger.warning("this server decides rollouts now (epoch %d)", after.epoch)
    return after.epoch > 0


def follow_others(context: Context) -> set[str]:
    """Keep the lease; return the environments that another process wrote about, empty where nobody did."""
    cache = context.cache
    hosts: set[str] = set()
    environments: set[str] = set()
    before = context.claim
    try:
        with context.storage.transaction() as tx:
            leads(context, tx)
            stamp, change = tx.stamp(), tx.change()
            if stamp != cache.stamp:
                restoring.follow(context, tx)
                environments = {one.environment for one in tx.assignments()}
                context.follow_announcements(tx)
                for name in environments:
                    hosts.update(host for host in tx.changed_hosts(name, cache.followed) if _differs(context, tx, host))
    except BaseException:
        context.claim = before
        raise
    cache.stamp, cache.followed = stamp, change
    context.changed(hosts)
    return environments


def _differs(context: Context, tx: Transaction, host_id: str) -> bool:
    """Return whether a host that is served here should be told something else than it was."""
    old = context.cache.entries.pop(host_id, None)
    return old is not None and context.entry(tx, host_id) != old


def give_back(context: Context) -> None:
    """Let another server decide at once: this one ends."""
    with context.storage.transaction() as tx:
        row = given_back(context.claim, tx.lease())
        if row is not None:
            tx.put_lease(row)
