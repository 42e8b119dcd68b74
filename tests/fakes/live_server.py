"""The real server in this process: its own thread and event loop, real gRPC and TLS on free ports, a clock that tests move.

Hosts and operators here are raw gRPC: what they send is what the test says, also what no agent and no CLI would.
"""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import zstandard

from towpath import pki
from towpath.index import Entry, EntryType
from towpath.manifest import Manifest
from towpath.names import HOST_URI, OPERATOR_URI, SERVER_NAME
from towpath.parameters import Parameter
from towpath.release import Artifact, Install, Release, Run
from towpath.reports import AppState, Event
from towpath.status import Health, State, Verdict
from towpath.token import parse_token
from towpath.v1 import agent_pb2, agent_pb2_grpc, operator_pb2, operator_pb2_grpc
from towpath.wire import decode_envelope, decode_manifest, encode_index, encode_release
from towpath.wire.reports import to_app_state, to_event
from towpath_agent.system.clock import SystemClock
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.client import GrpcServer
from towpath_agent.transport.direct import Direct
from towpath_cli.fleet import create_fleet
from towpath_cli.publisher import Publisher
from towpath_server.cli import Options, serve

DAY_MS = 86_400_000
CALL_S = 20.0
T = TypeVar("T")


class MovableClock:
    """The machine's clock, moved by what a test says."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_unix_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic_ms(self) -> float:
        """Return milliseconds that `ahead_ms` does not move."""
        return time.monotonic() * 1000


def eventually(ask: Callable[[], T], what: str, seconds: float = CALL_S, *, pause_s: float = 0.02) -> T:
    """Return the first true answer of `ask`; fail where none came in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"never: {what}"
        pause.wait(pause_s)
    return answer


def code_of(error: grpc.RpcError) -> str:
    """Return the stable code in the trailing metadata of a failed call."""
    return str(dict(error.trailing_metadata() or ()).get("towpath-code", ""))


@contextmanager
def refused(status: grpc.StatusCode, code: str) -> Iterator[list[str]]:
    """Expect a call to fail with this status and stable code; yields a list that gets the one-line message."""
    message: list[str] = []
    try:
        yield message
    except grpc.RpcError as error:
        assert (error.code(), code_of(error)) == (status, code), error
        assert "\n" not in error.details()
        message.append(error.details())
    else:
        raise AssertionError(f"the call was answered, not refused with {code}")


def channel(
    address: str, ca_pem: bytes, identity: tuple[bytes, bytes] | None = None, name: str = SERVER_NAME
) -> grpc.Channel:
    """Return a channel of its own (not shared with others to the same address); `identity` is key and certificate."""
    key, certificate = identity or (None, None)
    credentials = grpc.ssl_channel_credentials(ca_pem, key, certificate)
    options = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
    return grpc.secure_channel(address, credentials, options)


@dataclass
class HostUnderTest:
    """A host as raw calls: it says what a test says."""

    name: str
    id: str
    key: Any
    certificate: bytes
    api: agent_pb2_grpc.AgentApiStub
    channel: grpc.Channel
    revision: int = 0
    manifest: Manifest | None = None
    keep: str = ""

    def sync(self, **fields: Any) -> Manifest:
        """Return the (unverified) manifest that the server signs now, or the one before where it says to keep that."""
        accepted = self.manifest.sequence if self.manifest is not None else 0
        usual = {"nonce": b"n" * 16, "state_revision": self.revision, "accepted_sequence": accepted}
        answer = self.api.Sync(agent_pb2.SyncRequest(**{**usual, **fields}), timeout=CALL_S)
        self.keep = answer.keep
        if not answer.keep:
            self.manifest = decode_manifest(decode_envelope(answer.envelope).payload)
        assert self.manifest is not None, "it has nothing to keep"
        return self.manifest

    def desired(self, app: str = "hello") -> str:
        """Return the version of `app` that the manifest asks for, or an empty text."""
        return next((one.version for one in self.sync().apps if one.app == app), "")

    def report(self, *apps: AppState, events: Sequence[Event] = (), revision: int | None = None) -> list[str]:
        """Report the whole state under the next revision; return the acknowledged ids."""
        self.revision = self.revision + 1 if revision is None else revision
        request = agent_pb2.ReportRequest(
            events=[to_event(event) for event in events],
            apps=[to_app_state(app) for app in apps],
            state_revision=self.revision,
        )
        return list(self.api.Report(request, timeout=CALL_S).acknowledged)

    def obey(self, **fields: Any) -> AppState:
        """Report about `hello` that what the manifest asks for runs and is healthy, or what `fields` say instead."""
        wanted = next(one for one in self.sync().apps if one.app == "hello")
        state = {
            "app": "hello",
            "current_version": wanted.version,
            "current_sha256": wanted.release_sha256,
            "desired_version": wanted.version,
            "desired_sha256": wanted.release_sha256,
            "state": State.CONFIRMED,
            "health": Health.HEALTHY,
            "verdict": Verdict.SUCCEEDED,
            "generation": wanted.generation,
        }
        result = AppState(**{**state, **fields})
        self.report(result)
        return result


