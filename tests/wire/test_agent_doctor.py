"""The way to the server, as doctor tells it: each thing that may stand between, under its own name."""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.authority import Authority
from fakes.grpc_server import AgentApi, FakeEnrolment, serve_agents, serve_enrolment
from fakes.loopback import Handle, answer, full_queue, serving, silent, unused_port
from fakes.server import FakeServer
from fakes.site import Site
from towpath import pki
from towpath_agent.doctor import Level
from towpath_agent.doctor.network import proxies, server
from towpath_agent.doctor.sources import origins, relay
from towpath_agent.transport.dialling import AUTO


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def identity(authority: Authority, tmp_path: Path) -> Path:
    """Return the file with this host's key and certificate."""
    path = tmp_path / "identity.pem"
    path.write_bytes(authority.identity("id-1"))
    return path


def look(port: int, authority: Authority, identity: Path | None = None, timeout_s: float = 5.0) -> str:
    found = server(f"127.0.0.1:{port}", authority.ca_pem, "agents'", identity, timeout_s)
    assert found.level is Level.FAIL
    return found.text


def tls(authority: Authority, tmp_path: Path, then: Callable[[ssl.SSLSocket], None], *, alpn: str = "h2") -> Handle:
    """Return what speaks TLS with the fleet's certificate, then something else than gRPC."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(pki.key_to_pem(authority.server_key) + authority.server_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols([alpn])

    def handle(connection: socket.socket, _stop: object) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            then(line)

    return handle


def test_a_server_that_answers_is_ok_on_both_ports(authority: Authority, identity: Path) -> None:
    """Name, TCP, mutual TLS and HTTP/2 are proven on the agents' port, TLS and HTTP/2 on the enrolment port."""
    agents, enrolment = serve_agents(AgentApi(FakeServer(), authority)), serve_enrolment(FakeEnrolment(authority))
    try:
        for listener, who in ((agents, identity), (enrolment, None)):
            found = server(listener.address, authority.ca_pem, "some", who)
            assert found.level is Level.OK, found.text
            assert "answers (TLSv1." in found.text
    finally:
        agents.stop()
        enrolment.stop()


def test_a_host_that_the_server_does_not_know_is_told_so(authority: Authority, tmp_path: Path) -> None:
    """A certificate of another CA, and none at all: refused after the handshake, which TLS 1.3 says only then."""
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority().identity("id-1"))
    agents = serve_agents(AgentApi(FakeServer(), authority))
    try:
        port = int(agents.address.rpartition(":")[2])
        for who in (stranger, None):
            assert "it refuses this host's certificate" in look(port, authority, who)
    finally:
        agents.stop()


def test_a_server_of_another_fleet_or_a_proxy_that_opens_tls_is_named(authority: Authority) -> None:
    """Its certificate is not vouched for by this fleet's CA."""
    enrolment = serve_enrolment(FakeEnrolment(authority), shown=Authority())
    try:
        said = look(int(enrolment.address.rpartition(":")[2]), authority)
        assert "another certificate than this fleet's is shown" in said
    finally:
        enrolment.stop()


def test_nobody_there_is_told_apart_from_a_firewall_that_drops(authority: Authority) -> None:
    """Refused at once, or no answer at all."""
    assert "nothing listens there (is it running?), or a firewall rejects it" in look(unused_port(), authority)
    with full_queue() as port:
        assert "no answer within 0.3s: a firewall drops it" in look(port, authority, timeout_s=0.3)


def test_a_name_that_cannot_be_resolved_is_named(authority: Authority) -> None:
    """DNS, before anything is dialled."""
    found = server("no-such-host.invalid:7443", authority.ca_pem, "agents'", None, 2.0)
    assert "its name cannot be resolved" in found.text or "it cannot be reached" in found.text


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (answer(407, b"proxy login"), "speaks no TLS: a proxy, a login page of the network, or the wrong port"),
        (silent, "TCP works, TLS is not answered within 0.5s"),
        (lambda connection, _stop: connection.close(), "the connection is cut during the TLS handshake"),
    ],
)
def test_what_stands_between_is_named(authority: Authority, handle: Handle, message: str) -> None:
    """A proxy that speaks HTTP, a box that swallows TLS, one that cuts it."""
    with serving(handle) as port:
        assert message in look(port, authority, timeout_s=0.5)


