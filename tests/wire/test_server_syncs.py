"""Sync, Watch and Report on the wire: what is signed for a host, how it hears of changes, what its reports do."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from fakes.live_server import CALL_S, HostUnderTest, LiveServer, eventually, refused
from towpath import dsse, pki
from towpath.manifest import HostFacts, ManifestFloor, accept
from towpath.parameters import Parameter
from towpath.reports import AppState, Event
from towpath.repository import director_keys, open_repository
from towpath.status import State
from towpath.v1 import agent_pb2, operator_pb2, types_pb2
from towpath.wire import decode_envelope, decode_manifest
from towpath.wire.reports import to_app_state


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def shown(server: LiveServer, name: str = "h1") -> operator_pb2.GetHostResponse:
    answer: operator_pb2.GetHostResponse = server.hosts.GetHost(operator_pb2.GetHostRequest(name=name), timeout=CALL_S)
    return answer


def event(number: int) -> Event:
    return Event(f"id-{number}", number, "transition", "hello", "tx", "Staged", "1.0.0", b"d" * 32, "", "why")


def test_a_sync_is_signed_for_this_host_and_this_request(server: LiveServer) -> None:
    """The envelope verifies with the director that targets name, and a host accepts it: id, key, nonce, window."""
    host = server.new_host()
    request = agent_pb2.SyncRequest(nonce=b"0123456789abcdef")
    answer = host.api.Sync(request, timeout=CALL_S)
    repository = open_repository(server.files())
    director = director_keys(repository.targets)
    payload = dsse.verify(decode_envelope(answer.envelope), dsse.MANIFEST_TYPE, director)
    manifest = decode_manifest(payload)
    now = server.clock.now_unix_ms()
    accept(
        manifest,
        b"",
        facts=HostFacts(host.id, pki.public_key_sha256(host.certificate), "dev", "linux/amd64"),
        nonce=b"0123456789abcdef",
        floor=ManifestFloor(manifest.sequence - 1),
        director_keys=frozenset(director.keys),
        now_unix_ms=now,
    )
    assert manifest.min_snapshot_version == repository.snapshot.version
    assert manifest.apps == ()
    assert manifest.expires_unix_ms - manifest.issued_unix_ms == 24 * 3_600_000
    for nonce in (b"", b"short", b"n" * 17):
        with refused(StatusCode.PERMISSION_DENIED, "garbled"):
            host.sync(nonce=nonce)


def test_sequences_grow_over_restarts_and_over_a_clock_that_falls_back(server: LiveServer) -> None:
    """Incident 14, server restored to yesterday: no number is given out twice, whatever happens to the server's clock or process."""
    host = server.new_host()
    numbers = [host.sync().sequence for _ in range(20)]
    server.clock.ahead_ms = -600_000
    numbers += [host.sync().sequence for _ in range(3)]
    server.restart(host)
    numbers += [host.sync().sequence for _ in range(3)]
    server.clock.ahead_ms = 120_000
    numbers += [host.sync().sequence for _ in range(3)]
    assert numbers == sorted(set(numbers))


def test_the_desired_set_has_the_parameters_of_this_host(server: LiveServer) -> None:
    """A parameter set before the first publish is kept as text, checked at deploy, typed in the manifest."""
    host = server.new_host()
    other = server.new_host("h2")
    request = operator_pb2.SetHostRequest(name="h1", parameters={"hello.port": "9001"})
    answer = server.hosts.SetHost(request, timeout=CALL_S)
    assert "no release of hello is published yet" in answer.notes[0]
    assert answer.host.parameters["hello.port"].text == "9001"
    release = server.publish("1.0.0", b"", Parameter("port", "port", 8080))
    server.deploy("1.0.0", max_unavailable=2)
    eventually(lambda: host.desired() and other.desired(), "both are admitted")
    (wanted,) = host.sync().apps
    assert (wanted.app, wanted.version, wanted.counter) == ("hello", "1.0.0", release.counter)
    assert (wanted.parameters, wanted.generation) == ({"port": 9001}, 1)
    assert other.sync().apps[0].parameters == {}
    assert server.hosts.SetHost(request, timeout=CALL_S).host.parameters["hello.port"].number == 9001
    for text, part in (("http", "whole number"), ("70000", "1 to 65535")):
        with refused(StatusCode.INVALID_ARGUMENT, "bad-input") as message:
            request = operator_pb2.SetHostRequest(name="h1", parameters={"hello.port": text})
            server.hosts.SetHost(request, timeout=CALL_S)
        assert part in message[0]
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input") as message:
        server.hosts.SetHost(operator_pb2.SetHostRequest(name="h1", parameters={"hello.prot": "1"}), timeout=CALL_S)
    assert message == ["cannot set hello.prot: hello declares port"]
    assert host.sync().apps[0].parameters == {"port": 9001}, "what is refused changes nothing"
    server.hosts.SetHost(operator_pb2.SetHostRequest(name="h1", unset_parameters=["hello.port"]), timeout=CALL_S)
    assert host.sync().apps[0].parameters == {}


