"""The operator's side of the wire: one mTLS channel, one method per call, values of `towpath_cli.model` out.

Rules: this module alone sees generated messages; every call has a deadline; every failure is a `towpath.errors` type.
The server is known by its CA and the name `towpath.names.SERVER_NAME`, whatever address it was dialled by.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc

from towpath.errors import InputError
from towpath.metrics import Metric
from towpath.names import SERVER_NAME
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc as rpc
from towpath.wire import from_value
from towpath.wire.holds import from_holds
from towpath.wire.reports import from_app_state, from_event
from towpath_cli import model
from towpath_cli.operator_folder import Identity
from towpath_cli.rpc_errors import from_rpc

CALL_SECONDS = 30.0
# An upload slower than this is no upload: a stalled server must not hold a publisher for ever.
UPLOAD_MIN_BYTES_PER_SECOND = 64 * 1024
DIGESTS_PER_CALL = 4096
MAX_MESSAGE_BYTES = 64 * 2**20
# A plan of a large fleet is played on the server first.
PLAN_SECONDS = 180.0
OPTIONS = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What really ends a silent connection: grpcio 1.85.1 does not act on keepalive_timeout_ms alone.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\s\[\]]+):([0-9]{1,5})")

Request = TypeVar("Request")
Answer = TypeVar("Answer")


def check_address(address: str) -> str:
    """Return `address` where it is HOST:PORT, else raise InputError."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise InputError(f"cannot use {address[:80]!r} as a server's address: write HOST:PORT, such as 127.0.0.1:7445")
    return address


def split_pem(pem: bytes) -> tuple[bytes, bytes]:
    """Return (key, certificate chain) of an identity's PEM; InputError where one is missing."""
    keys = b""
    chain = b""
    for match in _PEM_BLOCK.finditer(pem):
        if match[1] == b"CERTIFICATE":
            chain += match[0]
        elif match[1].endswith(b"PRIVATE KEY"):
            keys += match[0]
    if not keys or not chain:
        raise InputError("cannot use operator.pem: it must hold a private key and a certificate")
    return keys, chain