@dataclass
class LiveServer:
    """One fleet's server, started and stopped at will."""

    folder: Path
    clock: MovableClock = field(default_factory=MovableClock)
    prometheus_url: str = ""
    object_store: tuple[str, str] = ("", "")  # URL and endpoint
    settings: Mapping[str, int] = field(default_factory=dict)
    file: str = "data"  # the one file of releases that are made

    def __post_init__(self) -> None:
        """Make the fleet."""
        self.fleet = self.folder / "fleet"
        create_fleet(self.fleet, passphrase=None, operator="root", now_ms=self.clock.now_unix_ms())
        self.ca_pem = (self.fleet / "server" / "ca.pem").read_bytes()
        self.ca_key = pki.key_from_pem((self.fleet / "server" / "ca.key").read_bytes())
        self._channels: list[grpc.Channel] = []
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Serve in a thread; return when it listens."""
        listening = threading.Event()
        self._error: BaseException | None = None

        def told(agents: str, enrolment: str, operators: str) -> None:
            self.agents, self.enrolment, self.operators = agents, enrolment, operators
            listening.set()

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            free = "127.0.0.1:0"
            options = Options(
                self.fleet / "server", free, free, free, "", self.prometheus_url, *self.object_store, **self.settings
            )
            await serve(options, self._stop, clock=self.clock, listening=told)

        def body() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._error = error
            finally:
                listening.set()

        self._thread = threading.Thread(target=body, name="live-server")
        self._thread.start()
        assert listening.wait(60)
        if self._error is not None:
            raise self._error
        self.dial_as_operator()
        return self

    def dial_as_operator(self) -> None:
        """Connect to the operators' and the enrolment port where the server listens now."""
        pem = (self.fleet / "operator" / "operator.pem").read_bytes()
        self.operator_channel = self.dial(self.operators, (pem, pem))
        self.hosts = operator_pb2_grpc.HostsStub(self.operator_channel)
        self.releases = operator_pb2_grpc.ReleasesStub(self.operator_channel)
        self.assignments = operator_pb2_grpc.AssignmentsStub(self.operator_channel)
        self.audit_log = operator_pb2_grpc.AuditStub(self.operator_channel)
        self.enrolments = agent_pb2_grpc.EnrollmentStub(self.dial(self.enrolment))

    def stop(self) -> None:
        """Stop gracefully; everything open is closed."""
        for each in self._channels:
            each.close()
        self._channels = []
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            assert not self._thread.is_alive()
        self._thread = None

    def restart(self, *hosts: HostUnderTest) -> None:
        """Stop, start on other ports, and dial again for these hosts."""
        self.stop()
        self.start()
        for host in hosts:
            self.connect(host)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def dial(self, address: str, identity: tuple[bytes, bytes] | None = None) -> grpc.Channel:
        """Return a channel that `stop` closes."""
        made = channel(address, self.ca_pem, identity)
        self._channels.append(made)
        return made

    # --- hosts --------------------------------------------------------------------------------------------------------

    def token(self, uses: int = 1, *, environment: str = "dev", ttl_ms: int = 0, **labels: str) -> str:
        """Return a new token's text."""
        request = operator_pb2.CreateTokenRequest(environment=environment, labels=labels, uses=uses, ttl_ms=ttl_ms)
        return str(self.hosts.CreateToken(request, timeout=CALL_S).token)

    def enroll(self, token_text: str, name: str, csr_der: bytes, **fields: Any) -> agent_pb2.EnrollResponse:
        """Return the answer to one enrolment."""
        token = parse_token(token_text)
        request = {"token_id": token.id, "token_secret": token.secret, "name": name, "csr_der": csr_der, **fields}
        answer: agent_pb2.EnrollResponse = self.enrolments.Enroll(agent_pb2.EnrollRequest(**request), timeout=CALL_S)
        return answer

    def new_host(self, name: str = "h1", *, token: str = "", environment: str = "dev", **labels: str) -> HostUnderTest:
        """Enrol a host and connect it."""
        key = pki.new_key()
        text = token or self.token(environment=environment, **{"role": "web", **labels})
        answer = self.enroll(text, name, pki.make_csr(key), platform="linux/amd64")
        host = HostUnderTest(name, answer.host_id, key, answer.certificate_pem, None, None)  # type: ignore[arg-type]
        self.connect(host)
        return host

    def connect(self, host: HostUnderTest) -> None:
        """Dial with the host's key and certificate."""
        host.channel = self.dial(self.agents, (pki.key_to_pem(host.key), host.certificate))
        host.api = agent_pb2_grpc.AgentApiStub(host.channel)

    def agent(
        self,
        host: HostUnderTest | None = None,
        address: str = "",
        *,
        limits: Limits | None = None,
        direct: Direct | None = None,
    ) -> GrpcServer:
        """Return what an agent calls a server with: as `host`, or a new one; by `address`, or where agents listen."""
        host = host or self.new_host()
        return GrpcServer(
            address or self.agents,
            identity_pem=pki.key_to_pem(host.key) + host.certificate,
            ca_pem=self.ca_pem,
            platform="linux/amd64",
            agent_version="0.1.0",
            clock=SystemClock(),
            limits=limits,
            direct=direct,
        )

    def forged(self, uri: str, key: Any, *, days: int = 1) -> bytes:
        """Return a certificate of the fleet's own CA in any name."""
        now = self.clock.now_unix_ms()
        csr = pki.make_csr(key)
        return pki.issue(
            self.ca_pem, self.ca_key, csr, uri=uri, not_before_ms=now - 1000, not_after_ms=now + days * DAY_MS
        )

    def host_identity(self, host_id: str) -> tuple[bytes, bytes]:
        """Return a key and a certificate in the name of a host that never enrolled."""
        key = pki.new_key()
        return pki.key_to_pem(key), self.forged(HOST_URI + host_id, key)

    def operator_identity(self, name: str) -> tuple[bytes, bytes]:
        """Return a key and a certificate of an operator."""
        key = pki.new_key()
        return pki.key_to_pem(key), self.forged(OPERATOR_URI + name, key)

    # --- releases and deploys -----------------------------------------------------------------------------------------

    def upload(self, *contents: bytes) -> int:
        """Upload objects; return how many were new."""
        return self.send(
            [
                operator_pb2.UploadRequest(
                    object_sha256=hashlib.sha256(data).digest(),
                    size=len(data),
                    data=zstandard.ZstdCompressor().compress(data),
                    last=True,
                )
                for data in contents
            ]
        )

    def send(self, messages: Sequence[operator_pb2.UploadRequest]) -> int:
        """Send upload messages as they are."""
        return int(self.releases.Upload(iter(messages), timeout=60).stored)

    def files(self) -> dict[str, bytes]:
        """Return the repository as a publisher gets it."""
        answer = self.releases.GetRepository(operator_pb2.GetRepositoryRequest(), timeout=CALL_S)
        return {file.name: file.data for file in answer.files}

    def make_release(
        self, version: str, content: bytes, parameters: tuple[Parameter, ...] = (), **fields: Any
    ) -> tuple[Release, bytes]:
        """Return a release of `hello` with one file, and its serialized index. Nothing is uploaded."""
        entries = [Entry(self.file, EntryType.FILE, 0o644, len(content), hashlib.sha256(content).digest())]
        index = encode_index(entries)
        artifact = Artifact(hashlib.sha256(index).digest(), len(index), len(content))
        publisher = Publisher(self.fleet / "publisher")
        counter = publisher.next_counter(self.files(), "hello")
        run = Run("process", command=("bin/serve",))
        return Release(
            "hello", version, counter, artifact, Install("tree"), run, parameters=parameters, **fields
        ), index

    def sign(self, release: Release) -> operator_pb2.PublishRequest:
        """Return the publish request that the fleet's publisher makes of a release."""
        files = self.files()
        signed = Publisher(self.fleet / "publisher").sign(files, release, now_ms=self.clock.now_unix_ms())
        return operator_pb2.PublishRequest(
            target_path=signed.target_path,
            release=encode_release(release),
            metadata=[operator_pb2.MetadataFile(name=name, data=data) for name, data in signed.metadata.items()],
        )

    def publish(self, version: str, content: bytes = b"", *parameters: Parameter, **fields: Any) -> Release:
        """Upload, sign and publish a release of `hello`."""
        content = content or os.urandom(2_000)
        release, index = self.make_release(version, content, parameters, **fields)
        self.upload(content, index)
        self.releases.Publish(self.sign(release), timeout=CALL_S)
        return release

    def deploy(self, version: str, **fields: Any) -> operator_pb2.DeployResponse:
        """Deploy `hello` to role=web of dev, or what `fields` say."""
        request = {"app": "hello", "version": version, "environment": "dev", "selector": {"role": "web"}, **fields}
        answer: operator_pb2.DeployResponse = self.assignments.Deploy(
            operator_pb2.DeployRequest(**request), timeout=CALL_S
        )
        return answer

    def progress(self, assignment: str) -> operator_pb2.GetAssignmentResponse:
        """Return where an assignment stands."""
        request = operator_pb2.GetAssignmentRequest(assignment=assignment)
        answer: operator_pb2.GetAssignmentResponse = self.assignments.GetAssignment(request, timeout=CALL_S)
        return answer

    def audit(self, act: str = "") -> list[operator_pb2.AuditEntry]:
        """Return the audit log (of one act), newest last."""
        entries = self.audit_log.ListAudit(operator_pb2.ListAuditRequest(limit=1000), timeout=CALL_S).entries
        return [entry for entry in entries if act in ("", entry.act)]
