"""Enrolment on the wire: tokens, lost replies, and machines that ask for more than they may have."""

import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from grpc import StatusCode

from fakes.live_server import CALL_S, LiveServer, code_of, refused
from towpath import pki
from towpath.names import HOST_URI
from towpath.token import Token, format_token, parse_token
from towpath.v1 import agent_pb2, operator_pb2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def csr() -> bytes:
    return pki.make_csr(pki.new_key())


def test_a_token_lets_a_host_in_with_its_environment_and_labels(server: LiveServer) -> None:
    """The host is what the token says; the answer holds a 7 day certificate, the pinned CA, the first root."""
    text = server.token(uses=2, environment="staging", role="web", zone="b")
    token = parse_token(text)
    request = csr()
    answer = server.enroll(text, "h1", request, platform="linux/amd64", agent_version="9.9")
    identity = pki.identity(answer.certificate_pem)
    assert (identity.role, identity.name, identity.key_sha256) == ("host", answer.host_id, pki.csr_key_sha256(request))
    now = server.clock.now_unix_ms()
    assert identity.not_after_ms == pytest.approx(now + 7 * pki.DAY_MS, abs=60_000)
    assert identity.not_before_ms == pytest.approx(now - 600_000, abs=60_000), "backdated: clocks differ"
    pki.check_ca(answer.ca_pem, token.ca_point)
    assert answer.root_json == (server.fleet / "operator" / "root.json").read_bytes()
    assert answer.agent_address == f":{server.agents.rpartition(':')[2]}", "an empty host: the one that was dialled"
    (host,) = server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S).hosts
    assert (host.name, host.environment, dict(host.labels)) == ("h1", "staging", {"role": "web", "zone": "b"})
    assert (host.status, host.online, host.platform, host.agent_version) == ("active", False, "linux/amd64", "9.9")


def test_the_secret_of_a_token_is_not_kept(server: LiveServer) -> None:
    """Neither text nor secret is in any file of the server, only the digest."""
    text = server.token()
    secret = parse_token(text).secret
    server.stop()
    data = b"".join(path.read_bytes() for path in (server.fleet / "server").glob("towpath.db*"))
    assert secret not in data
    assert text.encode() not in data


def test_a_token_is_used_up(server: LiveServer) -> None:
    """Incident 18, enrolment trouble: two uses are two hosts; the third is told so, and nothing is left of it."""
    text = server.token(uses=2)
    server.enroll(text, "h1", csr())
    server.enroll(text, "h2", csr())
    with refused(StatusCode.UNAUTHENTICATED, "token-used") as message:
        server.enroll(text, "h3", csr())
    assert message == ["cannot enrol: the token is used up; ask the operator for a new one"]
    assert len(server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S).hosts) == 2
    assert [entry.outcome for entry in server.audit("host.enroll")] == ["done", "done", "refused"]


def test_uses_hold_when_many_enrol_at_the_same_time(server: LiveServer) -> None:
    """Sixteen machines race for five uses: five win."""
    text = server.token(uses=5)

    def attempt(number: int) -> str:
        try:
            server.enroll(text, f"h{number}", csr())
        except grpc.RpcError as error:
            return code_of(error)
        return "enrolled"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(16)))
    assert sorted(outcomes) == ["enrolled"] * 5 + ["token-used"] * 11


def test_a_lost_reply_strands_nobody(server: LiveServer) -> None:
    """Incident 18, enrolment trouble: the same token and key get the very same certificate, without a use, also after a restart."""
    text = server.token(uses=1)
    request = csr()
    first = server.enroll(text, "h1", request)
    assert server.enroll(text, "h1", request) == first
    server.restart()
    again = server.enroll(text, "h1", request)
    assert (again.host_id, again.certificate_pem) == (first.host_id, first.certificate_pem)
    with refused(StatusCode.ALREADY_EXISTS, "exists") as message:
        server.enroll(text, "another-name", request)
    assert "this key belongs to h1" in message[0]
    server.clock.ahead_ms = 2 * 3_600_000
    with refused(StatusCode.UNAUTHENTICATED, "token-expired"):
        server.enroll(text, "h1", request)


