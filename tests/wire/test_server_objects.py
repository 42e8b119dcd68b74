"""Objects, metadata and releases on the wire: what goes in is checked, what comes out can be resumed."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import zstandard
from grpc import StatusCode

from fakes.live_server import CALL_S, LiveServer, eventually, refused
from towpath.index import Entry, EntryType
from towpath.v1 import agent_pb2, operator_pb2
from towpath.wire import encode_index, encode_release


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def upload(data: bytes, carried: bytes, **fields: object) -> list[operator_pb2.UploadRequest]:
    """Return the messages that bring one object in pieces of 64 KiB."""
    pieces = [carried[at : at + 65_536] for at in range(0, len(carried), 65_536)] or [b""]
    messages = [operator_pb2.UploadRequest(data=piece) for piece in pieces]
    messages[0].object_sha256, messages[0].size = sha256(data), len(data)
    messages[-1].last = True
    for name, value in fields.items():
        setattr(messages[0], name, value)
    return messages


def fetch(server: LiveServer, *wants: agent_pb2.Want, name: str = "h1") -> list[agent_pb2.FetchResponse]:
    host = server.new_host(name)
    return list(host.api.Fetch(agent_pb2.FetchRequest(wants=wants), timeout=60))


def missing(server: LiveServer, *contents: bytes) -> list[bytes]:
    request = operator_pb2.FindMissingRequest(sha256=[sha256(data) for data in contents])
    return list(server.releases.FindMissing(request, timeout=CALL_S).sha256)


def test_objects_come_back_in_order_and_in_chunks(server: LiveServer) -> None:
    """Several wants in one call: answers in their order, the carried form whole, missing ones said and passed over."""
    big, small = os.urandom(700_000), b"small"
    assert server.send([*upload(big, frame(big)), *upload(small, frame(small))]) == 2
    wants = [
        agent_pb2.Want(object_sha256=sha256(small)),
        agent_pb2.Want(object_sha256=sha256(b"nothing")),
        agent_pb2.Want(object_sha256=sha256(big)),
        agent_pb2.Want(metadata="1.root.json"),
        agent_pb2.Want(metadata="99.root.json"),
        agent_pb2.Want(target="hello/1.0.0.release"),
    ]
    answers = fetch(server, *wants)
    assert [answer.want for answer in answers] == sorted(answer.want for answer in answers)
    assert max(len(answer.data) for answer in answers) <= 256 * 1024
    whole = {
        number: b"".join(answer.data for answer in answers if answer.want == number) for number in range(len(wants))
    }
    assert whole[0] == frame(small)
    assert zstandard.ZstdDecompressor().decompress(whole[2]) == big
    assert whole[3] == (server.fleet / "operator" / "root.json").read_bytes()
    assert [answer.want for answer in answers if answer.missing] == [1, 4, 5]
    first = next(answer for answer in answers if answer.want == 2)
    assert first.carried_size == len(whole[2])
    lasts = [answer.last for answer in answers if answer.want == 2]
    assert lasts == [False] * (len(lasts) - 1) + [True]


@pytest.mark.parametrize("offset", [0, 1, 262_144, 262_145, -1, None], ids=str)
def test_a_fetch_resumes_at_any_offset(server: LiveServer, offset: int | None) -> None:
    """The rest of the carried form from there on; at its end one empty last message."""
    data = os.urandom(600_000)
    carried = frame(data)
    server.send(upload(data, carried))
    start = len(carried) if offset is None else offset % len(carried)
    answers = fetch(server, agent_pb2.Want(object_sha256=sha256(data), offset=start))
    assert b"".join(answer.data for answer in answers) == carried[start:]
    assert answers[0].carried_size == len(carried)
    assert [answer.last for answer in answers] == [False] * (len(answers) - 1) + [True]


def unpacked(answers: Iterable[agent_pb2.FetchResponse]) -> dict[int, bytes]:
    """Return what came for each want that is not missing, and check that it came in order."""
    came: dict[int, bytes] = {}
    for answer in answers:
        at = 0
        for number, length in enumerate(answer.whole or [len(answer.data)], answer.want):
            assert number >= max(came, default=0)
            came[number] = came.get(number, b"") + answer.data[at : at + length]
            at += length
        assert at == len(answer.data)
        if answer.missing:
            assert not answer.data
            del came[answer.want]
    return came


def test_small_objects_travel_together_where_the_asker_takes_that(server: LiveServer) -> None:
    """Far fewer messages than objects, none longer than a piece; one that is resumed or missing among them harms none."""
    contents = [os.urandom(300 + 7 * number) for number in range(200)]
    contents[100] = os.urandom(500_000)
    server.send([message for data in contents for message in upload(data, frame(data))])
    wants = [agent_pb2.Want(object_sha256=sha256(data)) for data in contents]
    wants[50] = agent_pb2.Want(object_sha256=sha256(b"nothing"))
    wants[60] = agent_pb2.Want(metadata="1.root.json")
    wants[70].offset = 40
    wanted = {number: frame(data) for number, data in enumerate(contents) if number != 50}
    wanted[60] = (server.fleet / "operator" / "root.json").read_bytes()
    wanted[70] = wanted[70][40:]
    host = server.new_host("h1")
    apart = list(host.api.Fetch(agent_pb2.FetchRequest(wants=wants), timeout=60))
    together = list(host.api.Fetch(agent_pb2.FetchRequest(wants=wants, packed=True), timeout=60))
    assert not any(answer.whole for answer in apart)
    assert unpacked(apart) == unpacked(together) == wanted
    assert max(len(answer.data) for answer in together) <= 256 * 1024
    assert len(together) < len(apart) / 2


def test_an_object_that_cannot_be_read_does_not_hold_back_those_before_it(server: LiveServer) -> None:
    """What is read ahead is sent before the error is said, so that a host is not without it for ever."""
    contents = [os.urandom(300) for _ in range(20)]
    server.send([message for data in contents for message in upload(data, frame(data))])
    damaged = next((server.fleet / "server").rglob(f"*{sha256(contents[10]).hex()[2:]}"))
    damaged.unlink()
    damaged.mkdir()
    wants = [agent_pb2.Want(object_sha256=sha256(data)) for data in contents]
    host = server.new_host("h1")
    came: dict[int, bytes] = {}
    with pytest.raises(grpc.RpcError):
        for answer in host.api.Fetch(agent_pb2.FetchRequest(wants=wants, packed=True), timeout=60):
            came |= unpacked([answer])
    assert came == {number: frame(data) for number, data in enumerate(contents[:10])}


def test_a_fetch_of_too_much_or_of_nothing_is_refused(server: LiveServer) -> None:
    """More wants than promised, a want that names nothing, a digest that is none: each a clear refusal."""
    for wants, status, code in (
        ([agent_pb2.Want(metadata="x")] * 513, StatusCode.PERMISSION_DENIED, "endless-data"),
        ([agent_pb2.Want()], StatusCode.PERMISSION_DENIED, "garbled"),
        ([agent_pb2.Want(object_sha256=b"short")], StatusCode.INVALID_ARGUMENT, "bad-input"),
    ):
        with refused(status, code):
            fetch(server, *wants, name=f"h-{code}")


DATA = b"what the publisher signed " * 10_000


@pytest.mark.parametrize(
    ("name", "messages", "code"),
    [
        ("another content", upload(DATA, frame(DATA[:-1] + b"!")), "corrupt-object"),
        ("another length", upload(DATA, frame(DATA), size=5), "endless-data"),
        ("no frame", upload(DATA, DATA[:1_000]), "corrupt-object"),
        ("bytes behind the frame", upload(DATA, frame(DATA) + b"more"), "corrupt-object"),
        ("a bomb", upload(DATA, frame(b"\0" * 100_000_000)), "endless-data"),
        ("a digest that is none", upload(DATA, frame(DATA), object_sha256=b"x"), "garbled"),
        ("an impossible size", upload(DATA, frame(DATA), size=2**63), "garbled"),
        ("one begun inside another", [*upload(DATA, frame(DATA))[:-1], *upload(b"x", frame(b"x"))], None),
    ],
)
def test_an_object_that_lies_is_refused_and_not_kept(
    server: LiveServer, name: str, messages: list[operator_pb2.UploadRequest], code: str | None
) -> None:
    """Whatever is wrong with it: refused under a name, nothing of it is stored, the server goes on."""
    if code is None:
        messages[0].last = False
        code = "garbled"
        messages = [messages[0], *upload(b"x", frame(b"x"))]
    with refused(StatusCode.PERMISSION_DENIED, code):
        server.send(messages)
    assert missing(server, DATA) == [sha256(DATA)], name
    assert list((server.fleet / "server" / "objects" / "incoming").iterdir()) == []
    assert server.send(upload(DATA, frame(DATA))) == 1


def test_a_stream_that_breaks_off_leaves_what_was_whole(server: LiveServer) -> None:
    """Of one that ends inside an object, or is cancelled, that object is forgotten; sending it again works."""
    cut = upload(DATA, frame(DATA))
    cut[-1].last = False
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input") as message:
        server.send(cut)
    assert message == ["cannot store the object: the stream ended inside it; upload it again"]
    assert missing(server, DATA) == [sha256(DATA)]

    going, enough = threading.Event(), threading.Event()

    def slowly() -> Iterator[operator_pb2.UploadRequest]:
        yield from upload(b"whole", frame(b"whole"))
        yield operator_pb2.UploadRequest(object_sha256=sha256(DATA), size=len(DATA), data=frame(DATA)[:10])
        going.set()
        enough.wait(CALL_S)

    call = server.releases.Upload.future(slowly(), timeout=60)
    assert going.wait(CALL_S)
    call.cancel()
    enough.set()
    incoming = server.fleet / "server" / "objects" / "incoming"
    eventually(lambda: not list(incoming.iterdir()), "the server forgets what was half there")
    eventually(lambda: missing(server, DATA, b"whole") == [sha256(DATA)], "what had come whole is kept")
    assert server.send(upload(DATA, frame(DATA))) == 1


def test_a_release_is_published_whole(server: LiveServer) -> None:
    """Published: listed, fetched byte for byte by a host under both of its names, and in the signed repository."""
    release = server.publish("1.0.0", b"content")
    data = encode_release(release)
    (row,) = server.releases.ListReleases(operator_pb2.ListReleasesRequest(), timeout=CALL_S).releases
    assert (row.app, row.version, row.counter, row.sha256) == ("hello", "1.0.0", 1, sha256(data))
    assert row.published_by == "operator/root"
    answers = fetch(
        server,
        agent_pb2.Want(target="hello/1.0.0.release"),
        agent_pb2.Want(target=f"hello/{sha256(data).hex()}.1.0.0.release"),
        agent_pb2.Want(target=f"hello/{'0' * 64}.1.0.0.release"),
        agent_pb2.Want(target="hello/1.0.0"),
    )
    assert [(answer.data, answer.missing) for answer in answers] == [
        (data, False),
        (data, False),
        (b"", True),
        (b"", True),
    ]
    assert "1.app-hello.json" in server.files()


def test_publishing_the_same_again_is_harmless_and_other_bytes_are_refused(server: LiveServer) -> None:
    """A repeated request (lost reply) answers the same; the version with other bytes is taken."""
    release, index = server.make_release("1.0.0", b"content")
    server.upload(b"content", index)
    request = server.sign(release)
    version = server.releases.Publish(request, timeout=CALL_S).snapshot_version
    assert server.releases.Publish(request, timeout=CALL_S).snapshot_version == version
    before = server.files()
    other, index = server.make_release("1.0.0", b"other content")
    server.upload(b"other content", index)
    with refused(StatusCode.PERMISSION_DENIED, "version-taken") as message:
        request.release = encode_release(other)
        server.releases.Publish(request, timeout=CALL_S)
    assert message[0].endswith("choose another --version")
    assert server.files() == before
    assert [entry.outcome for entry in server.audit("release.publish")] == ["done", "done", "refused"]


def test_a_release_without_its_objects_is_not_published(server: LiveServer) -> None:
    """The index must be here, then every object that it names; the message counts what is missing."""
    release, index = server.make_release("1.0.0", b"content")
    request = server.sign(release)
    with refused(StatusCode.INVALID_ARGUMENT, "missing-objects") as message:
        server.releases.Publish(request, timeout=CALL_S)
    assert "its index is not uploaded" in message[0]
    server.upload(index)
    with refused(StatusCode.INVALID_ARGUMENT, "missing-objects") as message:
        server.releases.Publish(request, timeout=CALL_S)
    assert "1 objects are not uploaded" in message[0]
    server.upload(b"content")
    server.releases.Publish(request, timeout=CALL_S)


def test_an_index_that_would_leave_its_tree_is_refused_at_publish(server: LiveServer) -> None:
    """The server checks the tree as the host will: nobody gets to see a release that no host would take."""
    release, _ = server.make_release("1.0.0", b"content")
    evil = encode_index([Entry("../evil", EntryType.FILE, 0o644, 7, sha256(b"content"))])
    server.upload(evil, b"content")
    artifact = replace(release.artifact, index_sha256=sha256(evil), index_size=len(evil))
    with refused(StatusCode.PERMISSION_DENIED, "path-traversal"):
        server.releases.Publish(server.sign(replace(release, artifact=artifact)), timeout=CALL_S)
    lying = replace(release.artifact, tree_size=99)
    server.upload(encode_index([Entry("data", EntryType.FILE, 0o644, 7, sha256(b"content"))]))
    with refused(StatusCode.PERMISSION_DENIED, "mix-and-match"):
        server.releases.Publish(server.sign(replace(release, artifact=lying)), timeout=CALL_S)
    assert server.releases.ListReleases(operator_pb2.ListReleasesRequest(), timeout=CALL_S).releases == []


def test_a_release_that_no_publisher_signed_is_refused(server: LiveServer) -> None:
    """An operator without the publisher's keys cannot make a host run anything: other bytes than signed are refused."""
    release, index = server.make_release("1.0.0", b"content")
    server.upload(b"content", index)
    request = server.sign(release)
    request.release = encode_release(replace(release, rollback_floor=1))
    with refused(StatusCode.PERMISSION_DENIED, "arbitrary-software"):
        server.releases.Publish(request, timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "garbled"):
        server.releases.Publish(operator_pb2.PublishRequest(release=b"\xff\xff"), timeout=CALL_S)


