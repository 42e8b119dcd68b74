"""Bundles over real gRPC: whom a server makes one for, what is in it, and what it refuses to make; reports by file."""

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from fakes.live_server import CALL_S, DAY_MS, HostUnderTest, LiveServer, eventually, refused
from towpath import pki
from towpath.bundle.checking import Checked, check
from towpath.manifest import DesiredApp
from towpath.reports import AppState, Event
from towpath.status import Health, State, Verdict
from towpath.v1 import operator_pb2, operator_pb2_grpc
from towpath.wire.reportfile import HostReports, encode_report_file

RANDOM = random.Random(5)
ONE = RANDOM.randbytes(300_000)
TWO = ONE[:1000] + b"what is new" + ONE[1000:]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


@dataclass
class Made:
    """What came of asking for a bundle."""

    data: bytes
    notes: list[str]
    checked: Checked

    def names(self, folder: str) -> list[str]:
        with tarfile.open(fileobj=io.BytesIO(self.data)) as tar:
            return [name for name in tar.getnames() if name.startswith(f"{folder}/")]


def stub(server: LiveServer) -> operator_pb2_grpc.BundlesStub:
    return operator_pb2_grpc.BundlesStub(server.operator_channel)


def create(server: LiveServer, *hosts: str, release: str = "hello@1.1.0", **fields: object) -> Made:
    request = operator_pb2.CreateBundleRequest(hosts=hosts, releases=[release], **fields)
    notes, data, size = [], bytearray(), 0
    for piece in stub(server).CreateBundle(request, timeout=120):
        if piece.note:
            notes.append(piece.note)
        size = size or piece.size
        data += piece.data
    assert len(data) == size
    root = (server.fleet / "operator" / "root.json").read_bytes()
    whole = bytes(data)
    checked = check(lambda at, count: whole[at : at + count], size, root=root, now_unix_ms=server.clock.now_unix_ms())
    return Made(whole, notes, checked)


def away(server: LiveServer, host: HostUnderTest) -> None:
    """Let the host be silent for so long that it counts as offline."""
    host.channel.close()
    server.clock.ahead_ms += 120_000


def running(server: LiveServer) -> HostUnderTest:
    """A host that runs 1.0.0, and is away; 1.1.0 is deployed to it."""
    host = server.new_host("h1")
    server.publish("1.0.0", ONE)
    server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "it is let in", 60)
    host.obey()
    away(server, host)
    server.publish("1.1.0", TWO)
    server.deploy("1.1.0")
    return host


def phase(server: LiveServer, version: str = "1.1.0") -> tuple[str, str]:
    rollouts = operator_pb2_grpc.RolloutsStub(server.operator_channel)
    found = rollouts.ListRollouts(operator_pb2.ListRolloutsRequest(app="hello"), timeout=CALL_S).rollouts
    one = next(it for it in found if it.version == version)
    return one.hosts[0].phase, one.state


def state(version: str, sha256: bytes, generation: int, **fields: object) -> AppState:
    usual = {
        "app": "hello", "current_version": version, "current_sha256": sha256, "state": State.CONFIRMED,
        "health": Health.HEALTHY, "verdict": Verdict.SUCCEEDED, "generation": generation,
    }  # fmt: skip
    return AppState(**{**usual, **fields})  # type: ignore[arg-type]


def reports_of(host: HostUnderTest, *apps: AppState, revision: int = 50, key: object = None, **fields: object) -> bytes:
    usual = {"host_id": host.id, "made_unix_ms": 7, "events": (Event("e1", 5, "note", reason="it ran"),)}
    made = HostReports(**{**usual, **fields}, apps=apps, state_revision=revision)  # type: ignore[arg-type]
    signer = key or host.key
    fingerprint = pki.identity(host.certificate).key_sha256.hex()
    return encode_report_file(made, fingerprint, lambda message: pki.sign(signer, message))


def bring(server: LiveServer, data: bytes) -> operator_pb2.ImportReportsResponse:
    pieces = [operator_pb2.ImportReportsRequest(data=data[at : at + 100]) for at in range(0, len(data), 100)]
    answer: operator_pb2.ImportReportsResponse = stub(server).ImportReports(iter(pieces), timeout=CALL_S)
    return answer


