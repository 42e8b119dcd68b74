"""The agent's real client, over real gRPC and TLS on loopback: the port's promises, and what only a wire can do."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest

from conformance.server_port import WAIT_S, ServerPortSuite, Subject
from fakes.authority import Authority
from fakes.grpc_server import AgentApi, Listener, serve_agents
from fakes.server import FakeServer
from towpath.errors import InputError, Refusal, Unavailable
from towpath.v1 import agent_pb2 as pb
from towpath_agent.ports import MAX_WANTS, Chunk, Want
from towpath_agent.system.clock import SystemClock
from towpath_agent.transport import client as transport_client
from towpath_agent.transport.channel import Limits, open_channel, parse_address, split_identity
from towpath_agent.transport.client import GrpcServer
from towpath_agent.transport.rate import RateGuard

NONCE = b"0123456789abcdef"
LIMITS = Limits(
    call_s=5.0, fetch_s=20.0, rate_window_s=0.4, keepalive_s=0.5, keepalive_timeout_s=0.5, reconnect_first_s=0.1,
    reconnect_most_s=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Return one CA for all tests: making keys takes longer than the tests."""
    return Authority()


@dataclass
class Wire:
    """A listening server, what is behind it, and a client."""

    authority: Authority
    api: AgentApi
    listener: Listener
    client: GrpcServer


def connect(authority: Authority, address: str, *, host_id: str = "host-1", limits: Limits = LIMITS) -> GrpcServer:
    """Return a client with a fresh identity."""
    return GrpcServer(
        address,
        identity_pem=authority.identity(host_id),
        ca_pem=authority.ca_pem,
        platform="linux/amd64",
        agent_version="0.1.0",
        clock=SystemClock(),
        limits=limits,
    )


@pytest.fixture
def wire(authority: Authority) -> Iterator[Wire]:
    """Return a client that speaks to a fake behind a real server."""
    api = AgentApi(FakeServer(), authority)
    listener = serve_agents(api)
    client = connect(authority, listener.address)
    yield Wire(authority, api, listener, client)
    client.close()
    listener.stop()


class TestGrpcServer(ServerPortSuite):
    """The suite, over the wire."""

    @pytest.fixture
    def subject(self, wire: Wire) -> Subject:
        """Return the client and the fake behind the server."""
        return Subject(wire.client, wire.api.behind)


def test_the_host_is_the_certificates(wire: Wire) -> None:
    """The server knows the caller by its certificate; no request names a host."""
    wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert wire.api.peers == ["host-1"]


def test_nothing_listens(authority: Authority) -> None:
    """A refused connection is Unavailable at once, named with its address, not after the deadline."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with connect(authority, address) as client, pytest.raises(Unavailable, match=address) as caught:
            client.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_meets_the_deadline(authority: Authority) -> None:
    """A socket that accepts and then is silent cannot hold a call for longer than its deadline."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        limits = Limits(call_s=0.5)
        with connect(authority, address, limits=limits) as client, pytest.raises(Unavailable):
            client.sync(nonce=NONCE, state_revision=0, boot_id="")


def test_a_server_of_another_ca_is_never_spoken_to(authority: Authority) -> None:
    """A server that our CA did not sign gets no request."""
    api = AgentApi(FakeServer(), Authority())
    listener = serve_agents(api)
    try:
        with connect(authority, listener.address) as client, pytest.raises(Unavailable):
            client.sync(nonce=NONCE, state_revision=0, boot_id="")
        assert api.behind.syncs == []
    finally:
        listener.stop()


def test_calls_work_again_after_a_server_restart(wire: Wire) -> None:
    """The same client reaches a server that was stopped and started again on its port."""
    wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    wire.listener.stop()
    with pytest.raises(Unavailable):
        wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    again = serve_agents(wire.api, address=wire.listener.address)
    try:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
                break
            except Unavailable:
                assert time.monotonic() < deadline
    finally:
        again.stop()


def test_watch_ends_when_the_server_dies(wire: Wire) -> None:
    """A stream whose server goes away ends; it never waits for ever."""
    ended = threading.Event()

    def run() -> None:
        with contextlib.suppress(Unavailable):
            wire.client.watch(lambda: None, threading.Event())
        ended.set()

    threading.Thread(target=run).start()
    assert wire.api.behind.wait_watchers(1)
    wire.listener.stop()
    assert ended.wait(WAIT_S)


class Relay:
    """A TCP relay whose wire can be cut so that neither side is told: a half-open connection."""

    def __init__(self, address: str) -> None:
        self._host, self._port = parse_address(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.passing = threading.Event()
        self.passing.set()
        self.connections = 0
        self.bytes_seen = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._host, self._port))
            except OSError:
                return
            self.connections += 1
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.bytes_seen += len(data)
                if self.passing.is_set():
                    sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        """Close everything."""
        for opened in (self._listener, *self._sockets):
            opened.close()


