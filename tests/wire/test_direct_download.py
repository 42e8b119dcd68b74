"""Objects fetched by signed addresses: the agent's transport and store, a real server, a real S3 service, and liars.

How much the server carried is counted on a real TCP line before it.
"""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import zstandard

from fakes.line import Line
from fakes.live_server import LiveServer
from fakes.loopback import unused_port
from fakes.s3 import Bucket
from fakes.tls import self_signed
from towpath.errors import InputError
from towpath.v1 import operator_pb2
from towpath_agent.ports import Chunk, Elsewhere, Want
from towpath_agent.store import Store
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.direct import Direct
from towpath_server.storage import FolderBlobs

pytestmark = pytest.mark.timeout(300)

SIZE = 3_000_000
SMALL = 200_000
PIECE_BYTES = 256 * 1024
LIMITS = Limits(min_rate=200_000, rate_window_s=1.0)


def upload(server: LiveServer, data: bytes) -> bytes:
    """Upload an object in pieces; return its carried form."""
    digest, carried = hashlib.sha256(data).digest(), zstandard.ZstdCompressor().compress(data)
    pieces = [carried[at : at + PIECE_BYTES] for at in range(0, len(carried), PIECE_BYTES)]
    requests = [
        operator_pb2.UploadRequest(data=piece, last=number == len(pieces)) for number, piece in enumerate(pieces, 1)
    ]
    requests[0].object_sha256, requests[0].size = digest, len(data)
    assert server.send(requests) == 1
    return carried


class Agent:
    """A host's transport and store; `said` is its log, `server_bytes` what came over the line to the server."""

    def __init__(self, stack: ExitStack, server: LiveServer, folder: Path, origins: tuple[str, ...]) -> None:
        self.said: list[str] = []
        self.line = stack.enter_context(Line(server.agents))
        self.direct = Direct(origins, clock=SystemClock(), limits=LIMITS, log=self.said.append)
        self.server = stack.enter_context(server.agent(address=self.line.address, limits=LIMITS, direct=self.direct))
        self.store = Store(folder / "store", Files())

    def get(self, *contents: bytes) -> None:
        """Fetch objects into the store, and check them there."""
        digests = {hashlib.sha256(data).digest(): len(data) for data in contents}
        self.store.fetch(digests, self.server)
        for (digest, size), data in zip(digests.items(), contents, strict=True):
            assert self.store.read(digest, size) == data


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture
def stored(bucket: Bucket, stack: ExitStack, tmp_path: Path) -> LiveServer:
    """Return a server whose objects are in a bucket, from which hosts may get them."""
    store = (bucket.url, bucket.endpoint)
    settings = {"object_store_direct_ms": 600_000}
    return stack.enter_context(LiveServer(tmp_path, object_store=store, settings=settings))


def test_a_large_object_comes_from_the_bucket(
    stored: LiveServer, bucket: Bucket, stack: ExitStack, tmp_path: Path
) -> None:
    """The server carries what is small, and of the large one no byte."""
    large, small = os.urandom(SIZE), os.urandom(SMALL)
    for data in (large, small):
        upload(stored, data)
    agent = Agent(stack, stored, tmp_path, (bucket.endpoint,))
    agent.get(small, large)
    assert SMALL < agent.line.brought < SMALL + 100_000
    assert not agent.said


def test_a_download_goes_on_where_it_was_cut(
    stored: LiveServer, bucket: Bucket, stack: ExitStack, tmp_path: Path
) -> None:
    """What an earlier attempt kept is not fetched again: the address is asked for the rest."""
    data = os.urandom(SIZE)
    upload(stored, data)
    agent = Agent(stack, stored, tmp_path, (bucket.endpoint,))
    want = Want("object", digest=hashlib.sha256(data).digest())
    whole = b"".join(chunk.data for chunk in agent.server.fetch([want]))
    assert zstandard.ZstdDecompressor().decompressobj().decompress(whole) == data
    rest = list(agent.server.fetch([Want("object", digest=want.digest, offset=1_234_567)]))
    assert b"".join(chunk.data for chunk in rest) == whole[1_234_567:]
    assert [chunk.carried_size for chunk in rest if chunk.carried_size] == [len(whole)]
    assert [chunk.last for chunk in rest].index(True) == len(rest) - 1
    assert agent.line.brought < 100_000


