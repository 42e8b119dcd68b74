"""Gates over real gRPC: approvals by several operators, the order of environments, metrics of a real Prometheus."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import CALL_S, LiveServer, eventually, refused
from fakes.prometheus import RealPrometheus, needs_prometheus
from fakes.rollouts import SLOW_S, another, deploy, new_hosts, until, waits, wanted
from towpath.v1 import operator_pb2, operator_pb2_grpc

HOUR_MS = 3_600_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet, made by the operator root."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return root's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def test_two_others_have_to_approve_before_the_next_wave_opens(server: LiveServer, shell: CliShell) -> None:
    """Not the author, not a stranger, not one of them twice, and nobody may advance past it."""
    bob, carol, dave = (another(shell, name) for name in ("bob", "carol", "dave"))
    hosts = new_hosts(server, 3)
    server.publish("1.0.0")
    words = ("--waves", "canary:approve=2,100%", "--approvers", "root,bob,carol", "--max-unavailable", "3")
    rollout = deploy(shell, "1.0.0", *words)
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey()
    eventually(lambda: "needs 2 of 2 approvals of bob, carol, root" in waits(shell, rollout), "it waits for people")
    approve = ("rollout", "approve", rollout)
    assert "cannot approve it as root: who made a rollout does not approve it" in shell.type(*approve).line
    assert "cannot approve it as dave: bob, carol, root may" in dave.type(*approve).line
    said = bob.type(*approve, "--wave", "1", "--reason", "looks fine").out
    assert "hello 1.0.0 in dev: wave 1 is approved by bob: 1 of 2, 1 to go" in said
    assert "approved by bob (you had already): 1 of 2" in bob.type(*approve).out
    assert "cannot approve wave 2: it is not open yet" in carol.type(*approve, "--wave", "2").line
    assert "wave 1 needs 1 of 2 approvals" in shell.type("rollout", "advance", rollout).line
    why = shell.type("why", "dev-1", "hello").out
    assert "which is closed: wave 1 (canary:approve=2): needs 1 of 2 approvals of carol, root (bob did)" in why
    assert f"$ towpath rollout approve {rollout}" in why
    table = shell.type("rollout", "show", rollout).out
    assert "approvers: bob, carol, root" in table
    assert "wave 1: approved by bob, 1 of 2" in table
    server.restart(*hosts)
    for each in (shell, bob, carol):
        each.server = server.operators
    for host in hosts:
        host.sync()
    assert wanted(hosts, "1.0.0") == ["dev-0"], "who had approved is not forgotten, and nobody moved meanwhile"
    assert carol.type(*approve, "-o", "json").json()["names"] == ["bob", "carol"]
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 3, "the last wave opens")
    assert "cannot approve wave 2: it asks nobody" in bob.type(*approve).line
    acts = [(entry.actor, entry.outcome) for entry in server.audit("rollout.approve")]
    assert acts == [
        ("operator/root", "refused"),
        ("operator/dave", "refused"),
        ("operator/bob", "done"),
        ("operator/bob", "done"),
        ("operator/carol", "refused"),
        ("operator/carol", "done"),
        ("operator/bob", "refused"),
    ]
    assert server.audit("rollout.approve")[2].detail == "hello 1.0.0 in dev: wave 1, 1 of 2, looks fine"


def test_a_halt_takes_approvals_back(server: LiveServer, shell: CliShell) -> None:
    """What was said of a wave before it was stopped says nothing about it afterwards."""
    bob = another(shell, "bob")
    hosts = new_hosts(server, 2)
    server.publish("1.0.0")
    rollout = deploy(shell, "1.0.0", "--waves", "canary:10m+approve,100%")
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0"], "the canary moves")
    assert bob.type("rollout", "approve", rollout).code == 0
    hosts[0].obey()
    eventually(lambda: waits(shell, rollout).startswith("soaks until"), "it soaks")
    assert "approval" not in waits(shell, rollout)
    assert shell.type("rollout", "halt", rollout).code == 0
    assert "cannot approve hello 1.0.0 in dev: it is halted" in bob.type("rollout", "approve", rollout).line
    assert shell.type("rollout", "resume", rollout).code == 0
    eventually(lambda: "needs 1 of 1 approvals" in waits(shell, rollout), "it has to be approved again")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--waves", "canary:approve=2", "--approvers", "bob"], "cannot ask 2 operators to approve wave canary: 1 may"),
        (["--waves", "canary:approve=2", "--approvers", "root,bob"], "its author not among them"),
        (["--approvers", "bob"], "no wave asks for them"),
        (["--waves", "canary:metric=errors"], "nothing says what it is"),
        (["--waves", "canary:metric=e", "--metric", "e=up < 1"], "set prometheus_url in its server.toml"),
        (["--waves", "canary:approve=99"], "1 to 20"),
        (["--environment", "prod"], "it is none of dev, staging, production; towpath environment set prod adds it"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_gates_that_could_never_open_are_refused_up_front(
    server: LiveServer, shell: CliShell, words: list[str], part: str
) -> None:
    """One line, nothing changed."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    where = [] if "--environment" in words else ["--environment", "dev"]
    assert part in shell.type("deploy", "hello", "1.0.0", *where, "--all-hosts", *words).line
    assert shell.type("rollout", "list", "-o", "json").json() == []


