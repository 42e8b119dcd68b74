"""Windows, freezes, a beginning and an end over real gRPC: the reconciler, the rows and the operator's commands together."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually
from fakes.rollouts import deploy, show, until, wanted
from towpath.status import State

WAIT_S = 60.0
MINUTE = 60_000
HOUR = 60 * MINUTE


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


@pytest.fixture
def hosts(server: LiveServer) -> list[HostUnderTest]:
    """Return three hosts that are online, the first of them a database."""
    token = server.token(2, role="web")
    found = [server.new_host("dev-0", role="web", kind="db")]
    found += [server.new_host(f"dev-{n}", token=token) for n in (1, 2)]
    for host in found:
        host.sync()
    return found


def at(server: LiveServer, ahead_ms: int) -> str:
    """Return a time as an operator types it."""
    return datetime.fromtimestamp((server.clock.now_unix_ms() + ahead_ms) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def window(server: LiveServer, begins_ms: int, length_ms: int) -> str:
    """Return a window of every day that begins so much after now (a minute is the least that a window knows)."""
    now = server.clock.now_unix_ms()
    clock = [
        datetime.fromtimestamp((now + ms) / 1000, UTC).strftime("%H:%M") for ms in (begins_ms, begins_ms + length_ms)
    ]
    return f"daily {clock[0]}-{clock[1]} UTC"


def deploy_at_once(shell: CliShell, version: str, *words: str) -> str:
    """Deploy to every host of dev, all at once; return the rollout's id."""
    return deploy(shell, version, "--max-unavailable", "9", *words)


def all_want(hosts: list[HostUnderTest], version: str) -> None:
    eventually(lambda: len(wanted(hosts, version)) == len(hosts), f"all are let in to {version}", WAIT_S)


def freeze(shell: CliShell, server: LiveServer, *words: str, begins: int = -HOUR, ends: int = HOUR) -> str:
    """Freeze dev now; return the freeze's id."""
    times = ("--from", at(server, begins), "--until", at(server, ends))
    done = shell.type("freeze", "add", "--environment", "dev", *times, "--reason", "audit week", *words, "-o", "json")
    assert done.code == 0, done.err
    return str(done.json()["id"])


