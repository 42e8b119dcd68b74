"""Which of several servers on one database decides rollouts: the one whose name is in the lease's row.

    nobody, or given back             taken at once
    the same seat's                   taken at once: who has the seat knows that its former holder is dead
    another's, and it is renewed      left alone
    another's, the same for LIFE_MS   taken, with the next epoch

Rules, each a named test:
- no wall clock counts: a server that waits measures on its own monotonic clock how long it has seen the very same row.
  So clocks that differ, and one that is set, take nothing from anybody.
- the row is asked in the transaction that decides (the fence). A server that slept past its lease finds another epoch
  there and writes nothing, whatever it believed before.

Pure. Not handled here: what a seat is (`cli`: one folder on one boot of one machine), when it is asked (`services`).
"""

from dataclasses import dataclass, replace

from towpath_server.domain.model import Lease

LIFE_MS = 10_000
RENEW_MS = 2_500


@dataclass(frozen=True, slots=True)
class Claim:
    """What one server knows. `epoch`: of the lease that it holds, 0 for none; `seen` since `since_ms` (monotonic)."""

    holder: str
    seat: str = ""
    epoch: int = 0
    seen: Lease | None = None
    since_ms: float = 0.0

    @property
    def decides(self) -> bool:
        """Return whether this server held the lease when it last looked, or has not looked yet."""
        return self.epoch > 0 or self.seen is None


def claim(me: Claim, row: Lease | None, now_ms: float) -> tuple[Claim, Lease | None]:
    """Return what `me` knows after it read `row`, and the row to write in the same transaction (None: leave it)."""
    if row is not None and me.epoch and (row.holder, row.epoch) == (me.holder, me.epoch):
        if me.seen == row and now_ms - me.since_ms < RENEW_MS:
            return me, None
        return _with(me, replace(row, beat=row.beat + 1), now_ms)
    if row is None or not row.holder or (me.seat and row.seat == me.seat):
        return _take(me, row, now_ms)
    if row != me.seen or me.epoch:
        return replace(me, epoch=0, seen=row, since_ms=now_ms), None
    return _take(me, row, now_ms) if now_ms - me.since_ms >= LIFE_MS else (me, None)


def _take(me: Claim, row: Lease | None, now_ms: float) -> tuple[Claim, Lease]:
    epoch = row.epoch + 1 if row is not None else 1
    return _with(replace(me, epoch=epoch), Lease(me.holder, me.seat, epoch, 1), now_ms)


def _with(me: Claim, row: Lease, now_ms: float) -> tuple[Claim, Lease]:
    return replace(me, seen=row, since_ms=now_ms), row


def given_back(me: Claim, row: Lease | None) -> Lease | None:
    """Return the row that lets others take over at once, or None where `me` does not hold it."""
    if row is None or not me.epoch or (row.holder, row.epoch) != (me.holder, me.epoch):
        return None
    return replace(row, holder="", seat="")