def test_a_host_that_lost_the_reply_and_the_token_comes_back_with_another(server: LiveServer) -> None:
    """The same name and key under a new token are the same host, with a new certificate."""
    request = csr()
    first = server.enroll(server.token(), "h1", request)
    second = server.enroll(server.token(), "h1", request)
    assert second.host_id == first.host_id
    assert second.certificate_pem != first.certificate_pem
    with refused(StatusCode.ALREADY_EXISTS, "exists"):
        server.enroll(server.token(environment="production"), "h1", request)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda token: Token(token.id, b"\0" * 32, token.ca_point), "token-unknown"),
        (lambda token: Token("f" * 16, token.secret, token.ca_point), "token-unknown"),
    ],
)
def test_a_wrong_secret_and_an_unknown_token_look_the_same(server: LiveServer, change: object, code: str) -> None:
    """Guessing tells nothing: one code, one message."""
    token = change(parse_token(server.token()))  # type: ignore[operator]
    with refused(StatusCode.UNAUTHENTICATED, code) as message:
        server.enroll(format_token(token), "h1", csr())
    assert message == ["cannot enrol: the token is unknown; ask the operator for a new one"]


def test_a_name_belongs_to_one_active_host(server: LiveServer) -> None:
    """Another key cannot take the name of a host that lives; once that host is revoked, it can."""
    text = server.token(uses=3)
    first = server.enroll(text, "h1", csr())
    with refused(StatusCode.ALREADY_EXISTS, "exists") as message:
        server.enroll(text, "h1", csr())
    assert message[0].startswith("cannot enrol as 'h1': another host has that name; ")
    server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h1"), timeout=CALL_S)
    second = server.enroll(text, "h1", csr())
    assert second.host_id != first.host_id
    listed = server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S).hosts
    assert {(host.name, host.status) for host in listed} == {
        ("h1", "active"),
        (f"h1.revoked.{first.host_id[:8]}", "revoked"),
    }


def test_what_a_csr_asks_for_is_ignored(server: LiveServer) -> None:
    """Incident 18, enrolment trouble: A CSR in another host's name, for a server, for a CA: the certificate says what the server decided."""
    victim = server.new_host("victim")
    key = pki.new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, victim.id)]))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(HOST_URI + victim.id),
                    x509.UniformResourceIdentifier("spiffe://towpath/operator/root"),
                    x509.DNSName("server.towpath.internal"),
                ]
            ),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    for answer in (
        server.enroll(server.token(), "h2", greedy).certificate_pem,
        victim.api.Renew(agent_pb2.RenewRequest(csr_der=greedy), timeout=CALL_S).certificate_pem,
    ):
        certificate = x509.load_pem_x509_certificate(answer)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = pki.identity(answer)
        assert [name.value for name in names] == [HOST_URI + identity.name]
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < datetime.timedelta(days=8)
    assert pki.identity(server.enroll(server.token(), "h3", csr()).certificate_pem).name != victim.id


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"name": "No Spaces"}, StatusCode.INVALID_ARGUMENT, "bad-input"),
        ({"name": ""}, StatusCode.INVALID_ARGUMENT, "bad-input"),
        ({"csr_der": b""}, StatusCode.PERMISSION_DENIED, "bad-csr"),
        ({"csr_der": b"\x30\x82" * 1_000}, StatusCode.PERMISSION_DENIED, "bad-csr"),
    ],
)
def test_a_bad_request_costs_no_use(
    server: LiveServer, fields: dict[str, object], status: StatusCode, code: str
) -> None:
    """What is refused leaves the token as it was."""
    text = server.token(uses=1)
    token = parse_token(text)
    good = {"token_id": token.id, "token_secret": token.secret, "name": "h1", "csr_der": csr()}
    with refused(status, code):
        server.enrolments.Enroll(agent_pb2.EnrollRequest(**{**good, **fields}), timeout=CALL_S)
    server.enroll(text, "h1", csr())


def test_a_huge_request_is_not_even_read(server: LiveServer) -> None:
    """The enrolment port is open to anybody: more than 128 KiB is cut off by gRPC itself."""
    with pytest.raises(grpc.RpcError) as caught:
        server.enrolments.Enroll(agent_pb2.EnrollRequest(csr_der=b"x" * 200_000), timeout=CALL_S)
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "fields",
    [{"uses": 10_001}, {"ttl_ms": 31 * 86_400_000}, {"environment": "Not OK"}, {"labels": {"bad key": "x"}}],
    ids=str,
)
def test_an_operator_is_told_what_a_token_may_be(server: LiveServer, fields: dict[str, object]) -> None:
    """Uses, life, environment and labels have bounds; the refusal is audited."""
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        request = operator_pb2.CreateTokenRequest(**{"environment": "dev", **fields})  # type: ignore[arg-type]
        server.hosts.CreateToken(request, timeout=CALL_S)
    assert [(entry.actor, entry.outcome) for entry in server.audit("token.create")] == [("operator/root", "refused")]