def test_a_parameter_that_an_assigned_release_needs_cannot_be_unset(server: LiveServer) -> None:
    """A host must stay able to run what it was given; and a deploy refuses where a host lacks something."""
    host = server.new_host()
    server.publish("1.0.0", b"", Parameter("port", "port"))
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input") as message:
        server.deploy("1.0.0")
    assert "host h1: cannot go on without parameter port" in message[0]
    server.hosts.SetHost(operator_pb2.SetHostRequest(name="h1", parameters={"hello.port": "80"}), timeout=CALL_S)
    server.deploy("1.0.0")
    eventually(host.desired, "h1 is admitted")
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        request = operator_pb2.SetHostRequest(name="h1", unset_parameters=["hello.port"])
        server.hosts.SetHost(request, timeout=CALL_S)


def test_a_change_reaches_a_watching_host_by_a_hint(server: LiveServer) -> None:
    """One hint at the begin, one for each change of this host's desired set, none for another host's."""
    host, other = server.new_host(), server.new_host("other", role="db")
    watch, quiet = host.api.Watch(agent_pb2.WatchRequest(), timeout=60), []
    foreign = other.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(foreign)

    def listen() -> None:
        try:
            quiet.extend(foreign)
        except grpc.RpcError:
            return

    listener = threading.Thread(target=listen)
    listener.start()
    next(watch)
    server.publish("1.0.0", b"", Parameter("port", "port", 8080))
    server.deploy("1.0.0")
    next(watch)
    assert host.desired() == "1.0.0"
    host.obey()
    server.hosts.SetHost(operator_pb2.SetHostRequest(name="h1", parameters={"hello.port": "81"}), timeout=CALL_S)
    next(watch)
    assert host.sync().apps[0].parameters == {"port": 81}
    watch.cancel()
    foreign.cancel()
    listener.join(CALL_S)
    assert quiet == []


def test_a_watching_host_is_online_and_a_silent_one_is_not(server: LiveServer) -> None:
    """Online: it listens, or spoke in the last 90 seconds; last seen survives a restart."""
    host = server.new_host()
    assert not shown(server).host.online
    host.sync()
    assert shown(server).host.online
    server.clock.ahead_ms = 91_000
    assert not shown(server).host.online
    assert list(host.api.Fetch(agent_pb2.FetchRequest(wants=[agent_pb2.Want(metadata="no.json")]), timeout=CALL_S))
    assert not shown(server).host.online, "a relay on its machine fetches for others, with its certificate"
    watch = host.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(watch)
    assert shown(server).host.online
    server.restart(host)
    seen = shown(server).host.last_seen_unix_ms
    assert seen == pytest.approx(server.clock.now_unix_ms(), abs=60_000)


def test_a_stopping_server_ends_its_watches_as_a_matter_of_course(server: LiveServer) -> None:
    """The stream ends without an error, so a host only connects again."""
    host = server.new_host()
    watch = host.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(watch)
    ended: list[object] = []
    listener = threading.Thread(target=lambda: ended.append(list(watch)))
    listener.start()
    server._loop.call_soon_threadsafe(server._stop.set)
    listener.join(CALL_S)
    assert ended == [[]]
    assert watch.code() is StatusCode.OK


def test_reports_are_acknowledged_once_committed_and_counted_once(server: LiveServer) -> None:
    """Sent twice, in parts, and after a restart: every event is there once, in the order in which it came."""
    host = server.new_host()
    assert host.report(events=[event(1), event(2)]) == ["id-1", "id-2"]
    assert host.report(events=[event(2), event(3)]) == ["id-2", "id-3"]
    server.restart(host)
    assert host.report(events=[event(1), event(3)]) == ["id-1", "id-3"]
    assert [one.id for one in shown(server).events] == ["id-1", "id-2", "id-3"]


def test_the_newest_state_wins_and_an_old_report_does_not_come_back(server: LiveServer) -> None:
    """A report that was overtaken changes nothing; its events still count."""
    host = server.new_host()
    host.report(AppState("hello", current_version="2"), revision=7)
    host.report(AppState("hello", current_version="1"), events=[event(1)], revision=6)
    answer = shown(server)
    assert [state.current_version for state in answer.apps] == ["2"]
    assert [one.id for one in answer.events] == ["id-1"]
    assert (
        host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, state_revision=9), timeout=CALL_S).known_state_revision
        == 7
    )


def test_a_host_that_lost_its_journal_is_believed_again(server: LiveServer) -> None:
    """It counts from the beginning: the sync says so, the known revision is forgotten, its next report counts."""
    host = server.new_host()
    host.report(AppState("hello", current_version="1"), revision=100)
    answer = host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, state_revision=3), timeout=CALL_S)
    assert answer.known_state_revision != 3
    host.report(AppState("hello", current_version="2"), revision=3)
    assert [state.current_version for state in shown(server).apps] == ["2"]
    answer = host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, state_revision=3), timeout=CALL_S)
    assert answer.known_state_revision == 3


def raw_report(host: HostUnderTest, **fields: object) -> None:
    host.api.Report(agent_pb2.ReportRequest(**fields), timeout=CALL_S)  # type: ignore[arg-type]