def test_a_host_that_may_not_go_there_is_served_by_the_server(
    stored: LiveServer, stack: ExitStack, tmp_path: Path
) -> None:
    """The origin is not in its settings: it is not told an address at all."""
    data = os.urandom(SIZE)
    upload(stored, data)
    agent = Agent(stack, stored, tmp_path, ("https://elsewhere.example:443",))
    agent.get(data)
    assert agent.line.brought > SIZE
    assert not agent.said


def test_a_server_that_does_not_allow_it_gives_no_address(bucket: Bucket, stack: ExitStack, tmp_path: Path) -> None:
    """Without the setting everything goes through the server, whatever the host would do."""
    server = stack.enter_context(LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint)))
    data = os.urandom(SIZE)
    upload(server, data)
    agent = Agent(stack, server, tmp_path, (bucket.endpoint,))
    agent.get(data)
    assert agent.line.brought > SIZE


def test_without_a_bucket_the_setting_is_refused(tmp_path: Path) -> None:
    """There is nothing that a host could reach; the server says so and does not start."""
    server = LiveServer(tmp_path, settings={"object_store_direct_ms": 1_000})
    with pytest.raises(InputError, match="set --object-store as well"):
        server.start()
    server.stop()


# --- sources that break their word ------------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler, bytes, int], None]


def _part(it: BaseHTTPRequestHandler, data: bytes, offset: int, status: int = 206) -> None:
    it.send_response(status)
    it.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
    it.send_header("Content-Length", str(len(data) - offset))
    it.end_headers()
    it.wfile.write(data[offset:])


def _lapsed(it: BaseHTTPRequestHandler, _data: bytes, _offset: int) -> None:
    it.send_error(403, "Request has expired")


def _other_bytes(it: BaseHTTPRequestHandler, data: bytes, offset: int) -> None:
    _part(it, bytes(len(data)), offset)


def _one_flipped(it: BaseHTTPRequestHandler, data: bytes, offset: int) -> None:
    _part(it, data[:-1_000] + bytes([data[-1_000] ^ 1]) + data[-999:], offset)


def _ends_early(it: BaseHTTPRequestHandler, data: bytes, offset: int) -> None:
    it.send_response(206)
    it.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
    it.send_header("Content-Length", str(len(data) - offset))
    it.end_headers()
    it.wfile.write(data[offset : offset + 1_000_000])


def _whole_again(it: BaseHTTPRequestHandler, data: bytes, _offset: int) -> None:
    _part(it, data, 0, status=200)


def _sends_on(it: BaseHTTPRequestHandler, data: bytes, offset: int) -> None:
    it.send_response(302)
    it.send_header("Location", f"http://{it.headers['Host']}/elsewhere")
    it.end_headers()


def _drips(it: BaseHTTPRequestHandler, data: bytes, offset: int) -> None:
    it.send_response(206)
    it.send_header("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
    it.end_headers()
    for at in range(offset, len(data), 100):  # until the other side has had enough
        it.wfile.write(data[at : at + 100])
        it.wfile.flush()
        time.sleep(0.01)


def _drips_its_head(it: BaseHTTPRequestHandler, _data: bytes, _offset: int) -> None:
    it.wfile.write(b"HTTP/1.1 206 Partial Content\r\nX-Drip: ")
    for _ in range(500):  # until the other side has had enough
        it.wfile.write(b"x")
        it.wfile.flush()
        time.sleep(0.02)


def _silent(it: BaseHTTPRequestHandler, _data: bytes, _offset: int) -> None:
    it.rfile.read(1)  # until the other side has had enough


@contextmanager
def source(carried: bytes, answer: Answer, context: object = None) -> Iterator[tuple[str, list[str]]]:
    """Run a web server; give its origin, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            offset = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            with suppress(OSError):
                answer(self, carried, offset)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)  # type: ignore[attr-defined]
        scheme = "https"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def lying_server(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let the server send this address for every object."""
    monkeypatch.setattr(FolderBlobs, "link", lambda _self, _digest: address)


SECRET = "X-Amz-Signature=5eC9e7"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_lapsed, "answers 403"),
        (_other_bytes, "was not what it must be"),
        (_one_flipped, "was not what it must be"),
        (_ends_early, "bytes too early"),
        (_sends_on, "answers 302"),
        (_drips, "bytes a second"),
        (_drips_its_head, "nothing came in time"),
        (_silent, "nothing came in time"),
    ],
)
def test_a_source_that_breaks_its_word_costs_time_alone(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, says: str
) -> None:
    """The object comes from the server, from the byte where the source stopped; the log says why, without the address."""
    server = stack.enter_context(LiveServer(tmp_path))
    data = os.urandom(SIZE)
    carried = upload(server, data)
    origin, asked = stack.enter_context(source(carried, answer))
    lying_server(monkeypatch, f"{origin}/object?{SECRET}")
    agent = Agent(stack, server, tmp_path, (origin,))
    agent.get(data)
    assert len(asked) == 1
    assert says in agent.said[0]
    assert SECRET not in "".join(agent.said)
    if answer is _ends_early:
        assert agent.line.brought < SIZE - 900_000
    other = os.urandom(SIZE)
    upload(server, other)
    agent.get(other)  # the way rests now
    assert len(asked) == 1


