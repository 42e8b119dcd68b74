"""Two server processes on one database: one decides, and one that slept past its lease decides no more."""

import signal
from pathlib import Path

import pytest

from fakes.live_server import eventually
from fakes.server_command import ServerCommand, sharing
from towpath_server.domain.model import Lease
from towpath_server.storage import SqlStorage

WAIT_S = 120.0


def lease(folder: Path) -> Lease | None:
    storage = SqlStorage(folder / "towpath.db")
    with storage.transaction() as tx:
        found = tx.lease()
    storage.close()
    return found


@pytest.mark.timeout(400)
def test_a_server_process_that_slept_past_its_lease_decides_no_more_and_says_so(tmp_path: Path) -> None:
    """SIGSTOP for longer than the lease lives, then SIGCONT: the other one has the next epoch and keeps it."""
    with ServerCommand(tmp_path / "one") as one:
        first = one.fleet / "server"
        epoch = eventually(lambda: lease(first), "a lease", WAIT_S).epoch
        two = sharing(one, tmp_path / "two")
        with two:
            held = lease(first)
            assert held is not None
            assert held.epoch == epoch, "the second server took a lease that is renewed"
            process = one._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            try:
                taken = eventually(
                    lambda: (row := lease(first)) and row.epoch > epoch and row, "the next epoch", WAIT_S
                )
            finally:
                process.send_signal(signal.SIGCONT)
            log = one.folder / "server.log"
            eventually(lambda: b"decides rollouts no more" in log.read_bytes(), "it says so", WAIT_S)
            after = lease(first)
            assert after is not None
            assert (after.holder, after.epoch) == (taken.holder, taken.epoch)
