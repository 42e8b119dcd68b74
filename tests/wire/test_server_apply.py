"""The declarative form against a real server: apply, apply again, change, prune, and never a failed release again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually
from towpath.status import State, Verdict

FILE = """\
environments: {dev: , staging: }
policies:
  careful: {waves: "canary:10m,100%", max_unavailable: 2}
assignments:
  - {app: hello, version: 1.0.0, environment: dev, all_hosts: true, policy: careful}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server with a host of dev and two releases."""
    with LiveServer(tmp_path) as running:
        running.new_host("dev-1").sync()
        running.publish("1.0.0")
        running.publish("2.0.0")
        yield running


@pytest.fixture(autouse=True)
def canary(server: LiveServer) -> HostUnderTest:
    """Return a second host of dev, a canary."""
    host = server.new_host("dev-0", wave="canary")
    host.sync()
    return host


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a fleet file."""
    path = tmp_path / "fleet.yaml"
    path.write_text(FILE)
    return path


def test_a_file_is_applied_once_and_the_second_time_nothing_is_to_change(
    server: LiveServer, shell: CliShell, file: Path
) -> None:
    """Diff says 1 before and 0 after; a change of version or policy is one change; the rest stays."""
    before = shell.type("diff", "-f", str(file))
    assert (before.code, before.err) == (1, "")
    assert before.out == (
        "+ assignment hello in dev (every host): version 1.0.0, waves canary:10m,100%, max_unavailable 2, on_breach halt, "
        "progress_deadline 10m\n"
    )
    assert "1 change made" in shell.type("apply", "-f", str(file)).out
    first = shell.type("rollout", "list", "-o", "json").json()
    assert shell.type("apply", "-f", str(file)).out == "nothing to change\n"
    again = shell.type("diff", "-f", str(file))
    assert (again.code, again.out) == (0, "nothing to change\n")
    assert [one["generation"] for one in shell.type("rollout", "list", "-o", "json").json()] == [
        one["generation"] for one in first
    ]
    file.write_text(FILE.replace("1.0.0", "2.0.0").replace("max_unavailable: 2", "max_unavailable: 1"))
    changed = shell.type("diff", "-f", str(file))
    assert changed.out == "~ assignment hello in dev (every host): version 1.0.0 -> 2.0.0, max_unavailable 2 -> 1\n"
    assert shell.type("apply", "-f", str(file), "-o", "json").json()["changed"] == 1
    assert shell.type("apply", "-f", str(file)).out == "nothing to change\n"
    assert [entry.act for entry in server.audit("deploy") if entry.outcome == "done"] == ["deploy", "deploy"]


def test_a_release_that_failed_is_not_tried_again_by_applying_the_same_file(
    shell: CliShell, file: Path, canary: HostUnderTest
) -> None:
    """It is halted and stays halted; apply says so and asks nobody anything."""
    shell.type("apply", "-f", str(file))
    eventually(lambda: canary.desired() == "1.0.0", "the canary moves")
    canary.obey(state=State.REVERTED, verdict=Verdict.FAILED, reason="boom")
    rollout = eventually(
        lambda: (one := shell.type("rollout", "list", "-o", "json").json()[0])["state"] == "halted" and one, "it halts"
    )
    out = shell.type("apply", "-f", str(file)).out
    assert "! assignment hello in dev (every host): 1.0.0 is halted" in out
    assert "nothing to change" in out
    assert shell.type("rollout", "list", "-o", "json").json()[0]["generation"] == rollout["generation"]
    assert shell.type("diff", "-f", str(file)).code == 0


def test_what_is_not_in_the_file_is_left_alone_unless_it_is_pruned(
    server: LiveServer, shell: CliShell, file: Path
) -> None:
    """Another rule stays; --prune asks, refuses where nobody can answer, and takes off that rule alone with --yes."""
    shell.type("apply", "-f", str(file))
    shell.type("deploy", "hello", "2.0.0", "--environment", "dev", "--select", "wave=canary")
    left = shell.type("apply", "-f", str(file)).out
    assert "  assignment hello in dev wave=canary: version 2.0.0, not in the file, left alone" in left
    assert "nothing to change" in left
    assert shell.type("diff", "-f", str(file), "--prune").code == 1
    refused = shell.type("apply", "-f", str(file), "--prune")
    assert "cannot take 1 thing off unasked" in refused.err
    shell.tty = True
    assert "not agreed to" in shell.type("apply", "-f", str(file), "--prune", input="n\n").err
    assert len(shell.type("rollout", "list", "-o", "json").json()) == 2
    assert "1 change made" in shell.type("apply", "-f", str(file), "--prune", input="y\n").out
    assert [one["selector"] for one in shell.type("rollout", "list", "-o", "json").json()] == [{}]


def test_where_one_rule_cannot_be_none_is_applied(server: LiveServer, shell: CliShell, file: Path) -> None:
    """The first assignment is fine, the second names no release: one line, nothing changed; diff exits 2 on bad YAML."""
    second = "  - {app: hello, version: 9.9.9, environment: dev, select: {wave: canary}}\n"
    file.write_text(FILE + second)
    line = shell.type("apply", "-f", str(file)).line
    assert f"cannot use {file}, line 6: assignments[1].version: " in line
    assert "there is no such release" in line
    assert shell.type("rollout", "list", "-o", "json").json() == []
    assert shell.type("diff", "-f", str(file)).code == 2, "what apply refuses, diff does not show as a difference"
    file.write_text(FILE + "frezes: []\n")
    broken = shell.type("diff", "-f", str(file))
    assert (broken.code, broken.out) == (2, "")
    assert "line 6: unknown key 'frezes'" in broken.err
