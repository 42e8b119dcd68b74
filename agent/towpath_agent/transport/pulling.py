"""Takes what a stream brings as soon as it is there, so that a cut loses nothing that came.

grpc throws away whole messages that nobody has taken yet when their stream breaks. A reader that is busy (a report over
a thin line takes seconds) would lose all that came meanwhile, so a thread takes it and the reader gets it later. Only
so many bytes wait; behind them grpc's own window holds the sender back.
Not handled here: whether what comes is in order, and whether it comes fast enough (`client`, `rate`).
"""

import threading
from collections import deque
from collections.abc import Iterator

import grpc

from towpath.v1 import agent_pb2 as pb

WAITING_BYTES = 2**20


class Puller:
    """One stream of answers to a fetch."""

    def __init__(self, call: Iterator[pb.FetchResponse], most_bytes: int = WAITING_BYTES) -> None:
        """Begin to take; the thread ends with the stream, or with `close` once the call is cancelled."""
        self._call, self._most = call, most_bytes
        self._came: deque[pb.FetchResponse] = deque()
        self._bytes = 0
        self._over = self._closed = False
        self._error: grpc.RpcError | ValueError | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._pull, name="fetch", daemon=True).start()

    def _pull(self) -> None:
        try:
            for answer in self._call:
                with self._changed:
                    self._came.append(answer)
                    self._bytes += len(answer.data)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closed or self._bytes < self._most)
                    if self._closed:
                        return
        except (grpc.RpcError, ValueError) as error:
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Return whether `take` has something to say, at once or within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._came) or self._over, seconds)

    def take(self) -> pb.FetchResponse | None:
        """Return the next answer, None at the stream's end; raises what broke the stream after all that came."""
        with self._changed:
            if self._came:
                answer = self._came.popleft()
                self._bytes -= len(answer.data)
                self._changed.notify_all()
                return answer
        if self._error is not None:
            raise self._error
        return None

    def close(self) -> None:
        """Take nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
