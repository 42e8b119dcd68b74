"""Rollouts in waves over real gRPC: the reconciler, the rows, the manifests and the operator's commands together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import CALL_S, LiveServer, eventually
from fakes.rollouts import deploy, new_hosts, run_everywhere, show, until, wanted
from towpath.parameters import Parameter
from towpath.status import State, Verdict
from towpath.v1 import operator_pb2

OLD = {"current_version": "1.0.0", "current_sha256": b"o" * 32}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def test_a_rollout_goes_wave_by_wave_and_its_picture_says_where_it_stands(server: LiveServer, shell: CliShell) -> None:
    """The canary, then half, then all; a soak is waited for, a manual gate too; a restart skips and repeats nothing."""
    hosts = new_hosts(server)
    server.publish("1.0.0")
    said = shell.type(
        *"deploy hello 1.0.0 --environment dev --all-hosts --waves canary:10m,50%:manual --max-unavailable 4".split()
    )
    assert "in 3 waves (canary:10m,50%:manual,100%): towpath rollout watch" in said.out
    rollout = str(shell.type("rollout", "list", "hello", "-o", "json").json()[0]["assignment"])
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey()
    soaking = eventually(lambda: (now := show(shell, rollout))["waves"][0]["state"] == "soaking" and now, "it soaks")
    assert [wave["state"] for wave in soaking["waves"]] == ["soaking", "closed", "closed"]
    why = shell.type("why", "dev-3", "hello").out
    assert "which is closed: wave 1 (canary:10m): soaks until" in why
    assert f"$ towpath rollout advance {rollout}" in why
    server.restart(*hosts)
    shell.server = server.operators
    for host in hosts:
        host.sync()
    assert wanted(hosts, "1.0.0") == ["dev-0"], "a restart skips no wave"
    server.clock.ahead_ms = 601_000
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 2, "the second wave opens by time alone")
    for host in hosts:
        if host.desired() == "1.0.0" and host.revision == 0:
            host.obey()
    eventually(
        lambda: show(shell, rollout)["waves"][1]["waits"] == "a person has to advance it", "it waits for a person"
    )
    assert len(wanted(hosts, "1.0.0")) == 2
    out = shell.type("rollout", "advance", rollout[:6], "--reason", "looks fine").out
    assert "goes on, wave 3 is open" in out
    eventually(lambda: len(wanted(hosts, "1.0.0")) == 4, "the last wave opens")
    for host in hosts:
        if host.revision == 0:
            host.obey()
    until(shell, rollout, "done")
    watched = shell.type("rollout", "watch", rollout, "--timeout", "20s")
    assert (watched.code, watched.err) == (0, "")
    assert "wave 3 of 3 (100%): passed, 2 of 2 hosts finished" in watched.out
    table = shell.type("rollout", "show", rollout).out
    assert "unavailable at once: 4; failures allowed: 0; on a breach: halt" in table
    assert [entry.detail for entry in server.audit("rollout.advance")] == [
        "hello 1.0.0 in dev: rolling to rolling, looks fine"
    ]


def test_a_breach_halts_in_the_canary_resume_goes_on_there_and_retry_tries_it_again(
    server: LiveServer, shell: CliShell
) -> None:
    """Nobody of the second wave moves before the failed one is dealt with by a person."""
    hosts = new_hosts(server)
    run_everywhere(server, shell, hosts, "1.0.0")
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "canary,100%", "--max-unavailable", "4")
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="probe http: 500", **OLD)
    halted = until(shell, rollout, "halted")
    assert "dev-0: probe http: 500" in str(halted["reason"])
    assert wanted(hosts, "2.0.0") == ["dev-0"]
    watched = shell.type("rollout", "watch", rollout)
    assert watched.code == 1
    assert "dev-0: failed, Reverted, runs 1.0.0, healthy: probe http: 500" in watched.out
    assert "is halted; resume, retry, cancel or undo it" in shell.type("rollout", "pause", rollout).line
    assert "tries its failed hosts again" in shell.type("rollout", "retry", rollout).out
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "the canary is told again, under a new generation")
    generation = show(shell, rollout)["generation"]
    hosts[0].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="probe http: 500", **OLD)
    until(shell, rollout, "halted")
    assert shell.type("rollout", "resume", rollout, "--reason", "known fault of dev-0").code == 0
    seen = show(shell, rollout)
    assert (seen["wave"], seen["generation"]) == (0, generation), "the failed wave goes on, it is not skipped"
    assert wanted(hosts, "2.0.0") == ["dev-0"], "nobody has proven it, so nobody else moves"
    assert "is in wave 2 of 2 (100%), which is closed" in shell.type("why", "dev-1", "hello").out
    assert shell.type("rollout", "advance", rollout).code == 0
    eventually(lambda: len(wanted(hosts, "2.0.0")) == 4, "the others move when a person says so")
    done = [entry for entry in server.audit() if entry.act.startswith("rollout.") and entry.outcome == "done"]
    acts = [entry.act for entry in done if entry.actor != "server"]
    assert acts == ["rollout.retry", "rollout.resume", "rollout.advance"]
    assert [entry.outcome for entry in server.audit("rollout.pause")] == ["refused"]


def test_where_the_only_host_failed_why_advises_what_is_not_refused(server: LiveServer, shell: CliShell) -> None:
    """Nobody is left to resume for: the command that `why` prints is typed, and works."""
    (host,) = hosts = new_hosts(server, 1)
    run_everywhere(server, shell, hosts, "1.0.0")
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0")
    eventually(lambda: wanted(hosts, "2.0.0"), "it moves")
    host.obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="probe http: 500", **OLD)
    until(shell, rollout, "halted")
    assert "every host failed it, so that nobody is left" in shell.type("rollout", "resume", rollout).line
    said = shell.type("why", "dev-0", "hello").out
    assert "rollout resume" not in said
    assert f"towpath rollout retry {rollout}" in said
    assert shell.type("rollout", "retry", rollout).code == 0


def test_a_breach_with_revert_takes_back_who_took_it_within_the_budget(server: LiveServer, shell: CliShell) -> None:
    """Three took it, the fourth fails: each goes back to 1.0.0, one at a time, and newcomers get 1.0.0 too."""
    hosts = new_hosts(server)
    before = run_everywhere(server, shell, hosts, "1.0.0")
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "3,100%", "--on-breach", "revert", "--max-unavailable", "3")
    first = eventually(lambda: len(now := wanted(hosts, "2.0.0")) == 3 and now, "the first wave moves")
    inside = [host for host in hosts if host.name in first]
    for host in inside[:2]:
        host.obey()
    inside[2].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="boom", **OLD)
    eventually(lambda: wanted(hosts, "2.0.0") == [], "all are told to go back at once: three may be down")
    assert len(wanted(hosts, "1.0.0")) == 4
    phases = {host["host"]: host["phase"] for host in show(shell, rollout)["hosts"]}
    assert phases[inside[0].name] == "going_back"
    assert "goes back" in shell.type("why", inside[0].name, "hello").out
    for host in inside:
        host.obey()
    reverted = until(shell, rollout, "reverted")
    assert {host["phase"] for host in reverted["hosts"]} == {"back"}
    assert shell.type("rollout", "watch", rollout).code == 1
    assert show(shell, before)["state"] == "done"
    newcomer = server.new_host("late")
    newcomer.sync()
    eventually(lambda: newcomer.desired() == "1.0.0", "a newcomer gets what counts")
    assert "2.0.0" in shell.type("rollout", "list").out


def test_undo_goes_back_within_the_budget_and_refuses_where_nothing_was_before(
    server: LiveServer, shell: CliShell
) -> None:
    """One host at a time where one may be down; without an earlier release it is one line and nothing changes."""
    hosts = new_hosts(server, 3)
    run_everywhere(server, shell, hosts, "1.0.0")
    undo = ["undo", "hello", "--environment", "dev"]
    assert "no other release was done there before" in shell.type(*undo).line
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--max-unavailable", "1")
    for turn in range(3):
        eventually(lambda done=turn: len(wanted(hosts, "2.0.0")) > done, "the next one's turn")
        next(host for host in hosts if host.desired() == "2.0.0" and host.revision == 1).obey()
    until(shell, rollout, "done")
    assert "back to 1.0.0" in shell.type(*undo).out
    for turn in range(3):
        eventually(lambda done=turn: len(wanted(hosts, "1.0.0")) > done, "one goes back")
        assert len(wanted(hosts, "1.0.0")) == turn + 1, "and no second one meanwhile"
        next(host for host in hosts if host.desired() == "1.0.0" and host.revision == 2).obey()
    until(shell, rollout, "reverted")
    eventually(lambda: "3 of 3 hosts healthy" in shell.type("rollout", "list").out, "the one before counts them again")
    assert [entry.outcome for entry in server.audit("undo")] == ["refused", "done"]
    assert "no other release was done there before" in shell.type(*undo).line


def test_a_cancelled_rollout_leaves_who_has_it_and_gives_the_others_back_their_rule(
    server: LiveServer, shell: CliShell
) -> None:
    """Nobody moves any more, a newcomer gets the release of before, and what is over cannot be steered."""
    hosts = new_hosts(server, 3)
    run_everywhere(server, shell, hosts, "1.0.0")
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "canary:1h,100%")
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey()
    assert shell.type("rollout", "pause", rollout).code == 0
    assert "its rollout is paused: wave 1 of 2" in eventually(
        lambda: "paused: wave" in (said := shell.type("why", "dev-1", "hello").out) and said, "it says so"
    )
    assert shell.type("rollout", "cancel", rollout, "--reason", "not today").code == 0
    assert wanted(hosts, "2.0.0") == ["dev-0"]
    newcomer = server.new_host("late", wave="canary")
    newcomer.sync()
    eventually(lambda: newcomer.desired() == "1.0.0", "a newcomer gets what counts")
    assert "it is cancelled; deploy a release instead" in shell.type("rollout", "resume", rollout).line
    again = deploy(shell, "2.0.0", "--max-unavailable", "9")
    eventually(lambda: len(wanted([*hosts, newcomer], "2.0.0")) == 4, "a new deploy counts for all")
    assert show(shell, rollout)["state"] == "superseded"
    assert shell.type("rollout", "show", rollout).out.splitlines()[-1] == (
        "its hosts are not its own any more; see: towpath status hello"
    )
    assert shell.type("rollout", "halt", again).code == 0
    eventually(lambda: wanted([*hosts, newcomer], "2.0.0") == ["dev-0"], "who has not switched stays")


def test_promote_moves_the_very_release_that_is_proven_and_refuses_any_other(
    server: LiveServer, shell: CliShell
) -> None:
    """The same digest; not while a host there has not proven it, and not from where nothing runs."""
    dev = new_hosts(server, 2)
    stage = new_hosts(server, 2, environment="staging")
    promote = ["promote", "hello", "--from", "dev", "--to", "staging"]
    assert "no host there should run it" in shell.type(*promote).line
    release = server.publish("1.0.0")
    rollout = deploy(shell, "1.0.0", "--max-unavailable", "2")
    assert "1.0.0 is rolling there" in shell.type(*promote).line
    eventually(lambda: len(wanted(dev, "1.0.0")) == 2, "both are admitted")
    for host in dev:
        host.obey()
    until(shell, rollout, "done")
    dev[1].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="probation", **OLD)
    until(shell, rollout, "halted")
    assert "1.0.0 is halted there" in shell.type(*promote).line
    assert shell.type("rollout", "retry", rollout).code == 0
    eventually(lambda: len(wanted(dev, "1.0.0")) == 2, "both are told again")
    for host in dev:
        host.obey()
    until(shell, rollout, "done")
    assert "to itself" in shell.type("promote", "hello", "--from", "dev", "--to", "dev").line
    assert "no host and no assignment is in it" in shell.type("promote", "hello", "--from", "de", "--to", "dev").line
    for words, reason in (
        (["--select", "role=wbe"], "cannot promote hello 1.0.0: no host of staging has role=wbe"),
        (["--waves", "cannary,100%"], "cannot promote hello 1.0.0 by wave cannary: none of its 2 hosts"),
        (["--expires", "2021-11-01T00:00Z"], "cannot promote with --expires 2021-11-01 00:00:00Z: that is over"),
        (["--max-failures", "7"], "cannot promote hello 1.0.0 with 7 failures allowed"),
    ):
        for also in ([], ["--dry-run"]):
            assert shell.type(*promote, *words, *also).line.startswith(reason)
    done = shell.type(*promote, "--waves", "canary,100%")
    assert done.code == 0
    assert "hello 1.0.0: assigned to 2 hosts of staging" in done.out
    eventually(lambda: wanted(stage, "1.0.0") == ["staging-0"], "the canary of staging moves")
    assert stage[0].sync().apps[0].release_sha256 == dev[0].sync().apps[0].release_sha256
    assert release.version == "1.0.0"
    assert "from dev: 1.0.0 to staging" in server.audit("promote")[-1].detail


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--environment", "prod"], "cannot use environment prod: no host and no assignment is in it"),
        (["--select", "role=wbe"], "no host of dev has role=wbe"),
        (["--waves", "cannary,100%"], "by wave cannary: none of its 1 hosts in dev has the label"),
        (["--waves", "10%,5%"], "cannot use wave 5% after 10%"),
        (["--waves", "canary,,5"], "cannot read 'canary,,5' as waves"),
        (["--soak", "31d"], "soak that long"),
        (["--max-failures", "2"], "2 failures allowed: it has 1 hosts"),
        (["--max-failure-share", "100%"], "it could never be exceeded"),
        (["--max-failure-share", "5"], "as a share"),
        (["--max-failures", "0", "--max-failure-share", "5%"], "choose one"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_an_order_that_cannot_be_is_one_line_and_nothing_changes(
    server: LiveServer, shell: CliShell, words: list[str], part: str
) -> None:
    """Unknown environment, empty selector, bad wave list, impossible limits."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    where = [] if "--environment" in words else ["--environment", "dev"]
    whom = [] if "--select" in words else ["--all-hosts"]
    assert part in shell.type("deploy", "hello", "1.0.0", *where, *whom, *words).line
    assert shell.type("rollout", "list", "-o", "json").json() == []


