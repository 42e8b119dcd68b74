"""The reconciler's task ends when it is told to, whatever happens in that moment."""

import asyncio
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy, enrol
from towpath_server.reconciler import Reconciler
from towpath_server.services.signals import Signals
from towpath_server.services.thread import StorageThread
from towpath_server.storage import SqlStorage

END_S = 20.0


@pytest.mark.parametrize("turns", range(6))
def test_a_cancellation_in_the_moment_of_a_wake_is_not_lost(tmp_path: Path, turns: int) -> None:
    """A server that was told to stop while a host came had gone on for ever; `turns` of the loop are between both."""

    async def run() -> None:
        thread = StorageThread()
        storage = await thread.run(SqlStorage, tmp_path / "towpath.db")
        context = deciding(storage, SetClock())
        enrol(context, 1)
        deploy(context)
        signals = Signals(asyncio.get_running_loop())
        reconciler = Reconciler(context, thread, signals)
        task = asyncio.create_task(reconciler.run())
        waits = asyncio.Event()
        wait = reconciler._wait

        async def seen(delay: float) -> None:
            asyncio.get_running_loop().call_soon(waits.set)
            await wait(delay)

        reconciler._wait = seen  # type: ignore[method-assign]
        await asyncio.wait_for(waits.wait(), END_S)
        signals.due("dev")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=END_S)
        for _ in range(3):  # whoever lost one is ended all the same, so that the test does not hang
            task.cancel()
            await asyncio.sleep(0.1)
        await thread.run(storage.close)
        thread.close()
        assert done, "it went on"

    asyncio.run(run())
