"""Downloads ahead over real gRPC: who is told of a release, who is not, what people read, and a real agent's whole way."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, Popen, run
from typing import Any

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually
from towpath.manifest import PREFETCH_FEATURE
from towpath.release import Release, Run
from towpath.reports import Prefetch, PrefetchState
from towpath.status import Health, State, Verdict

MINUTE = 60_000
HOUR = 60 * MINUTE
WAIT_S = 60.0


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
    """Return three hosts that run 1.0.0, the first of them a canary."""
    server.publish("1.0.0")
    found = [server.new_host("dev-0", kind="canary"), server.new_host("dev-1"), server.new_host("dev-2")]
    for host in found:
        host.sync()
    server.deploy("1.0.0", max_unavailable=9)
    for host in found:
        eventually(lambda host=host: host.desired() == "1.0.0", "it is let in", WAIT_S)
        host.obey()
    return found


def at(server: LiveServer, ahead_ms: int) -> str:
    """Return a time as an operator types it."""
    return datetime.fromtimestamp((server.clock.now_unix_ms() + ahead_ms) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def deploy(shell: CliShell, version: str, *words: str) -> str:
    """Deploy with downloads ahead; return the rollout's id."""
    policy = ("--environment", "dev", "--select", "role=web", "--max-unavailable", "9", "--prefetch")
    done = shell.type("deploy", "hello", version, *policy, *words, "-o", "json")
    assert done.code == 0, done.err
    return str(done.json()["assignment"])


def show(shell: CliShell, rollout: str) -> dict[str, Any]:
    return dict(shell.type("rollout", "show", rollout, "-o", "json").json())


def ahead(host: HostUnderTest) -> list[str]:
    """Return what an agent that knows the feature is told to fetch ahead, and see that it is told nothing else."""
    manifest = host.sync(features=[PREFETCH_FEATURE])
    assert manifest.critical == ((PREFETCH_FEATURE,) if manifest.prefetch else ())
    return [one.version for one in manifest.prefetch]


def say(host: HostUnderTest, release: Release, state: PrefetchState, reason: str = "") -> None:
    """Report that 1.0.0 runs and how far the download of another release is."""
    manifest = host.sync(features=[PREFETCH_FEATURE])
    (runs,), (announced,) = manifest.apps, manifest.prefetch
    assert announced.version == release.version
    host.obey(
        current_version=runs.version,
        prefetch=Prefetch(announced.version, announced.release_sha256, state, reason),
    )


def test_only_an_agent_that_said_that_it_knows_is_told(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """An older agent gets the manifest that it always got: nothing critical, nothing more, 1.0.0 as before."""
    server.publish("2.0.0")
    deploy(shell, "2.0.0", "--at", at(server, HOUR))
    old = hosts[0].sync()
    assert (old.critical, old.prefetch, [one.version for one in old.apps]) == ((), (), ["1.0.0"])
    other = hosts[0].sync(features=["waves-2"])
    assert (other.critical, other.prefetch) == ((), ())
    new = hosts[0].sync(features=["waves-2", PREFETCH_FEATURE])
    assert (new.critical, [one.version for one in new.apps]) == ((PREFETCH_FEATURE,), ["1.0.0"])
    (one,) = new.prefetch
    assert (one.app, one.version, one.counter) == ("hello", "2.0.0", 2)


def test_it_is_off_where_nobody_asks(server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]) -> None:
    """A rollout that waits for its time announces nothing by itself."""
    server.publish("2.0.0")
    server.deploy("2.0.0", at=at(server, HOUR))
    assert [ahead(host) for host in hosts] == [[], [], []]


def test_closed_waves_and_shut_windows_are_told_and_who_is_let_in_is_not(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """The canary moves, the others fetch; when their wave opens, what was announced is what is wanted."""
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "kind=canary:manual,100%")
    eventually(lambda: hosts[0].desired() == "2.0.0", "the canary is let in", WAIT_S)
    assert [ahead(host) for host in hosts] == [[], ["2.0.0"], ["2.0.0"]]
    assert hosts[1].desired() == "1.0.0"
    hosts[0].obey()
    assert shell.type("rollout", "pause", rollout).code == 0
    assert ahead(hosts[1]) == ["2.0.0"], "a pause does not cost the bytes"
    assert shell.type("rollout", "resume", rollout).code == 0
    eventually(lambda: "a person" in show(shell, rollout)["reason"], "it waits for a person", WAIT_S)
    assert shell.type("rollout", "advance", rollout).code == 0
    eventually(lambda: hosts[1].desired() == "2.0.0", "the rest is let in", WAIT_S)
    assert [ahead(host) for host in hosts] == [[], [], []]


