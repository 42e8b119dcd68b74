"""A whole fleet file against a real server: everything that it may say is done once, all of it or nothing."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually
from towpath.parameters import Parameter
from towpath_cli.policy import POLICY_OPTIONS

PORT = Parameter("port", "port")  # without a default: whoever deploys has to set it

YEAR = time.gmtime().tm_year + 1  # times in the file are to come, and less than two years ahead
FILE = """\
environments:
  dev:
    parameters: {hello.port: 8080}
    labels:
      rack=7: {hello.port: 8081}
  staging:
    healthy_for: 2h
    windows: [daily 00:00-24:00 UTC]
  lab:
    after: dev
hosts:
  dev-1:
    parameters: {hello.port: 8082}
policies:
  careful:
    waves: [{what: canary, soak: 10m, approve: 1}, 100%]
    max_unavailable: 2
    max_failures: 1
    max_failure_share: 40%
    on_breach: revert
    progress_deadline: 5m
    approvers: [bob]
    windows: [daily 00:00-24:00 UTC]
    at: 2020-01-01T00:00 Europe/Berlin
    expires: YEAR-11-01T00:00Z
    override_freeze: it burns
    offline: wait
    offline_deadline: 7m
    newcomers: wait
    prefetch: true
    budgets: {rack: 1}
    order: label:rack
    priority: 3
freezes:
  - {environment: dev, select: {role: db}, weekly: "fri 15:00-24:00 UTC", reason: weekend}
  - {all_environments: true, from: YEAR-12-20T00:00, until: YEAR+1-01-02T00:00, zone: Europe/Berlin, reason: feast}
assignments:
  - {app: hello, version: 1.0.0, environment: dev, all_hosts: true, policy: careful}
""".replace("YEAR+1", str(YEAR + 1)).replace("YEAR", str(YEAR))
NEW_RULE = (
    "+ assignment hello in dev (every host): version 1.0.0, waves canary:10m+approve=1,100%, max_unavailable 2, "
    "max_failures 1, max_failure_share 40%, on_breach revert, progress_deadline 5m, approvers bob, budgets rack=1, order label:rack, priority 3, "
    f"windows daily 00:00-24:00 UTC, at 2019-12-31 23:00:00Z, expires {YEAR}-11-01 00:00:00Z, "
    "override_freeze it burns, offline wait 7m, newcomers wait, prefetch yes"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server with three hosts of dev and two releases, the second one not for dev."""
    with LiveServer(tmp_path) as running:
        running.publish("1.0.0", b"", PORT)
        running.publish("2.0.0", b"", PORT, environments=("staging",))
        yield running


@pytest.fixture(autouse=True)
def hosts(server: LiveServer) -> list[HostUnderTest]:
    """Return a canary, a host with a label of which the file speaks, and one that it names."""
    found = [
        server.new_host("dev-0", wave="canary"),
        server.new_host("dev-2", rack="7"),
        server.new_host("dev-1", rack="7"),
    ]
    for host in found:
        host.sync()
    return found


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


def everything(shell: CliShell) -> list[Any]:
    """Return all that a fleet file can change."""
    asked = (
        ("environment", "list"),
        ("parameter", "list"),
        ("host", "list"),
        ("freeze", "list"),
        ("window", "list"),
        ("rollout", "list", "--all"),
    )
    found = [shell.type(*words, "-o", "json").json() for words in asked]
    for one in found[2]:
        one.pop("last_seen_unix_ms")
    for one in found[5]:
        one.pop("reason")  # it says how far it is
    return found


def test_everything_in_a_file_is_applied_once_and_means_what_it_says(
    shell: CliShell, file: Path, hosts: list[HostUnderTest]
) -> None:
    """Diff before: all of it; after: nothing, exit 0; the second apply does nothing; each level of parameters counts."""
    before = shell.type("diff", "-f", str(file))
    assert before.code == 1, before.err
    assert before.out.splitlines() == [
        "~ environment staging: healthy_for - -> 2h",
        "+ environment lab: after dev",
        "+ window of staging: when daily 00:00-24:00 UTC",
        "+ freeze of dev role=db: when Fri 15:00-24:00 UTC, reason weekend",
        f"+ freeze of every environment: when {YEAR}-12-19 23:00:00Z to {YEAR + 1}-01-01 23:00:00Z, reason feast",
        "+ parameter hello.port of dev: value 8080",
        "+ parameter hello.port of dev rack=7: value 8081",
        "+ parameter hello.port of host dev-1: value 8082",
        NEW_RULE,
    ]
    assert shell.type("apply", "-f", str(file)).out.endswith("9 changes made; see: towpath rollout list\n")
    after = everything(shell)
    again = shell.type("apply", "-f", str(file))
    assert (again.code, again.out) == (0, "nothing to change\n")
    same = shell.type("diff", "-f", str(file))
    assert (same.code, same.out) == (0, "nothing to change\n")
    assert everything(shell) == after
    ports = {}
    for host in hosts:
        shown = shell.type("host", "show", host.name, "-o", "json").json()["host"]
        ports[host.name] = (shown["parameters"]["hello.port"], shown["parameter_origins"]["hello.port"])
    assert ports == {
        "dev-0": (8080, "environment dev"),
        "dev-2": (8081, "label rack=7"),
        "dev-1": (8082, "host"),
    }
    eventually(lambda: hosts[0].desired() == "1.0.0", "the canary moves")


