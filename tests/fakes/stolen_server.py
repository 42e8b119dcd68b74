"""A thief's server: it has everything that a server's folder holds, and puts its own software into the answers.

It speaks the real protocol over the real CA, signs manifests with the real director key and re-signs snapshot and
timestamp with the real keys. What it lacks is any key of a publisher. Each `Forgery` is one way to try without.
"""

import contextlib
import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import grpc
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets, Timestamp

from towpath import pki
from towpath.manifest import DesiredApp, Manifest
from towpath.release import Release, Run
from towpath.repository import file_name, meta_file, sign_role, split_name
from towpath.v1 import agent_pb2 as pb
from towpath.v1.agent_pb2_grpc import AgentApiServicer, add_AgentApiServicer_to_server
from towpath.wire import decode_release, encode_envelope, encode_manifest, encode_release
from towpath_server.domain.metadata import OnlineKeys, snapshot_version

LIFE = dt.timedelta(days=1)
EVIL_VERSION = "6.6.6"
EVIL_COMMAND = ("/bin/sh", "-c", "exec sleep 600")

Forgery = Callable[["Loot", bytes], dict[str, bytes]]


@dataclass(frozen=True, slots=True)
class Loot:
    """What lies in a stolen server's folder: the CA, the online keys, the published files."""

    ca_pem: bytes
    ca_key_pem: bytes
    keys: OnlineKeys
    director: CryptoSigner
    metadata: Mapping[str, bytes]
    release: bytes

    @classmethod
    def of(cls, folder: Path, metadata: Mapping[str, bytes], release: bytes) -> "Loot":
        """Take keys from `folder`; `metadata` and `release` are what it served to anybody."""
        pem = {name: (folder / "keys" / f"{name}.pem").read_bytes() for name in ("snapshot", "timestamp", "director")}
        return cls(
            ca_pem=(folder / "ca.pem").read_bytes(),
            ca_key_pem=(folder / "ca.key").read_bytes(),
            keys=OnlineKeys(**pem),
            director=CryptoSigner(pki.signing_key_from_pem(pem["director"])),
            metadata=metadata,
            release=release,
        )

    def evil_release(self) -> Release:
        """Return the published release with another version and another program."""
        good = decode_release(self.release)
        return replace(
            good,
            version=EVIL_VERSION,
            counter=good.counter + 1000,
            run=Run("process", command=EVIL_COMMAND),
            probes=(),
        )

    def newest(self, role: str) -> Targets:
        """Return the newest published version of a targets role."""
        found = [name for name in self.metadata if (split_name(name) or ("", 0))[0] == role]
        name = max(found, key=lambda name: (split_name(name) or ("", 0))[1])
        return Metadata[Targets].from_bytes(self.metadata[name]).signed

    def around(self, new: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return `new` with a snapshot and a timestamp that vouch for it, signed as the real server signs them."""
        old = self.metadata[file_name("snapshot", snapshot_version(self.metadata))]
        meta = dict(Metadata[Snapshot].from_bytes(old).signed.meta)
        for name, data in new.items():
            role, version = split_name(name) or ("", 0)
            meta[f"{role}.json"] = meta_file(version, data)
        expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + LIFE
        version = time.time_ns() // 10**9 + 1
        snapshot = sign_role(Snapshot(version=version, expires=expires, meta=meta), [self.keys.snapshot])
        timestamp = Timestamp(version=version, expires=expires, snapshot_meta=meta_file(version, snapshot))
        signed = sign_role(timestamp, [self.keys.timestamp])
        return {**new, file_name("snapshot", version): snapshot, "timestamp.json": signed}


def unsigned(loot: Loot, evil: bytes) -> dict[str, bytes]:
    """Name a release that nobody signed."""
    del loot, evil
    return {}


def signed_by_the_director(loot: Loot, evil: bytes) -> dict[str, bytes]:
    """Add the release to its app's role, signed with the best key that a server has."""
    role = loot.newest("app-hello")
    entry = TargetFile.from_data(f"hello/{EVIL_VERSION}.release", evil, ["sha256"])
    entry.unrecognized_fields["custom"] = {
        "release_counter": 1000,
        "rollback_floor": 0,
        "platforms": [],
        "environments": [],
    }
    role.targets[entry.path] = entry
    role.version += 1
    return loot.around({file_name("app-hello", role.version): sign_role(role, [loot.director])})


def delegated_to_itself(loot: Loot, evil: bytes) -> dict[str, bytes]:
    """Delegate the app to the server's own key, in a targets role that the server signs itself."""
    targets = loot.newest("targets")
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.keys[loot.director.public_key.keyid] = loot.director.public_key
    targets.delegations.roles["app-hello"].keyids = [loot.director.public_key.keyid]
    targets.version += 1
    forged = sign_role(targets, [loot.director])
    app = signed_by_the_director(loot, evil)
    roles = {name: data for name, data in app.items() if name.endswith(".app-hello.json")}
    return loot.around({**roles, file_name("targets", targets.version): forged})


@dataclass(frozen=True, slots=True)
class _Answers:
    loot: Loot
    evil: bytes
    files: Mapping[str, bytes]

    def manifest(self, nonce: bytes, peer_pem: bytes) -> bytes:
        who = pki.identity(peer_pem)
        now_ms = time.time_ns() // 10**6
        release = decode_release(self.evil)
        desired = DesiredApp(
            app="hello",
            version=EVIL_VERSION,
            release_size=len(self.evil),
            release_sha256=hashlib.sha256(self.evil).digest(),
            counter=release.counter,
            generation=now_ms,
        )
        manifest = Manifest(
            host_id=who.name,
            host_key_sha256=who.key_sha256,
            sequence=now_ms,
            issued_unix_ms=now_ms,
            expires_unix_ms=now_ms + 86_400_000,
            nonce=nonce,
            min_snapshot_version=1,
            environment="dev",
            apps=(desired,),
        )
        return encode_envelope(self.loot.keys.sign_manifest(encode_manifest(manifest)))


class _Servicer(AgentApiServicer):
    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def Sync(self, request: pb.SyncRequest, context: grpc.ServicerContext) -> pb.SyncResponse:
        (peer,) = cast("tuple[bytes]", context.auth_context()["x509_pem_cert"])
        return pb.SyncResponse(envelope=self._answers.manifest(request.nonce, peer))

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        """Hint again and again: a thief is in a hurry."""
        del request
        change = 0
        while context.is_active():
            change += 1
            yield pb.WatchResponse(change=change)
            time.sleep(0.2)

    def Fetch(self, request: pb.FetchRequest, context: grpc.ServicerContext) -> Iterator[pb.FetchResponse]:
        del context
        for number, want in enumerate(request.wants):
            data: bytes | None
            if want.WhichOneof("what") == "metadata":
                data = self._answers.files.get(want.metadata)
            else:
                data = self._answers.evil
            if data is None:
                yield pb.FetchResponse(want=number, missing=True, last=True)
            else:
                yield pb.FetchResponse(want=number, data=data, last=True, carried_size=len(data))

    def Report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        del context
        return pb.ReportResponse(acknowledged=[event.id for event in request.events])


@contextlib.contextmanager
def stolen_server(loot: Loot, address: str, forge: Forgery) -> Iterator[None]:
    """Serve agents on `address` with what `forge` makes."""
    evil = encode_release(loot.evil_release())
    answers = _Answers(loot, evil, {**loot.metadata, **forge(loot, evil)})
    now_ms = time.time_ns() // 10**6
    ca_key, key = pki.key_from_pem(loot.ca_key_pem), pki.new_key()
    leaf = pki.issue_server(loot.ca_pem, ca_key, key, not_before_ms=now_ms - 60_000, not_after_ms=now_ms + 3_600_000)
    server = grpc.server(ThreadPoolExecutor(8))
    add_AgentApiServicer_to_server(_Servicer(answers), server)
    credentials = grpc.ssl_server_credentials(
        [(pki.key_to_pem(key), leaf)], root_certificates=loot.ca_pem, require_client_auth=True
    )
    server.add_secure_port(address, credentials)
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait(10)
