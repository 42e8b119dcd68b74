"""A tiny operator's server in this process: real gRPC and mTLS, everything else in memory and scripted by the test.

It verifies what it is given as the real one does (objects against their digest, releases through `admit`), so that a
client that sends rubbish fails here too. Rollouts are what the test says: each GetAssignment takes the next of `script`.
"""

import hashlib
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import zstandard

from towpath import pki
from towpath.errors import TowpathError
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import operator_pb2_grpc as rpc
from towpath.wire import decode_release
from towpath_server.domain.metadata import OnlineKeys, admit

STATUS = {
    "not-found": grpc.StatusCode.NOT_FOUND,
    "exists": grpc.StatusCode.ALREADY_EXISTS,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class OperatorServer(rpc.HostsServicer, rpc.ReleasesServicer, rpc.AssignmentsServicer, rpc.AuditServicer):
    """The fake. `server_dir` is the folder `server/` of a fleet made by `towpath init`."""

    def __init__(self, server_dir: Path) -> None:
        self._dir = server_dir
        read = {
            name: (server_dir / "keys" / f"{name}.pem").read_bytes() for name in ("snapshot", "timestamp", "director")
        }
        self.keys = OnlineKeys(**read)
        self.files = {path.name: path.read_bytes() for path in (server_dir / "metadata").iterdir()}
        self.objects: dict[bytes, bytes] = {}
        self.uploads: list[list[bytes]] = []
        self.releases: list[pb.ReleaseInfo] = []
        self.hosts: dict[str, pb.Host] = {}
        self.details: dict[str, pb.GetHostResponse] = {}
        self.tokens: list[pb.CreateTokenRequest] = []
        self.revoked: list[pb.RevokeHostRequest] = []
        self.deploys: list[pb.DeployRequest] = []
        self.deployed = pb.DeployResponse(assignment="a1", generation=1, hosts=1)
        self.script: deque[pb.GetAssignmentResponse | TowpathError] = deque()
        self.rows: list[pb.StatusRow] = []
        self.reasons: list[pb.Reason] = []
        self.entries: list[pb.AuditEntry] = []
        self.fail: dict[str, deque[TowpathError | grpc.StatusCode]] = {}
        self._grpc: grpc.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        ca_pem = (self._dir / "ca.pem").read_bytes()
        ca_key = pki.key_from_pem((self._dir / "ca.key").read_bytes())
        key = pki.new_key()
        leaf = pki.issue_server(ca_pem, ca_key, key, not_before_ms=now_ms() - 60_000, not_after_ms=now_ms() + 3_600_000)
        credentials = grpc.ssl_server_credentials(
            [(pki.key_to_pem(key), leaf)], root_certificates=ca_pem, require_client_auth=True
        )
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        rpc.add_HostsServicer_to_server(self, self._grpc)
        rpc.add_ReleasesServicer_to_server(self, self._grpc)
        rpc.add_AssignmentsServicer_to_server(self, self._grpc)
        rpc.add_AuditServicer_to_server(self, self._grpc)
        self.port = self._grpc.add_secure_port("127.0.0.1:0", credentials)
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._grpc is not None
        self._grpc.stop(0).wait(5)

    def _answer(self, context: grpc.ServicerContext, error: TowpathError) -> Any:
        context.set_trailing_metadata((("towpath-code", error.code),))
        default = grpc.StatusCode.PERMISSION_DENIED if "refus" in error.code else grpc.StatusCode.INVALID_ARGUMENT
        context.abort(STATUS.get(error.code, default), str(error))

    def _scripted(self, name: str, context: grpc.ServicerContext) -> None:
        if not self.fail.get(name):
            return
        failure = self.fail[name].popleft()
        if isinstance(failure, grpc.StatusCode):
            context.abort(failure, "boom\nsecond")  # as a crashed server, or none of ours, would
        else:
            self._answer(context, failure)

    # -- hosts

    def CreateToken(self, request: pb.CreateTokenRequest, context: grpc.ServicerContext) -> pb.CreateTokenResponse:
        self._scripted("CreateToken", context)
        self.tokens.append(request)
        return pb.CreateTokenResponse(token=f"tp1.token{len(self.tokens)}", expires_unix_ms=now_ms() + request.ttl_ms)

    def ListHosts(self, request: pb.ListHostsRequest, context: grpc.ServicerContext) -> pb.ListHostsResponse:
        self._scripted("ListHosts", context)
        return pb.ListHostsResponse(hosts=[self.hosts[name] for name in sorted(self.hosts)])

    def GetHost(self, request: pb.GetHostRequest, context: grpc.ServicerContext) -> pb.GetHostResponse:
        if request.name not in self.details:
            self._answer(context, TowpathError(f"cannot find host {request.name}", code="not-found"))
        return self.details[request.name]

    def SetHost(self, request: pb.SetHostRequest, context: grpc.ServicerContext) -> pb.SetHostResponse:
        host = self.hosts[request.name]
        for name, text in request.parameters.items():
            host.parameters[name].text = text
        for name in request.unset_parameters:
            del host.parameters[name]
        host.labels.update(request.labels)
        for name in request.unset_labels:
            del host.labels[name]
        return pb.SetHostResponse(host=host, notes=["hello.port is checked when hello is published"])

    def RevokeHost(self, request: pb.RevokeHostRequest, context: grpc.ServicerContext) -> pb.RevokeHostResponse:
        self.revoked.append(request)
        return pb.RevokeHostResponse()

    def Why(self, request: pb.WhyRequest, context: grpc.ServicerContext) -> pb.WhyResponse:
        return pb.WhyResponse(reasons=self.reasons)

    # -- releases

    def GetRepository(
        self, request: pb.GetRepositoryRequest, context: grpc.ServicerContext
    ) -> pb.GetRepositoryResponse:
        files = [pb.MetadataFile(name=name, data=data) for name, data in self.files.items()]
        return pb.GetRepositoryResponse(files=files)

    def FindMissing(self, request: pb.FindMissingRequest, context: grpc.ServicerContext) -> pb.FindMissingResponse:
        return pb.FindMissingResponse(sha256=[digest for digest in request.sha256 if digest not in self.objects])

    def Upload(self, request_iterator: Iterator[pb.UploadRequest], context: grpc.ServicerContext) -> pb.UploadResponse:
        self.uploads.append([])
        digest, size, frame = b"", 0, bytearray()
        for message in request_iterator:
            if message.object_sha256:
                digest, size, frame = message.object_sha256, message.size, bytearray()
            frame += message.data
            if message.last:
                content = zstandard.ZstdDecompressor().decompress(bytes(frame), max_output_size=size)
                if len(content) != size or hashlib.sha256(content).digest() != digest:
                    self._answer(context, TowpathError("cannot store an object: it has another digest", code="corrupt"))
                self.objects[digest] = bytes(frame)
                self.uploads[-1].append(digest)
                self._scripted("Upload", context)
        return pb.UploadResponse(stored=len(self.uploads[-1]))

    def Publish(self, request: pb.PublishRequest, context: grpc.ServicerContext) -> pb.PublishResponse:
        self._scripted("Publish", context)
        try:
            new = {file.name: file.data for file in request.metadata}
            path = request.target_path
            added = admit(self.files, new, target_path=path, release=request.release, keys=self.keys, now_ms=now_ms())
        except TowpathError as error:
            self._answer(context, error)
        self.files.update(added)
        release = decode_release(request.release)
        if release.artifact.index_sha256 not in self.objects:
            self._answer(context, TowpathError("cannot publish: its tree is not here", code="incomplete"))
        digest = hashlib.sha256(request.release).digest()
        self.releases.append(
            pb.ReleaseInfo(
                app=release.app, version=release.version, counter=release.counter, sha256=digest, published_by="ana"
            )
        )
        return pb.PublishResponse(snapshot_version=2)

    def ListReleases(self, request: pb.ListReleasesRequest, context: grpc.ServicerContext) -> pb.ListReleasesResponse:
        return pb.ListReleasesResponse(releases=[r for r in self.releases if request.app in ("", r.app)])

    # -- assignments

    def Deploy(self, request: pb.DeployRequest, context: grpc.ServicerContext) -> pb.DeployResponse:
        self._scripted("Deploy", context)
        self.deploys.append(request)
        return self.deployed

    def Undeploy(self, request: pb.UndeployRequest, context: grpc.ServicerContext) -> pb.UndeployResponse:
        return pb.UndeployResponse(assignments=len(self.deploys))

    def GetAssignment(
        self, request: pb.GetAssignmentRequest, context: grpc.ServicerContext
    ) -> pb.GetAssignmentResponse:
        now = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if isinstance(now, TowpathError):
            self._answer(context, now)
        assert isinstance(now, pb.GetAssignmentResponse)
        return now

    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:
        return pb.StatusResponse(rows=[row for row in self.rows if request.app in ("", row.app)])

    # -- audit

    def ListAudit(self, request: pb.ListAuditRequest, context: grpc.ServicerContext) -> pb.ListAuditResponse:
        return pb.ListAuditResponse(entries=self.entries[-(request.limit or 100) :])