def test_the_file_of_this_test_says_every_option_of_a_policy() -> None:
    """Else an option that the server forgets would differ for ever and no test would see it."""
    said = {one.name for one in POLICY_OPTIONS if f"    {one.name}: " in FILE}
    apart = {"soak", "metrics", "metric_patience", "allow_empty"}  # other words for waves; need a Prometheus; no policy
    assert said | apart == {one.name for one in POLICY_OPTIONS}


def test_a_change_of_each_section_is_one_change_and_prune_takes_off_what_is_not_in_the_file(
    server: LiveServer, shell: CliShell, file: Path
) -> None:
    """Only what differs is done; without --prune the rest is named and left."""
    shell.type("apply", "-f", str(file))
    file.write_text(
        FILE.replace("healthy_for: 2h", "healthy_for: 1h")
        .replace("{hello.port: 8081}", "{hello.port: 9081}")
        .replace("reason: weekend", "reason: Friday")
        .replace("max_failures: 1", "max_failures: 2")
    )
    changed = shell.type("diff", "-f", str(file), "--prune").out.splitlines()
    assert changed == [
        "~ environment staging: healthy_for 2h -> 60m",
        "+ freeze of dev role=db: when Fri 15:00-24:00 UTC, reason Friday",
        "~ parameter hello.port of dev rack=7: value 8081 -> 9081",
        "~ assignment hello in dev (every host): max_failures 1 -> 2",
        "- freeze of dev role=db: when Fri 15:00-24:00 UTC, not in the file",
    ]
    assert shell.type("apply", "-f", str(file), "--prune", "--yes", "-o", "json").json()["changed"] == 5
    assert shell.type("diff", "-f", str(file), "--prune").code == 0
    acts = [entry.act for entry in server.audit() if entry.outcome == "done"][-5:]
    assert acts == ["environment.set", "freeze.add", "parameter.set", "deploy", "freeze.remove"]


@pytest.mark.parametrize(
    ("old", "new", "line", "part"),
    [
        ("  lab:\n    after: dev", "  lab:\n    after: [dev", 11, ""),
        (
            "environment: dev, all_hosts",
            "environment: deev, all_hosts",
            38,
            "assignments[0].environment: 'deev' is not",
        ),
        (
            "all_hosts: true",
            "select: {role: nobody}",
            38,
            "assignments[0].select: cannot deploy hello 1.0.0: no host of dev",
        ),
        ("max_failures: 1", "max_failures: 9", 18, "policies.careful.max_failures: cannot deploy hello 1.0.0 with 9"),
        (
            "max_failure_share: 40%",
            "max_failure_share: 100%",
            38,
            "assignments[0]: cannot use --max-failure-share 100%",
        ),
        ("what: canary", "what: cannary", 16, "policies.careful.waves: cannot deploy hello 1.0.0 by wave cannary"),
        ("version: 1.0.0", "version: 2.0.0", 38, "assignments[0].environment: cannot deploy hello 2.0.0 to dev: its"),
        ("version: 1.0.0", "version: 9.0.0", 38, "assignments[0].version: cannot deploy hello 9.0.0: there is no"),
        (f"expires: {YEAR}-11-01T00:00Z", "expires: 2021-11-01T00:00Z", 25, "policies.careful.expires: cannot deploy"),
        ("approve: 1", "approve: 3", 22, "policies.careful.approvers: "),
        ("{hello.port: 8080}", "{hello.port: eighty}", 3, "environments.dev.parameters.hello.port: cannot set"),
        ("{hello.port: 8080}", "{hello.prt: 8080}", 3, "environments.dev.parameters.hello.prt: cannot set"),
        ("{hello.port: 8081}", "{hello.port: 99999}", 5, "environments.dev.labels.rack=7.hello.port: cannot set"),
        ("  dev-1:\n", "  dev-9:\n", 13, "hosts.dev-9.parameters.hello.port: cannot find host 'dev-9'"),
        ("after: dev", "after: nowhere", 9, "environments.lab: cannot put lab after nowhere"),
        ("healthy_for: 2h", "healthy_for: 90d", 6, "environments.staging: cannot require staging's releases"),
        (f"{YEAR + 1}-01-02T00:00", f"{YEAR}-01-02T00:00", 36, "freezes[1]: "),
    ],
)
def test_what_cannot_be_is_one_line_with_file_line_and_key_and_nothing_is_changed(
    server: LiveServer, shell: CliShell, file: Path, old: str, new: str, line: int, part: str
) -> None:
    """Neither by diff nor by apply, however many good things stand before the bad one; the refusal is in the audit log."""
    assert old in FILE
    before, entries = everything(shell), [one.act for one in server.audit() if one.outcome == "done"]
    file.write_text(FILE.replace(old, new, 1))
    shown = shell.type("diff", "-f", str(file))
    assert shown.code == 2
    applied = shell.type("apply", "-f", str(file))
    assert applied.code == 1
    for said in (shown.err, applied.line):
        assert f"{file}, line {line}: {part}" in said
        assert said.count("\n") <= 1
    assert (shown.out, applied.out) == ("", "")
    assert everything(shell) == before
    assert [one.act for one in server.audit() if one.outcome == "done"] == entries