def test_an_operator_is_made_once_and_only_where_the_key_is(server: LiveServer, shell: CliShell) -> None:
    """A folder that is taken, and a fleet's folder without its server: one line."""
    bob = another(shell, "bob")
    assert bob.type("status").code == 0
    assert "it is there already" in shell.type("operator", "create", "bob", str(bob.fleet)).line
    carol = str(bob.fleet.parent / "carol")
    assert "cannot sign an operator" in bob.type("operator", "create", "carol", carol).line
    assert not Path(carol).exists()


def test_a_release_waits_for_the_environment_before_it(server: LiveServer, shell: CliShell) -> None:
    """Nobody moves until staging was healthy long enough; a sick host there keeps it waiting; a person may go past."""
    stage = new_hosts(server, 2, "staging")
    prod = new_hosts(server, 2, "production")
    assert "production: after staging, releases have to be healthy there for 2h" in (
        shell.type("environment", "set", "production", "--healthy-for", "2h").out
    )
    server.publish("1.0.0")
    early = deploy(shell, "1.0.0", environment="production")
    need = "it has to be healthy in staging for 2h first"
    eventually(lambda: waits(shell, early) == f"{need}: it does not run there", "it waits for staging")
    why = shell.type("why", "production-1", "hello").out
    assert f"which is closed: wave 1 (100%): {need}: it does not run there" in why
    assert f"$ towpath rollout advance {early}" in why
    first = deploy(shell, "1.0.0", "--max-unavailable", "2", environment="staging")
    eventually(lambda: len(wanted(stage, "1.0.0")) == 2, "staging moves")
    assert f"{need}: 1.0.0 is rolling there" in waits(shell, early)
    for host in stage:
        host.obey()
    until(shell, first, "done")
    eventually(lambda: f"{need}: 119m left" in waits(shell, early), "the time runs")
    assert wanted(prod, "1.0.0") == []
    server.clock.ahead_ms = 2 * HOUR_MS + 1
    for host in (*stage, *prod):
        host.sync()
    eventually(lambda: len(wanted(prod, "1.0.0")) == 1, "the time is over, production moves by itself", SLOW_S)
    assert shell.type("environment", "set", "production", "--healthy-for", "20h").code == 0
    next(host for host in prod if host.desired() == "1.0.0").obey()
    eventually(lambda: len(wanted(prod, "1.0.0")) == 2, "what has begun is not asked again")
    server.publish("2.0.0")
    late = deploy(shell, "2.0.0", environment="production")
    eventually(lambda: "2.0.0" not in waits(shell, late) and need[:20] in waits(shell, late), "a new one waits")
    assert "goes on, wave 1 is open" in shell.type("rollout", "advance", late, "--reason", "urgent").out
    eventually(lambda: len(wanted(prod, "2.0.0")) == 1, "a person may go past, and it is in the audit log")
    assert server.audit("rollout.advance")[-1].detail.endswith("urgent")


def test_environments_are_listed_in_their_order_and_unknown_ones_are_one_line(
    server: LiveServer, shell: CliShell
) -> None:
    """Three are there; a token for a fourth says how to add it, and then works."""
    server.new_host("d1")
    assert "it is none of dev, staging, production; towpath environment set lab adds it" in (
        shell.type("token", "create", "--environment", "lab").line
    )
    assert "would be a circle" in shell.type("environment", "set", "dev", "--after", "production").line
    assert "choose one" in shell.type("environment", "set", "dev", "--after", "staging", "--first").line
    assert shell.type("environment", "set", "lab", "--after", "dev").code == 0
    assert "lab: the first of its row" in shell.type("environment", "set", "lab", "--first").out
    assert shell.type("token", "create", "--environment", "lab").code == 0
    rows = shell.type("environment", "list", "-o", "json").json()
    assert [(row["name"], row["after"], row["hosts"]) for row in rows] == [
        ("dev", "", 1),
        ("staging", "dev", 0),
        ("production", "staging", 0),
        ("lab", "", 0),
    ]
    assert "not declared" not in shell.type("environment", "list").out
    assert [entry.outcome for entry in server.audit("environment.set")] == ["refused", "done", "done"]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[RealPrometheus]:
    """Return a running Prometheus that scrapes one gauge."""
    with RealPrometheus(tmp_path / "prometheus") as running:
        yield running


@pytest.fixture
def measured(tmp_path: Path, prometheus: RealPrometheus) -> Iterator[LiveServer]:
    """Return a server that was told where Prometheus is."""
    with LiveServer(tmp_path / "towpath", prometheus_url=prometheus.url) as running:
        yield running


