"""The yardstick of the server's cost per call: a bare grpc.aio echo with the same TLS, message sizes and client.

It does nothing but answer: no protobuf, no interceptor, no storage. What Towpath's Sync costs beyond it is Towpath's.
Run by the bench as a process of its own: `python -m bench.echo FOLDER RESPONSE_BYTES` (certificates are in FOLDER).
"""

import asyncio
import secrets
import sys
import time
from pathlib import Path

import grpc

from towpath import names, pki

METHOD = "/bench.Echo/Call"
_SERVICE = "bench.Echo"


def make_certificates(folder: Path) -> tuple[bytes, bytes]:
    """Write a CA and a server's key and certificate into `folder`; return CA and client identity as PEM."""
    now_ms = time.time_ns() // 1_000_000
    ca_key, server_key, client_key = pki.new_key(), pki.new_key(), pki.new_key()
    ca = pki.new_ca(ca_key, now_ms=now_ms, days=1)
    times = {"not_before_ms": now_ms - 60_000, "not_after_ms": now_ms + 86_400_000}
    uri = names.HOST_URI + secrets.token_hex(8)
    client = pki.issue(ca, ca_key, pki.make_csr(client_key), uri=uri, **times)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(ca)
    (folder / "server.key").write_bytes(pki.key_to_pem(server_key))
    (folder / "server.pem").write_bytes(pki.issue_server(ca, ca_key, server_key, **times))
    return ca, pki.key_to_pem(client_key) + client


async def serve(folder: Path, response: bytes) -> None:
    """Serve on a free port, print it, and go on until killed."""

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        del request, context
        return response

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(_SERVICE, {"Call": grpc.unary_unary_rpc_method_handler(echo)})]
    )
    credentials = grpc.ssl_server_credentials(
        [((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())],
        root_certificates=(folder / "ca.pem").read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(f"echo on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), bytes(int(sys.argv[2]))))