def test_a_freeze_stops_everybody_says_so_everywhere_and_is_audited(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """`show`, `watch`, `why` and the tree name it with the command that ends it; removed, the rollout goes on."""
    server.publish("1.0.0")
    frozen = freeze(shell, server)
    rollout = deploy_at_once(shell, "1.0.0")
    seen = eventually(lambda: (now := show(shell, rollout))["bars"] and now, "it is barred", WAIT_S)
    (bar,) = seen["bars"]
    assert bar["fact"].startswith("frozen until ")
    assert bar["fact"].endswith("by operator/root: audit week")
    assert bar["command"] == f"towpath freeze remove {frozen}"
    eventually(lambda: show(shell, rollout)["reason"].startswith("frozen until"), "its reason says so", WAIT_S)
    assert wanted(hosts, "1.0.0") == []
    line = f"nobody is let in now: {bar['fact']}; to change it: {bar['command']}"
    assert line in shell.type("rollout", "show", rollout).out
    assert line in shell.type("rollout", "watch", rollout, "--timeout", "1s").out
    why = shell.type("why", "dev-1", "hello").out
    assert f"nobody is let in now: {bar['fact']}\n    $ {bar['command']}" in why
    assert line in tree(server, rollout)
    listed = shell.type("freeze", "list").out
    assert "(every host)" in listed
    assert "audit week" in listed
    assert f"freeze {frozen} of dev is removed: audit week" in shell.type("freeze", "remove", frozen[:4]).out
    all_want(hosts, "1.0.0")
    assert shell.type("freeze", "list").out.startswith("nothing is frozen")
    assert [entry.act for entry in server.audit() if entry.act.startswith("freeze")] == ["freeze.add", "freeze.remove"]
    assert "audit week" in server.audit("freeze.remove")[0].detail


def tree(server: LiveServer, rollout: str) -> str:
    """Return the rollout as it is drawn on a terminal."""
    from rich.console import Console

    from towpath_cli.client import Client
    from towpath_cli.operator_folder import read_identity
    from towpath_cli.terminal import build_tree

    with Client(server.operators, read_identity(server.fleet), start="") as client:
        seen = client.get_assignment(rollout)
    said = StringIO()
    Console(file=said, width=300, force_terminal=False).print(build_tree(seen))
    return said.getvalue()


def test_an_override_passes_a_freeze_by_and_a_freeze_of_some_hosts_stops_those(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """The override is audited with its reason; the other hosts move."""
    server.publish("1.0.0")
    freeze(shell, server, "--select", "kind=db")
    deploy_at_once(shell, "1.0.0")
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-1", "dev-2"], "the others move", WAIT_S)
    assert "frozen until" in shell.type("why", "dev-0", "hello").out
    assert "nobody is let in now" not in shell.type("why", "dev-1", "hello").out
    rollout = deploy_at_once(shell, "1.0.0", "--override-freeze", "the shop is down")
    all_want(hosts, "1.0.0")
    assert "overrides freezes: the shop is down" in shell.type("rollout", "show", rollout).out
    assert "freezes overridden: the shop is down" in server.audit("deploy")[-1].detail


def test_hosts_move_only_while_a_window_is_open_and_by_time_alone(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """It opens, and they move; it closes, and who has not switched is told to stay; it opens again, and they move."""
    server.publish("1.0.0")
    rollout = deploy_at_once(shell, "1.0.0", "--window", window(server, 2 * HOUR, HOUR), "--progress-deadline", "7d")
    eventually(lambda: "outside of its windows" in show(shell, rollout)["reason"], "it says so", WAIT_S)
    assert "the next opens at" in shell.type("why", "dev-1", "hello").out
    assert wanted(hosts, "1.0.0") == []
    server.clock.ahead_ms = 2 * HOUR + 2 * MINUTE
    wanted(hosts, "1.0.0")  # a sync: they are online at the new time
    all_want(hosts, "1.0.0")
    hosts[0].obey()
    hosts[1].obey(state=State.WATCHING)
    server.clock.ahead_ms = 3 * HOUR + 2 * MINUTE
    eventually(lambda: wanted(hosts, "1.0.0") == ["dev-0", "dev-1"], "who has not switched stays", WAIT_S)
    hosts[1].obey()
    assert show(shell, rollout)["state"] == "rolling"
    server.clock.ahead_ms = 26 * HOUR + 2 * MINUTE
    wanted(hosts, "1.0.0")
    all_want(hosts, "1.0.0")
    hosts[2].obey()
    until(shell, rollout, "done")


def test_a_rollout_begins_at_its_time_and_ends_at_its_time(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """What was done before counts again for who was not let in; nobody lets it go on then."""
    server.publish("1.0.0")
    first = deploy_at_once(shell, "1.0.0")
    all_want(hosts, "1.0.0")
    for host in hosts:
        host.obey()
    until(shell, first, "done")
    server.publish("2.0.0")
    words = ("--waves", "1:manual,100%", "--at", at(server, HOUR), "--expires", at(server, 2 * HOUR))
    rollout = deploy_at_once(shell, "2.0.0", *words)
    eventually(lambda: "does not begin before" in show(shell, rollout)["reason"], "it waits", WAIT_S)
    assert wanted(hosts, "2.0.0") == []
    server.clock.ahead_ms = HOUR + MINUTE
    wanted(hosts, "2.0.0")
    (name,) = eventually(lambda: wanted(hosts, "2.0.0"), "the first wave moves", WAIT_S)
    next(host for host in hosts if host.name == name).obey()
    assert shell.type("rollout", "pause", rollout).code == 0
    server.clock.ahead_ms = 2 * HOUR + MINUTE
    ended = until(shell, rollout, "cancelled")
    assert ended["reason"].startswith("expired at ")
    assert ended["reason"].endswith(": 1 of 3 hosts were let in")
    assert show(shell, first)["state"] == "done"
    assert wanted(hosts, "2.0.0") == [name]
    assert "it is cancelled; deploy a release instead" in shell.type("rollout", "resume", rollout).line
    assert shell.type("rollout", "watch", rollout).code == 1


def test_a_halted_rollout_whose_time_is_over_is_not_resumed(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """One line with the way out."""
    server.publish("1.0.0")
    rollout = deploy_at_once(shell, "1.0.0", "--expires", at(server, HOUR))
    all_want(hosts, "1.0.0")
    assert shell.type("rollout", "halt", rollout).code == 0
    server.clock.ahead_ms = HOUR + MINUTE
    assert "it expired at" in shell.type("rollout", "resume", rollout).line
    assert "it expired at" in shell.type("rollout", "retry", rollout).line
    assert show(shell, rollout)["state"] == "halted"


def test_a_newcomer_to_a_done_rollout_moves_when_the_environments_window_opens_by_time_alone(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """Nothing rolls and nobody says anything: the clock alone lets it in."""
    server.publish("1.0.0")
    rollout = deploy_at_once(shell, "1.0.0")
    all_want(hosts, "1.0.0")
    for host in hosts:
        host.obey()
    until(shell, rollout, "done")
    text = window(server, 2 * HOUR, HOUR)
    added = shell.type("window", "add", "--environment", "dev", text)
    assert f"of dev: {text}, off: as agreed" in added.out
    assert text in shell.type("window", "list").out
    late = server.new_host("dev-9", role="web")
    late.sync()
    eventually(lambda: "outside of the windows of dev" in show(shell, rollout)["reason"], "it waits", WAIT_S)
    assert late.desired() == ""
    server.clock.ahead_ms = 2 * HOUR + 2 * MINUTE
    late.sync()
    eventually(lambda: late.desired() == "1.0.0", "the window lets it in", WAIT_S)
    (entry,) = shell.type("window", "list", "-o", "json").json()
    assert shell.type("window", "remove", entry["id"], "-o", "json").json()["kind"] == "window"
    assert "no environment has a window" in shell.type("window", "list").out


def test_newcomers_wait_for_the_next_rollout_and_offline_hosts_are_waited_for(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """A wave waits for the host that is away until its deadline; who enrols after `done` stays without the release."""
    server.publish("1.0.0")
    away = server.new_host("dev-8", role="web")  # certificates are good from ten minutes before: no later than that
    server.clock.ahead_ms = 2 * MINUTE
    for host in hosts:
        host.sync()
    rollout = deploy_at_once(shell, "1.0.0", "--newcomers", "wait", "--offline", "wait", "--offline-deadline", "4m")
    all_want(hosts, "1.0.0")
    for host in hosts:
        host.obey()
    waits = "waits for dev-8, offline, until"
    eventually(lambda: waits in show(shell, rollout)["reason"], "it waits", WAIT_S)
    told = shell.type("rollout", "show", rollout).out
    assert "waits 4m for offline hosts; newcomers wait for the next rollout" in told
    server.clock.ahead_ms = 8 * MINUTE
    until(shell, rollout, "done")
    late = server.new_host("dev-9", role="web")
    away.sync()
    late.sync()
    eventually(lambda: away.desired() == "1.0.0", "who was away catches up", WAIT_S)
    away.obey()
    assert late.desired() == ""
    assert "came after this rollout was done; waits for the next one" in shell.type("why", "dev-9", "hello").out
    assert shell.type("rollout", "watch", rollout, "--timeout", "20s").code == 0
    server.publish("2.0.0")
    deploy_at_once(shell, "2.0.0")
    eventually(lambda: late.desired() == "2.0.0", "the next rollout takes it along", WAIT_S)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("deploy --window 22:00", "write DAYS HH:MM-HH:MM ZONE"),
        ("deploy --window 22:00-04:00_Europe/Berln", "this server knows none of that name"),
        ("deploy --at 2026-12-20T22:00", "say its zone once"),
        ("deploy --expires 2020-12-20T22:00Z", "that is over"),
        ("deploy --override-freeze _", "empty reason to override a freeze"),
        ("deploy --offline-deadline 5m", "without --offline wait"),
        ("deploy --offline wait --offline-deadline 30d", "1s to 7d"),
        ("freeze add --reason x --environment dev", "say --from and --until, or --weekly"),
        ("freeze add --reason x --weekly Fri_15:00-24:00_UTC", "say --environment E, or --all-environments"),
        ("freeze add --reason x --weekly Fri_15:00-24:00_UTC --environment prod", "cannot use environment prod"),
        (
            "freeze add --reason x --environment dev --from 2026-12-20T00:00 --until 2026-12-21T00:00",
            "say its zone once",
        ),
        (
            "freeze add --reason x --environment dev --from 2026-12-20T00:00Z --until 2026-12-21T00:00 --zone UTC",
            "already",
        ),
        (
            "freeze add --reason x --all-environments --from 2020-12-20T00:00 --until 2020-12-21T00:00 --zone UTC",
            "over",
        ),
        ("freeze remove abcdef", "see 'towpath freeze list'"),
        ("window remove abcdef", "see 'towpath window list'"),
        ("window add --environment dev 22:00-22:00_UTC", "it is empty"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    server: LiveServer, shell: CliShell, words: str, part: str
) -> None:
    """By whichever side sees it first."""
    server.new_host("dev-0", role="web")
    server.publish("1.0.0")
    typed = [word.replace("_", " ") for word in words.split()]
    if typed[0] == "deploy":
        typed[1:1] = ["hello", "1.0.0", "--environment", "dev", "--all-hosts"]
    assert part in shell.type(*typed).line
    assert shell.type("rollout", "list").out.startswith("nothing is deployed")
    assert shell.type("freeze", "list").out.startswith("nothing is frozen")


def test_a_freeze_of_every_environment_is_kept_over_a_restart(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """It is a row: a killed server forgets neither it nor what it stopped."""
    server.publish("1.0.0")
    words = ("--zone", "Europe/Berlin", "--from", "2026-01-01T00:00", "--until", at(server, 3 * HOUR)[:-1])
    added = shell.type("freeze", "add", "--all-environments", *words, "--reason", "moving house")
    assert "of every environment: 2025-12-31 23:00:00Z to " in added.out
    rollout = deploy_at_once(shell, "1.0.0")
    server.restart(*hosts)
    shell.server = server.operators
    for host in hosts:
        host.sync()
    eventually(lambda: "moving house" in show(shell, rollout)["reason"], "it is frozen again", WAIT_S)
    assert wanted(hosts, "1.0.0") == []
