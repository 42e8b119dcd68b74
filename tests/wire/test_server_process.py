"""The server as a process: two on one folder, kills, restarts, a graceful end, peers that fall silent."""

import asyncio
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from fakes.live_server import CALL_S, LiveServer, eventually, refused
from fakes.server_command import ANY_PORT, ServerCommand, run_to_its_end
from towpath import pki
from towpath.names import HOST_URI, OPERATOR_URI
from towpath.reports import Event
from towpath.v1 import agent_pb2, agent_pb2_grpc, operator_pb2, operator_pb2_grpc
from towpath_cli import channel
from towpath_server.api import listeners
from towpath_server.cli import Options, serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerCommand]:
    """Return a running server process of a new fleet."""
    with ServerCommand(tmp_path) as running:
        yield running


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that a server said which could not start."""
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("towpath-server: cannot "), done.stderr
    return done.stderr.removeprefix("towpath-server: ").rstrip("\n")


def test_a_second_server_on_the_same_folder_is_one_line(server: ServerCommand) -> None:
    """Two writers of one truth are refused; the first goes on, and its folder is free again once it ended."""
    folder = server.fleet / "server"
    assert one_line(run_to_its_end(folder, *ANY_PORT)) == (
        f"cannot start: another server runs on {folder}; stop it first"
    )
    server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)
    server.kill()
    server.start()


@pytest.mark.parametrize("kind", ["agent", "enroll", "operator"])
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, kind: str) -> None:
    """The message names the address and the option; nothing shares a port."""
    folder = LiveServer(tmp_path).fleet / "server"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = one_line(run_to_its_end(folder, *ANY_PORT, f"--{kind}-listen={address}"))
    assert said.startswith(f"cannot listen on {address}: it is taken")
    assert said.endswith(f"or give --{kind}-listen")


def test_a_bad_size_of_the_settings_file_is_named_by_its_key_and_file(tmp_path: Path) -> None:
    """So that nobody looks for it among the flags of the unit; a flag is named as one."""
    folder = LiveServer(tmp_path).fleet / "server"
    said = one_line(run_to_its_end(folder, *ANY_PORT, "--delta-space", "much"))
    assert said.startswith("cannot use --delta-space: cannot read 'much' as a size")
    (folder / "server.toml").write_text('delta_largest = "plenty"\n')
    said = one_line(run_to_its_end(folder, *ANY_PORT))
    assert said.startswith(f"cannot use delta_largest in {folder / 'server.toml'}: cannot read 'plenty' as a size")


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        (".", "make it with 'towpath init'"),
        ("ca.key", "the server folder that 'towpath init' made"),
        ("keys/director.pem", "the server folder that 'towpath init' made"),
        ("metadata/timestamp.json", "cannot "),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(tmp_path: Path, remove: str, says: str) -> None:
    """A server that lacks a part does not start half."""
    folder = LiveServer(tmp_path).fleet / "server"
    (folder / remove).rename(tmp_path / "removed")
    assert says in one_line(run_to_its_end(folder, *ANY_PORT))


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_restarted_server_knows_everything_and_its_sequence_goes_on(server: ServerCommand, how: str) -> None:
    """Hosts, tokens, releases, assignments, reports and the audit log are what they were; no manifest is older."""
    text = server.token(uses=1, role="web")
    host = server.new_host("h1", token=text)
    server.publish("1.0.0", b"content")
    made = server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "the host is admitted")
    state = host.obey()
    host.report(state, events=[Event("e1", 5, "started")])
    eventually(lambda: server.progress(made.assignment).state == "done", "the rollout is done")
    last = [host.sync().sequence for _ in range(20)][-1]
    kept, audit, files = server.progress(made.assignment), server.audit(), server.files()

    server.kill() if how == "killed" else server.stop()
    server.start()
    server.connect(host)

    manifest = host.sync()
    assert manifest.sequence > last
    assert [(one.app, one.version, one.generation) for one in manifest.apps] == [("hello", "1.0.0", made.generation)]
    detail = server.hosts.GetHost(operator_pb2.GetHostRequest(name="h1"), timeout=CALL_S)
    assert [event.id for event in detail.events] == ["e1"]
    assert [app.current_version for app in detail.apps] == ["1.0.0"]
    assert detail.host.last_seen_unix_ms > 0
    now = server.progress(made.assignment)
    assert (now.state, now.hosts[0].state) == (kept.state, kept.hosts[0].state)
    assert server.audit()[: len(audit)] == audit
    assert server.files() == files
    again = server.deploy("1.0.0")
    assert (again.unchanged, again.assignment) == (True, made.assignment)
    with refused(StatusCode.UNAUTHENTICATED, "token-used"):
        server.new_host("h2", token=text)


def test_a_stopped_server_ends_watches_and_exits_with_zero(server: ServerCommand) -> None:
    """SIGTERM: open streams end without an error that an agent would report, and the process is gone soon."""
    host = server.new_host()
    watch = host.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(watch)
    assert server.end(signal.SIGTERM) == 0
    assert list(watch) == []
    assert watch.code() is StatusCode.OK


def test_a_deploy_reaches_a_watching_host_within_a_second(server: ServerCommand) -> None:
    """From the operator's call to the host's sync after the hint, measured five times; the middle one counts."""
    host = server.new_host()
    versions = [f"1.0.{number}" for number in range(5)]
    for version in versions:
        server.publish(version)
    watch = host.api.Watch(agent_pb2.WatchRequest(), timeout=90)
    next(watch)
    reached: dict[str, float] = {}

    def listen() -> None:
        try:
            for _ in watch:
                reached.setdefault(host.desired(), time.monotonic())
        except grpc.RpcError:
            return

    listener = threading.Thread(target=listen)
    listener.start()
    took = []
    try:
        for version in versions:
            began = time.monotonic()
            server.deploy(version)
            eventually(lambda now=version: now in reached, f"a hint of {version}")
            took.append(reached[version] - began)
    finally:
        watch.cancel()
        listener.join(CALL_S)
    assert sorted(took)[2] < 1, took


def short_lived(server: LiveServer, uri: str, *, serial: int | None, until_ms: int, key: object) -> bytes:
    """Return a certificate of the fleet's CA that is valid until then."""
    csr = pki.make_csr(key)  # type: ignore[arg-type]
    return pki.issue(
        server.ca_pem,
        server.ca_key,
        csr,
        uri=uri,
        serial=serial,
        not_before_ms=until_ms - 3_600_000,
        not_after_ms=until_ms,
    )


