"""The operator's side of the wire: one mTLS channel, one method per call, values of `towpath_cli.model` out.

Rules: this module and `towpath_cli.messages` alone see generated messages; every call has a deadline, or is given up
where it stands still; every failure is a `towpath.errors` type. How the server is dialled and known:
`towpath_cli.channel`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc

from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc as rpc
from towpath.wire.reports import from_app_state, from_event
from towpath_cli import messages, model
from towpath_cli.channel import check_address, open_channel
from towpath_cli.operator_folder import Identity
from towpath_cli.rpc_errors import from_rpc
from towpath_cli.stalling import STALL_S, streamed
from towpath_cli.steps import Applied, Step

CALL_SECONDS = 30.0
DIGESTS_PER_CALL = 4096
# A plan of a large fleet is played on the server first.
PLAN_SECONDS = 180.0
IMPORT_SECONDS = 180.0

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Client:
    """Calls to one server as one operator. Use as a context manager: leaving closes the channel.

    `notice`: what the newest answer that lists things said of all of them, or empty.
    """

    def __init__(self, address: str, identity: Identity, *, start: str, deadline_s: float = CALL_SECONDS) -> None:
        """Prepare a channel; nothing is dialled yet. `start` is the command that would start the server."""
        self._address = check_address(address)
        self._start = start
        self._deadline_s = deadline_s
        self.notice = ""
        self._channel = open_channel(self._address, identity)
        self._hosts = rpc.HostsStub(self._channel)
        self._releases = rpc.ReleasesStub(self._channel)
        self._assignments = rpc.AssignmentsStub(self._channel)
        self._rollouts = rpc.RolloutsStub(self._channel)
        self._calendar = rpc.CalendarStub(self._channel)
        self._environments = rpc.EnvironmentsStub(self._channel)
        self._parameters = rpc.ParametersStub(self._channel)
        self._plans = rpc.PlansStub(self._channel)
        self._fleet = rpc.FleetStub(self._channel)
        self._restored = rpc.RestoredStub(self._channel)
        self._bundles = rpc.BundlesStub(self._channel)
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
        return [messages.host(host) for host in answer.hosts]

    def get_host(self, name: str) -> model.HostDetail:
        """Return one host with what it reported."""
        answer: pb.GetHostResponse = self._call(self._hosts.GetHost, pb.GetHostRequest(name=name))
        apps = tuple(from_app_state(state) for state in answer.apps)
        return model.HostDetail(messages.host(answer.host), apps, tuple(from_event(event) for event in answer.events))

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
        return messages.host(answer.host), tuple(answer.notes)

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

    def upload(self, pieces: Iterable[model.Piece]) -> int:
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

        try:
            answer: pb.UploadResponse = streamed(self._releases.Upload.future, requests())
        except grpc.RpcError as error:
            if failures:
                raise failures[0] from error
            raise from_rpc(error, address=self._address, start=self._start, deadline_s=STALL_S) from error
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

    def weigh_release(self, app: str, version: str) -> model.ReleaseWeight:
        """Return the bytes of a release, and of the ways to it from what hosts run."""
        request = pb.WeighReleaseRequest(app=app, version=version)
        a: pb.WeighReleaseResponse = self._call(self._releases.WeighRelease, request)
        ways = tuple(
            model.WayToRelease(w.version, w.hosts, w.objects, w.delta if w.HasField("delta") else None, w.no_delta)
            for w in a.ways
        )
        return model.ReleaseWeight(a.unpacked, a.carried, a.objects, ways)

    # -- assignments

    def deploy(self, order: model.DeployOrder) -> model.Deployed:
        """Make an assignment."""
        return messages.deployed(self._call(self._assignments.Deploy, messages.deploy_request(order)))

    def promote(self, source: str, order: model.DeployOrder) -> model.Deployed:
        """Deploy what is proven in the environment `source`; the order's version is empty."""
        request = pb.PromoteRequest(source=source, deploy=messages.deploy_request(order))
        return messages.deployed(self._call(self._rollouts.Promote, request))

    def plan(self, order: model.DeployOrder, source: str = "") -> model.Plan:
        """Return what a deploy (`source`: a promotion from there) would do; nothing is changed."""
        request = pb.PlanRequest(deploy=messages.deploy_request(order), source=source)
        return messages.plan(self._call(self._plans.Plan, request, PLAN_SECONDS))

    def apply(self, steps: Sequence[Step], *, dry_run: bool) -> Applied:
        """Do every step or none; `dry_run`: only say whether they can be done."""
        request = pb.ApplyRequest(steps=[messages.apply_step(one) for one in steps], dry_run=dry_run)
        answer: pb.ApplyResponse = self._call(self._fleet.Apply, request, PLAN_SECONDS)
        return Applied(answer.step, answer.reason) if answer.refused else Applied()

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
        return messages.rollout(self._call(self._assignments.GetAssignment, request, deadline_s))

    def list_rollouts(self, app: str, environment: str, *, history: bool) -> list[model.Rollout]:
        """Return rollouts, newest first; empty `app` and `environment` mean all. See `notice`."""
        request = pb.ListRolloutsRequest(app=app, environment=environment, history=history)
        answer: pb.ListRolloutsResponse = self._call(self._rollouts.ListRollouts, request)
        self.notice = answer.notice
        return [messages.rollout(one) for one in answer.rollouts]

    def steer(self, rollout: str, verb: str, reason: str) -> model.Steered:
        """Do `verb` to a rollout; return it afterwards."""
        request = pb.SteerRolloutRequest(rollout=rollout, verb=verb, reason=reason)
        return messages.steered(self._call(self._rollouts.SteerRollout, request))

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
        return messages.steered(self._call(self._rollouts.Undo, request))

    def status(self, app: str) -> list[model.StatusRow]:
        """Return what runs where; an empty `app` means all. See `notice`."""
        answer: pb.StatusResponse = self._call(self._assignments.Status, pb.StatusRequest(app=app))
        self.notice = answer.notice
        return [
            model.StatusRow(r.host, r.environment, r.app, r.current, r.desired, r.state, r.health, r.reason)
            for r in answer.rows
        ]

    # -- the calendar

    def add_entry(self, order: model.EntryOrder) -> model.CalendarEntry:
        """Add a freeze, or a window of an environment."""
        request = messages.add_entry_request(order)
        return messages.calendar_entry(self._call(self._calendar.AddEntry, request))

    def list_entries(self, kind: str) -> list[model.CalendarEntry]:
        """Return the entries of one kind, oldest first."""
        answer: pb.ListEntriesResponse = self._call(self._calendar.ListEntries, pb.ListEntriesRequest(kind=kind))
        return [messages.calendar_entry(one) for one in answer.entries]

    def remove_entry(self, kind: str, name: str) -> model.CalendarEntry:
        """Remove an entry, by its id or the beginning of it; return what it was."""
        return messages.calendar_entry(
            self._call(self._calendar.RemoveEntry, pb.RemoveEntryRequest(kind=kind, id=name))
        )

    def list_environments(self) -> list[model.EnvironmentRow]:
        """Return the environments in their order."""
        request = pb.ListEnvironmentsRequest()
        answer: pb.ListEnvironmentsResponse = self._call(self._environments.ListEnvironments, request)
        return [messages.environment(one) for one in answer.environments]

    def set_environment(self, name: str, after: str | None, healthy_for_ms: int | None) -> model.EnvironmentRow:
        """Add or change an environment; None leaves a thing as it is."""
        request = pb.SetEnvironmentRequest(name=name, after=after, healthy_for_ms=healthy_for_ms)
        answer: pb.SetEnvironmentResponse = self._call(self._environments.SetEnvironment, request)
        return messages.environment(answer.environment)

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

    def show_restored(self) -> list[model.RestoredRow]:
        """Return the apps of every host in environments where hosts know more than the server's database."""
        answer: pb.ShowRestoredResponse = self._call(self._restored.ShowRestored, pb.ShowRestoredRequest())
        return [model.RestoredRow(r.host, r.environment, r.ahead, r.app, r.current, r.desired) for r in answer.rows]

    def accept_restored(self, reason: str) -> int:
        """Let the server's database count again; return how many hosts had known more."""
        request = pb.AcceptRestoredRequest(reason=reason)
        answer: pb.AcceptRestoredResponse = self._call(self._restored.AcceptRestored, request)
        return answer.hosts

    # -- what travels in files

    def create_bundle(self, order: model.BundleOrder) -> Iterator[model.BundlePiece]:
        """Yield what a bundle is made of: notes for people, and its bytes in order. Takes as long as it has to."""
        request = pb.CreateBundleRequest(
            hosts=order.hosts,
            releases=order.releases,
            since=order.since,
            valid_ms=order.valid_ms,
            delta_wait_ms=order.delta_wait_ms,
        )
        try:
            for piece in self._bundles.CreateBundle(request):
                yield model.BundlePiece(piece.note, piece.size, piece.data, piece.last)
        except grpc.RpcError as error:
            raise from_rpc(error, address=self._address, start=self._start, deadline_s=self._deadline_s) from error

    def import_reports(self, pieces: Iterable[bytes]) -> model.ImportedReports:
        """Hand in a file of reports; return what the server made of it."""
        requests = (pb.ImportReportsRequest(data=data) for data in pieces)
        try:
            a: pb.ImportReportsResponse = self._bundles.ImportReports(requests, timeout=IMPORT_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc(error, address=self._address, start=self._start, deadline_s=IMPORT_SECONDS) from error
        return model.ImportedReports(a.host, a.events, a.added, a.state, a.made_unix_ms)

    def audit(self, limit: int) -> list[model.AuditEntry]:
        """Return the newest entries of the audit log."""
        answer: pb.ListAuditResponse = self._call(self._audit.ListAudit, pb.ListAuditRequest(limit=limit))
        return [model.AuditEntry(e.at_unix_ms, e.actor, e.act, e.subject, e.detail, e.outcome) for e in answer.entries]