def test_hosts_that_are_to_come_are_asked_for_in_so_many_words(server: LiveServer, shell: CliShell) -> None:
    """--allow-empty is for who deploys before enrolling."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    words = ["deploy", "hello", "1.0.0", "--environment", "dev", "--select", "rack=a", "--allow-empty"]
    assert "assigned to 0 hosts of dev" in shell.type(*words).out


def test_a_rollout_that_is_not_there_and_a_rule_that_is_not_meant(server: LiveServer, shell: CliShell) -> None:
    """Unknown ids, beginnings that are too short or too common, several rules to undo: each one line with the way out."""
    new_hosts(server, 2)
    server.publish("1.0.0")
    assert "see 'towpath rollout list'" in shell.type("rollout", "show", "nosuch").line
    assert "see 'towpath rollout list'" in shell.type("rollout", "pause", "ab").line
    assert "none begins so" in shell.type("rollout", "halt", "abcdef").line
    assert "nothing is deployed" in shell.type("rollout", "list").out
    assert "no host and no assignment" in shell.type("rollout", "list", "--environment", "prod").line
    assert "it is not deployed in dev" in shell.type("undo", "hello", "--environment", "dev").line
    rollout = deploy(shell, "1.0.0")
    shell.type("deploy", "hello", "1.0.0", "--environment", "dev", "--select", "wave=canary")
    line = shell.type("undo", "hello", "--environment", "dev").line
    assert "2 rules are active in dev" in line
    assert "no other release was done" in shell.type("undo", "hello", "--environment", "dev", "--all-hosts").line
    assert "no host failed it" in shell.type("rollout", "retry", rollout).line
    assert "its last wave is open already" in shell.type("rollout", "advance", rollout).line
    request = operator_pb2.SteerRolloutRequest(rollout=rollout, verb="explode")
    with pytest.raises(Exception, match="cannot do 'explode' to a rollout"):
        operator_pb2_stub(server).SteerRollout(request, timeout=CALL_S)


def operator_pb2_stub(server: LiveServer) -> object:
    from towpath.v1 import operator_pb2_grpc

    return operator_pb2_grpc.RolloutsStub(server.operator_channel)


def test_what_its_publisher_forbids_to_follow_is_not_undone_to(server: LiveServer, shell: CliShell) -> None:
    """Hosts would refuse it one after the other: undo and --on-breach revert are refused up front."""
    hosts = new_hosts(server, 1)
    run_everywhere(server, shell, hosts, "1.0.0")
    server.publish("2.0.0", b"", Parameter("port", "port", 80), rollback_floor=2)
    words = ["deploy", "hello", "2.0.0", "--environment", "dev", "--all-hosts", "--on-breach", "revert"]
    assert "its publisher allows nothing before counter 2, and 1.0.0 has 1" in shell.type(*words).line
    rollout = deploy(shell, "2.0.0")
    eventually(lambda: wanted(hosts, "2.0.0") == ["dev-0"], "it moves")
    hosts[0].obey()
    until(shell, rollout, "done")
    assert "cannot take hello 2.0.0 back to 1.0.0" in shell.type("undo", "hello", "--environment", "dev").line


def test_on_a_terminal_a_rollout_is_a_tree_with_a_bar_for_each_wave(server: LiveServer, shell: CliShell) -> None:
    """Each wave with its bar, and the failed host with its reason below it."""
    from io import StringIO

    from rich.console import Console

    from towpath_cli.client import Client
    from towpath_cli.operator_folder import read_identity
    from towpath_cli.terminal import build_tree

    hosts = new_hosts(server, 3)
    server.publish("1.0.0")
    rollout = deploy(shell, "1.0.0", "--waves", "canary:1h,100%")
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0"], "the canary moves")
    hosts[0].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="boom", **OLD)
    until(shell, rollout, "halted")
    with Client(server.operators, read_identity(server.fleet), start="") as client:
        seen = client.get_assignment(rollout)
    said = StringIO()
    Console(file=said, width=160, force_terminal=False).print(build_tree(seen))
    lines = said.getvalue().splitlines()
    assert "hello 1.0.0 in dev: halted" in lines[0]
    assert "1 canary:" in lines[1]
    assert lines[1].index("open,") == lines[3].index("closed,"), "the bars stand below one another"
    assert "open, 1 of 1 finished, 1 failed" in lines[1]
    assert "dev-0: failed, Reverted, runs 1.0.0, healthy: boom" in lines[2]
    assert "closed, 2 hosts" in lines[3]
    shell.tty = True
    assert shell.type("rollout", "watch", rollout, "--timeout", "5s").code == 1