def test_everything_published_survives_a_restart(server: LiveServer) -> None:
    """Objects, releases and the repository are the same after the server comes back."""
    server.publish("1.0.0", b"content")
    server.publish("1.1.0", b"more content")
    before = server.files()
    server.restart()
    assert server.files() == before
    assert missing(server, b"content", b"more content") == []
    rows = server.releases.ListReleases(operator_pb2.ListReleasesRequest(app="hello"), timeout=CALL_S).releases
    assert [row.version for row in rows] == ["1.0.0", "1.1.0"]


def test_a_second_upload_of_everything_sends_nothing_new(server: LiveServer) -> None:
    """Objects that are here are not stored again, and FindMissing has a bound."""
    assert server.upload(b"a", b"b") == 2
    assert server.upload(b"a", b"b", b"c") == 1
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        request = operator_pb2.FindMissingRequest(sha256=[os.urandom(32) for _ in range(10_001)])
        server.releases.FindMissing(request, timeout=CALL_S)


def test_a_host_that_goes_away_in_the_middle_of_a_fetch_harms_nobody(server: LiveServer) -> None:
    """A cancelled fetch ends on the server too; the next one is answered."""
    data = os.urandom(3_000_000)
    server.send(upload(data, frame(data)))
    host = server.new_host()
    call = host.api.Fetch(agent_pb2.FetchRequest(wants=[agent_pb2.Want(object_sha256=sha256(data))] * 20), timeout=60)
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    assert host.desired() == ""
