"""The three ports: agents (mTLS), enrolment (TLS), operators (mTLS), each a gRPC server of its own.

One server with three ports would serve every method on each. A port that is taken is an error at once (no
SO_REUSEPORT). The server's certificate is made at start and again at two thirds of its life: grpcio asks for the
newest at each handshake, open connections keep theirs. Connections end after an hour, so that a peer shows its
certificate again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from towpath.errors import InputError
from towpath.v1 import agent_pb2, agent_pb2_grpc, operator_pb2, operator_pb2_grpc
from towpath_server.api.agents import AgentServicer, EnrollmentServicer
from towpath_server.api.bundles import BundlesServicer
from towpath_server.api.fleet import FleetServicer, RestoredServicer
from towpath_server.api.gate import AgentGate, EnrolmentGate, Gate, OperatorGate
from towpath_server.api.hub import Hub
from towpath_server.api.operators import (
    AssignmentsServicer,
    AuditServicer,
    CalendarServicer,
    HostsServicer,
    ReleasesServicer,
    RolloutsServicer,
)
from towpath_server.api.places import EnvironmentsServicer, ParametersServicer
from towpath_server.api.planning import PlansServicer
from towpath_server.services.authority import Authority, ServerIdentity
from towpath_server.services.context import Context
from towpath_server.services.syncing import Sequencer
from towpath_server.services.thread import StorageThread, Workers

MAX_MESSAGE_BYTES = 8 * 2**20
MAX_ENROLMENT_BYTES = 128 * 1024
CONNECTION_AGE_MS = 3_600_000
# A long Fetch may end on the old connection; it resumes by offset where this is too short.
CONNECTION_GRACE_MS = 300_000
# An Upload of one large object over a thin line, and a bundle, have no offset to go on at.
OPERATOR_GRACE_MS = 24 * 3_600_000
KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000
MIN_PING_INTERVAL_MS = 5_000
_OBJECT_THREADS = 4


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three ports listen, `HOST:PORT`."""

    agents: str
    enrolment: str
    operators: str


