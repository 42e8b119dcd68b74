"""grpc's TLS does what `pki.check_pinned` relies on: a checked leaf, and only that leaf, can be a client's whole root."""

import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from towpath import pki
from towpath.names import SERVER_NAME

NOW = time.time_ns() // 1_000_000
HOUR_MS = 3_600_000
CA_KEY = pki.new_key()
CA = pki.new_ca(CA_KEY, now_ms=NOW)
METHOD = "/test.Echo/Say"


def leaf(key: ec.EllipticCurvePrivateKey, *, until_ms: int = NOW + HOUR_MS) -> bytes:
    return pki.issue_server(CA, CA_KEY, key, not_before_ms=NOW - 2 * HOUR_MS, not_after_ms=until_ms)


class _Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


@pytest.fixture
def start() -> Iterator[object]:
    servers = []

    def run(key: ec.EllipticCurvePrivateKey, chain: bytes) -> int:
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[_Echo()])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pki.key_to_pem(key), chain)]))
        server.start()
        servers.append(server)
        return port

    yield run
    for server in servers:
        server.stop(None).wait()


def say(port: int, root: bytes) -> bytes:
    options = [("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.enable_retries", 0)]
    credentials = grpc.ssl_channel_credentials(root)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        return channel.unary_unary(METHOD)(b"hello", timeout=10)


@pytest.mark.parametrize("chain", [b"", CA])
def test_a_leaf_is_its_own_root(start: object, chain: bytes) -> None:
    """A client whose only root is the server's own leaf accepts that server, whether or not the CA is sent along."""
    key = pki.new_key()
    certificate = leaf(key)
    assert say(start(key, certificate + chain), certificate) == b"hello"  # type: ignore[operator]


def test_another_leaf_of_the_same_ca_is_refused(start: object) -> None:
    """A server with another leaf, although of the same CA and name, is not the one that was checked."""
    key, other = pki.new_key(), pki.new_key()
    port = start(key, leaf(key) + CA)  # type: ignore[operator]
    with pytest.raises(grpc.RpcError) as caught:
        say(port, leaf(other))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_expired_leaf_is_refused(start: object) -> None:
    """A leaf that is its own root must still be valid now."""
    key = pki.new_key()
    certificate = leaf(key, until_ms=NOW - HOUR_MS)
    with pytest.raises(grpc.RpcError) as caught:
        say(start(key, certificate), certificate)  # type: ignore[operator]
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
