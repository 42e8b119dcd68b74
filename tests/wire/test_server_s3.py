"""A server whose objects are in a bucket of a real S3 service: publish, deploy, fetch, and what a lost service costs."""

import os
from pathlib import Path

import grpc
import pytest

from fakes.live_server import LiveServer
from fakes.s3 import Bucket
from towpath.errors import InputError
from towpath.v1 import agent_pb2


def fetched(host_api: object, digest: bytes, offset: int = 0) -> bytes:
    """Return the carried bytes of an object."""
    request = agent_pb2.FetchRequest(wants=[agent_pb2.Want(object_sha256=digest, offset=offset)])
    return b"".join(chunk.data for chunk in host_api.Fetch(request, timeout=30))  # type: ignore[attr-defined]


def test_a_release_lives_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    """Its objects are in the bucket and nowhere else, come from any offset, and are there after a restart."""
    with LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint)) as server:
        host = server.new_host()
        release = server.publish("1.0.0", os.urandom(700_000))
        server.deploy("1.0.0")
        digest = release.artifact.index_sha256
        whole = fetched(host.api, digest)
        assert fetched(host.api, digest, 5) == whole[5:]
        keys = [path.relative_to(bucket.folder) for path in bucket.folder.rglob("*") if path.is_file()]
        assert Path("fleet", digest.hex()[:2], digest.hex()[2:]) in keys
        assert not (server.fleet / "server" / "objects").exists()
        server.restart(host)
        assert fetched(host.api, digest) == whole
        assert server.upload(b"new") == 1
        assert server.upload(b"new") == 0


def test_a_service_that_is_away_means_wait(bucket: Bucket, tmp_path: Path) -> None:
    """Hosts are told that the server cannot now; when the service is back they get their bytes."""
    with LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint)) as server:
        host = server.new_host()
        digest = server.publish("1.0.0").artifact.index_sha256
        bucket.service.stop()
        try:
            with pytest.raises(grpc.RpcError) as caught:
                fetched(host.api, digest)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "cannot use the object store" in caught.value.details()
        finally:
            bucket.service.start()
        assert fetched(host.api, digest)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("bucket", "write s3://BUCKET"),
        ("s3://", "write s3://BUCKET"),
        ("s3://no-such-bucket-here", "cannot use s3://no-such-bucket-here for objects"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_at_the_start(bucket: Bucket, tmp_path: Path, url: str, says: str) -> None:
    """A wrong address, or a bucket that is not there: one line, and the server does not start."""
    server = LiveServer(tmp_path, object_store=(url, bucket.endpoint))
    with pytest.raises(InputError, match=says) as caught:
        server.start()
    server.stop()
    assert "\n" not in str(caught.value)


def test_wrong_keys_are_said_at_the_start(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service says no; the line holds neither key."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    server = LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint))
    with pytest.raises(InputError, match="for objects") as caught:
        server.start()
    server.stop()
    assert "another-secret" not in str(caught.value)