@needs_prometheus
@pytest.mark.timeout(300)
def test_a_metric_of_a_real_prometheus_opens_holds_and_stops_a_rollout(
    measured: LiveServer, prometheus: RealPrometheus
) -> None:
    """Between the limits it holds, good opens the next wave, bad takes back; asked anew after a resume."""
    shell = CliShell(measured.fleet, measured.operators)
    hosts = new_hosts(measured, 3)
    measured.publish("1.0.0")
    prometheus.set(0.03)
    metric = ("--metric", "errors=max(errors) < 0.01..0.05", "--max-unavailable", "3")
    rollout = deploy(shell, "1.0.0", "--waves", "canary:metric=errors,100%:1h+metric=errors", *metric)
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey()
    said = "metric errors is inconclusive: it is 0.03, asked for < 0.01..0.05"
    eventually(lambda: said in waits(shell, rollout), "it holds and says why", SLOW_S)
    assert said in shell.type("why", "dev-1", "hello").out
    assert wanted(hosts, "1.0.0") == ["dev-0"]
    prometheus.stop()
    eventually(lambda: "cannot ask Prometheus at 127.0.0.1" in waits(shell, rollout), "away is inconclusive", SLOW_S)
    prometheus.start()
    prometheus.set(0.0)
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 3, "a good answer opens the next wave", SLOW_S)
    for host in hosts[1:]:
        host.obey()
    good = "wave 2: metric errors is good: it is 0, asked for < 0.01..0.05"
    eventually(lambda: good in shell.type("rollout", "show", rollout).out, "the last wave soaks", SLOW_S)
    prometheus.set(0.2)
    halted = until(shell, rollout, "halted")
    assert halted["reason"] == "wave 2: metric errors is bad: it is 0.2, asked for < 0.01..0.05"
    assert shell.type("rollout", "watch", rollout).code == 1
    prometheus.set(0.0)
    assert shell.type("rollout", "resume", rollout).code == 0
    eventually(lambda: good in shell.type("rollout", "show", rollout).out, "it is asked anew", SLOW_S)
    measured.clock.ahead_ms = HOUR_MS + 1
    for host in hosts:
        host.sync()
    until(shell, rollout, "done")


@needs_prometheus
@pytest.mark.timeout(300)
def test_a_bad_metric_takes_back_and_an_unclear_one_halts_in_time(
    measured: LiveServer, prometheus: RealPrometheus
) -> None:
    """A release that its hosts find healthy is taken back by what the fleet's users see; silence blames nobody."""
    shell = CliShell(measured.fleet, measured.operators)
    hosts = new_hosts(measured, 2)
    measured.publish("1.0.0")
    before = deploy(shell, "1.0.0", "--max-unavailable", "2")
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 2, "both move")
    for host in hosts:
        host.obey()
    until(shell, before, "done")
    measured.publish("2.0.0")
    prometheus.set(0.2)
    words = ("--waves", "canary:1h+metric=errors", "--on-breach", "revert", "--metric-patience", "4s")
    rollout = deploy(shell, "2.0.0", *words, "--metric", "errors=max(errors) < 0.05")
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey()
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0", "dev-1"], "the canary is told to go back", SLOW_S)
    hosts[0].obey()
    assert "metric errors is bad: it is 0.2" in str(until(shell, rollout, "reverted")["reason"])
    prometheus.set(None)
    again = deploy(shell, "2.0.0", *words, "--metric", "errors=max(errors) < 0.06")
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "the canary moves again")
    hosts[0].obey()
    reason = str(until(shell, again, "halted")["reason"])
    assert "metric errors is inconclusive: it has no sample" in reason
    assert reason.endswith("for longer than 4s")


@needs_prometheus
def test_a_wrong_query_is_refused_up_front_and_no_address_comes_from_an_operator(
    measured: LiveServer, prometheus: RealPrometheus
) -> None:
    """What Prometheus cannot read is one line; what gives no number too."""
    shell = CliShell(measured.fleet, measured.operators)
    new_hosts(measured, 1)
    measured.publish("1.0.0")
    words = ("deploy", "hello", "1.0.0", "--environment", "dev", "--all-hosts", "--waves", "canary:metric=e")
    assert "cannot use metric e: Prometheus answered 400: " in shell.type(*words, "--metric", "e=sum( < 1").line
    assert "the query gives a matrix" in shell.type(*words, "--metric", "e=errors[1m] < 1").line
    assert shell.type("rollout", "list", "-o", "json").json() == []


def test_a_client_that_is_not_ours_is_refused_by_the_same_rules(server: LiveServer) -> None:
    """Gates over raw gRPC: a wave that asks too many, a metric without a query, a rollout that is none."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    asks = operator_pb2.Wave(what="100%", approve=4_000_000_000)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "bad-input") as said:
        server.deploy("1.0.0", waves=[asks])
    assert "to approve wave 100%: 1 to 20" in said[0]
    metric = operator_pb2.Metric(name="e", query="", good=float("nan"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "bad-input"):
        server.deploy("1.0.0", waves=[operator_pb2.Wave(what="100%", metrics=["e"])], metrics=[metric])
    rollouts = operator_pb2_grpc.RolloutsStub(server.operator_channel)
    with refused(grpc.StatusCode.NOT_FOUND, "not-found"):
        rollouts.ApproveRollout(operator_pb2.ApproveRolloutRequest(rollout="abcd"), timeout=CALL_S)
