"""The server's Prometheus client against what may stand at that address: nothing, a dripper, a flood, a redirect."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from towpath.errors import InputError
from towpath_server.prometheus import MAX_BYTES, Prometheus, connected

DEADLINE_S = 1.0
GOOD = b'{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}'


@contextmanager
def standing(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """Serve `answer` to every question; yield the address, and the paths that were asked for."""
    asked: list[str] = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join(30)


def say(page: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    page.send_response(status)
    for name, value in headers.items():
        page.send_header(name, value)
    page.end_headers()
    page.wfile.write(body)


def test_a_number_comes_back_from_below_the_path_of_the_address() -> None:
    """A Prometheus behind a prefix is asked there."""
    with standing(lambda page: say(page, GOOD)) as (url, asked):
        assert Prometheus(f"{url}/prom/").ask("up").values == (7.0,)
        assert asked == ["/prom/api/v1/query"]


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    """A byte now and then keeps no thread for ever."""

    def drip(page: http.server.BaseHTTPRequestHandler) -> None:
        page.send_response(200)
        page.end_headers()
        pause = threading.Event()
        for _ in range(300):
            try:
                page.wfile.write(b" ")
            except OSError:
                return
            pause.wait(0.1)

    with standing(drip) as (url, _):
        begun = time.monotonic()
        answer = Prometheus(url, deadline_s=DEADLINE_S).ask("up")
        assert time.monotonic() - begun < 20, "thirty seconds of drops were cut short"
        assert answer.trouble


def test_a_flood_a_redirect_and_nobody_are_trouble_and_no_error() -> None:
    """More than a mebibyte is not read, another address is not gone to, and a closed port says so."""
    with standing(lambda page: say(page, b" " * (MAX_BYTES + 1) + GOOD)) as (url, _):
        assert f"more than {MAX_BYTES} bytes" in Prometheus(url).ask("up").trouble
    with standing(lambda page: say(page, GOOD)) as (other, asked):
        with standing(lambda page: say(page, b"", 307, Location=f"{other}/api/v1/query")) as (url, _):
            assert "Prometheus answered 307" in Prometheus(url).ask("up").trouble
        assert asked == []
    assert "cannot ask Prometheus at 127.0.0.1:" in Prometheus(url).ask("up").trouble


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    """And none at all is no Prometheus."""
    assert connected("") is None
    for url in ("prometheus:9090", "file:///etc/passwd", "http://user:secret@host/", "http://host:99999"):
        with pytest.raises(InputError, match="cannot use --prometheus-url"):
            connected(url)
