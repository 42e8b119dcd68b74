"""A server whose objects are in a bucket of a real S3 service: publish, deploy, fetch, and what a lost service costs."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from fakes.live_server import LiveServer
from fakes.loopback import unused_port
from fakes.s3 import Bucket
from towpath.errors import InputError
from towpath.v1 import agent_pb2, operator_pb2, operator_pb2_grpc
from towpath_server.cli import group


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


def doctor(folder: Path, bucket: Bucket, url: str = "") -> tuple[int, list[str]]:
    """Return the exit code and what is said of objects, where the settings of the server are in its folder."""
    (folder / "server.toml").write_text(
        f'object_store = "{url or bucket.url}"\nobject_store_endpoint = "{bucket.endpoint}"\n'
    )
    ports = [f"--{kind}-listen=127.0.0.1:0" for kind in ("agent", "enroll", "operator")]
    done = CliRunner().invoke(group, ["doctor", "--dir", str(folder), *ports, "--full", "-o", "json"])
    findings = json.loads(done.stdout)["findings"]
    return done.exit_code, [f"{it['level']}: {it['text']}" for it in findings if it["check"] == "objects"]


def test_doctor_looks_where_the_objects_are(bucket: Bucket, tmp_path: Path) -> None:
    """All is there; one is damaged; one is missing; a bucket that cannot be used. It changes nothing in the
    folder, and in the bucket what is damaged.
    """
    with LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint)) as server:
        server.publish("1.0.0", os.urandom(700_000))
    folder = server.fleet / "server"
    shutil.rmtree(folder / "arriving")
    code, (said,) = doctor(folder, bucket)
    assert (code, said) == (0, "ok: 2 are needed, 2 were read and are whole")
    assert {path.name for path in folder.iterdir()}.isdisjoint({"arriving", "objects"})
    victim = max((path for path in bucket.folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = victim.read_bytes()
    victim.write_bytes(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])
    code, (said,) = doctor(folder, bucket)
    assert code == 1
    assert f"{victim.parent.name}{victim.name}"[:16] + " is damaged" in said
    assert "and was put aside; publish the release again" in said
    assert victim.read_bytes() == b""
    victim.unlink()
    code, (said,) = doctor(folder, bucket)
    assert code == 1
    assert " is missing; publish the release again" in said
    code, (said,) = doctor(folder, bucket, "s3://no-such-bucket-here")
    assert code == 1
    assert said.startswith("fail: cannot use s3://no-such-bucket-here for objects: ")
    assert "publish" not in said


def test_a_running_server_takes_again_what_doctor_put_aside(bucket: Bucket, tmp_path: Path) -> None:
    """It knew the object; whoever publishes is told that it is missing, and hosts get it whole."""
    content = os.urandom(700_000)
    with LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint)) as server:
        host = server.new_host()
        server.publish("1.0.0", content)
        digest = hashlib.sha256(content).digest()
        whole = fetched(host.api, digest)
        victim = bucket.folder / "fleet" / digest.hex()[:2] / digest.hex()[2:]
        victim.write_bytes(whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:])
        code, (said,) = doctor(server.fleet / "server", bucket)
        assert code == 1
        assert "and was put aside" in said
        releases = operator_pb2_grpc.ReleasesStub(server.operator_channel)
        request = operator_pb2.FindMissingRequest(sha256=[digest])
        assert list(releases.FindMissing(request, timeout=30).sha256) == [digest]
        assert server.upload(content) == 1
        assert fetched(host.api, digest) == whole


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
        (
            "s3://no-such-bucket-here",
            "cannot use s3://no-such-bucket-here for objects: http://.* answers NoSuchBucket: ",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_said_at_the_start(bucket: Bucket, tmp_path: Path, url: str, says: str) -> None:
    """A wrong address, or a bucket that is not there: one line, and no server that doctor would take for one that ran."""
    server = LiveServer(tmp_path, object_store=(url, bucket.endpoint))
    with pytest.raises(InputError, match=says) as caught:
        server.start()
    server.stop()
    assert "\n" not in str(caught.value)
    assert not (server.fleet / "server" / "towpath.db").exists()


@pytest.mark.parametrize("keys", [True, False])
def test_who_does_not_answer_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keys: bool
) -> None:
    """Nobody listens there; without keys it is the machine's role that is asked for first, here nobody too."""
    nobody = f"http://127.0.0.1:{unused_port()}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a key") if keys else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", nobody)
    server = LiveServer(tmp_path, object_store=("s3://a-bucket", nobody))
    with pytest.raises(InputError) as caught:
        server.start()
    server.stop()
    why = f"no answer from {nobody}: Connection refused" if keys else "there are no keys: AWS_ACCESS_KEY_ID"
    assert str(caught.value).startswith(f"cannot use s3://a-bucket for objects: {why}")
    assert str(caught.value).endswith("; look at object_store, object_store_endpoint and the AWS_* variables")


def test_wrong_keys_are_said_at_the_start(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service says no; the line holds neither key."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    server = LiveServer(tmp_path, object_store=(bucket.url, bucket.endpoint))
    with pytest.raises(InputError, match="for objects: http://.* answers SignatureDoesNotMatch: ") as caught:
        server.start()
    server.stop()
    assert "another-secret" not in str(caught.value)
