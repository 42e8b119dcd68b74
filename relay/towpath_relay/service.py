"""The relay's own gRPC: `AgentApi.Fetch` for objects and deltas, over TLS that proves only the asker.

Hosts show their certificate, because what a fleet runs is nobody else's business on the site's network. The relay has a
certificate of its own making and nobody checks it: nothing that it says is believed. It knows no revocations: a revoked
host can take objects here until its certificate expires. Everything but Fetch is for the server, through the tunnel.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from towpath import pki
from towpath.errors import TowpathError
from towpath.v1 import agent_pb2, agent_pb2_grpc
from towpath.wire.packing import Packer
from towpath_agent.ports import CHUNK_BYTES, MAX_WANTS, Want
from towpath_relay.sources import Source, Unneeded, Whole

# Each Fetch that runs holds one; the others of a large site wait their turn.
THREADS = 128
CERTIFICATE_DAYS = 3650
DIGEST_BYTES = 32
_MIN_PING_INTERVAL_MS = 5_000


class RelayServicer(agent_pb2_grpc.AgentApiServicer):
    """Answers Fetch."""

    def __init__(
        self,
        sources: Callable[[list[Want]], list[Source]],
        now_unix_ms: Callable[[], int],
        lively: Callable[[], bool],
    ) -> None:
        """`lively`: whether the line brings anything, so that whoever waits for something may be told to wait on."""
        self._sources, self._now_unix_ms, self._lively = sources, now_unix_ms, lively
        self.sent_bytes = 0

    def Fetch(self, request: agent_pb2.FetchRequest, call: grpc.ServicerContext) -> Iterator[agent_pb2.FetchResponse]:
        """See the .proto file. What is no object is missing here: metadata has to be the server's newest."""
        self._check(call)
        if len(request.wants) > MAX_WANTS:
            call.abort(grpc.StatusCode.PERMISSION_DENIED, f"cannot fetch more than {MAX_WANTS} things at once")
        wants = list(request.wants)
        asked = [_want(want) for want in wants]
        sources = iter(self._sources([want for want in asked if want is not None]))
        packer = Packer(takes=request.packed)
        try:
            for number, want in enumerate(wants):
                source = next(sources) if asked[number] is not None else None
                if not isinstance(source, Whole):  # it may take its time, and what is here does not wait for it
                    yield from packer.rest()
                for answer in self._answer(number, want.offset, source):
                    if answer is not None:
                        yield from packer.add(answer, CHUNK_BYTES)
                    elif request.waits and self._lively():
                        yield from packer.add(agent_pb2.FetchResponse(want=number), CHUNK_BYTES)
            yield from packer.rest()
        except TowpathError as error:
            yield from packer.rest()
            call.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    def _answer(self, number: int, offset: int, source: Source | None) -> Iterator[agent_pb2.FetchResponse | None]:
        """Yield the answers, and None now and then while there is none yet."""
        if source is not None:
            for _ in source.pauses():
                yield None
        size = source.carried_size() if source is not None else None
        if source is None or size is None:
            unneeded = isinstance(source, Unneeded)
            yield agent_pb2.FetchResponse(want=number, missing=True, last=True, unneeded=unneeded)
            return
        sent, first = offset, True
        for piece in source.pieces(offset):
            if not piece:
                yield None
                continue
            sent += len(piece)
            self.sent_bytes += len(piece)
            yield agent_pb2.FetchResponse(want=number, data=piece, last=sent >= size, carried_size=size if first else 0)
            first = False
        if first:
            yield agent_pb2.FetchResponse(want=number, last=True, carried_size=size)

    def _check(self, call: grpc.ServicerContext) -> None:
        pem = next(iter(call.auth_context().get("x509_pem_cert") or ()), b"")
        try:
            who = pki.identity(bytes(pem))
        except TowpathError as error:
            call.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if who.role != "host" or who.not_after_ms <= self._now_unix_ms():
            call.abort(grpc.StatusCode.PERMISSION_DENIED, "cannot answer: this is for hosts with a valid certificate")


def _want(want: agent_pb2.Want) -> Want | None:
    """Return what a relay may have, None for anything else."""
    match want.WhichOneof("what"):
        case "object_sha256" if len(want.object_sha256) == DIGEST_BYTES:
            return Want("object", digest=want.object_sha256)
        case "delta" if {len(want.delta.old_index_sha256), len(want.delta.new_index_sha256)} == {DIGEST_BYTES}:
            new, old = want.delta.new_index_sha256, want.delta.old_index_sha256
            return Want("delta", digest=new, base=old, opened=want.delta.opened)
        case _:
            return None


def own_identity(path: Path, now_unix_ms: int) -> tuple[bytes, bytes]:
    """Return key and certificate (PEM) that the relay shows: those in `path`, made at the first start."""
    if path.exists():
        pem = path.read_bytes()
    else:
        key = pki.new_key()
        pem = pki.key_to_pem(key) + pki.relay_certificate(
            key, not_before_ms=now_unix_ms, not_after_ms=now_unix_ms + CERTIFICATE_DAYS * pki.DAY_MS
        )
        path.touch(0o600)
        path.write_bytes(pem)
    return pem, pem


def serve(servicer: RelayServicer, socket_path: Path, identity: tuple[bytes, bytes], ca_pem: bytes) -> Any:
    """Return a started gRPC server on a socket in the relay's folder; the front leads there."""
    server = grpc.server(
        ThreadPoolExecutor(THREADS, "fetch"),
        options=(
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ),
    )
    agent_pb2_grpc.add_AgentApiServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([identity], root_certificates=ca_pem, require_client_auth=True)
    socket_path.unlink(missing_ok=True)
    server.add_secure_port(f"unix:{socket_path}", credentials)
    server.start()
    socket_path.chmod(0o600)
    return server
