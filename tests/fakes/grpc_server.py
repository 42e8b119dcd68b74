"""A small in-process gRPC server over real TLS: the wire between a real client and the in-memory fakes.

The agent port stands before a `FakeServer` (so that the conformance suite switches troubles on in one place); the
enrolment port before a `FakeEnrolment`. Both listen on a free port of loopback.
"""

import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc

from fakes.authority import Authority, now_ms
from fakes.server import FakeServer
from towpath import pki
from towpath.errors import InputError, Refusal, TowpathError
from towpath.v1 import agent_pb2 as pb
from towpath.v1 import agent_pb2_grpc as rpc
from towpath.wire.holds import from_holds
from towpath.wire.reports import from_app_state, from_event
from towpath_agent.ports import Want

SLOW_S = 30.0


def _abort(context: grpc.ServicerContext, error: TowpathError) -> Any:
    """End the call the way the real server does: status, one-line message, the code as trailing metadata."""
    context.set_trailing_metadata((("towpath-code", error.code),))
    if isinstance(error, Refusal):
        status = grpc.StatusCode.UNAUTHENTICATED if error.code == "bad-token" else grpc.StatusCode.PERMISSION_DENIED
    elif isinstance(error, InputError):
        status = grpc.StatusCode.ALREADY_EXISTS if error.code == "exists" else grpc.StatusCode.INVALID_ARGUMENT
    else:
        status = grpc.StatusCode.UNAVAILABLE
    context.abort(status, str(error))


class AgentApi(rpc.AgentApiServicer):
    """Translates calls to a FakeServer."""

    def __init__(self, behind: FakeServer, authority: Authority) -> None:
        self.behind = behind
        self.authority = authority
        self.peers: list[str] = []
        self.serials: list[int] = []
        self.refused_serials: set[int] = set()
        self.raw: list[pb.FetchResponse] = []  # what a fetch is answered with, whatever is asked

    def _peer(self, context: grpc.ServicerContext) -> str:
        """Return the host id of the caller's certificate."""
        pem = context.auth_context()["x509_pem_cert"][0]
        facts = pki.identity(pem)
        if facts.serial in self.refused_serials:
            _abort(context, Refusal("cannot accept the certificate: a newer one is in use", code="old-serial"))
        self.peers.append(facts.name)
        self.serials.append(facts.serial)
        return facts.name

    def Sync(self, request: pb.SyncRequest, context: grpc.ServicerContext) -> pb.SyncResponse:
        self._peer(context)
        try:
            answer = self.behind.sync(
                nonce=request.nonce,
                state_revision=request.state_revision,
                boot_id=request.boot_id,
                holds=from_holds(request.holds),
                accepted_sequence=request.accepted_sequence,
                features=tuple(request.features),
            )
        except TowpathError as error:
            return _abort(context, error)
        return pb.SyncResponse(
            envelope=answer.envelope, known_state_revision=answer.known_state_revision, keep=answer.keep
        )

    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        self._peer(context)
        try:
            ids = self.behind.report(
                [from_event(event) for event in request.events],
                [from_app_state(state) for state in request.apps],
                request.state_revision,
            )
        except TowpathError as error:
            return _abort(context, error)
        return pb.ReportResponse(acknowledged=ids)

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        self._peer(context)
        stop, changed = threading.Event(), threading.Semaphore(0)
        failure: list[TowpathError] = []
        context.add_callback(lambda: (stop.set(), changed.release()))

        def run() -> None:
            try:
                self.behind.watch(changed.release, stop)
            except TowpathError as error:
                failure.append(error)
            stop.set()
            changed.release()

        thread = threading.Thread(target=run)
        thread.start()
        while changed.acquire() and not stop.is_set():
            yield pb.WatchResponse(change=1)
        thread.join()
        if failure:
            _abort(context, failure[0])

    def Fetch(self, request: pb.FetchRequest, context: grpc.ServicerContext) -> Iterator[pb.FetchResponse]:
        self._peer(context)
        if self.raw:
            yield from self.raw
            return
        gone = threading.Event()
        context.add_callback(gone.set)
        wants = [_want(want) for want in request.wants]
        try:
            for chunk in self.behind.fetch(wants):
                yield pb.FetchResponse(
                    want=chunk.want,
                    data=chunk.data,
                    last=chunk.last,
                    missing=chunk.missing,
                    carried_size=chunk.carried_size,
                )
        except TowpathError as error:
            if error.code == "slow-retrieval":  # what the fake only says, the wire really does: nothing comes any more
                gone.wait(SLOW_S)
                return
            _abort(context, error)

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewResponse:
        host_id = self._peer(context)
        pem = self.authority.issue(request.csr_der, host_id)
        return pb.RenewResponse(certificate_pem=pem, ca_pem=self.authority.ca_pem)


