"""Fetches announced releases ahead: objects into the store, nothing else. No transaction, no tree, no app is touched.

What is announced was verified like what is to run (`trust`). One release after the other, in the loop's own thread;
between two chunks `upkeep` does what is due and says whether to leave off. Whatever is lost in a crash is seen again
in the store.

Not handled here: what may be fetched when (`engine.prefetching`), what the journal keeps (`runner.announced`), how a
change uses what is here (`runner.staging`: it finds it in the store).
"""

import errno
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from typing import Protocol

from towpath.errors import Refusal, TowpathError, Unavailable
from towpath.quantity import format_size
from towpath.release import Release
from towpath.reports import Prefetch, PrefetchState
from towpath.status import State
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.prefetching import Outlook, bar, begin_delay_s, to_drop
from towpath_agent.errors import is_full
from towpath_agent.journal import Deployed, Journal
from towpath_agent.ports import Chunk, Source, Want
from towpath_agent.runner import announced, cleanup, space
from towpath_agent.runner.holding import Holding
from towpath_agent.runner.obtaining import obtain
from towpath_agent.runner.site import Site
from towpath_agent.runner.telling import Teller
from towpath_agent.runner.transferring import Transfers
from towpath_agent.runner.underway import Underway
from towpath_agent.system.clock import Clock

# What waits for disk, a new day or a better server is looked at so often.
LOOK_S = 60.0
MAX_RETRY_S = 300.0
# The loop turns at least so often, however much there is to fetch: a certificate may be due.
MAX_STEP_S = 600.0
# So many bytes at most are forgotten by a crash, and come between two looks at the disk.
NOTE_BYTES = 64 * 2**20


class Kinds(Protocol):
    """Whoever knows what this agent can install, run and probe."""

    def require_kinds(self, release: Release) -> None:
        """Raise Refusal where the release is of an unknown kind."""
        ...