def test_a_source_that_ignores_the_offset_is_not_believed(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends the whole where the rest was asked for: what it sends is not taken for the rest."""
    server = stack.enter_context(LiveServer(tmp_path))
    data = os.urandom(SIZE)
    carried = upload(server, data)
    origin, _ = stack.enter_context(source(carried, _whole_again))
    lying_server(monkeypatch, f"{origin}/object")
    agent = Agent(stack, server, tmp_path, (origin,))
    want = Want("object", digest=hashlib.sha256(data).digest(), offset=1_000_000)
    assert b"".join(chunk.data for chunk in agent.server.fetch([want])) == carried[1_000_000:]
    assert "answers 200" in agent.said[0]


def test_a_source_without_a_known_certificate_is_not_used(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https its name is proven as a browser would."""
    server = stack.enter_context(LiveServer(tmp_path))
    data = os.urandom(SIZE)
    upload(server, data)
    _, context = self_signed(tmp_path)
    origin, asked = stack.enter_context(source(b"", _silent, context))
    lying_server(monkeypatch, f"{origin}/object")
    agent = Agent(stack, server, tmp_path, (origin,))
    agent.get(data)
    assert not asked
    assert "certificate" in agent.said[0]


@pytest.mark.parametrize("what", ["nobody listens", "an origin of somebody else", "no address"])
def test_an_address_that_must_not_or_cannot_be_asked(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A stolen server cannot make hosts ask what their own settings do not name."""
    server = stack.enter_context(LiveServer(tmp_path))
    data = os.urandom(SIZE)
    upload(server, data)
    allowed = f"http://127.0.0.1:{unused_port()}"
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(0.01)
        address = {
            "nobody listens": f"{allowed}/object",
            "an origin of somebody else": f"http://127.0.0.1:{inside.getsockname()[1]}/admin",
            "no address": "file:///etc/passwd",
        }[what]
        lying_server(monkeypatch, address)
        monkeypatch.setattr("towpath_server.api.fetching.may_go", lambda _url, _origins: True)
        agent = Agent(stack, server, tmp_path, (allowed,))
        agent.get(data)
        assert agent.said
        with pytest.raises(TimeoutError):
            inside.accept()
    assert agent.line.brought > SIZE


def test_an_address_for_nothing_is_left_alone(stack: ExitStack) -> None:
    """A server that says of an object that all of it is here already, and elsewhere: the next want is not taken for it."""
    asked: list[Sequence[str]] = []

    def ask(wants: Sequence[Want], direct_from: Sequence[str]) -> Generator[Chunk | Elsewhere, None, None]:
        asked.append(direct_from)
        if direct_from:
            yield Elsewhere(0, f"{direct_from[0]}/object", carried_size=wants[0].offset)
        for number in range(len(wants)):
            yield Chunk(number, b"x", last=True)

    origin, _ = stack.enter_context(source(b"12345", _part))
    direct = Direct((origin,), clock=SystemClock(), limits=LIMITS, log=lambda _: None)
    wants = [Want("object", digest=bytes([number]) * 32, offset=5) for number in range(2)]
    assert [chunk.want for chunk in direct.fetch(ask, wants)] == [0, 1]
    assert asked == [(origin,), ()]