def _want(message: pb.Want) -> Want:
    match message.WhichOneof("what"):
        case "metadata":
            return Want("metadata", message.metadata, offset=message.offset)
        case "target":
            return Want("target", message.target, offset=message.offset)
        case "delta":
            delta = message.delta
            return Want(
                "delta",
                digest=delta.new_index_sha256,
                base=delta.old_index_sha256,
                offset=message.offset,
                opened=delta.opened,
            )
        case _:
            return Want("object", digest=message.object_sha256, offset=message.offset)


@dataclass
class FakeEnrolment(rpc.EnrollmentServicer):
    """Enrols by token; the same token and key get the same certificate again."""

    authority: Authority
    tokens: dict[str, int] = field(default_factory=lambda: {f"{1:016x}": 1})
    host_id: str = "host-id-1"
    answer: pb.EnrollResponse = field(
        default_factory=lambda: pb.EnrollResponse(
            environment="dev", root_json=b'{"signed": {}, "signatures": []}', agent_address=":7443"
        )
    )
    lost_replies: int = 0
    grace: bool = True
    issued: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    requests: list[pb.EnrollRequest] = field(default_factory=list)
    recovered: list[bytes] = field(default_factory=list)

    def Enroll(self, request: pb.EnrollRequest, context: grpc.ServicerContext) -> pb.EnrollResponse:
        self.requests.append(request)
        key = (request.token_id, pki.csr_key_sha256(request.csr_der))
        if key not in self.issued:
            if not self.tokens.get(request.token_id):
                return _abort(context, Refusal("cannot enrol: the token is used up", code="bad-token"))
            self.tokens[request.token_id] -= 1
            self.issued[key] = self.authority.issue(request.csr_der, self.host_id)
        if self.lost_replies:
            self.lost_replies -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the reply is lost")
        answer = pb.EnrollResponse()
        answer.CopyFrom(self.answer)
        answer.host_id = answer.host_id or self.host_id
        answer.name = answer.name or request.name
        answer.certificate_pem = answer.certificate_pem or self.issued[key]
        answer.ca_pem = answer.ca_pem or self.authority.ca_pem
        return answer

    def Recover(self, request: pb.RecoverRequest, context: grpc.ServicerContext) -> pb.RenewResponse:
        try:
            pki.check_issued(request.certificate_pem, self.authority.ca_pem)
            pki.check_signature(
                request.certificate_pem, pki.recover_message(request.at_unix_ms, request.csr_der), request.signature
            )
            if not self.grace or abs(now_ms() - request.at_unix_ms) > 600_000:
                raise Refusal("cannot recover: the grace window is over; enrol again", code="expired")
        except TowpathError as error:
            return _abort(context, error)
        self.recovered.append(request.certificate_pem)
        host_id = pki.identity(request.certificate_pem).name
        pem = self.authority.issue(request.csr_der, host_id)
        return pb.RenewResponse(certificate_pem=pem, ca_pem=self.authority.ca_pem)


@dataclass
class Listener:
    """A running server; `stop` ends it at once."""

    server: grpc.Server
    address: str

    def stop(self) -> None:
        """Stop and wait for the end."""
        self.server.stop(0).wait()


def _listen(authority: Authority, *, mutual: bool, address: str) -> tuple[grpc.Server, int]:
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    credentials = grpc.ssl_server_credentials(
        [(pki.key_to_pem(authority.server_key), authority.server_pem)],
        root_certificates=authority.ca_pem if mutual else None,
        require_client_auth=mutual,
    )
    return server, server.add_secure_port(address, credentials)


def serve_agents(api: AgentApi, *, address: str = "127.0.0.1:0") -> Listener:
    """Start the agent port (mutual TLS)."""
    server, port = _listen(api.authority, mutual=True, address=address)
    rpc.add_AgentApiServicer_to_server(api, server)
    server.start()
    return Listener(server, f"127.0.0.1:{port}")


def serve_enrolment(enrolment: FakeEnrolment, *, shown: Authority | None = None) -> Listener:
    """Start the enrolment port (server TLS); `shown` shows another CA's certificate, as an impostor would."""
    server, port = _listen(shown or enrolment.authority, mutual=False, address="127.0.0.1:0")
    rpc.add_EnrollmentServicer_to_server(enrolment, server)
    server.start()
    return Listener(server, f"127.0.0.1:{port}")