class Client:
    """Calls to one server as one operator. Use as a context manager: leaving closes the channel."""

    def __init__(self, address: str, identity: Identity, *, start: str, deadline_s: float = CALL_SECONDS) -> None:
        """Prepare a channel; nothing is dialled yet. `start` is the command that would start the server."""
        key, chain = split_pem(identity.pem)
        credentials = grpc.ssl_channel_credentials(identity.ca_pem, key, chain)
        self._address = check_address(address)
        self._start = start
        self._deadline_s = deadline_s
        self._channel = grpc.secure_channel(self._address, credentials, OPTIONS)
        self._hosts = rpc.HostsStub(self._channel)
        self._releases = rpc.ReleasesStub(self._channel)
        self._assignments = rpc.AssignmentsStub(self._channel)
        self._rollouts = rpc.RolloutsStub(self._channel)
        self._calendar = rpc.CalendarStub(self._channel)
        self._environments = rpc.EnvironmentsStub(self._channel)
        self._parameters = rpc.ParametersStub(self._channel)
        self._plans = rpc.PlansStub(self._channel)
        self._audit = rpc.AuditStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def _call(self, call: Callable[..., Answer], request: object, deadline_s: float | None = None) -> Answer:
        seconds = self._deadline_s if deadline_s is None else deadline_s
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc(error, address=self._address, start=self._start, deadline_s=seconds) from error

    # -- hosts

    def create_token(self, environment: str, labels: Mapping[str, str], uses: int, ttl_ms: int) -> model.NewToken:
        """Return a new enrolment token."""
        request = pb.CreateTokenRequest(environment=environment, labels=labels, uses=uses, ttl_ms=ttl_ms)
        answer: pb.CreateTokenResponse = self._call(self._hosts.CreateToken, request)
        return model.NewToken(answer.token, answer.expires_unix_ms)

    def list_hosts(self) -> list[model.Host]:
        """Return every enrolled host."""
        answer: pb.ListHostsResponse = self._call(self._hosts.ListHosts, pb.ListHostsRequest())
        return [_host(host) for host in answer.hosts]

    def get_host(self, name: str) -> model.HostDetail:
        """Return one host with what it reported."""
        answer: pb.GetHostResponse = self._call(self._hosts.GetHost, pb.GetHostRequest(name=name))
        apps = tuple(from_app_state(state) for state in answer.apps)
        return model.HostDetail(_host(answer.host), apps, tuple(from_event(event) for event in answer.events))

    def set_host(self, name: str, change: model.HostChange) -> tuple[model.Host, tuple[str, ...]]:
        """Change parameters and labels; return the host and the server's notes."""
        request = pb.SetHostRequest(
            name=name,
            parameters=change.parameters,
            unset_parameters=change.unset_parameters,
            labels=change.labels,
            unset_labels=change.unset_labels,
        )
        answer: pb.SetHostResponse = self._call(self._hosts.SetHost, request)
        return _host(answer.host), tuple(answer.notes)

    def revoke_host(self, name: str, reason: str) -> None:
        """Refuse a host from now on."""
        self._call(self._hosts.RevokeHost, pb.RevokeHostRequest(name=name, reason=reason))

    def why(self, host: str, app: str) -> list[model.Reason]:
        """Return the chain of reasons for what a host runs of an app."""
        answer: pb.WhyResponse = self._call(self._hosts.Why, pb.WhyRequest(host=host, app=app))
        return [model.Reason(reason.fact, reason.command) for reason in answer.reasons]

    # -- releases

    def repository(self) -> dict[str, bytes]:
        """Return the TUF metadata files by name, unverified."""
        answer: pb.GetRepositoryResponse = self._call(self._releases.GetRepository, pb.GetRepositoryRequest())
        return {file.name: file.data for file in answer.files}

    def find_missing(self, digests: Sequence[bytes]) -> list[bytes]:
        """Return which objects the server lacks, asked for in pages."""
        missing: list[bytes] = []
        for start in range(0, len(digests), DIGESTS_PER_CALL):
            request = pb.FindMissingRequest(sha256=digests[start : start + DIGESTS_PER_CALL])
            answer: pb.FindMissingResponse = self._call(self._releases.FindMissing, request)
            missing.extend(answer.sha256)
        return missing

    def upload(self, pieces: Iterable[model.Piece], total_bytes: int) -> int:
        """Send objects; return how many were stored. What `pieces` raises ends the upload and is raised here."""
        failures: list[Exception] = []

        def requests() -> Iterator[pb.UploadRequest]:
            # gRPC pulls from its own thread and would print a traceback of whatever is raised there.
            try:
                for piece in pieces:
                    if piece.first:
                        head = pb.UploadRequest(object_sha256=piece.sha256, size=piece.size)
                    else:
                        head = pb.UploadRequest()
                    head.data = piece.data
                    head.last = piece.last
                    yield head
            except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
                failures.append(error)

        seconds = self._deadline_s + total_bytes / UPLOAD_MIN_BYTES_PER_SECOND
        try:
            answer: pb.UploadResponse = self._releases.Upload(requests(), timeout=seconds)
        except grpc.RpcError as error:
            if failures:
                raise failures[0] from error
            raise from_rpc(error, address=self._address, start=self._start, deadline_s=seconds) from error
        if failures:
            raise failures[0]
        return answer.stored

    def publish(self, target_path: str, release: bytes, metadata: Mapping[str, bytes]) -> int:
        """Publish a signed release; return the new snapshot's version."""
        files = [pb.MetadataFile(name=name, data=metadata[name]) for name in sorted(metadata)]
        request = pb.PublishRequest(target_path=target_path, release=release, metadata=files)
        answer: pb.PublishResponse = self._call(self._releases.Publish, request)
        return answer.snapshot_version

    def list_releases(self, app: str) -> list[model.ReleaseRow]:
        """Return the published releases; an empty `app` means all."""
        answer: pb.ListReleasesResponse = self._call(self._releases.ListReleases, pb.ListReleasesRequest(app=app))
        return [
            model.ReleaseRow(r.app, r.version, r.counter, r.sha256, r.published_unix_ms, r.published_by)
            for r in answer.releases
        ]

    # -- assignments

    def deploy(self, order: model.DeployOrder) -> model.Deployed:
        """Make an assignment."""
        return _deployed(self._call(self._assignments.Deploy, _deploy_request(order)))

    def promote(self, source: str, order: model.DeployOrder) -> model.Deployed:
        """Deploy what is proven in the environment `source`; the order's version is empty."""
        request = pb.PromoteRequest(source=source, deploy=_deploy_request(order))
        return _deployed(self._call(self._rollouts.Promote, request))

    def plan(self, order: model.DeployOrder) -> model.Plan:
        """Return what a deploy would do; nothing is changed."""
        request = pb.PlanRequest(deploy=_deploy_request(order))
        return _plan(self._call(self._plans.Plan, request, PLAN_SECONDS))

    def undeploy(self, app: str, environment: str, selector: Mapping[str, str] | None = None) -> int:
        """Remove the assignments of an app there (`selector`: of exactly this rule); return how many there were."""
        request = pb.UndeployRequest(
            app=app, environment=environment, selector=selector or {}, by_rule=selector is not None
        )
        answer: pb.UndeployResponse = self._call(self._assignments.Undeploy, request)
        return answer.assignments

    def get_assignment(self, assignment: str, deadline_s: float | None = None) -> model.Rollout:
        """Return an assignment and the progress of its hosts."""
        request = pb.GetAssignmentRequest(assignment=assignment)
        return _rollout(self._call(self._assignments.GetAssignment, request, deadline_s))

    def list_rollouts(self, app: str, environment: str, *, history: bool) -> list[model.Rollout]:
        """Return rollouts, newest first; empty `app` and `environment` mean all."""
        request = pb.ListRolloutsRequest(app=app, environment=environment, history=history)
        answer: pb.ListRolloutsResponse = self._call(self._rollouts.ListRollouts, request)
        return [_rollout(one) for one in answer.rollouts]

    def steer(self, rollout: str, verb: str, reason: str) -> model.Steered:
        """Do `verb` to a rollout; return it afterwards."""
        request = pb.SteerRolloutRequest(rollout=rollout, verb=verb, reason=reason)
        return _steered(self._call(self._rollouts.SteerRollout, request))

    def approve(self, rollout: str, wave: int, reason: str) -> model.Approved:
        """Approve a wave of a rollout, counted from 1; 0: the newest open one."""
        request = pb.ApproveRolloutRequest(rollout=rollout, wave=wave, reason=reason)
        a: pb.ApproveRolloutResponse = self._call(self._rollouts.ApproveRollout, request)
        return model.Approved(a.assignment, a.app, a.version, a.environment, a.wave, tuple(a.names), a.needed, a.again)

    def undo(self, app: str, environment: str, selector: Mapping[str, str] | None) -> model.Steered:
        """Take an app back to the release before; `selector` None: the only rule there."""
        request = pb.UndoRequest(
            app=app, environment=environment, selector=selector or {}, by_rule=selector is not None
        )
        return _steered(self._call(self._rollouts.Undo, request))

    def status(self, app: str) -> list[model.StatusRow]:
        """Return what runs where; an empty `app` means all."""
        answer: pb.StatusResponse = self._call(self._assignments.Status, pb.StatusRequest(app=app))
        return [
            model.StatusRow(r.host, r.environment, r.app, r.current, r.desired, r.state, r.health, r.reason)
            for r in answer.rows
        ]

    # -- the calendar

    def add_entry(self, order: model.EntryOrder) -> model.CalendarEntry:
        """Add a freeze, or a window of an environment."""
        request = pb.AddEntryRequest(
            kind=order.kind,
            environment=order.environment,
            everywhere=order.everywhere,
            selector=order.selector,
            weekly=order.weekly,
            begins=order.begins,
            ends=order.ends,
            reason=order.reason,
        )
        return _entry(self._call(self._calendar.AddEntry, request))

    def list_entries(self, kind: str) -> list[model.CalendarEntry]:
        """Return the entries of one kind, oldest first."""
        answer: pb.ListEntriesResponse = self._call(self._calendar.ListEntries, pb.ListEntriesRequest(kind=kind))
        return [_entry(one) for one in answer.entries]

    def remove_entry(self, kind: str, name: str) -> model.CalendarEntry:
        """Remove an entry, by its id or the beginning of it; return what it was."""
        return _entry(self._call(self._calendar.RemoveEntry, pb.RemoveEntryRequest(kind=kind, id=name)))

    def list_environments(self) -> list[model.EnvironmentRow]:
        """Return the environments in their order."""
        request = pb.ListEnvironmentsRequest()
        answer: pb.ListEnvironmentsResponse = self._call(self._environments.ListEnvironments, request)
        return [_environment(one) for one in answer.environments]

    def set_environment(self, name: str, after: str | None, healthy_for_ms: int | None) -> model.EnvironmentRow:
        """Add or change an environment; None leaves a thing as it is."""
        request = pb.SetEnvironmentRequest(name=name, after=after, healthy_for_ms=healthy_for_ms)
        answer: pb.SetEnvironmentResponse = self._call(self._environments.SetEnvironment, request)
        return _environment(answer.environment)

    def list_parameters(self, environment: str, app: str) -> list[model.ParameterRow]:
        """Return what is set for environments and labels; empty texts mean all."""
        request = pb.ListParametersRequest(environment=environment, app=app)
        answer: pb.ListParametersResponse = self._call(self._parameters.ListParameters, request)
        return [model.ParameterRow(p.environment, p.label, p.app, p.name, p.text) for p in answer.parameters]

    def set_parameters(
        self, environment: str, label: str, parameters: Mapping[str, str], unset: Sequence[str]
    ) -> tuple[int, tuple[str, ...]]:
        """Change parameters of an environment, or of a label in it; return how many hosts they cover, and notes."""
        request = pb.SetParametersRequest(environment=environment, label=label, parameters=parameters, unset=unset)
        answer: pb.SetParametersResponse = self._call(self._parameters.SetParameters, request)
        return answer.hosts, tuple(answer.notes)

    def audit(self, limit: int) -> list[model.AuditEntry]:
        """Return the newest entries of the audit log."""
        answer: pb.ListAuditResponse = self._call(self._audit.ListAudit, pb.ListAuditRequest(limit=limit))
        return [model.AuditEntry(e.at_unix_ms, e.actor, e.act, e.subject, e.detail, e.outcome) for e in answer.entries]


