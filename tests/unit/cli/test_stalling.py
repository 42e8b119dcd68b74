"""A stream is given up where nobody takes anything of it, and for nothing else."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from towpath.errors import Unavailable
from towpath_cli.stalling import streamed

PATIENCE_S = 0.2


class Call:
    """A call that takes `most` requests and then none; answers with their count where there are no more."""

    def __init__(self, requests: Iterator[int], most: int) -> None:
        self._done: futures.Future[int] = futures.Future()
        self._requests, self._most = requests, most
        self.cancelled = threading.Event()
        threading.Thread(target=self._pull, daemon=True).start()

    def _pull(self) -> None:
        taken = 0
        for _ in self._requests:
            if taken == self._most:
                self.cancelled.wait(60)
                return
            taken += 1
        self._done.set_result(taken)

    def result(self, timeout: float) -> int:
        try:
            return self._done.result(timeout)
        except futures.TimeoutError:
            raise grpc.FutureTimeoutError from None

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_server_that_takes_nothing_more_is_given_up() -> None:
    """The call is cancelled, and the line says for how long nothing was taken."""
    calls: list[Call] = []

    def start(requests: Iterator[int]) -> Any:
        calls.append(Call(requests, most=2))
        return calls[0]

    with pytest.raises(Unavailable, match=r"the server took nothing for 0\.2 s"):
        streamed(start, range(10), PATIENCE_S)
    assert calls[0].cancelled.is_set()


def test_time_that_it_takes_to_make_the_next_piece_is_no_stall() -> None:
    """A slow disk of the publisher's own is not the server's fault."""

    def slowly() -> Iterator[int]:
        for number in range(3):
            until_s = time.monotonic() + 2 * PATIENCE_S
            while time.monotonic() < until_s:  # what is made takes longer than anybody bears with a server
                threading.Event().wait(PATIENCE_S / 10)
            yield number

    assert streamed(lambda requests: Call(requests, most=10), slowly(), PATIENCE_S) == 3
