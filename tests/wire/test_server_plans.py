"""Plans over real gRPC: what `towpath plan` shows is what the deploy then does, and showing it changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import LiveServer, eventually
from fakes.rollouts import deploy, new_hosts, run_everywhere, show

WHERE = ["--environment", "dev", "--all-hosts"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def test_what_a_plan_shows_is_what_the_deploy_does(server: LiveServer, shell: CliShell) -> None:
    """The rollout's id, each host's wave, the order in which hosts move and how many: all as planned."""
    hosts = new_hosts(server, 6)
    run_everywhere(server, shell, hosts, "1.0.0", b"o" * 5_000)
    server.publish("2.0.0", b"n" * 5_000)
    words = ["--waves", "canary,50%,100%", "--max-unavailable", "1"]
    plan = shell.type("plan", "hello", "2.0.0", *WHERE, *words, "-o", "json").json()
    assert shell.type("plan", "hello", "2.0.0", *WHERE, *words, "-o", "json").json()["hosts"] == plan["hosts"]
    rollout = deploy(shell, "2.0.0", *words)
    assert rollout == plan["assignment"]
    order = []
    while len(order) < len(hosts):
        todo = [host for host in hosts if host.name not in order]
        admitted = eventually(lambda todo=todo: [h for h in todo if h.desired() == "2.0.0"], "the next one moves")
        assert len(admitted) == 1, "one at once"
        order.append(admitted[0].name)
        admitted[0].obey()
    done = eventually(lambda: (now := show(shell, rollout))["state"] == "done" and now, "it is done")
    assert [one["host"] for one in plan["hosts"]] == order
    assert [one["turn"] for one in plan["hosts"]] == [1, 2, 3, 4, 5, 6]
    assert {one["host"]: one["wave"] for one in plan["hosts"]} == {one["host"]: one["wave"] for one in done["hosts"]}
    assert [wave["hosts"] for wave in plan["waves"]] == [sum(wave["phases"].values()) for wave in done["waves"]]
    assert {one["before"] for one in plan["hosts"]} == {"1.0.0"}


def test_a_plan_changes_nothing_and_counts_the_bytes_that_a_host_does_not_have(
    server: LiveServer, shell: CliShell
) -> None:
    """No rollout, no audit entry, no order to a host; a release of the same content costs its index alone."""
    import os

    hosts = new_hosts(server, 2)
    same, other = os.urandom(9_000), os.urandom(9_000)
    run_everywhere(server, shell, hosts, "1.0.0", same)
    server.publish("1.1.0", same)
    server.publish("2.0.0", other)
    before = shell.type("rollout", "list", "--all", "-o", "json").json()
    entries = len(server.audit())
    plan = shell.type("plan", "hello", "2.0.0", *WHERE, "-o", "json").json()
    assert all(9_000 <= one["at_most_bytes"] < 9_300 for one in plan["hosts"])
    assert plan["at_most_bytes"] == sum(one["at_most_bytes"] for one in plan["hosts"])
    assert shell.type("plan", "hello", "1.1.0", *WHERE, "-o", "json").json()["at_most_bytes"] < 600
    after = shell.type("rollout", "list", "--all", "-o", "json").json()
    assert after == before
    assert len(server.audit()) == entries
    assert {host.desired() for host in hosts} == {"1.0.0"}
    assert "it would change nothing" in shell.type("plan", "hello", "1.0.0", *WHERE, "--max-unavailable", "9").out


def test_a_plan_says_who_cannot_take_it_and_what_the_gates_ask(server: LiveServer, shell: CliShell) -> None:
    """Offline hosts and hosts of another platform with the reason, soaks and manual gates as delays, for people."""
    hosts = new_hosts(server, 3)
    server.publish("1.0.0", platforms=("linux/amd64",))
    server.clock.ahead_ms = 120_000
    hosts[0].sync()
    hosts[2].sync(platform="linux/sparc")
    out = shell.type("plan", "hello", "1.0.0", *WHERE, "--waves", "canary:10m,50%:manual,100%", "--allow-empty").out
    assert "1 of 3 hosts would move" in out
    assert "the release is for linux/amd64, the host is linux/sparc" in out
    assert "offline; it catches up when it comes back" in out
    assert "delay: after 60s wave 1 waits for 10m: soaks until" in out
    assert "the next one opens when a person says 'towpath rollout advance'" in out
    assert "it would not end by itself" in out
    assert "nothing was changed" in out


def test_a_plan_refuses_what_a_deploy_refuses(server: LiveServer, shell: CliShell) -> None:
    """The same one-line errors, each with what was typed: unknown release, nobody there, impossible limits."""
    new_hosts(server, 1)
    server.publish("1.0.0")
    for version, words in (
        ("9.0.0", WHERE),
        ("1.0.0", ["--environment", "dev", "--select", "role=wbe"]),
        ("1.0.0", [*WHERE, "--max-failures", "7"]),
        ("1.0.0", ["--environment", "dev"]),
    ):
        verb, line = "cannot deploy ", shell.type("deploy", "hello", version, *words).line
        assert line.startswith(verb)
        assert shell.type("plan", "hello", version, *words).line == line.replace(verb, "cannot plan ", 1)
        assert shell.type("rehearse", "hello", version, *words).line.startswith("cannot rehearse")


def test_a_rehearsal_takes_the_policy_and_labels_of_a_rollout_or_of_a_deploy_that_could_be(
    server: LiveServer, shell: CliShell, tmp_path: Path
) -> None:
    """The same numbers both ways, the same again by the same seed; a picture is drawn; nothing is changed."""
    from xml.etree import ElementTree

    new_hosts(server, 4)
    server.publish("1.0.0")
    words = ["--waves", "canary:10m,50%,100%", "--max-failures", "1"]
    tried = ["--failures", "30%", "--offline", "10%", "--hosts", "400", "--seed", "7"]
    draft = shell.type("rehearse", "hello", "1.0.0", *WHERE, *words, *tried, "-o", "json").json()
    assert shell.type("rollout", "list", "-o", "json").json() == []
    rollout = deploy(shell, "1.0.0", *words)
    picture = tmp_path / "picture.svg"
    known = shell.type("rehearse", rollout, *tried, "--plot", str(picture), "-o", "json").json()
    assert known == draft
    assert (known["state"], known["hosts"], known["harmed_at_stop"] >= 2) == ("halted", 400, True)
    assert [wave["hosts"] for wave in known["waves"]] == [100, 100, 200], "a quarter are canaries, as of the real hosts"
    root = ElementTree.fromstring(picture.read_text())
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 4
    said = shell.type("rehearse", rollout, *tried).out
    assert "halted after" in said
    assert "of 400 hosts harmed" in said
    assert "never" in said
    heads, *rows = [line.split() for line in said.split("\n\n", 1)[1].splitlines()]
    assert heads[-6:] == ["BACK", "OFFLINE", "UNFINISHED", "NOT", "LET", "IN"]
    assert [sum(int(cell) for cell in row[-6:]) for row in rows] == [100, 100, 200], "each host is in one column"
    for args, part in (
        ([rollout, *tried, "--plot", "x.png"], "pictures are SVG"),
        ([rollout, "--hosts", "100001"], "1 to 100000 are allowed"),
        ([rollout, "--max-failures", "3"], "it has its own"),
        ([rollout, "--failures", "x"], "as a share"),
        (["a", "b", "c"], "give a ROLLOUT, or an APP and a VERSION"),
    ):
        assert part in shell.type("rehearse", *args).line


def test_watching_shows_what_a_failed_host_saw_and_revert_takes_the_rollout_back(
    server: LiveServer, shell: CliShell
) -> None:
    """The probe's evidence and the last log lines below the host, once; then back by the rollout's id."""
    from fakes.cli_shell import Typed
    from towpath.reports import Event
    from towpath.status import State, Verdict

    hosts = new_hosts(server, 2)
    run_everywhere(server, shell, hosts, "1.0.0", b"o" * 100)
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "canary,100%")
    eventually(lambda: hosts[0].desired() == "2.0.0", "the canary moves")
    old = {"current_version": "1.0.0", "current_sha256": b"o" * 32}
    saw = "probe http: status 500, 200 expected\nlog: cannot open\x1b[31m the database"
    event = Event("e1", 1, "transition", app="hello", state="Reverting", version="2.0.0", evidence=saw)
    state = hosts[0].obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="probe http failed", **old)
    hosts[0].report(state, events=[event])
    eventually(lambda: show(shell, rollout)["state"] == "halted", "it halts")
    seen: Typed = shell.type("rollout", "watch", rollout)
    assert seen.code == 1
    assert "dev-0 | probe http: status 500, 200 expected\ndev-0 | log: cannot open\\x1b[31m the database\n" in seen.out
    once = shell.type("rollout", "watch", rollout, "--once")
    assert once.code == 0
    assert once.out.startswith("hello 2.0.0 in dev: halted")
    shell.tty = True
    assert "cannot open\\x1b[31m the database" in shell.type("rollout", "watch", rollout, "--once").out
    shell.tty = False
    assert "goes back to the release before" in shell.type("rollout", "revert", rollout, "--reason", "bad").out
    reverted = eventually(lambda: (now := show(shell, rollout))["state"] == "reverted" and now, "it is back")
    assert reverted["reason"] == "revert by operator/root: bad; back to 1.0.0"
    assert {host.desired() for host in hosts} == {"1.0.0"}
    assert "deploy a release instead" in shell.type("rollout", "revert", rollout).line
    assert [entry.outcome for entry in server.audit("rollout.revert")] == ["done", "refused"]