@pytest.mark.parametrize("verb", ["halt", "cancel", "undeploy", "another release"])
def test_a_rollout_that_ends_announces_nothing_any_more(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest], verb: str
) -> None:
    """With the very next sync of hosts that it never let in."""
    server.publish("2.0.0")
    server.publish("3.0.0")
    rollout = deploy(shell, "2.0.0", "--at", at(server, HOUR))
    assert ahead(hosts[1]) == ["2.0.0"]
    if verb == "undeploy":
        assert shell.type("undeploy", "hello", "--environment", "dev").code == 0
    elif verb == "another release":
        deploy(shell, "3.0.0", "--at", at(server, HOUR))
    else:
        assert shell.type("rollout", verb, rollout).code == 0
    assert ahead(hosts[1]) == (["3.0.0"] if verb == "another release" else [])


def test_a_breach_withdraws_it_by_the_tick_alone(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """Nobody commands: the canary fails, and a release that fails is fetched by nobody."""
    server.publish("2.0.0")
    rollout = deploy(shell, "2.0.0", "--waves", "kind=canary,100%")
    eventually(lambda: hosts[0].desired() == "2.0.0", "the canary is let in", WAIT_S)
    assert ahead(hosts[1]) == ["2.0.0"]
    hosts[0].obey(state=State.REVERTED, verdict=Verdict.FAILED, health=Health.HEALTHY, reason="ill")
    eventually(lambda: show(shell, rollout)["state"] == "halted", "it halts", WAIT_S)
    assert ahead(hosts[1]) == []
    assert shell.type("rollout", "resume", rollout).code == 0
    eventually(lambda: ahead(hosts[1]) == ["2.0.0"] or hosts[1].desired() == "2.0.0", "it is wanted again", WAIT_S)


def test_a_release_that_a_host_could_not_run_is_not_announced_to_it(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """It would be fetched for nothing; the others get it. After a restart of the server too."""
    server.publish("2.0.0", platforms=("linux/amd64",))
    hosts[1].sync(platform="linux/sparc", boot_id="b")
    deploy(shell, "2.0.0", "--at", at(server, HOUR))
    assert [ahead(host) for host in hosts] == [["2.0.0"], [], ["2.0.0"]]
    server.restart(*hosts)
    assert [ahead(host) for host in hosts] == [["2.0.0"], [], ["2.0.0"]]


def test_why_and_show_and_plan_say_how_far_the_downloads_are(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """Before anything moves, while it comes, and when it only waits for its time."""
    release = server.publish("2.0.0", b"x" * 5000)
    words = ("--environment", "dev", "--select", "role=web", "--prefetch", "--at", at(server, HOUR))
    assert (
        "prefetch: each host downloads it before it is let in, at most"
        in shell.type("plan", "hello", "2.0.0", *words).out
    )
    rollout = deploy(shell, "2.0.0", "--at", at(server, HOUR))
    assert "with downloads ahead" in server.audit("deploy")[-1].detail
    assert "it may download 2.0.0 ahead, and has said nothing of it yet" in shell.type("why", "dev-1", "hello").out
    say(hosts[0], release, PrefetchState.COMPLETE)
    say(hosts[1], release, PrefetchState.WAITING, "not enough disk")
    why = shell.type("why", "dev-0", "hello").out
    assert "nobody is let in now: does not begin before" in why
    assert "2.0.0 is downloaded, and waits until this host is let in to it" in why
    assert "that waits: not enough disk" in shell.type("why", "dev-1", "hello").out
    shown = shell.type("rollout", "show", rollout).out
    assert "prefetch: 1 of 3 hosts not let in yet have downloaded it" in shown
    assert "prefetch: dev-1: 2.0.0 is to be downloaded ahead, and that waits: not enough disk" in shown
    host = next(host for host in show(shell, rollout)["hosts"] if host["host"] == "dev-0")
    assert host["prefetch"]["state"] == "complete"
    assert show(shell, rollout)["prefetch"] is True
    server.clock.ahead_ms = HOUR + MINUTE
    hosts[0].sync()
    eventually(lambda: hosts[0].desired() == "2.0.0", "its time has come", WAIT_S)
    hosts[0].obey()
    assert "downloaded" not in shell.type("why", "dev-0", "hello").out


def test_the_same_deploy_with_downloads_ahead_is_another_policy(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest]
) -> None:
    """Said again without it, it takes the announcement back; said again with it, nothing changes."""
    server.publish("2.0.0")
    times = ("--at", at(server, HOUR))
    first = deploy(shell, "2.0.0", *times)
    assert deploy(shell, "2.0.0", *times) == first
    plain = ("--environment", "dev", "--select", "role=web", "--max-unavailable", "9", *times)
    assert shell.type("deploy", "hello", "2.0.0", *plain).code == 0
    assert ahead(hosts[0]) == []


def test_a_fleet_file_says_it_too(
    server: LiveServer, shell: CliShell, hosts: list[HostUnderTest], tmp_path: Path
) -> None:
    """`prefetch: true` in a policy or a rule; a file without it takes it back, and `diff` says so."""
    server.publish("2.0.0")
    file = tmp_path / "fleet.yaml"
    policy = "{waves: 'kind=canary:manual,100%', prefetch: true}"
    rule = "{app: hello, version: 2.0.0, environment: dev, select: {role: web}, policy: night}"
    file.write_text(f"environments: {{dev: }}\npolicies:\n  night: {policy}\nassignments:\n  - {rule}\n")
    applied = shell.type("apply", "-f", str(file))
    assert applied.code == 0, applied.err
    eventually(lambda: hosts[0].desired() == "2.0.0", "the canary is let in", WAIT_S)
    assert ahead(hosts[1]) == ["2.0.0"]
    file.write_text(file.read_text().replace("prefetch: true", "prefetch: false"))
    assert "prefetch yes -> -" in shell.type("diff", "-f", str(file)).out
    file.write_text(file.read_text().replace("prefetch: false", "prefetch: perhaps"))
    assert "prefetch" in shell.type("diff", "-f", str(file)).line


# A real agent


def agent(*words: object) -> list[str]:
    return [str(Path(sys.executable).parent / "towpath-agent"), *map(str, words)]


@contextmanager
def running_agent(folder: Path, log: Path) -> Iterator[None]:
    """Run the real agent of an enrolled folder while the block lasts."""
    with log.open("ab") as out:
        process = Popen(
            agent("run", "--dir", folder, "--sync-interval", "300ms"), stdout=out, stderr=out, stdin=DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def said(*words: object) -> str:
    return run(agent(*words), capture_output=True, text=True, check=True).stdout


def publish(server: LiveServer, version: str, content: bytes) -> Release:
    """Publish a release that needs no process."""
    release, index = server.make_release(version, content)
    release = replace(release, run=Run("none"))
    server.upload(content, index)
    server.releases.Publish(server.sign(release), timeout=WAIT_S)
    return release


@pytest.mark.timeout(300)
def test_a_real_agent_fetches_before_the_window_and_switches_without_a_download(
    server: LiveServer, shell: CliShell, tmp_path: Path
) -> None:
    """Before its time every byte is here and nothing is switched; the server then loses its objects, and it switches."""
    folder, log = tmp_path / "agent", tmp_path / "agent.log"
    enrol = ("--server", server.enrolment, "--token", server.token(role="web"), "--name", "dev-0")
    said("enroll", "--dir", folder, *enrol)
    publish(server, "1.0.0", b"one" * 1000)
    content = b"two" * 400_000
    publish(server, "2.0.0", content)
    words = ("--environment", "dev", "--select", "role=web")
    first = str(shell.type("deploy", "hello", "1.0.0", *words, "-o", "json").json()["assignment"])
    with running_agent(folder, log):
        current = folder / "apps" / "hello" / "current" / "data"
        eventually(lambda: show(shell, first)["state"] == "done", "it runs 1.0.0", 120)
        assert current.read_bytes() == b"one" * 1000
        rollout = deploy(shell, "2.0.0", "--at", at(server, HOUR))
        here = "2.0.0 is downloaded, and waits until this host is let in to it"
        eventually(lambda: here in shell.type("why", "dev-0", "hello").out, "it has the bytes", 120)
        assert "hello 2.0.0 is downloaded" in said("status", "--dir", folder)
        assert here in said("explain", "hello", "--dir", folder)
        assert "1 of 1 host not let in yet have downloaded it" in shell.type("rollout", "show", rollout).out
        assert current.read_bytes() == b"one" * 1000
        assert "2.0.0" not in [event["version"] for event in _transitions(folder)]
        shutil.rmtree(server.fleet / "server" / "objects")
        server.clock.ahead_ms = HOUR + MINUTE
        eventually(lambda: current.read_bytes() == content, "it runs 2.0.0", 120)
        eventually(lambda: show(shell, rollout)["state"] == "done", "the rollout is done", 120)
    assert [event["state"] for event in _transitions(folder) if event["version"] == "2.0.0"] == [
        "Planned",
        "Fetching",
        "Staged",
        "Prepared",
        "Switching",
        "Switched",
        "Watching",
        "Confirmed",
    ]


def _transitions(folder: Path) -> list[dict[str, Any]]:

    events = json.loads(said("history", "--dir", folder, "-o", "json"))
    return [event for event in events if event["kind"] == "transition"]
