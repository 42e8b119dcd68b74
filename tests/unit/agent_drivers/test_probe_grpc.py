"""Probe `grpc`: what it says of real servers, and of bytes that no health service sends."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from fakes.loopback import unused_port
from fakes.probing import check
from towpath_agent.probes import grpc as probe


@contextmanager
def serving(*, service: bool = True, answer: bytes | None = None) -> Iterator[int]:
    """Give the port of a gRPC server with the standard health service, without it, or with raw bytes as its answer."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    if answer is not None:
        handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
        handlers = {"Check": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    elif service:
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        servicer.set("cellar", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_the_server_as_a_whole_serves(tmp_path: Path) -> None:
    """Without a service the empty name is asked, which stands for the whole server."""
    with serving() as port:
        seen = check("grpc", {"port": port}, tmp_path)
    assert seen.ok, seen.evidence
    assert "SERVING" in seen.evidence
    assert " ms" in seen.evidence


@pytest.mark.parametrize(
    ("service", "words"), [("cellar", "NOT_SERVING"), ("attic", "NOT_FOUND")], ids=["not serving", "unknown"]
)
def test_a_service_that_does_not_serve_is_said_so(tmp_path: Path, service: str, words: str) -> None:
    """Its own status, or the error with which the server refused."""
    with serving() as port:
        seen = check("grpc", {"port": port, "service": service}, tmp_path)
    assert not seen.ok
    assert words in seen.evidence
    assert service in seen.evidence


def test_a_server_without_the_health_service_is_said_so(tmp_path: Path) -> None:
    """It answers, but does not know the method."""
    with serving(service=False) as port:
        assert "UNIMPLEMENTED" in check("grpc", {"port": port}, tmp_path).evidence


def test_nobody_listening_is_said_at_once(tmp_path: Path) -> None:
    """A refused connection is not waited out."""
    seen = check("grpc", {"port": unused_port()}, tmp_path)
    assert not seen.ok
    assert "UNAVAILABLE" in seen.evidence
    assert "refused" in seen.evidence


def test_a_proxy_of_the_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is asked of the app itself."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    with serving() as port:
        assert check("grpc", {"port": port, "host": "localhost"}, tmp_path).ok


@pytest.mark.parametrize("answer", [b"\xff" * 20, b"\x08", b"\x0a\x05ab", b"\x0b", b"x" * 5000])
def test_an_answer_that_is_none_is_a_failed_check(tmp_path: Path, answer: bytes) -> None:
    """Garbage, cut-off and endless answers fail with a reason."""
    with serving(answer=answer) as port:
        seen = check("grpc", {"port": port}, tmp_path)
    assert not seen.ok
    assert "SERVING after" not in seen.evidence


@given(st.text(max_size=300))
def test_the_request_is_what_the_library_would_write(service: str) -> None:
    """Byte for byte the same as the generated message, whatever the name."""
    try:
        name = service.encode()
    except UnicodeEncodeError:
        return
    if len(name) <= 1024:
        assert probe._request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()


@given(st.sampled_from([0, 1, 2, 3, 99]), st.binary(max_size=40))
def test_the_answer_is_read_as_the_library_would(status: int, unknown: bytes) -> None:
    """The status is found among fields that are not known; any other bytes are its default or a ValueError."""
    message = health_pb2.HealthCheckResponse()
    data = (b"\x08" + bytes((status,)) if status else b"") + b"\x7a" + bytes((len(unknown),)) + unknown
    message.ParseFromString(data)
    assert probe._status(data) == message.status
    try:
        assert probe._status(unknown) >= 0
    except ValueError as error:
        assert "HealthCheckResponse" in str(error)