def test_tls_that_leads_to_no_grpc_server_is_named(authority: Authority, tmp_path: Path) -> None:
    """The right certificate, but HTTP/1.1 behind it, noise, or silence."""
    asked = threading.Event()

    def wrong(line: ssl.SSLSocket) -> None:
        line.recv(99)  # all that is sent: a close with bytes unread would be a reset
        line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        line.recv(99)

    def nothing(line: ssl.SSLSocket) -> None:
        while line.recv(99):
            asked.set()

    with serving(tls(authority, tmp_path, lambda line: line.recv(99) and None, alpn="http/1.1")) as port:
        assert "no HTTP/2" in look(port, authority)
    with serving(tls(authority, tmp_path, wrong)) as port:
        assert "what answers is no gRPC server" in look(port, authority)
    with serving(tls(authority, tmp_path, nothing)) as port:
        assert "TLS works, then silence" in look(port, authority, timeout_s=0.5)
    assert asked.is_set()


def test_an_address_or_identity_that_cannot_be_used_is_named(authority: Authority, tmp_path: Path) -> None:
    """Before anything is dialled."""
    assert "cannot be dialled" in server("nonsense", authority.ca_pem, "agents'", None).text
    assert "cannot be dialled" in server("127.0.0.1:1", b"nonsense", "agents'", None).text
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    assert "cannot be dialled" in server("127.0.0.1:1", authority.ca_pem, "agents'", broken).text


def test_a_proxy_in_the_environment_is_told() -> None:
    """The agent takes it without a word; one that does not answer is named, and no login is."""
    assert proxies("server:7443", {}) == []
    assert proxies("server:7443", {"https_proxy": "http://proxy:3128", "no_proxy": "server"}) == []
    (one,) = proxies("server:7443", {"HTTPS_PROXY": "http://me:secret@proxy:3128"})
    assert (one.level, "has the proxy proxy:3128" in one.text) == (Level.WARN, True)


def told(setting: str, site: Site, identity: Path) -> str:
    """Return what doctor says of a relay at `setting`."""
    found = list(relay({"relay": setting}, site.authority.ca_pem, identity))
    assert {one.level for one in found} <= {Level.OK, Level.WARN}, "a host does not need its relay"
    return "; ".join(one.text for one in found)


def test_a_relay_is_looked_at_and_is_never_a_failure(authority: Authority, identity: Path, tmp_path: Path) -> None:
    """One that answers, one that is away, and a server that was taken for one; a site without that name has none."""
    with Site(tmp_path / "site", authority) as site:
        assert told(site.relay, site, identity) == f"{site.relay} answers, and so does the server behind it"
        no_relay = f"{site.server} leads to the server, but has no objects: is it a relay?"
        assert no_relay in told(site.server, site, identity)
        site.stop_server()
        assert f"{site.relay} answers, and reaches no server behind it: look at the log of the relay" in told(
            site.relay, site, identity
        )
        assert f"cannot lead hosts to the server at {site.server}: " in (site.folder / "relay.log").read_text()
        site.start_server()
        assert told(site.relay, site, identity) == f"{site.relay} answers, and so does the server behind it"
        said = (site.folder / "relay.log").read_text()
        assert said.count("cannot lead hosts") == said.count(f"the server at {site.server} is there again") == 1
        site.end_relay()
        away = told(site.relay, site, identity)
        assert f"relay's port {site.relay}: the machine answers, but nothing listens there" in away
        assert "the agent goes to the server itself meanwhile" in away
        assert "this site has none: nothing here has the name towpath-relay" in told(AUTO, site, identity)
    assert list(relay({}, authority.ca_pem, identity)) == []


def test_addresses_to_fetch_from_are_dialled(authority: Authority, tmp_path: Path) -> None:
    """Each that `direct_from` names: one that answers, one where nobody is, one whose certificate nobody vouches for."""
    with serving(silent) as plain, serving(tls(authority, tmp_path, lambda line: line.recv(9) and None)) as secure:
        nobody = unused_port()
        setting = f"http://127.0.0.1:{plain} http://127.0.0.1:{nobody} https://127.0.0.1:{secure}"
        good, away, strange = origins({"direct_from": setting})
    assert (good.level, good.text) == (Level.OK, f"http://127.0.0.1:{plain} answers")
    assert (away.level, strange.level) == (Level.WARN, Level.WARN)
    assert "refused" in away.text.lower()
    assert "certificate" in strange.text
    assert "objects come from the server meanwhile" in strange.text
    assert list(origins({})) == []