def test_a_host_that_is_away_is_told_by_a_bundle_and_answers_by_a_file(server: LiveServer) -> None:
    """It neither blocks nor counts, however long it takes; its reports end the rollout; all of it is in the audit."""
    host = running(server)
    made = create(server, "h1", since=["1.0.0"], delta_wait_ms=60_000)
    assert [one.name for one in made.checked.statement.hosts] == ["h1"]
    assert made.names("objects") == []
    assert len(made.names("deltas")) == 1
    manifest = made.checked.manifests[host.id]
    assert [(it.app, it.version) for it in manifest.apps] == [("hello", "1.1.0")]
    server.clock.ahead_ms += 3 * DAY_MS
    eventually(lambda: phase(server)[0] == "offline", "it is away and not silent")
    wanted = manifest.apps[0]
    done = bring(server, reports_of(host, state("1.1.0", wanted.release_sha256, wanted.generation)))
    assert (done.host, done.events, done.added, done.state) == ("h1", 1, 1, True)
    assert eventually(lambda: phase(server) == ("healthy", "done"), "its report counts")
    again = bring(server, reports_of(host, state("1.1.0", wanted.release_sha256, wanted.generation)))
    assert (again.added, again.state) == (0, False)
    assert [entry.outcome for entry in server.audit("bundle.create")] == ["done"]
    assert "by file: 1 events, 1 new" in server.audit("reports.import")[0].detail


def test_a_failure_that_comes_by_file_halts_the_rollout(server: LiveServer) -> None:
    """As one that a host reports itself."""
    host = running(server)
    wanted = create(server, "h1").checked.manifests[host.id].apps[0]
    bad = state(
        "1.0.0", b"o" * 32, wanted.generation, desired_sha256=wanted.release_sha256, state=State.REVERTED,
        verdict=Verdict.FAILED, reason="its probe failed",
    )  # fmt: skip
    bring(server, reports_of(host, bad))
    assert eventually(lambda: phase(server) == ("failed", "halted"), "its failure counts")


def failed(wanted: DesiredApp) -> AppState:
    """What a host says that could not go back by itself either."""
    return state(
        "1.1.0", wanted.release_sha256, wanted.generation, desired_sha256=wanted.release_sha256, state=State.STUCK,
        verdict=Verdict.FAILED, health=Health.UNHEALTHY, reason="its probe failed",
    )  # fmt: skip


def undo(server: LiveServer) -> None:
    stub = operator_pb2_grpc.RolloutsStub(server.operator_channel)
    stub.Undo(operator_pb2.UndoRequest(app="hello", environment="dev", selector={"role": "web"}), timeout=CALL_S)


def test_a_halt_stops_files_too_also_for_a_host_that_got_one(server: LiveServer) -> None:
    """The rollout stands: nobody is handed the release once more; before that, who lost the first file gets another."""
    host = running(server)
    assert create(server, "h1").names("manifests") == create(server, "h1").names("manifests")
    wanted = create(server, "h1").checked.manifests[host.id].apps[0]
    bad = replace(failed(wanted), state=State.REVERTED, current_version="1.0.0", current_sha256=b"o" * 32)
    bring(server, reports_of(host, bad))
    assert eventually(lambda: phase(server) == ("failed", "halted"), "its failure counts")
    with refused(StatusCode.INVALID_ARGUMENT, "not-let-in") as message:
        create(server, "h1")
    assert "its rollout is halted" in message[0]


def test_a_bundle_takes_a_host_back_that_no_line_reaches(server: LiveServer) -> None:
    """After an undo the file carries what was before, and nothing else; its reports end the way back."""
    host = running(server)
    bring(server, reports_of(host, failed(create(server, "h1").checked.manifests[host.id].apps[0])))
    assert eventually(lambda: phase(server) == ("failed", "halted"), "its failure counts")
    undo(server)
    with refused(StatusCode.INVALID_ARGUMENT, "not-deployed") as message:
        create(server, "h1")
    assert "hello 1.1.0 is taken back there; carry what it goes back to: --release hello@1.0.0" in message[0]
    made = create(server, "h1", release="hello@1.0.0")
    (wanted,) = made.checked.manifests[host.id].apps
    assert wanted.version == "1.0.0"
    assert eventually(lambda: phase(server) == ("offline", "reverted"), "it neither blocks nor counts")
    create(server, "h1", release="hello@1.0.0")  # the first one was lost on the way
    back = state("1.0.0", wanted.release_sha256, wanted.generation)
    bring(server, reports_of(host, back, revision=60))
    assert eventually(lambda: phase(server) == ("back", "reverted"), "it is back")
    assert phase(server, "1.0.0") == ("healthy", "done")
    server.connect(host)
    assert host.desired() == "1.0.0"


def test_a_host_that_comes_back_is_told_the_same_by_its_server(server: LiveServer) -> None:
    """Whether the bundle reached it or not; what it accepted out of the bundle is older than the answer."""
    host = running(server)
    manifest = create(server, "h1").checked.manifests[host.id]
    server.connect(host)
    answer = host.sync(accepted_sequence=manifest.sequence)
    assert answer.sequence > manifest.sequence
    assert answer.min_snapshot_version > manifest.min_snapshot_version
    assert [(it.app, it.version, it.generation) for it in answer.apps] == [
        (it.app, it.version, it.generation) for it in manifest.apps
    ]
    assert answer.critical == ()
    eventually(lambda: phase(server)[0] == "in_flight", "it is there")