def check_address(text: str, option: str) -> str:
    """Return `HOST:PORT` where it is one, else raise InputError naming the option."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"cannot use {text[:80]!r} for {option}: write HOST:PORT, such as 127.0.0.1:7443")
    return text


class Certificates:
    """The server's newest certificate, handed to grpcio at handshakes. Called from grpcio's threads."""

    def __init__(self, authority: Authority, now_unix_ms: Callable[[], int]) -> None:
        self._authority = authority
        self._now_unix_ms = now_unix_ms
        self._identity = authority.issue_server(now_unix_ms())

    def identity(self) -> ServerIdentity:
        """Return the identity to show now; a new one where the last is two thirds through its life."""
        now = self._now_unix_ms()
        if now >= self._identity.renew_unix_ms:
            self._identity = self._authority.issue_server(now)
        return self._identity

    def credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """Return credentials for one port; `mutual` asks peers for a certificate of our CA."""
        shown = self.identity()

        def configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(identity.key_pem, identity.certificate_pem)],
                root_certificates=self._authority.ca_pem if mutual else None,
            )

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            newest = self.identity()
            if newest is shown:
                return None  # nothing new: grpcio keeps what it has
            shown = newest
            return configuration(newest)

        return grpc.dynamic_ssl_server_credentials(
            configuration(shown),
            fetch,  # type: ignore[arg-type]  # None is documented as "unchanged", the stubs do not know it
            require_client_authentication=mutual,
        )


class Listeners:
    """The three servers."""

    def __init__(
        self, context: Context, thread: StorageThread, *, hub: Hub, sequencer: Sequencer, certificates: Certificates
    ) -> None:
        self._context = context
        self._thread = thread
        self._hub = hub
        self._sequencer = sequencer
        self._certificates = certificates
        self._objects = Workers("objects", _OBJECT_THREADS)
        self._servers: list[grpc.aio.Server] = []
        self._health: list[tuple[health.aio.HealthServicer, tuple[str, ...]]] = []

    async def start(self, addresses: Addresses) -> Addresses:
        """Listen; return the addresses with the ports that were given. InputError where one is taken."""
        try:
            agents = self._agents(addresses.agents)
            enrolment = self._enrolment(addresses.enrolment)
            operators = self._operators(addresses.operators)
            for server in self._servers:
                await server.start()
        except BaseException:
            await self.stop(0)
            raise
        return Addresses(agents, enrolment, operators)

    def _agents(self, address: str) -> str:
        gate = AgentGate(self._context, self._thread)
        server = self._server(gate, MAX_MESSAGE_BYTES, agent_pb2.DESCRIPTOR.services_by_name["AgentApi"].full_name)
        servicer = AgentServicer(
            self._context, self._thread, self._objects, gate=gate, hub=self._hub, sequencer=self._sequencer
        )
        agent_pb2_grpc.add_AgentApiServicer_to_server(servicer, server)
        return self._bind(server, address, "--agent-listen", mutual=True)

    def _enrolment(self, address: str) -> str:
        gate = EnrolmentGate(self._context, self._thread)
        name = agent_pb2.DESCRIPTOR.services_by_name["Enrollment"].full_name
        server = self._server(gate, MAX_ENROLMENT_BYTES, name)
        agent_pb2_grpc.add_EnrollmentServicer_to_server(EnrollmentServicer(self._context, self._thread), server)
        return self._bind(server, address, "--enroll-listen", mutual=False)

    def _operators(self, address: str) -> str:
        gate = OperatorGate(self._context, self._thread)
        names = [service.full_name for service in operator_pb2.DESCRIPTOR.services_by_name.values()]
        server = self._server(gate, MAX_MESSAGE_BYTES, *names, grace_ms=OPERATOR_GRACE_MS)
        operator_pb2_grpc.add_HostsServicer_to_server(HostsServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_ReleasesServicer_to_server(
            ReleasesServicer(self._context, self._thread, self._objects), server
        )
        operator_pb2_grpc.add_AssignmentsServicer_to_server(AssignmentsServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_RolloutsServicer_to_server(RolloutsServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_CalendarServicer_to_server(CalendarServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_EnvironmentsServicer_to_server(EnvironmentsServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_ParametersServicer_to_server(ParametersServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_PlansServicer_to_server(PlansServicer(self._context, self._thread, self._objects), server)
        operator_pb2_grpc.add_FleetServicer_to_server(FleetServicer(self._context, self._thread), server)
        operator_pb2_grpc.add_RestoredServicer_to_server(RestoredServicer(self._context, self._thread), server)
        bundles = BundlesServicer(self._context, self._thread, self._objects, self._sequencer)
        operator_pb2_grpc.add_BundlesServicer_to_server(bundles, server)
        operator_pb2_grpc.add_AuditServicer_to_server(AuditServicer(self._context, self._thread), server)
        return self._bind(server, address, "--operator-listen", mutual=True)

    def _server(
        self, gate: Gate, max_message_bytes: int, *services: str, grace_ms: int = CONNECTION_GRACE_MS
    ) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=(gate,),
            options=(
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_connection_age_ms", CONNECTION_AGE_MS),
                ("grpc.max_connection_age_grace_ms", grace_ms),
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                # What really ends a silent connection: grpcio 1.85.1 does not act on keepalive_timeout_ms alone.
                ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
            ),
        )
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self._health.append((servicer, ("", *services)))
        self._servers.append(server)
        return server

    def _bind(self, server: grpc.aio.Server, address: str, option: str, *, mutual: bool) -> str:
        check_address(address, option)
        try:
            port = server.add_secure_port(address, self._certificates.credentials(mutual=mutual))
        except RuntimeError as error:
            raise InputError(
                f"cannot listen on {address}: it is taken, or not of this machine; stop what has it, or give {option}"
            ) from error
        return f"{address.rpartition(':')[0]}:{port}"

    async def serve(self) -> None:
        """Tell health checks that everything is there: the server as a whole, and each service by name."""
        for servicer, names in self._health:
            for name in names:
                await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, end the watches, give the others `grace_s` seconds."""
        for servicer, _ in self._health:
            await servicer.enter_graceful_shutdown()
        self._hub.close()
        for server in self._servers:
            await server.stop(grace_s)
        self._objects.close()
