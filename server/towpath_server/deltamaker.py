"""Makes deltas in the background: one at a time, for what `services.encoding` was asked for.

It has a thread of its own, so that no host and no operator ever waits for it, and its trouble is a line in the log.
"""

import asyncio
import logging

from towpath.errors import TowpathError
from towpath_server.deltas.process import Allowance, Maker
from towpath_server.services import encoding
from towpath_server.services.context import Context
from towpath_server.services.encoding import Budget, Job, Needs
from towpath_server.services.thread import StorageThread, Workers

logger = logging.getLogger(__name__)


class DeltaMaker:
    """`run` it, and `close` when the server stops."""

    def __init__(self, context: Context, thread: StorageThread, allowance: Allowance, budget: Budget) -> None:
        """On the event loop; the context's needs come here from now on."""
        self._context, self._thread = context, thread
        self._budget = budget
        self._resting = encoding.Resting()
        self._maker = Maker(context.blobs, allowance)
        self._worker = Workers("deltas", 1)
        self._wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._needs = Needs(lambda: None if loop.is_closed() else _wake(loop, self._wake))
        context.needs = self._needs

    async def run(self) -> None:
        """Work until cancelled."""
        await self._thread.run(encoding.at_start, self._context)
        while True:
            self._wake.clear()
            need = self._needs.take()
            if need is None:
                await self._wake.wait()
                continue
            try:
                jobs = await self._thread.run(encoding.jobs, self._context, need)
            except Exception:
                logger.exception("cannot tell which deltas %s %s needs", need.app, need.version)
                continue
            for job in jobs:
                await self._make(job)

    async def _make(self, job: Job) -> None:
        deltas = self._context.deltas
        assert deltas is not None  # noqa: S101 - without them there are no jobs
        now_ms = self._context.clock.monotonic_ms
        if self._resting.rests(job.pair, now_ms()):
            return
        what = f"{job.new.release.app} {job.old.release.version} to {job.new.release.version}"
        try:
            blobs = self._context.blobs
            came = await self._worker.run(encoding.make, blobs, deltas, self._maker, job, self._budget)
            logger.info("delta of %s: %s", what, came)
        except TowpathError as error:
            self._resting.failed(job.pair, now_ms())
            logger.warning("cannot make the delta of %s; hosts take its objects, it is tried later: %s", what, error)
        except Exception:
            self._resting.failed(job.pair, now_ms())
            logger.exception("cannot make the delta of %s; hosts take its objects, it is tried later", what)

    def close(self) -> None:
        """End what is being made, and wait for that."""
        self._maker.stop()
        self._worker.close()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)
