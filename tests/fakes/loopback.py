"""Small servers on loopback that answer as a test says, also as no server should."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handle = Callable[[socket.socket, threading.Event], None]


@contextmanager
def serving(handle: Handle) -> Iterator[int]:
    """Give the port of a server that calls `handle(connection, stop)` for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                handle(connection, stop)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


def answer(status: int, body: bytes = b"", headers: str = "") -> Handle:
    """Return what answers every request with that."""

    def handle(connection: socket.socket, _stop: threading.Event) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)

    return handle


def silent(_connection: socket.socket, stop: threading.Event) -> None:
    """Accept, and say nothing."""
    stop.wait()


def dripping(data: bytes) -> Handle:
    """Return what sends `data` and then a byte again and again, each in time for a timeout that counts per read."""

    def handle(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(data)
        while not stop.wait(0.02):
            connection.sendall(b"x")

    return handle


def unused_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def full_queue() -> Iterator[int]:
    """Give a port whose queue is full, so that connecting to it waits."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = int(listener.getsockname()[1])
        try:
            for _ in range(4):
                held.append(socket.socket())
                held[-1].setblocking(False)
                held[-1].connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for one in held:
                one.close()
