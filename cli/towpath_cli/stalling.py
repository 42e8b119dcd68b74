"""A stream to the server, given up where the server takes nothing of it any more.

A deadline for the whole would have to know the line; a piece is carried by any line in less than STALL_S.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import grpc

from towpath.errors import Unavailable

STALL_S = 300.0
LOOK_S = 1.0

Request = TypeVar("Request")


class _Handed:
    """When the last request was handed over that nobody has taken yet; never, while the next one is being made."""

    def __init__(self) -> None:
        self.at_s = math.inf

    def over(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            self.at_s = time.monotonic()
            yield request
            self.at_s = math.inf
        self.at_s = time.monotonic()


def streamed(start: Callable[[Iterator[Request]], Any], requests: Iterable[Request], stall_s: float = STALL_S) -> Any:
    """Return the answer to `requests`; `start` begins the call and returns its future.

    grpc.RpcError: the call failed. Unavailable: the server took nothing for `stall_s`.
    """
    handed = _Handed()
    call = start(handed.over(requests))
    try:
        while True:
            try:
                return call.result(timeout=min(LOOK_S, stall_s))
            except grpc.FutureTimeoutError:
                if time.monotonic() - handed.at_s > stall_s:
                    raise Unavailable(
                        f"cannot send: the server took nothing for {stall_s:g} s", code="timeout"
                    ) from None
    finally:
        call.cancel()