def test_labels_choose_hosts_and_objects_come_where_no_delta_is(server: LiveServer) -> None:
    """A selector takes every active host that has all of it; without --since everything is carried."""
    hosts = [server.new_host(f"h{number}", site="7") for number in range(3)]
    server.new_host("other", site="8")
    server.publish("1.1.0", TWO)
    for host in hosts:
        away(server, host)
    server.deploy("1.1.0")
    made = create(server, "role=web,site=7")
    assert [one.name for one in made.checked.statement.hosts] == ["h0", "h1", "h2"]
    assert set(made.checked.manifests) == {host.id for host in hosts}
    assert len(made.names("objects")) == 1
    assert len({it.sequence for it in made.checked.manifests.values()}) == 3


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "longer", "another"])
def test_a_delta_that_is_damaged_on_the_server_is_not_carried(server: LiveServer, how: str) -> None:
    """A host without a line could fetch no objects instead: they are in the file; the delta is gone, and made anew."""
    running(server)
    whole = create(server, "h1", since=["1.0.0"], delta_wait_ms=60_000)
    (name,) = whole.names("deltas")
    path = server.fleet / "server" / "objects" / "deltas" / name.removeprefix("deltas/").replace("/", "-")
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes(
        {
            "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
            "cut": good[:-1],
            "empty": b"",
            "longer": good + b"x",
            "another": good[:8] + b"?" * 16 + good[24:],
        }[how]
    )
    made = create(server, "h1", since=["1.0.0"])
    assert made.names("deltas") == []
    assert made.names("objects") == [f"objects/{hashlib.sha256(TWO).hexdigest()}"]
    assert made.notes == ["the delta of hello 1.0.0 to 1.1.0 was damaged on the server and is removed"]
    assert not path.exists()
    assert create(server, "h1", since=["1.0.0"], delta_wait_ms=60_000).names("deltas") == [name]
    assert path.read_bytes() == good


def test_what_no_bundle_is_made_for(server: LiveServer) -> None:
    """An unknown host, no labels that fit, a release that is not published or not deployed, a bad lifetime, the agent."""
    running(server)
    for code, status, hosts, fields in (
        ("not-found", StatusCode.NOT_FOUND, ["h9"], {}),
        ("bad-input", StatusCode.INVALID_ARGUMENT, ["site=9"], {}),
        ("bad-input", StatusCode.INVALID_ARGUMENT, [], {}),
        ("not-found", StatusCode.NOT_FOUND, ["h1"], {"release": "hello@9"}),
        ("bad-input", StatusCode.INVALID_ARGUMENT, ["h1"], {"release": "hello"}),
        ("bad-input", StatusCode.INVALID_ARGUMENT, ["h1"], {"release": "towpath-agent@1"}),
        ("not-deployed", StatusCode.INVALID_ARGUMENT, ["h1"], {"release": "hello@1.0.0"}),
        ("bad-input", StatusCode.INVALID_ARGUMENT, ["h1"], {"valid_ms": 91 * DAY_MS}),
        ("incomplete", StatusCode.INVALID_ARGUMENT, ["h1"], {"since": ["1.0.5"]}),
    ):
        if fields.get("since"):
            server.publish("1.0.5", RANDOM.randbytes(50_000))
        with refused(status, code):
            create(server, *hosts, **fields)
    with refused(StatusCode.NOT_FOUND, "not-found") as said:
        create(server, "h1", since=["9.9.9"])
    assert said == ["cannot use --since hello@9.9.9: it is not published; see 'towpath release list hello'"]
    # A host that has reported 1.0.0 gets nothing that starts elsewhere, and nobody was let in by any of it.
    assert [entry.outcome for entry in server.audit("bundle.create")] == ["refused"]
    assert phase(server)[0] == "offline"


def test_a_bundle_is_no_way_around_a_rollout(server: LiveServer) -> None:
    """Neither a wave that is not open nor a pause lets a host in, whatever file is asked for."""
    host = server.new_host("h1", rack="2")
    server.new_host("h0", rack="1")
    server.publish("1.1.0", TWO)
    away(server, host)
    waves = [operator_pb2.Wave(what="rack=1"), operator_pb2.Wave(what="100%")]
    deployed = server.deploy("1.1.0", waves=waves)
    assert deployed.hosts == 2
    with refused(StatusCode.INVALID_ARGUMENT, "not-let-in") as message:
        create(server, "h1")
    assert "wave 2 of its rollout, which is not open yet" in message[0]
    rollouts = operator_pb2_grpc.RolloutsStub(server.operator_channel)
    steer = operator_pb2.SteerRolloutRequest(rollout=deployed.assignment, verb="pause")
    rollouts.SteerRollout(steer, timeout=CALL_S)
    with refused(StatusCode.INVALID_ARGUMENT, "not-let-in") as message:
        create(server, "h1")
    assert "its rollout is paused" in message[0]