def test_a_half_open_connection_is_found_by_keepalive(wire: Wire) -> None:
    """A Watch over a wire that silently drops everything ends within the keepalive time, and the next one works."""
    relay = Relay(wire.listener.address)
    client = connect(wire.authority, relay.address)
    failures: list[Unavailable] = []

    def run() -> None:
        try:
            client.watch(lambda: None, threading.Event())
        except Unavailable as error:
            failures.append(error)

    try:
        thread = threading.Thread(target=run)
        thread.start()
        assert wire.api.behind.wait_watchers(1)
        relay.passing.clear()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert len(failures) == 1
        relay.passing.set()
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                client.sync(nonce=NONCE, state_revision=0, boot_id="")
                break
            except Unavailable:
                assert time.monotonic() < deadline
        assert relay.connections >= 2
    finally:
        client.close()
        relay.close()


def test_an_idle_watch_keeps_the_wire_warm(wire: Wire) -> None:
    """Pings flow while nothing else does, so that a NAT entry stays; the stream stays usable after them."""
    relay = Relay(wire.listener.address)
    client = connect(wire.authority, relay.address)
    hinted, stop = threading.Semaphore(0), threading.Event()
    thread = threading.Thread(target=client.watch, args=(hinted.release, stop))
    try:
        thread.start()
        assert hinted.acquire(timeout=WAIT_S)
        seen, deadline = relay.bytes_seen, time.monotonic() + WAIT_S
        pause = threading.Event()
        while relay.bytes_seen < seen + 100:  # several pings with their answers, 17 bytes and TLS around each
            assert time.monotonic() < deadline
            pause.wait(0.05)
        wire.api.behind.hint()
        assert hinted.acquire(timeout=WAIT_S)
        assert relay.connections == 1
    finally:
        stop.set()
        thread.join(WAIT_S)
        client.close()
        relay.close()


def test_all_calls_share_one_connection(wire: Wire) -> None:
    """Sync, fetch, report and watch use one connection."""
    relay = Relay(wire.listener.address)
    client = connect(wire.authority, relay.address)
    stop = threading.Event()
    thread = threading.Thread(target=client.watch, args=(lambda: None, stop))
    try:
        thread.start()
        assert wire.api.behind.wait_watchers(1)
        wire.api.behind.metadata["1.root.json"] = b"root"
        client.sync(nonce=NONCE, state_revision=0, boot_id="")
        list(client.fetch([Want("metadata", "1.root.json")]))
        client.report([], [], 1)
        assert relay.connections == 1
    finally:
        stop.set()
        thread.join(WAIT_S)
        client.close()
        relay.close()


def test_two_identities_never_share_a_connection(wire: Wire) -> None:
    """A new client is a new handshake: its own certificate is what the server sees."""
    wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    with connect(wire.authority, wire.listener.address, host_id="host-2") as other:
        other.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert wire.api.peers == ["host-1", "host-2"]


def test_close_ends_running_calls_and_refuses_new_ones(wire: Wire) -> None:
    """Closing ends a Watch and a fetch with Unavailable; calls afterwards say that the connection was closed."""
    raised: list[Unavailable] = []

    def run() -> None:
        try:
            wire.client.watch(lambda: None, threading.Event())
        except Unavailable as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert wire.api.behind.wait_watchers(1)
    digest = wire.api.behind.add_object(os.urandom(2_000_000))
    stream = wire.client.fetch([Want("object", digest=digest)])
    next(stream)
    wire.client.close()
    wire.client.close()
    thread.join(WAIT_S)
    assert len(raised) == 1
    with pytest.raises(Unavailable):
        list(stream)
    with pytest.raises(Unavailable, match="closed"):
        wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    with pytest.raises(Unavailable):
        wire.client.watch(lambda: None, threading.Event())
    with pytest.raises(Unavailable):
        list(wire.client.fetch([Want("object", digest=digest)]))