class _Metered(Source):
    """A source whose bytes count; `spend` is told of each chunk."""

    def __init__(self, inner: Source, spend: Callable[[int], None]) -> None:
        self._inner, self._spend = inner, spend

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield what the inner one yields."""
        with closing(self._inner.fetch(wants)) as chunks:
            for chunk in chunks:
                self._spend(len(chunk.data))
                yield chunk

    def distrust(self, digest: bytes) -> bool:
        """Let the inner one know."""
        return self._inner.distrust(digest)


class Prefetching:
    """What this host fetches ahead. `states`: app to how far it is with what was announced of it."""

    def __init__(
        self,
        *,
        journal: Journal,
        site: Site,
        server: Callable[[], Source],
        kinds: Kinds,
        holding: Holding,
        underway: Underway,
        teller: Teller,
        transfers: Transfers,
        clock: Clock,
        uniform: Callable[[], float],
        interval_s: float,
        upkeep: Callable[[], bool],
        say: Callable[[], None],
        day_bytes: int,
    ) -> None:
        """Resume where the journal stands. `say` is called when a state changed, before what may take long.

        `server` returns whom to ask: a renewed identity replaces it. `interval_s`: between two syncs. `day_bytes`: what
        this host fetches ahead in a day, 0: nothing.
        """
        self._journal, self._site, self._server, self._kinds, self._holding = journal, site, server, kinds, holding
        self._underway, self._teller, self._clock, self._uniform = underway, teller, clock, uniform
        self._interval_s, self._upkeep, self._say, self._day_bytes = interval_s, upkeep, say, day_bytes
        self._transfers = transfers
        self._kept = announced.kept(journal)
        self._spent = self._noted = announced.spent(journal)
        self._announced: tuple[Deployed, ...] = ()
        self._text: object = None  # the facts that `_announced` was read from
        self._seen: object = None  # the situation of the last look
        self._complete: set[bytes] = set()
        self._begin_s: dict[bytes, float] = {}
        self._tries: dict[bytes, int] = {}
        self._again_s: dict[bytes, float] = {}
        self._look_s = 0.0
        self.states = announced.states(journal)

    # -- what there is to do

    def due_s(self) -> float | None:
        """Return the monotonic time of the next look, None where there is nothing to do."""
        return self._look_s if self._announced or self._kept else None

    def keeps(self) -> tuple[Deployed, ...]:
        """Return the releases whose objects clean-up leaves in the store: announced, or fetched ahead and due now."""
        due = self._due()
        kept = [it for it in self._journal.desired() or [] if it.wish.sha256 in self._kept & due]
        return (*announced.announced(self._journal), *kept)

    def _due(self) -> frozenset[bytes]:
        """Return the digests of what is to run here, does not run yet and has not failed for good."""
        current, failures = self._underway.current, self._journal.failures()
        return frozenset(
            it.wish.sha256
            for it in self._journal.desired() or []
            if not (it.wish.app in current and current[it.wish.app].wish.sha256 == it.wish.sha256)
            and not (it.wish.app in failures and failures[it.wish.app].final(it.wish))
        )

    @property
    def _moving(self) -> bool:
        return any(tx.state is not State.CONFIRMED for tx in self._underway.transactions.values())

    def _situation(self) -> object:
        """Return what the next look depends on beside time: where it differs, the look is due."""
        holds = tuple(self._holding.covering(it.wish.app) for it in self._announced)
        return (self._text, self._moving, holds)

    def _take(self) -> None:
        """Take what is announced now."""
        meta = self._journal.meta()
        text = (meta.get(announced.ANNOUNCED), meta.get(announced.REFUSED))
        if text == self._text:
            return
        self._text = text
        self._announced = announced.announced(self._journal)
        known, self.states = self.states, {}
        now_s = self._clock.monotonic()
        for it in self._announced:
            wish = it.wish
            old = known.get(wish.app)
            same = old is not None and old.sha256 == wish.sha256 and old.state is not PrefetchState.REFUSED
            waits = Prefetch(wish.version, wish.sha256, PrefetchState.WAITING, "begins soon")
            self.states[wish.app] = old if old is not None and same else waits
            if wish.sha256 not in self._begin_s:
                spread = 0.0 if wish.sha256 in self._kept else begin_delay_s(self._uniform(), self._interval_s)
                self._begin_s[wish.sha256] = now_s + spread
        for app, no in announced.refused_announcements(self._journal).items():
            reason = f"{no['code']}: {no['message']}"
            state = Prefetch(no["version"], bytes.fromhex(no["sha256"]), PrefetchState.REFUSED, reason)
            self.states[app] = state
            if known.get(app) != state:
                self._teller.word("prefetch", app, f"{state.version} is refused: {no['message']}", no["code"])
        wanted = {it.wish.sha256 for it in self._announced}
        self._begin_s = {digest: at for digest, at in self._begin_s.items() if digest in wanted}
        self._tries = {digest: count for digest, count in self._tries.items() if digest in wanted}
        self._again_s = {digest: at for digest, at in self._again_s.items() if digest in wanted}

    def step(self) -> None:
        """Do what is due: drop what is not announced any more, fetch the first release that may be fetched."""
        try:
            self._take()
            situation = self._situation()
            if situation != self._seen:
                self._seen = situation
                self._complete.clear()
                self._look_s = 0.0
            if self._clock.monotonic() >= self._look_s:
                self._look()
                self._tell()
        except (TowpathError, OSError) as error:  # such as a disk too full to write that it is: seen again
            self._teller.log(f"prefetch: {error}")
            self._look_s = self._clock.monotonic() + LOOK_S

    def _look(self) -> None:
        self._look_s = self._clock.monotonic() + LOOK_S
        if not self._moving:
            self._drop()
            if self._kept and self._free() < space.MARGIN_BYTES:  # whoever fills it: what runs needs it more
                self._give_up((), f"less than {format_size(space.MARGIN_BYTES)} are free")
        for it in self._announced:
            if self._pursue(it):
                return

    # -- one release

    def _pursue(self, it: Deployed) -> bool:
        """Take one release as far as it goes now; return True where the loop must turn before the next."""
        digest, now_s = it.wish.sha256, self._clock.monotonic()
        if digest in self._complete:
            return False
        begin_s = max(self._begin_s[digest], self._again_s.get(digest, 0.0))
        if now_s < begin_s:
            self._look_s = min(self._look_s, begin_s)
            return False
        try:
            lacking = space.lacking(self._site, it)
            if not lacking:
                self._is_complete(it)
                return False
            self._kinds.require_kinds(decode_release(it.release))
            reason = bar(self._outlook(it, lacking))
            if reason:
                self._set(it, PrefetchState.WAITING, reason)
                return False
            return self._fetch(it)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the agent nor hold up a change
            self._failed(it, error)
            return False

    def _outlook(self, it: Deployed, lacking: int) -> Outlook:
        hold = self._holding.covering(it.wish.app)
        complete = [one for one in self._announced if one.wish.sha256 in self._complete]
        self._spent = self._spent.at(self._clock.now_unix_ms())
        return Outlook(
            moving=self._moving,
            held="" if hold is None else hold.text,
            lacking=lacking,
            needed=space.needed(self._site, [*complete, it]),
            free=self._free(),
            spent=self._spent,
            day_bytes=self._day_bytes,
        )

    def _fetch(self, it: Deployed) -> bool:
        """Fetch on; return True where it was interrupted."""
        if it.wish.sha256 not in self._kept:
            self._set_kept(self._kept | {it.wish.sha256})
        self._set(it, PrefetchState.FETCHING)
        self._tell()
        until_s = self._clock.monotonic() + MAX_STEP_S
        source = _Metered(self._server(), self._spend)
        try:
            watched = self._transfers.watch(it)
            entries = obtain(self._site, it, source, lambda: self._leave_off(until_s), watched=watched)
        except Unavailable:
            self._transfers.stops(it.wish.app)
            raise
        finally:
            self._note()
        if entries is None:
            self._look_s = 0.0
            return True
        self._tries.pop(it.wish.sha256, None)
        self._transfers.end(it.wish.app)
        self._is_complete(it)
        return False

    def _leave_off(self, until_s: float) -> bool:
        if self._upkeep():
            return True
        self._take()
        over = self._spent.bytes >= self._day_bytes or self._clock.monotonic() >= until_s
        return over or self._situation() != self._seen

    def _is_complete(self, it: Deployed) -> None:
        self._complete.add(it.wish.sha256)
        if self._set(it, PrefetchState.COMPLETE):
            size = format_size(decode_release(it.release).artifact.tree_size)
            self._teller.word("prefetch", it.wish.app, f"{it.wish.version} ({size}) is here; nothing was switched")

    def _failed(self, it: Deployed, error: Exception) -> None:
        """Wait before the next try; what fills the disk gives it back first."""
        tries = self._tries[it.wish.sha256] = self._tries.get(it.wish.sha256, 0) + 1
        wait_s = pacing.fetch_delay_s(tries, self._uniform(), pacing.FETCH_RETRY_S, MAX_RETRY_S)
        if is_full(error):
            self._give_up([one for one in self._announced if one.wish.sha256 != it.wish.sha256], "the disk is full")
            wait_s = max(wait_s, LOOK_S)
        self._again_s[it.wish.sha256] = self._clock.monotonic() + wait_s
        self._look_s = min(self._look_s, self._again_s[it.wish.sha256])
        text = str(error) if isinstance(error, (TowpathError, OSError)) else f"{type(error).__name__}: {error}"
        state = PrefetchState.REFUSED if isinstance(error, Refusal) else PrefetchState.WAITING
        if isinstance(error, Refusal) and tries == 1:
            self._teller.word("prefetch", it.wish.app, f"{it.wish.version} is refused: {text}", error.code)
        self._set(it, state, f"{text}; it is tried again")

    def _set(self, it: Deployed, state: PrefetchState, reason: str = "") -> bool:
        """Take a state, and return whether it is a new one; none of what is not announced any more."""
        app, now = it.wish.app, Prefetch(it.wish.version, it.wish.sha256, state, reason)
        if it not in self._announced or self.states.get(app) == now:
            return False
        self.states[app] = now
        self._teller.log(f"{app}: prefetch: {now.text}")
        return True

    def _tell(self) -> None:
        """Keep the states, and let the server know, where they changed."""
        if announced.states(self._journal) != self.states:
            self._journal.set_meta(**announced.states_text(self.states))
            self._say()

    # -- bytes and room

    def _spend(self, count: int) -> None:
        self._spent = self._spent.at(self._clock.now_unix_ms()).plus(count)
        if self._spent.bytes - self._noted.bytes >= NOTE_BYTES:
            self._note()
            if self._free() < space.MARGIN_BYTES:
                raise OSError(errno.ENOSPC, f"less than {format_size(space.MARGIN_BYTES)} are free")

    def _note(self) -> None:
        if self._spent != self._noted:
            self._journal.set_meta(**announced.spent_text(self._spent))
            self._noted = self._spent

    def _free(self) -> int:
        return self._site.files.disk_free(self._site.root)

    def _drop(self) -> None:
        """Drop what is not announced any more and is not to run either."""
        gone = to_drop(self._kept, [it.wish.sha256 for it in self._announced], self._due())
        if gone and cleanup.prune_store(self._site, self.keeps()):
            self._set_kept(self._kept - gone)
            self._teller.log(f"prefetch: {len(gone)} not announced any more; their bytes are dropped")

    def make_room(self, wanted: Collection[Deployed]) -> bool:
        """Drop all that was fetched ahead but the releases `wanted` by a change; return whether there was any."""
        return bool(self._kept - {it.wish.sha256 for it in wanted}) and self._give_up(wanted, "made room for a change")

    def _give_up(self, spared: Collection[Deployed], reason: str) -> bool:
        if not cleanup.prune_store(self._site, spared):
            return False
        digests = {it.wish.sha256 for it in spared}
        self._set_kept(self._kept & digests)
        self._complete &= digests
        for it in self._announced:
            if it.wish.sha256 not in digests:
                self._set(it, PrefetchState.WAITING, reason)
        return True

    def _set_kept(self, kept: frozenset[bytes]) -> None:
        if kept != self._kept:
            self._journal.set_meta(**announced.kept_text(kept))
            self._kept = kept