def test_a_host_that_is_there_waits_for_its_turn(server: LiveServer) -> None:
    """No file lets in more hosts at once than the rollout would."""
    host, other = server.new_host("h1"), server.new_host("h0")
    server.publish("1.1.0", TWO)
    for each in (host, other):
        each.sync()
    deployed = server.deploy("1.1.0", max_unavailable=1)
    moved = lambda: {one.host for one in server.progress(deployed.assignment).hosts if one.admitted}  # noqa: E731
    (first,) = eventually(moved, "one is let in")
    waits = next(one.name for one in (host, other) if one.name != first)
    with refused(StatusCode.INVALID_ARGUMENT, "not-let-in") as message:
        create(server, waits)
    assert "it is online" in message[0]
    create(server, first)


def test_no_bundle_outlives_a_signature_in_it(server: LiveServer) -> None:
    """The role that lapses first is named, and what to do about it; nothing is made and nobody let in."""
    running(server)
    server.clock.ahead_ms += 60 * DAY_MS
    with refused(StatusCode.INVALID_ARGUMENT, "lapses") as message:
        create(server, "h1", valid_ms=40 * DAY_MS)
    assert "role app-hello lapses on" in message[0]
    assert "publish a release to renew it" in message[0]
    create(server, "h1", valid_ms=20 * DAY_MS)


def test_the_servers_own_metadata_stays_short_lived(server: LiveServer) -> None:
    """What is signed for the road is in the file alone; the server goes on above it."""
    running(server)
    before = server.files()
    create(server, "h1")
    after = server.files()
    root = (server.fleet / "operator" / "root.json").read_bytes()
    from towpath.repository import TIMESTAMP_MS, open_repository, to_ms

    shown = open_repository(after, root)
    assert to_ms(shown.timestamp.expires) <= server.clock.now_unix_ms() + TIMESTAMP_MS
    assert shown.timestamp.version >= open_repository(before, root).timestamp.version + 2


def test_reports_that_nobody_signed_are_refused_by_name(server: LiveServer) -> None:
    """Cut off, forged, of another key, of another host, of a revoked one: nothing is committed, all of it audited."""
    host, other = running(server), server.new_host("h2")
    good = reports_of(host, state("1.0.0", b"o" * 32, 1))
    foreign = pki.new_key()
    for code, data in (
        ("truncated", good[:-3]),
        ("garbled", b"no reports"),
        ("bad-signature", reports_of(host, key=foreign)),
        ("wrong-host", reports_of(host, host_id=other.id)),
    ):
        with refused(StatusCode.PERMISSION_DENIED, code):
            bring(server, data)
    stranger = encode_report_file(HostReports(host.id, 1, (), (), 1), "zz", lambda message: pki.sign(foreign, message))
    with refused(StatusCode.PERMISSION_DENIED, "unknown-host"):
        bring(server, stranger)
    with refused(StatusCode.PERMISSION_DENIED, "unknown-host"):
        bring(server, encode_report_file(HostReports(host.id, 1, (), (), 1), "ab" * 32, lambda m: pki.sign(foreign, m)))
    server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h1", reason="sold"), timeout=CALL_S)
    with refused(StatusCode.PERMISSION_DENIED, "revoked"):
        bring(server, good)
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        create(server, "h1")
    assert {entry.outcome for entry in server.audit("reports.import")} == {"refused"}
    assert server.hosts.GetHost(operator_pb2.GetHostRequest(name="h1"), timeout=CALL_S).events == []


def test_only_operators_make_bundles_and_import_reports(server: LiveServer) -> None:
    """A host's certificate opens neither."""
    host = running(server)
    pem = (pki.key_to_pem(host.key), host.certificate)
    calls = operator_pb2_grpc.BundlesStub(server.dial(server.operators, pem))
    with pytest.raises(grpc.RpcError) as caught:
        list(calls.CreateBundle(operator_pb2.CreateBundleRequest(hosts=["h1"]), timeout=CALL_S))
    assert caught.value.code() == StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as caught:
        calls.ImportReports(iter([operator_pb2.ImportReportsRequest(data=b"x")]), timeout=CALL_S)
    assert caught.value.code() == StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]