def _host(host: pb.Host) -> model.Host:
    return model.Host(
        id=host.id,
        name=host.name,
        environment=host.environment,
        labels=dict(host.labels),
        status=host.status,
        online=host.online,
        last_seen_unix_ms=host.last_seen_unix_ms,
        certificate_expires_unix_ms=host.certificate_expires_unix_ms,
        agent_version=host.agent_version,
        platform=host.platform,
        parameters={name: from_value(value) for name, value in host.parameters.items()},
        holds=from_holds(host.holds),
        parameter_origins=dict(host.parameter_origins),
    )


def _deploy_request(order: model.DeployOrder) -> pb.DeployRequest:
    return pb.DeployRequest(
        app=order.app,
        version=order.version,
        environment=order.environment,
        selector=order.selector,
        max_unavailable=order.max_unavailable,
        max_failures=order.max_failures,
        progress_deadline_ms=order.progress_deadline_ms,
        whole_environment=order.whole_environment,
        waves=[
            pb.Wave(what=one.what, soak_ms=one.soak_ms, manual=one.manual, approve=one.approve, metrics=one.metrics)
            for one in order.waves
        ],
        max_failure_share=order.max_failure_share,
        on_breach=order.on_breach,
        allow_empty=order.allow_empty,
        windows=order.windows,
        at=order.at,
        expires=order.expires,
        override_freeze=order.override_freeze,
        offline_wait_ms=order.offline_wait_ms,
        newcomers=order.newcomers,
        approvers=order.approvers,
        metrics=[
            pb.Metric(
                name=one.name,
                query=one.query,
                below=one.below,
                good=one.good,
                bad=one.bad,
                patience_ms=one.patience_ms,
            )
            for one in order.metrics
        ],
    )


