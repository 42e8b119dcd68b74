"""Which proxy the agent uses for an address, from the environment alone; how long one may take."""

import socket
import time
from contextlib import suppress
from threading import Thread

import pytest

from towpath.errors import InputError, Unavailable
from towpath_agent.transport.proxy import Proxy, dial, proxy_for

URL = "http://10.0.0.1:3128"


@pytest.mark.parametrize(
    ("environment", "host", "expected"),
    [
        ({}, "server", None),
        ({"https_proxy": ""}, "server", None),
        ({"http_proxy": URL, "HTTP_PROXY": URL, "grpc_proxy": URL}, "server", None),
        ({"https_proxy": URL}, "server", "http://10.0.0.1:3128"),
        ({"HTTPS_PROXY": URL}, "server", "http://10.0.0.1:3128"),
        ({"https_proxy": URL, "HTTPS_PROXY": "http://other:1"}, "server", "http://10.0.0.1:3128"),
        ({"https_proxy": "proxy:3128"}, "server", "http://proxy:3128"),
        ({"https_proxy": "http://proxy"}, "server", "http://proxy:80"),
        ({"https_proxy": "http://me:p%40ss@proxy:3128/"}, "server", "http://me:p%40ss@proxy:3128"),
        ({"https_proxy": "http://[fd00::1]:3128"}, "server", "http://[fd00::1]:3128"),
        ({"https_proxy": "http://me:p%40ss@[fd00::1]"}, "server", "http://me:p%40ss@[fd00::1]:80"),
        ({"https_proxy": URL, "no_proxy": "server"}, "server", None),
        ({"https_proxy": URL, "NO_PROXY": "other, .example.com"}, "towpath.EXAMPLE.com", None),
        ({"https_proxy": URL, "no_proxy": "example.com"}, "towpath.example.com", None),
        ({"https_proxy": URL, "no_proxy": "example.com"}, "notexample.com", "http://10.0.0.1:3128"),
        ({"https_proxy": URL, "no_proxy": "10.0.0.0/8"}, "10.1.2.3", None),
        ({"https_proxy": URL, "no_proxy": "10.0.0.0/8"}, "11.1.2.3", "http://10.0.0.1:3128"),
        ({"https_proxy": URL, "no_proxy": "*"}, "anything", None),
        ({"https_proxy": URL, "no_proxy": "a,,b"}, "server", "http://10.0.0.1:3128"),
        ({"https_proxy": URL, "no_proxy": "x", "NO_PROXY": "server"}, "server", "http://10.0.0.1:3128"),
    ],
)
def test_the_environment_names_the_proxy(environment: dict[str, str], host: str, expected: str | None) -> None:
    """Small letters are stronger, no_proxy takes names, domains, networks and a star; http_proxy means nothing here."""
    found = proxy_for(host, environment)
    assert (found.url if found is not None else None) == expected


@pytest.mark.parametrize(
    "text", ["https://proxy:1", "socks5://proxy:1", "http://", "http://:3128", "http://proxy:x", "http://proxy:99999"]
)
def test_a_proxy_that_cannot_be_used_is_one_line(text: str) -> None:
    """It is said what to write, and nothing of what stands there: it may hold a password."""
    with pytest.raises(InputError, match="cannot use the proxy in https_proxy: write") as caught:
        proxy_for("server", {"https_proxy": text})
    assert str(caught.value).endswith("write http://HOST:PORT, such as http://10.0.0.1:3128")


def test_a_login_is_never_shown() -> None:
    """Neither in a message nor in a traceback."""
    proxy = Proxy("proxy", 3128, "me:secret")
    assert "secret" not in f"{proxy} {proxy!r}"


def test_a_proxy_that_answers_by_drops_is_left_in_time() -> None:
    """The timeout is one for its whole answer: no byte that comes begins it anew."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            line, _ = listener.accept()
            with line, suppress(OSError):
                line.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                for _ in range(500):  # until the other side has had enough
                    line.sendall(b"x")
                    time.sleep(0.02)

        thread = Thread(target=drip)
        thread.start()
        with pytest.raises(Unavailable, match=r"does not answer \(timed out\)"):
            dial("server", 443, 0.5, Proxy("127.0.0.1", listener.getsockname()[1]))
        thread.join(30)
        assert not thread.is_alive()