def test_an_expired_certificate_opens_no_connection(server: ServerCommand) -> None:
    """TLS itself turns it away, on both ports, also where everything else about it is right."""
    host = server.new_host()
    past = server.clock.now_unix_ms() - 60_000
    serial = pki.identity(host.certificate).serial
    expired = short_lived(server, HOST_URI + host.id, serial=serial, until_ms=past, key=host.key)
    api = agent_pb2_grpc.AgentApiStub(server.dial(server.agents, (pki.key_to_pem(host.key), expired)))
    with pytest.raises(grpc.RpcError) as caught:
        api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16), timeout=CALL_S)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    key = pki.new_key()
    expired = short_lived(server, OPERATOR_URI + "root", serial=None, until_ms=past, key=key)
    hosts = operator_pb2_grpc.HostsStub(server.dial(server.operators, (pki.key_to_pem(key), expired)))
    with pytest.raises(grpc.RpcError) as caught:
        hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)
    assert caught.value.code() is StatusCode.UNAVAILABLE


def test_a_certificate_that_expires_on_an_open_connection_is_refused_from_then_on(server: ServerCommand) -> None:
    """By the machine's real clock: hosts and operators are answered until it expires, and refused by name after."""
    host = server.new_host()
    until = server.clock.now_unix_ms() // 1000 * 1000 + 4_000
    serial = pki.identity(host.certificate).serial
    lapsing = short_lived(server, HOST_URI + host.id, serial=serial, until_ms=until, key=host.key)
    api = agent_pb2_grpc.AgentApiStub(server.dial(server.agents, (pki.key_to_pem(host.key), lapsing)))
    key = pki.new_key()
    lapsing = short_lived(server, OPERATOR_URI + "temp", serial=None, until_ms=until, key=key)
    hosts = operator_pb2_grpc.HostsStub(server.dial(server.operators, (pki.key_to_pem(key), lapsing)))

    def sync() -> None:
        api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16), timeout=CALL_S)

    sync()
    hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)
    eventually(lambda: server.clock.now_unix_ms() > until, "the certificates expire")
    with refused(StatusCode.UNAUTHENTICATED, "expired"):
        sync()
    with refused(StatusCode.UNAUTHENTICATED, "expired"):
        hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)


def silent_peer(address: str, pem: Path, name: str) -> float:
    """Open a connection that never answers a ping; return after how many seconds the server gave it up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(pem)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CALL_S) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # an empty SETTINGS frame
        began = time.monotonic()
        tls.settimeout(10)
        try:
            while tls.recv(65_536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return time.monotonic() - began


def test_a_peer_that_falls_silent_is_given_up_after_the_keepalive_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ping that is not answered ends the connection in the time that is set, not in gRPC's own minute."""
    monkeypatch.setattr(listeners, "KEEPALIVE_MS", 1_000)
    monkeypatch.setattr(listeners, "KEEPALIVE_TIMEOUT_MS", 1_000)
    server = LiveServer(tmp_path)
    operators: list[str] = []

    async def run() -> float:
        stop, listening = asyncio.Event(), asyncio.Event()

        def told(_agents: str, _enrolment: str, address: str) -> None:
            operators.append(address)
            listening.set()

        free = "127.0.0.1:0"
        serving = asyncio.create_task(
            serve(Options(server.fleet / "server", free, free, free, ""), stop, listening=told)
        )
        try:
            await asyncio.wait_for(listening.wait(), CALL_S)
            pem = server.fleet / "operator" / "operator.pem"
            return await asyncio.to_thread(silent_peer, operators[0], pem, "127.0.0.1")
        finally:
            stop.set()
            await serving

    assert asyncio.run(run()) < 10


def test_the_operators_tool_gives_up_a_silent_server_in_its_keepalive_time() -> None:
    """Both of grpcio's time-outs of a ping are set: keepalive_timeout_ms alone does not act."""
    options = dict(channel.OPTIONS)
    assert options["grpc.http2.ping_timeout_ms"] == options["grpc.keepalive_timeout_ms"]


def test_systemd_hears_when_the_ports_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Type=notify`: READY=1 comes once, after the last port is open, and not before."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(CALL_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with ServerCommand(tmp_path):
            assert listening.recv(99) == b"READY=1"
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                listening.recv(99)