def _entry(one: pb.CalendarEntry) -> model.CalendarEntry:
    return model.CalendarEntry(
        id=one.id,
        kind=one.kind,
        environment=one.environment,
        selector=dict(one.selector),
        weekly=one.weekly,
        from_unix_ms=one.from_unix_ms,
        until_unix_ms=one.until_unix_ms,
        reason=one.reason,
        created_by=one.created_by,
        created_unix_ms=one.created_unix_ms,
        now=one.now,
    )


def _environment(one: pb.Environment) -> model.EnvironmentRow:
    return model.EnvironmentRow(one.name, one.after, one.healthy_for_ms, one.hosts, one.declared)


def _deployed(answer: pb.DeployResponse) -> model.Deployed:
    return model.Deployed(answer.assignment, answer.generation, answer.hosts, answer.unchanged, answer.version)


def _steered(a: pb.SteerRolloutResponse) -> model.Steered:
    return model.Steered(a.assignment, a.app, a.version, a.environment, a.state, a.reason, a.wave)


def _rollout(a: pb.GetAssignmentResponse) -> model.Rollout:
    waves = tuple(
        model.WaveProgress(w.number, w.text, w.state, w.waits, w.soak_until_unix_ms, dict(w.phases), tuple(w.checks))
        for w in a.waves
    )
    return model.Rollout(
        assignment=a.assignment,
        app=a.app,
        version=a.version,
        environment=a.environment,
        state=a.state,
        reason=a.reason,
        hosts=tuple(_progress(host) for host in a.hosts),
        waves=waves,
        wave=a.wave,
        generation=a.generation,
        selector=dict(a.selector),
        created_by=a.created_by,
        created_unix_ms=a.created_unix_ms,
        max_unavailable=a.max_unavailable,
        max_failures=a.max_failures,
        max_failure_share=a.max_failure_share,
        on_breach=a.on_breach,
        windows=tuple(a.windows),
        at_unix_ms=a.at_unix_ms,
        expires_unix_ms=a.expires_unix_ms,
        override_freeze=a.override_freeze,
        offline_wait_ms=a.offline_wait_ms,
        newcomers=a.newcomers,
        bars=tuple(model.Bar(bar.fact, bar.until_unix_ms, bar.command) for bar in a.bars),
        approvers=tuple(a.approvers),
        metrics=tuple(Metric(m.name, m.query, m.below, m.good, m.bad, m.patience_ms) for m in a.metrics),
        progress_deadline_ms=a.progress_deadline_ms,
    )