def test_closing_a_stream_ends_the_call(wire: Wire) -> None:
    """A fetch that is given up does not go on in the background: no thread of it stays."""
    digest = wire.api.behind.add_object(os.urandom(4_000_000))
    stream = wire.client.fetch([Want("object", digest=digest)])
    next(stream)
    stream.close()
    deadline = time.monotonic() + WAIT_S
    while any(thread.name == "fetch-rate" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def test_a_new_window_leaves_running_fetches_alone(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay fetches on several threads: the connection of the window before goes with its last fetch, or at the end."""
    opened: list[grpc.Channel] = []
    closed: list[grpc.Channel] = []

    def recorded(*words: Any, **more: Any) -> grpc.Channel:
        channel = open_channel(*words, **more)
        close = channel.close
        monkeypatch.setattr(channel, "close", lambda: (closed.append(channel), close()))
        opened.append(channel)
        return channel

    monkeypatch.setattr(transport_client, "open_channel", recorded)
    large, small = wire.api.behind.add_object(os.urandom(4_000_000)), wire.api.behind.add_object(b"small")
    windows = [65_536]
    limits = replace(LIMITS, rate_window_s=WAIT_S, fetch_window=lambda: windows[-1])
    with connect(wire.authority, wire.listener.address, limits=limits) as client:
        first, second = (client.fetch([Want("object", digest=large)]) for _ in range(2))
        came = [next(first).data, next(second).data]
        for window in (131_072, 262_144, 262_144):
            windows.append(window)
            list(client.fetch([Want("object", digest=small)]))
        assert closed == [opened[2]]  # of the three windows the one on which nobody fetches
        came[0] += b"".join(chunk.data for chunk in first)
        assert len(closed) == 1
        came[1] += b"".join(chunk.data for chunk in second)
        assert closed == [opened[2], opened[1]]
        assert came[0] == came[1] == wire.api.behind.carried[large]
    assert set(closed) == set(opened)
    assert len(opened) == 4


def test_endless_empty_chunks_are_slow_retrieval(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that looks busy and brings nothing is given up by its rate, not by silence alone."""
    pause = threading.Event()

    def drip(wants: object) -> Iterator[Chunk]:
        while not pause.wait(0.02):
            yield Chunk(0, b"")

    monkeypatch.setattr(wire.api.behind, "fetch", drip)
    try:
        with pytest.raises(Unavailable) as caught:
            list(wire.client.fetch([Want("metadata", "1.root.json")]))
        assert caught.value.code == "slow-retrieval"
    finally:
        pause.set()


@pytest.mark.parametrize(
    "chunks",
    [
        [Chunk(1, b"x", last=True)],
        [Chunk(0, b"x", last=True)],
        [Chunk(0, b"x" * (2**20 + 1), last=True)],
        [],
    ],
    ids=["out of order", "cut short", "too large", "empty"],
)
def test_a_server_that_breaks_the_protocol_is_unavailable(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, chunks: list[Chunk]
) -> None:
    """Answers out of order, missing or too large end the stream as cut off."""
    monkeypatch.setattr(wire.api.behind, "fetch", lambda wants: iter(chunks))
    with pytest.raises(Unavailable) as caught:
        list(wire.client.fetch([Want("metadata", "a"), Want("metadata", "b")]))
    assert caught.value.code == "cut-off"


def test_answers_that_travel_together_are_taken_apart(wire: Wire) -> None:
    """Each is a chunk of its own, with the carried size that its offset and its length come to."""
    wire.api.raw = [
        pb.FetchResponse(want=0, data=b"onethree!", whole=[3, 0, 6]),
        pb.FetchResponse(want=3, missing=True, last=True),
        pb.FetchResponse(want=4, data=b"x", whole=[1]),
    ]
    wants = [Want("object", digest=bytes(32), offset=offset) for offset in (0, 7, 2, 0, 0)]
    assert list(wire.client.fetch(wants)) == [
        Chunk(0, b"one", last=True, carried_size=3),
        Chunk(1, b"", last=True, carried_size=7),
        Chunk(2, b"three!", last=True, carried_size=8),
        Chunk(3, missing=True, last=True),
        Chunk(4, b"x", last=True, carried_size=1),
    ]


@pytest.mark.parametrize(
    "answers",
    [
        [pb.FetchResponse(want=0, data=b"abc", whole=[1, 1])],
        [pb.FetchResponse(want=0, data=b"abc", whole=[2, 2])],
        [pb.FetchResponse(want=0, data=b"abc", whole=[1, 1, 1])],
        [pb.FetchResponse(want=0, data=b"abc", whole=[3]), pb.FetchResponse(want=0, data=b"abc", whole=[3])],
        [pb.FetchResponse(want=1, data=b"abc", whole=[3])],
        [pb.FetchResponse(want=0, data=bytes(2**20 + 2), whole=[2**20, 2])],
    ],
    ids=["shorter", "longer", "more than asked", "twice", "out of order", "too large"],
)
def test_answers_that_lie_about_what_they_hold_are_unavailable(wire: Wire, answers: list[pb.FetchResponse]) -> None:
    """What a message says that it holds has to be what it holds, and what was asked."""
    wire.api.raw = answers
    with pytest.raises(Unavailable) as caught:
        list(wire.client.fetch([Want("metadata", "a"), Want("metadata", "b")]))
    assert caught.value.code == "cut-off"


def test_too_many_wants_are_a_bug_of_the_caller(wire: Wire) -> None:
    """More wants than a call may carry never reach the wire."""
    with pytest.raises(AssertionError):
        list(wire.client.fetch([Want("metadata", "a")] * (MAX_WANTS + 1)))


def test_an_answer_that_is_too_long_is_not_read(wire: Wire) -> None:
    """An envelope above the limit of a message is refused by the transport, and the client stays usable."""
    wire.api.behind.envelope = bytes(6 * 2**20)
    with pytest.raises(Unavailable):
        wire.client.sync(nonce=NONCE, state_revision=0, boot_id="")
    wire.api.behind.envelope = b"short"
    assert wire.client.sync(nonce=NONCE, state_revision=0, boot_id="").envelope == b"short"


def test_a_rejected_request_is_a_refusal(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an agent, "invalid argument" is the server's no: it gave no value that a person could mend."""

    def reject(**_: object) -> None:
        raise InputError("cannot sync: the nonce is too short")

    monkeypatch.setattr(wire.api.behind, "sync", reject)
    with pytest.raises(Refusal, match="nonce is too short") as caught:
        wire.client.sync(nonce=b"n", state_revision=0, boot_id="")
    assert caught.value.code == "rejected"


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":7444", "host:0", "host:70000", "a b:1", "http://host:1", "::1:7"]
)
def test_unusable_addresses_are_one_line(text: str) -> None:
    """An address that is no HOST:PORT is bad input that shows the form."""
    with pytest.raises(InputError, match="HOST:PORT"):
        parse_address(text)


def test_usable_addresses() -> None:
    """Names, IPv4 and bracketed IPv6 are addresses."""
    assert parse_address("a.example:7444") == ("a.example", 7444)
    assert parse_address("127.0.0.1:1") == ("127.0.0.1", 1)
    assert parse_address("[::1]:65535") == ("::1", 65535)


def test_a_damaged_identity_is_one_line() -> None:
    """A file without a key or without a certificate is bad input."""
    for pem in (b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        with pytest.raises(InputError, match=r"identity\.pem"):
            split_identity(pem)


def test_rate_counts_waiting_only() -> None:
    """A reader that is slow itself is not the server's fault; a window of waiting with too few bytes is."""
    guard = RateGuard(min_rate=100, window_s=10.0)
    now = 0.0
    for _ in range(100):  # 1 s of waiting in all, 100 s of writing
        guard.wait_begins(now)
        now += 0.01
        guard.wait_ends(now, 10)
        now += 1.0
        assert not guard.too_slow(now)
    guard.wait_begins(now)
    assert not guard.too_slow(now + 8.0)
    assert guard.too_slow(now + 30.0)


def test_rate_starts_anew_after_a_good_window() -> None:
    """Bytes of an earlier window are no credit for a later one."""
    guard = RateGuard(min_rate=100, window_s=10.0)
    guard.wait_begins(0.0)
    guard.wait_ends(10.0, 1_000_000)
    guard.wait_begins(10.0)
    assert not guard.too_slow(10.0)
    assert not guard.too_slow(19.0)
    assert guard.too_slow(20.0)


def put_off(guard: RateGuard, now: float) -> float:
    """Put its reader off every two seconds until that is too slow; return when."""
    while not guard.too_slow(now):
        guard.wait_begins(now)
        now += 2.0
        guard.was_put_off(now)
    return now


def test_a_wait_in_a_queue_is_not_counted_as_far_as_the_credit_goes() -> None:
    """Whoever says that others come first is borne with for so long; behind that it is as slow as if it said nothing."""
    assert put_off(RateGuard(min_rate=100, window_s=10.0, credit_s=60.0), 0.0) == 60.0 + 10.0
    assert put_off(RateGuard(min_rate=100, window_s=10.0), 0.0) == 10.0


@pytest.mark.parametrize(("received", "credit_s"), [(1_000_000, 60.0), (3_000, 30.0)])
def test_what_comes_fills_the_credit_up_again(received: int, credit_s: float) -> None:
    """At the least rate, and to no more than it was: many waits in one fetch are borne with, drops are not."""
    guard = RateGuard(min_rate=100, window_s=10.0, credit_s=60.0)
    guard.wait_begins(0.0)
    guard.was_put_off(60.0)
    guard.wait_begins(60.0)
    guard.wait_ends(60.0, received)
    # The window in which it came is good enough, the next one is not.
    assert put_off(guard, 60.0) == 60.0 + credit_s + 10.0 + 10.0


HEAVY = (
    "click",
    "tuf",
    "securesystemslib",
    "cryptography.x509",
    "towpath.pki",
    "zstandard",
    "pydantic",
)


@pytest.mark.parametrize("module", ["towpath_agent.transport.client", "towpath_agent.store", "towpath_agent.identity"])
def test_resident_modules_stay_light(module: str) -> None:
    """What the idle agent imports pulls in nothing that only enrolment, a fetch or a command line needs."""
    program = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
