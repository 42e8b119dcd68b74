"""What the server does by itself: decide rollouts again when something changed or time passed, and keep house.

Single flight: one task, one tick at a time, on the storage thread; and one server of all that share a database, which
holds the lease (`services.leading`). Every second it looks whether another process has written. Environments that
become due while a tick runs are taken by the next one. An error is logged and tried again: the server goes on answering
agents meanwhile.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection

from towpath_server.ports import Metrics
from towpath_server.services import leading, publishing, rollouts, sampling, ticking
from towpath_server.services.context import Context
from towpath_server.services.signals import Signals
from towpath_server.services.syncing import Sequencer
from towpath_server.services.thread import StorageThread

ROLLING_TICK_S = 1.0
OTHERS_S = 1.0
RETRY_S = 5.0
FLUSH_S = 5.0
RESERVE_S = 20.0
REFRESH_S = 600.0
LOOK_S = 2.0

logger = logging.getLogger(__name__)


class Reconciler:
    """Ticks rollouts. Deadlines and hosts that fall silent are noticed by ticking while something is rolling."""

    def __init__(self, context: Context, thread: StorageThread, signals: Signals) -> None:
        self._context = context
        self._thread = thread
        self._due: set[str] = set()
        self._wake = asyncio.Event()
        signals.on_due(self._add)

    def _add(self, environments: Collection[str]) -> None:
        self._due.update(environments)
        self._wake.set()

    async def run(self) -> None:
        """Tick until cancelled. Begins with everything: the server may have been away."""
        self._add(await self._thread.run(self._environments))
        delay: float | None = None
        while True:
            if not self._due:
                await self._wait(min(delay or OTHERS_S, OTHERS_S))
            self._wake.clear()
            due, self._due = self._due, set()
            try:
                due |= await self._thread.run(leading.follow_others, self._context)
                due |= await self._thread.run(rollouts.busy_environments, self._context)
                if not due:
                    delay = None
                    continue
                rolling = await self._thread.run(ticking.tick, self._context, due)
                delay = ROLLING_TICK_S if rolling else None
            except Exception:
                logger.exception("cannot decide the rollouts of %s; trying again", ", ".join(sorted(due)))
                await asyncio.sleep(RETRY_S)
                self._due |= due

    async def _wait(self, delay: float) -> None:
        # Not `wait_for`, which loses a cancellation that comes in the moment of the wake (Python 3.11).
        with contextlib.suppress(TimeoutError):  # time itself is a reason to look again
            async with asyncio.timeout(delay):
                await self._wake.wait()

    def _environments(self) -> set[str]:
        with self._context.storage.transaction() as tx:
            return {one.environment for one in tx.assignments()}


def write_seen(context: Context) -> None:
    """Write down when hosts were last heard. On the storage thread."""
    seen = context.presence.unwritten()
    if seen:
        with context.storage.transaction() as tx:
            tx.put_seen(seen)
        context.presence.written(seen)


def remember_life(context: Context) -> None:
    """Learn when a server was last up, by when hosts were last heard. On the storage thread, before any host speaks."""
    with context.storage.transaction() as tx:
        context.heard_unix_ms = max((host.last_seen_unix_ms for host in tx.hosts()), default=0)


def last_words(context: Context) -> None:
    """Write down what is known and let another server decide: this one ends. On the storage thread."""
    write_seen(context)
    leading.give_back(context)


async def ask_metrics(context: Context, thread: StorageThread, metrics: Metrics) -> None:
    """Ask for what finished waves wait for, all at once, beside the storage thread; keep what is said."""
    questions = await thread.run(sampling.due, context)
    answers = await asyncio.gather(*(asyncio.to_thread(metrics.ask, one.metric.query) for one in questions))
    await thread.run(sampling.keep, context, list(zip(questions, answers, strict=True)))


async def every(seconds: float, what: str, act: Callable[[], Awaitable[object]]) -> None:
    """Run `act` again and again until cancelled; an error is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await act()
        except Exception:
            logger.exception("cannot %s; trying again in %gs", what, seconds)


def housekeeping(context: Context, thread: StorageThread, sequencer: Sequencer) -> list[asyncio.Task[None]]:
    """Start the recurring duties; the caller cancels them."""
    metrics = context.metrics
    looking = (
        [] if metrics is None else [every(LOOK_S, "ask for metrics", lambda: ask_metrics(context, thread, metrics))]
    )
    return [
        *(asyncio.create_task(one) for one in looking),
        asyncio.create_task(every(FLUSH_S, "write last-seen times", lambda: thread.run(write_seen, context))),
        asyncio.create_task(every(RESERVE_S, "reserve sequence numbers", lambda: thread.run(sequencer.reserve))),
        asyncio.create_task(every(REFRESH_S, "sign metadata again", lambda: thread.run(publishing.refresh, context))),
    ]