def _plan(a: pb.PlanResponse) -> model.Plan:
    hosts = (
        model.PlannedHost(h.host, h.wave, h.turn, h.before, h.stays, h.online, h.at_most_bytes, dict(h.labels))
        for h in a.hosts
    )
    return model.Plan(
        assignment=a.assignment,
        version=a.version,
        unchanged=a.unchanged,
        hosts=tuple(hosts),
        waves=tuple(model.PlannedWave(w.number, w.text, w.hosts, w.asks, w.opens_ms) for w in a.waves),
        delays=tuple(model.PlannedDelay(d.wave, d.waits, d.after_ms, d.lasts_ms) for d in a.delays),
        at_once=a.at_once,
        took_ms=a.took_ms,
        waits=a.waits,
        cut=a.cut,
        at_most_bytes=a.at_most_bytes,
        host_ms=a.host_ms,
        progress_deadline_ms=a.progress_deadline_ms,
    )


def _progress(host: pb.HostProgress) -> model.HostProgress:
    return model.HostProgress(
        host=host.host,
        online=host.online,
        admitted=host.admitted,
        phase=host.phase,
        current=host.state.current_version,
        state=host.state.state,
        health=host.state.health,
        verdict=host.state.verdict,
        reason=host.reason or host.state.reason,
        wave=host.wave,
        evidence=tuple(host.evidence),
    )
