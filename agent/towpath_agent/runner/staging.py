"""What a change does while nothing that runs is touched: it sees to disk space, obtains the release, stages its tree.

A fetch that breaks off is tried again, ever more seldom; only tries that brought nothing count, so that a line which
breaks every minute still brings a release. What is counted is kept in memory: an agent that starts anew begins anew.
Not handled here: what is fetched and how (`runner.obtaining`, `store`).
"""

from collections.abc import Callable, Collection

from towpath.errors import Refusal, Unavailable
from towpath.release import Release
from towpath.status import State
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.table import Outcome
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.ports import Source
from towpath_agent.runner import space
from towpath_agent.runner.obtaining import obtain
from towpath_agent.runner.result import DISK_RETRY_S, DONE, Result
from towpath_agent.runner.site import Drivers, Site, keeps_tree, release_of
from towpath_agent.runner.transferring import Transfers
from towpath_agent.store import ObjectMissing
from towpath_agent.system.clock import Clock

MAX_FETCH_TRIES = 8
# A try that brought less was a vain one: not a drop now and then, to hold a host for ever.
PROGRESS_BYTES = 4096
# A delta that keeps breaking off is left for the objects themselves.
MAX_DELTA_TRIES = 4
FETCH_GIVE_UP_RETRY_S = 60.0
FETCH_AGAIN_S, MAX_FETCH_AGAIN_S = 0.5, 30.0
_NOT_STAGED = (State.PLANNED, State.FETCHING)


class Staging:
    """Performs RESERVE and STAGE."""

    def __init__(
        self,
        *,
        site: Site,
        drivers: Drivers,
        journal: Journal,
        clock: Clock,
        uniform: Callable[[], float],
        wrong_delta: Callable[[Transaction, Refusal], None],
    ) -> None:
        """Take what is acted on. `uniform` gives the jitter of what is tried again; `wrong_delta` hears of one."""
        self._site, self._drivers, self._clock, self._uniform = site, drivers, clock, uniform
        self._wrong_delta = wrong_delta
        self._tries: dict[str, int] = {}
        self._again: dict[str, float] = {}
        self.transfers = Transfers(journal, clock)
        # Gives up what was fetched ahead and no change wants; returns whether that was anything.
        self.make_room: Callable[[Collection[Deployed]], bool] = lambda _wanted: False

    def hurry(self, tx_id: str) -> None:
        """Fetch again at once where a fetch waits for its next try."""
        self._again.pop(tx_id, None)

    def forget(self, tx: Transaction) -> None:
        """Drop what is remembered of a transaction that ended."""
        self._tries.pop(tx.id, None)
        self._again.pop(tx.id, None)
        self.transfers.end(tx.app)

    def reserve(self, tx: Transaction, others: Collection[Transaction]) -> Result:
        """Find room for what all changes under way (`others`, this one too) still bring, or fail for lack of it."""
        if not tx.wish.sha256:
            return DONE
        wanted = [release_of(o) for o in others if o.wish.sha256]
        missing = [release_of(o) for o in others if o.wish.sha256 and o.state in _NOT_STAGED]
        needed = space.needed(self._site, missing)
        free = self._site.files.disk_free(self._site.root)
        if free < needed and self.make_room(wanted):
            free = self._site.files.disk_free(self._site.root)
        if free < needed:
            reason = f"not enough disk: the set needs {needed} bytes, {free} are free at {self._site.root}"
            return Result(Outcome.FAILED, reason, "disk-full", retry_after_s=DISK_RETRY_S)
        return DONE

    def stage(self, tx: Transaction, server: Source, interrupted: Callable[[], bool]) -> Result:
        """Obtain the release of `tx` and stage it; not finished where `interrupted`, or where a try is to wait."""
        if not tx.wish.sha256:
            return DONE
        again = self._again.get(tx.id)
        if again is not None and self._clock.monotonic() < again:
            return Result(None, again_s=again)
        new = release_of(tx)
        release = decode_release(tx.release)
        self.require_kinds(release)
        store = self._site.store
        before = store.received_bytes
        try:
            entries = obtain(
                self._site,
                new,
                server,
                interrupted,
                old=tx.old if self._tries.get(tx.id, 0) < MAX_DELTA_TRIES else None,
                tell=lambda wrong: self._wrong_delta(tx, wrong),
                watched=self.transfers.watch(new),
            )
            if entries is None:
                return Result(None)
            self.transfers.end(tx.app)
            plan = self._site.plan(new, entries, tx.id)
            if not keeps_tree(tx):  # else its record says what runs until this is confirmed
                self._site.record(new)
            self._drivers.installers[release.install.kind].stage(plan, self._site.store.materialise)
        except Unavailable as error:
            self.transfers.stops(tx.app)
            # What brought something was no vain try: a line that breaks every minute still brings a release.
            # An object that is damaged again and again comes anew each time: that is none.
            vain = error.code == ObjectMissing.code or store.received_bytes - before < PROGRESS_BYTES
            tries = self._tries[tx.id] = self._tries.get(tx.id, 0) + 1 if vain else 1
            if tries >= MAX_FETCH_TRIES:
                reason = f"could not be fetched after {tries} tries: {error}"
                return Result(Outcome.FAILED, reason, error.code, retry_after_s=FETCH_GIVE_UP_RETRY_S)
            delay_s = pacing.fetch_delay_s(tries, self._uniform(), FETCH_AGAIN_S, MAX_FETCH_AGAIN_S)
            again = self._clock.monotonic() + delay_s
            self._again[tx.id] = again
            return Result(None, reason=str(error), again_s=again)
        return DONE

    def require_kinds(self, release: Release) -> None:
        """Refuse kinds that this agent has no driver for, before anything changes."""
        unknown = [kind for kind in (release.install.kind,) if kind not in self._drivers.installers]
        unknown += [kind for kind in (release.run.kind,) if kind not in self._drivers.services]
        unknown += [probe.kind for probe in release.probes if probe.kind not in self._drivers.probes]
        if unknown:
            raise Refusal(f"cannot run kind {unknown[0]!r} here: this agent does not know it", code="unknown-kind")