def test_a_report_that_makes_no_sense_is_refused_whole(server: LiveServer) -> None:
    """Too many events, numbers out of range, strange words, an app twice: refused, nothing of it is kept."""
    host = server.new_host()
    good = to_app_state(AppState("hello"))
    cases: list[tuple[dict[str, object], str]] = [
        ({"events": [types_pb2.ReportEvent(id=str(number)) for number in range(201)]}, "endless-data"),
        ({"events": [types_pb2.ReportEvent(id="")]}, "garbled"),
        ({"apps": [good, good]}, "garbled"),
        ({"apps": [types_pb2.AppState(app="hello", state="Dancing")]}, "garbled"),
        ({"apps": [to_app_state(AppState("hello", generation=2**63))]}, "garbled"),
        ({"state_revision": 2**64 - 1}, "garbled"),
    ]
    for fields, code in cases:
        with refused(StatusCode.PERMISSION_DENIED, code):
            raw_report(host, **fields)
    with refused(StatusCode.INVALID_ARGUMENT, "bad-input"):
        raw_report(host, apps=[to_app_state(AppState("../evil"))])
    assert (list(shown(server).events), list(shown(server).apps)) == ([], [])


def test_an_operator_sees_what_a_host_said(server: LiveServer) -> None:
    """Host, state and status rows say what was reported, word for word, after a restart too."""
    host = server.new_host(zone="b")
    server.publish("1.0.0", b"content")
    server.deploy("1.0.0")
    eventually(host.desired, "h1 is admitted")
    host.sync(agent_version="1.2.3", platform="linux/arm64", boot_id="boot")
    host.obey(state=State.WATCHING, reason="2 of 3 probes pass")
    server.restart(host)
    answer = shown(server)
    assert (answer.host.agent_version, answer.host.platform) == ("1.2.3", "linux/arm64")
    assert dict(answer.host.labels) == {"role": "web", "zone": "b"}
    (row,) = server.assignments.Status(operator_pb2.StatusRequest(app="hello"), timeout=CALL_S).rows
    assert (row.host, row.environment, row.app, row.current, row.desired) == ("h1", "dev", "hello", "1.0.0", "1.0.0")
    assert (row.state, row.reason) == ("Watching", "2 of 3 probes pass")
    for call in (
        lambda: server.hosts.GetHost(operator_pb2.GetHostRequest(name="nobody"), timeout=CALL_S),
        lambda: server.assignments.Status(operator_pb2.StatusRequest(app="nothing"), timeout=CALL_S),
        lambda: server.progress("nothing"),
        lambda: server.hosts.Why(operator_pb2.WhyRequest(host="nobody", app="hello"), timeout=CALL_S),
    ):
        with refused(StatusCode.NOT_FOUND, "not-found"):
            call()


def test_a_hosts_hold_is_shown_keeps_a_rollout_from_it_and_ends(server: LiveServer) -> None:
    """Told by a sync, seen by operators and in `why`; the other host moves, this one when its sync no longer says so."""
    host, other = server.new_host(), server.new_host("h2")
    until = server.clock.now_unix_ms() + 7_200_000
    hold = types_pb2.Hold(by="ana", reason="the till is open", since_unix_ms=1, until_unix_ms=until)
    host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, boot_id="b", holds=[hold]), timeout=CALL_S)
    other.sync()
    assert list(shown(server).host.holds) == [hold]
    server.publish("1.0.0")
    deployed = server.deploy("1.0.0", max_unavailable=2)
    eventually(other.desired, "h2 is admitted")
    other.obey()
    assert eventually(lambda: server.progress(deployed.assignment).state == "done", "the rollout is done")
    by_name = {one.host: one for one in server.progress(deployed.assignment).hosts}
    assert (by_name["h1"].phase, by_name["h1"].admitted) == ("held", False)
    assert by_name["h1"].reason.startswith("held by ana until ")
    host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, boot_id="b", holds=[hold]), timeout=CALL_S)
    (row,) = [row for row in server.assignments.Status(operator_pb2.StatusRequest()).rows if row.host == "h1"]
    assert "the till is open" in row.reason
    why = server.hosts.Why(operator_pb2.WhyRequest(host="h1", app="hello"), timeout=CALL_S).reasons
    assert any(one.command.startswith("towpath-agent release") for one in why)
    server.restart(host, other)
    assert list(shown(server).host.holds) == [hold], "it survives the server"
    host.sync()
    assert list(shown(server).host.holds) == [hold], "a sync that proves a new certificate says nothing of holds"
    host.sync(boot_id="b")
    assert list(shown(server).host.holds) == []
    eventually(host.desired, "h1 is admitted")


def test_a_hold_that_no_agent_of_ours_would_send_is_refused(server: LiveServer) -> None:
    """Escape sequences would reach an operator's terminal; the sync is refused and the row stays as it was."""
    host = server.new_host()
    bad = types_pb2.Hold(by="ana", reason="\x1b[2J", until_unix_ms=1)
    with refused(StatusCode.PERMISSION_DENIED, "garbled"):
        host.api.Sync(agent_pb2.SyncRequest(nonce=b"n" * 16, holds=[bad]), timeout=CALL_S)
    assert list(shown(server).host.holds) == []
