"""Deploys on the wire: the reconciler, the rows and the manifests together, with hosts that say what a test says."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grpc import StatusCode

from fakes.live_server import CALL_S, HostUnderTest, LiveServer, eventually, refused
from towpath.parameters import Parameter
from towpath.status import State, Verdict
from towpath.v1 import agent_pb2, operator_pb2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def new_hosts(server: LiveServer, count: int) -> list[HostUnderTest]:
    """Enrol hosts and make them online."""
    token = server.token(count, role="web")
    hosts = [server.new_host(f"h{number}", token=token) for number in range(count)]
    for host in hosts:
        host.sync()
    return hosts


def state_of(server: LiveServer, assignment: str) -> str:
    return str(server.progress(assignment).state)


def wanted(hosts: list[HostUnderTest], version: str) -> list[HostUnderTest]:
    """Return the hosts whose manifest asks for `version`."""
    return [host for host in hosts if host.desired() == version]


def roll_out(server: LiveServer, hosts: list[HostUnderTest], version: str, **fields: object) -> str:
    """Deploy and let every host obey; return the assignment."""
    assignment = str(server.deploy(version, max_unavailable=len(hosts), **fields).assignment)
    eventually(lambda: len(wanted(hosts, version)) == len(hosts), "all are admitted")
    for host in hosts:
        host.obey()
    eventually(lambda: state_of(server, assignment) == "done", "the rollout is done")
    return assignment


def test_a_rollout_goes_host_by_host_and_is_done_when_all_have_proven_it(server: LiveServer) -> None:
    """One at a time: the next is admitted when the last reported itself healthy, and only then it is done."""
    hosts = new_hosts(server, 3)
    server.publish("1.0.0")
    deployed = server.deploy("1.0.0", max_unavailable=1)
    assert (deployed.hosts, deployed.generation, deployed.unchanged) == (3, 1, False)
    for turn in range(3):
        admitted = eventually(
            lambda done=turn: len(now := wanted(hosts, "1.0.0")) > done and now, "the next one's turn"
        )
        assert len(admitted) == turn + 1
        assert state_of(server, deployed.assignment) == "rolling"
        next(host for host in admitted if host.revision == 0).obey()
    eventually(lambda: state_of(server, deployed.assignment) == "done", "it is done")
    assert server.progress(deployed.assignment).reason == "3 of 3 hosts healthy"
    assert server.deploy("1.0.0", max_unavailable=1).unchanged


def test_a_failure_halts_and_the_others_stay_on_what_they_had(server: LiveServer) -> None:
    """One host reverts: nobody else is let in, the one in flight that did not switch is taken back, 1.0.0 stays."""
    hosts = new_hosts(server, 5)
    server.publish("1.0.0")
    roll_out(server, hosts, "1.0.0")
    server.publish("2.0.0")
    bad = server.deploy("2.0.0", max_unavailable=2)
    failing, waiting = eventually(lambda: len(now := wanted(hosts, "2.0.0")) == 2 and now, "two are admitted")
    waiting.obey(state=State.FETCHING, verdict=Verdict.NONE, current_version="1.0.0", current_sha256=b"o" * 32)
    failing.obey(
        state=State.REVERTED, verdict=Verdict.FAILED, current_version="1.0.0", current_sha256=b"o" * 32, reason="probe"
    )
    eventually(lambda: state_of(server, bad.assignment) == "halted", "it halts")
    progress = server.progress(bad.assignment)
    assert progress.reason == f"1 of 1 finished host failed, 0 allowed: {failing.name}: probe"
    phases = {one.host: one.phase for one in progress.hosts}
    assert phases == {**{host.name: "waiting" for host in hosts}, failing.name: "failed"}
    eventually(lambda: wanted(hosts, "2.0.0") == [failing], "the one in flight was taken back")
    assert len(wanted(hosts, "1.0.0")) == 4
    server.restart(*hosts)
    assert state_of(server, bad.assignment) == "halted"
    assert wanted(hosts, "2.0.0") == [failing]
    again = server.deploy("2.0.0", max_unavailable=2)
    assert (again.unchanged, again.generation) == (False, bad.generation + 1), "a new generation forgets the failure"
    assert state_of(server, bad.assignment) == "superseded"


def test_limits_hold_while_every_host_syncs_at_the_same_time(server: LiveServer) -> None:
    """Admissions are made by one reconciler: a storm of syncs never lets more in than allowed."""
    hosts = new_hosts(server, 8)
    server.publish("1.0.0")
    with ThreadPoolExecutor(8) as pool:
        assignment = server.deploy("1.0.0", max_unavailable=2).assignment
        for _ in range(10):
            versions = list(pool.map(lambda host: host.desired(), hosts))
            assert versions.count("1.0.0") <= 2
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 2, "two are admitted")
    assert sum(host.admitted for host in server.progress(assignment).hosts) == 2


def test_a_dark_host_neither_blocks_nor_counts_and_catches_up(server: LiveServer) -> None:
    """It is passed over while it is away, and admitted when it watches again, after the rollout was done."""
    hosts = new_hosts(server, 2)
    dark = server.new_host("dark")
    server.publish("1.0.0")
    assignment = roll_out(server, hosts, "1.0.0")
    phases = {one.host: one.phase for one in server.progress(assignment).hosts}
    assert phases["dark"] == "offline"
    watch = dark.api.Watch(agent_pb2.WatchRequest(), timeout=60)
    next(watch)
    next(watch)
    assert dark.desired() == "1.0.0"
    newcomer = server.new_host("newcomer")
    newcomer.sync()
    dark.obey()
    eventually(lambda: newcomer.desired() == "1.0.0", "a newcomer is admitted on arrival")


def test_silence_in_flight_counts_as_failure(server: LiveServer) -> None:
    """A host that was let in and says nothing past the deadline halts the rollout."""
    (host,) = new_hosts(server, 1)
    server.publish("1.0.0")
    assignment = server.deploy("1.0.0", progress_deadline_ms=60_000).assignment
    eventually(host.desired, "h0 is admitted")
    server.clock.ahead_ms = 61_000
    eventually(lambda: state_of(server, assignment) == "halted", "silence is noticed without any call")
    assert re.search(r"h0: silent for 6\ds, no report yet", server.progress(assignment).reason)


def test_a_newer_rule_wins_on_the_hosts_that_it_covers(server: LiveServer) -> None:
    """Another selector does not supersede: each host follows the newest rule that matches it."""
    web, canary = server.new_host("web"), server.new_host("canary", canary="yes")
    server.publish("1.0.0")
    server.publish("2.0.0")
    for host in (web, canary):
        host.sync()
    roll_out(server, [web, canary], "1.0.0")
    special = server.deploy("2.0.0", selector={"canary": "yes"})
    assert special.hosts == 1
    eventually(lambda: canary.desired() == "2.0.0", "the canary moves")
    assert web.desired() == "1.0.0"
    request = operator_pb2.SetHostRequest(name="canary", unset_labels=["canary"])
    server.hosts.SetHost(request, timeout=CALL_S)
    assert canary.desired() == "1.0.0", "without the label the older rule counts again"
    request = operator_pb2.SetHostRequest(name="web", unset_labels=["role"])
    assert server.hosts.SetHost(request, timeout=CALL_S).notes == [
        "hello is not assigned to web any more: the host removes it"
    ]
    assert web.desired() == ""


def test_undeploy_takes_the_app_from_every_host(server: LiveServer) -> None:
    """All rules of the app in the environment go, the superseded ones too: nothing older comes back."""
    hosts = new_hosts(server, 2)
    server.publish("1.0.0")
    server.publish("2.0.0")
    roll_out(server, hosts, "1.0.0")
    roll_out(server, hosts, "2.0.0")
    request = operator_pb2.UndeployRequest(app="hello", environment="dev")
    assert server.assignments.Undeploy(request, timeout=CALL_S).assignments == 1
    assert [host.sync().apps for host in hosts] == [(), ()]
    with refused(StatusCode.NOT_FOUND, "not-found"):
        server.assignments.Undeploy(request, timeout=CALL_S)
    reasons = server.hosts.Why(operator_pb2.WhyRequest(host="h0", app="hello"), timeout=CALL_S).reasons
    assert any("nobody has deployed hello" in one.fact for one in reasons)


@pytest.mark.parametrize(
    ("fields", "status", "code", "part"),
    [
        ({"version": "9"}, StatusCode.NOT_FOUND, "not-found", "published are 1.0.0"),
        ({"app": "other"}, StatusCode.NOT_FOUND, "not-found", "no release of other is published"),
        ({"selector": {}}, StatusCode.INVALID_ARGUMENT, "bad-input", "--select KEY=VALUE"),
        ({"environment": "staging"}, StatusCode.INVALID_ARGUMENT, "bad-input", "its publisher allows only dev"),
        ({"progress_deadline_ms": 5}, StatusCode.INVALID_ARGUMENT, "bad-input", "1s to 7d"),
        ({"app": "Bad App"}, StatusCode.INVALID_ARGUMENT, "bad-input", "an app name"),
    ],
    ids=str,
)
def test_a_deploy_that_cannot_be_is_refused_with_the_way_out(
    server: LiveServer, fields: dict[str, object], status: StatusCode, code: str, part: str
) -> None:
    """Each refusal is one line that says what to do; nothing is assigned, and the audit log has it."""
    server.publish("1.0.0", environments=("dev",))
    with refused(status, code) as message:
        server.deploy(**{"version": "1.0.0", **fields})  # type: ignore[arg-type]
    assert part in message[0]
    assert [entry.outcome for entry in server.audit("deploy")] == ["refused"]


def test_a_host_that_cannot_run_it_waits_with_the_reason_and_blocks_nobody(server: LiveServer) -> None:
    """Another platform: the host is not admitted, the others go on, and the reason says why it is not done."""
    hosts = new_hosts(server, 2)
    hosts[1].sync(platform="linux/arm64")
    server.publish("1.0.0", b"", Parameter("port", "port", 80), platforms=("linux/amd64",))
    assignment = server.deploy("1.0.0").assignment
    eventually(lambda: wanted(hosts, "1.0.0") == hosts[:1], "the one that can is admitted")
    hosts[0].obey()
    eventually(lambda: "1 of 2 hosts healthy" in server.progress(assignment).reason, "the report arrives")
    progress = server.progress(assignment)
    assert progress.state == "rolling"
    assert "blocked: h1: the release is for linux/amd64, the host is linux/arm64" in progress.reason
    assert hosts[1].desired() == ""
