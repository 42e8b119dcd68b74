"""One limit for a whole talk over a connection: a socket's own timeout begins anew with each byte that comes."""

import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Event, Timer


@contextmanager
def within(seconds: float, line: socket.socket) -> Generator[None, None, None]:
    """Cut `line` where the block is not done with it in `seconds`; TimeoutError then, however the block took that."""
    cut = Event()

    def cuts() -> None:
        cut.set()
        # Past TLS, which would want to say goodbye and is in use by the other thread.
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)

    timer = Timer(seconds, cuts)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what follows on this line is cut no more
        if cut.is_set():
            raise TimeoutError("timed out")
