"""Start before stop (ADR 16): what a transaction does beside the usual, where two releases run side by side.

While Watching, once the new release is proven: `complete` runs its hook `handover`, lets the old one drain, stops it.
In an undo: `give_back` runs the hook of the old one, proven by then, and stops the new one after its drain.
Every step may be repeated from the first. `handed` is durable before the hook of the new release runs, so an undo knows
whether the proxy may have been touched. What is kept in memory is only since when a copy drains.
Not handled here: which slot a release gets (`engine.slots`), proving (`runner.health`), hooks that fail (their Result).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from towpath.errors import TowpathError
from towpath.handover import HOOK_POINT
from towpath.wire import decode_release
from towpath_agent.engine import slots
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner import logmarks
from towpath_agent.runner.result import DONE, Result
from towpath_agent.runner.site import Drivers, Site
from towpath_agent.services.base import Service
from towpath_agent.system.clock import Clock

# An old release that dies while the new one is proven is started again, but not more often than this.
KEEP_S = 5.0


@dataclass(frozen=True, slots=True)
class Steps:
    """What the other actions do as well: run a hook (a Result where it failed), stop a release with its own hook."""

    run_hook: Callable[[str, Deployed], Result | None]
    stop: Callable[[Transaction, Deployed], None]


class Handovers:
    """Performs the additional steps of transactions whose releases have a handover."""

    def __init__(self, *, site: Site, drivers: Drivers, journal: Journal, clock: Clock, steps: Steps) -> None:
        """Take what the steps act on."""
        self._site, self._drivers, self._journal, self._clock = site, drivers, journal, clock
        self._steps = steps
        self._draining_since: dict[tuple[str, int], float] = {}  # by transaction and slot
        self._keep_at: dict[str, float] = {}

    def forget(self, tx_id: str) -> None:
        """Drop what is remembered of a transaction that ended."""
        self._keep_at.pop(tx_id, None)
        for key in [key for key in self._draining_since if key[0] == tx_id]:
            del self._draining_since[key]

    def beside(self, tx: Transaction) -> bool:
        """Return whether the new release of `tx` is started while the old one runs."""
        if tx.old is None or not tx.wish.sha256:
            return False
        return slots.beside(tx.wish, decode_release(tx.release), tx.old.wish, decode_release(tx.old.release))

    def returning(self, tx: Transaction) -> bool:
        """Return whether an undo of `tx` has to move traffic back."""
        return tx.handed and self.beside(tx)

    def old_serves(self, tx: Transaction) -> bool:
        """Return whether the old release could take its traffic back at once."""
        return tx.old is not None and self.returning(tx) and self._runs(tx.old)

    def keep_old(self, tx: Transaction) -> None:
        """Start the old release again where it died: until the handover is over it is what serves."""
        now = self._clock.monotonic()
        if tx.old is None or tx.handed or not self.beside(tx) or now < self._keep_at.get(tx.id, now):
            return
        # Trouble of the old release is no fault of the new one, which is about to replace it.
        with contextlib.suppress(TowpathError, OSError):
            if not self._runs(tx.old):
                self._keep_at[tx.id] = now + KEEP_S
                logmarks.start(self._site, self._service(tx.old), tx.old)

    def complete(self, tx: Transaction) -> Result:
        """Move traffic to the new release, which is proven; DONE once the old one has drained and is stopped."""
        new = Deployed(tx.wish, tx.release)
        handover = decode_release(tx.release).run.handover
        if handover is None:
            return DONE
        key = (tx.id, tx.wish.slot)
        if key not in self._draining_since:
            self._journal.put_transaction(replace(tx, handed=True))
            failed = self._steps.run_hook(HOOK_POINT, new)
            if failed is not None:
                return replace(failed, handed=True)
            self._draining_since[key] = self._clock.monotonic()
        if tx.old is not None and self.beside(tx):
            over_s = self._draining_since[key] + handover.drain_ms / 1000
            if self._clock.monotonic() < over_s:
                return Result(None, again_s=over_s, handed=True)
            self._steps.stop(tx, tx.old)
        return replace(DONE, handed=True)

    def give_back(self, tx: Transaction, proven: Result) -> Result:
        """Move traffic back to the old release; `proven`, its verdict, once the new one has drained and is stopped."""
        new, old = Deployed(tx.wish, tx.release), tx.old
        handover = decode_release(tx.release).run.handover
        if old is None or handover is None:
            return proven
        key = (tx.id, old.wish.slot)
        if key not in self._draining_since:
            failed = self._steps.run_hook(HOOK_POINT, old)
            if failed is not None:
                return failed
            self._draining_since[key] = self._clock.monotonic()
        over_s = self._draining_since[key] + handover.drain_ms / 1000
        if self._clock.monotonic() < over_s and self._runs(new):
            return Result(None, again_s=over_s)
        self._steps.stop(tx, new)
        return proven

    def _runs(self, deployed: Deployed) -> bool:
        return self._service(deployed).state(self._site.instance(deployed)).running

    def _service(self, deployed: Deployed) -> Service:
        return self._drivers.services[decode_release(deployed.release).run.kind]
