"""Who may call which port of the server: real certificates on real connections, each refusal by name."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fakes.live_server import CALL_S, DAY_MS, LiveServer, eventually, refused
from towpath import pki
from towpath.names import HOST_URI
from towpath.v1 import agent_pb2, agent_pb2_grpc, operator_pb2, operator_pb2_grpc


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def sync(channel: grpc.Channel) -> agent_pb2.SyncResponse:
    answer: agent_pb2.SyncResponse = agent_pb2_grpc.AgentApiStub(channel).Sync(
        agent_pb2.SyncRequest(nonce=b"n" * 16), timeout=CALL_S
    )
    return answer


def test_an_agents_certificate_on_the_operators_port_is_refused_and_audited(server: LiveServer) -> None:
    """A host cannot act as an operator, on any service; the audit log says who tried, once, not per call."""
    host = server.new_host()
    channel = server.dial(server.operators, (pki.key_to_pem(host.key), host.certificate))
    calls = [
        lambda: operator_pb2_grpc.HostsStub(channel).ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S),
        lambda: operator_pb2_grpc.ReleasesStub(channel).Upload(iter([operator_pb2.UploadRequest()]), timeout=CALL_S),
        lambda: operator_pb2_grpc.AssignmentsStub(channel).Deploy(operator_pb2.DeployRequest(), timeout=CALL_S),
        lambda: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_S),
    ]
    for call in calls:
        with refused(StatusCode.PERMISSION_DENIED, "wrong-role") as message:
            call()
        assert message == [f"cannot answer: this port is for operators, the certificate is host/{host.id}'s"]
    tried = server.audit("call")
    assert [(entry.actor, entry.outcome) for entry in tried] == [(f"host/{host.id}", "refused")]


def test_an_operators_certificate_on_the_agents_port_is_refused_and_audited(server: LiveServer) -> None:
    """An operator is no host: no sync, no stream, and it is written down."""
    pem = (server.fleet / "operator" / "operator.pem").read_bytes()
    api = agent_pb2_grpc.AgentApiStub(server.dial(server.agents, (pem, pem)))
    with refused(StatusCode.PERMISSION_DENIED, "wrong-role"):
        api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16), timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "wrong-role"):
        list(api.Fetch(agent_pb2.FetchRequest(), timeout=CALL_S))
    assert [(entry.actor, entry.outcome) for entry in server.audit("call")] == [("operator/root", "refused")]


def test_without_a_certificate_or_with_one_of_another_ca_there_is_no_connection(
    server: LiveServer, tmp_path: Path
) -> None:
    """The mTLS ports end the handshake before any method runs."""
    other = LiveServer(tmp_path / "other")
    for address in (server.agents, server.operators):
        for identity in (None, other.host_identity("x"), other.operator_identity("root")):
            with pytest.raises(grpc.RpcError) as caught:
                sync(server.dial(address, identity))
            assert caught.value.code() is StatusCode.UNAVAILABLE


def test_a_host_that_this_server_never_enrolled_is_refused(server: LiveServer) -> None:
    """A certificate of the right CA is not enough: the server must know the host."""
    with refused(StatusCode.PERMISSION_DENIED, "unknown-host"):
        sync(server.dial(server.agents, server.host_identity("0" * 32)))


def test_a_revoked_host_is_refused_from_the_next_call_on(server: LiveServer) -> None:
    """Incident 13, certificate trouble: revocation reaches an open connection: its watch ends at once, and its next call is refused."""
    host = server.new_host()
    watch = host.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(watch)
    server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h1", reason="stolen"), timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "revoked"):
        list(watch)
    with refused(StatusCode.PERMISSION_DENIED, "revoked"):
        host.sync()
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h1"), timeout=CALL_S)
    entries = [(entry.actor, entry.subject, entry.detail, entry.outcome) for entry in server.audit("host.revoke")]
    assert entries[0] == ("operator/root", "host/h1", "stolen", "done")
    assert entries[1][3] == "refused"


def test_a_certificate_that_expires_on_an_open_connection_is_refused(server: LiveServer) -> None:
    """Grpcio would let the connection live on; the gate looks at every call."""
    host = server.new_host()
    host.sync()
    server.clock.ahead_ms = 7 * DAY_MS + 1_000
    with refused(StatusCode.UNAUTHENTICATED, "expired"):
        host.sync()


def test_the_old_certificate_lives_until_the_new_one_is_used(server: LiveServer) -> None:
    """Renewal over the old identity; the old one still works, until the new one is used once, and never again."""
    host = server.new_host()
    key = pki.new_key()
    request = agent_pb2.RenewRequest(csr_der=pki.make_csr(key))
    answer = host.api.Renew(request, timeout=CALL_S)
    assert host.api.Renew(request, timeout=CALL_S).certificate_pem == answer.certificate_pem, "a lost reply"
    host.sync()
    renewed = server.dial(server.agents, (pki.key_to_pem(key), answer.certificate_pem))
    manifest = sync(renewed)
    assert manifest.envelope
    with refused(StatusCode.PERMISSION_DENIED, "stale-certificate"):
        host.sync()
    server.restart(host)
    with refused(StatusCode.PERMISSION_DENIED, "stale-certificate"):
        host.sync()


def test_a_bad_request_for_renewal_changes_nothing(server: LiveServer) -> None:
    """A CSR that is garbage, or not signed by its key, is refused and audited; the host goes on as before."""
    host = server.new_host()
    with refused(StatusCode.PERMISSION_DENIED, "bad-csr"):
        host.api.Renew(agent_pb2.RenewRequest(csr_der=b"garbage"), timeout=CALL_S)
    host.sync()
    assert [entry.outcome for entry in server.audit("host.renew")] == ["refused"]


def recover_request(host_key: object, certificate: bytes, at_ms: int, csr: bytes) -> agent_pb2.RecoverRequest:
    signature = pki.sign(host_key, pki.recover_message(at_ms, csr))  # type: ignore[arg-type]
    return agent_pb2.RecoverRequest(certificate_pem=certificate, csr_der=csr, at_unix_ms=at_ms, signature=signature)


def test_a_lapsed_certificate_recovers_with_its_old_key_and_only_in_its_grace(server: LiveServer) -> None:
    """Incident 13, certificate trouble: within 30 days the old key is proof enough; a forged signature, an old request, a later time are not."""
    host = server.new_host()
    csr = pki.make_csr(pki.new_key())
    server.clock.ahead_ms = 20 * DAY_MS
    now = server.clock.now_unix_ms()
    good = recover_request(host.key, host.certificate, now, csr)
    with refused(StatusCode.PERMISSION_DENIED, "bad-signature"):
        server.enrolments.Recover(recover_request(pki.new_key(), host.certificate, now, csr), timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "replay"):
        old = recover_request(host.key, host.certificate, now - DAY_MS, csr)
        server.enrolments.Recover(old, timeout=CALL_S)
    pem = server.enrolments.Recover(good, timeout=CALL_S).certificate_pem
    identity = pki.identity(pem)
    assert (identity.role, identity.name, identity.key_sha256) == ("host", host.id, pki.csr_key_sha256(csr))
    assert server.enrolments.Recover(good, timeout=CALL_S).certificate_pem == pem, "a lost reply"
    server.clock.ahead_ms = 40 * DAY_MS
    with refused(StatusCode.UNAUTHENTICATED, "expired"):
        late = recover_request(host.key, host.certificate, server.clock.now_unix_ms(), csr)
        server.enrolments.Recover(late, timeout=CALL_S)
    outcomes = [entry.outcome for entry in server.audit("host.recover")]
    assert outcomes == ["refused", "refused", "done", "done", "refused"]


def test_a_revoked_host_and_an_operator_recover_nothing(server: LiveServer) -> None:
    """Recovery is for active hosts of this CA alone."""
    host = server.new_host()
    csr = pki.make_csr(pki.new_key())
    now = server.clock.now_unix_ms()
    server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h1"), timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "revoked"):
        server.enrolments.Recover(recover_request(host.key, host.certificate, now, csr), timeout=CALL_S)
    key_pem, certificate = server.operator_identity("eve")
    with refused(StatusCode.PERMISSION_DENIED, "wrong-role"):
        request = recover_request(pki.key_from_pem(key_pem), certificate, now, csr)
        server.enrolments.Recover(request, timeout=CALL_S)


def test_calls_are_limited_per_host(server: LiveServer) -> None:
    """A host that calls in a loop is told to slow down, under a code of its own; another one is not."""
    loud, calm = server.new_host("loud"), server.new_host("calm")
    futures = [loud.api.Sync.future(agent_pb2.SyncRequest(nonce=b"n" * 16), timeout=60) for _ in range(2_000)]
    failures = [error for future in futures if (error := future.exception()) is not None]
    assert failures, "2000 calls at once were all answered"
    with refused(StatusCode.RESOURCE_EXHAUSTED, "rate-limit"):
        raise failures[0]
    calm.sync()
    eventually(lambda: _answered(loud), "the loud host is answered again")


def _answered(host: object) -> bool:
    try:
        host.sync()  # type: ignore[attr-defined]
    except grpc.RpcError:
        return False
    return True


def test_health_and_reflection_answer_on_every_port(server: LiveServer) -> None:
    """Grpcurl and health checkers work with the certificate that the port asks for, and see that port's services."""
    host = server.new_host()
    pem = (server.fleet / "operator" / "operator.pem").read_bytes()
    ports = {
        "towpath.v1.AgentApi": server.dial(server.agents, (pki.key_to_pem(host.key), host.certificate)),
        "towpath.v1.Enrollment": server.dial(server.enrolment),
        "towpath.v1.Releases": server.dial(server.operators, (pem, pem)),
    }
    for service, channel in ports.items():
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", service):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S).status == 1
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]), timeout=CALL_S)
        named = {one.name for answer in answers for one in answer.list_services_response.service}
        assert service in named
        assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= named
        assert not named & (set(ports) - {service})


def leaf(address: str) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CALL_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        data = tls.getpeercert(binary_form=True)
        assert data is not None
        return x509.load_der_x509_certificate(data)


def test_the_servers_own_certificate_is_renewed_while_it_runs(server: LiveServer) -> None:
    """At two thirds of its 90 days new handshakes see a new certificate; open connections go on."""
    server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)
    first = leaf(server.enrolment)
    assert leaf(server.enrolment) == first
    server.clock.ahead_ms = 61 * DAY_MS
    second = leaf(server.enrolment)
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    server.hosts.ListHosts(operator_pb2.ListHostsRequest(), timeout=CALL_S)


def test_a_role_cannot_be_forged_by_a_strange_name(server: LiveServer) -> None:
    """A certificate of our CA whose name is no role of ours is refused as that."""
    key = pki.new_key()
    strange = server.forged(HOST_URI.replace("host", "admin") + "x", key)
    with refused(StatusCode.PERMISSION_DENIED, "wrong-role"):
        sync(server.dial(server.agents, (pki.key_to_pem(key), strange)))
