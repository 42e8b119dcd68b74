"""One table of a policy's options: what `deploy` can be told, a fleet file can say, and a difference is seen."""

from typing import Any

import pytest

from towpath.errors import InputError
from towpath_cli.commands.deploy import deploy
from towpath_cli.commands.plan import plan
from towpath_cli.commands.promote import promote
from towpath_cli.comparing import compare
from towpath_cli.fleetfile import parse_fleet_file
from towpath_cli.fleetmodels import AssignmentSection, LimitsSection
from towpath_cli.model import Rollout, WaveProgress
from towpath_cli.policy import POLICY_OPTIONS

# What a command has beside its policy: what is deployed where, and how the command itself behaves.
NO_POLICY = {"app", "version", "environment", "selector", "all_hosts", "waits", "timeout", "folder", "server", "output"}
PROMOTION = {"source", "target", "dry_run"}

# YAML of each option, and what a rollout with all defaults is then said to lack. An option without a line fails below.
SAMPLES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "waves": ("waves: '1:10m,50%'", {"waves": ("100%", "1:10m,50%,100%")}),
    "soak": ("soak: 5m", {"waves": ("100%", "100%:5m")}),
    "max_unavailable": ("max_unavailable: 3", {"max_unavailable": ("-", "3")}),
    "max_failures": ("max_failures: 2", {"max_failures": ("0", "2")}),
    "max_failure_share": ("max_failure_share: 5%", {"max_failure_share": ("-", "5%")}),
    "on_breach": ("on_breach: revert", {"on_breach": ("halt", "revert")}),
    "progress_deadline": ("progress_deadline: 1h", {"progress_deadline": ("10m", "60m")}),
    "approvers": ("approvers: [bob, ann]", {"approvers": ("-", "ann,bob")}),
    "metrics": (
        "waves: '100%:metric=e'\n    metrics: ['e=up < 1..2']",
        {"waves": ("100%", "100%:metric=e"), "metrics": ("-", "e=up < 1..2 for 10m")},
    ),
    "metric_patience": (
        "waves: '100%:metric=e'\n    metrics: e=up < 1\n    metric_patience: 5m",
        {"waves": ("100%", "100%:metric=e"), "metrics": ("-", "e=up < 1 for 5m")},
    ),
    "allow_empty": ("allow_empty: true", {}),
    "windows": ("windows: [fri 22:00-4:00 UTC]", {"windows": ("-", "Fri 22:00-04:00 UTC")}),
    "at": ("at: 2030-01-01T00:00 Europe/Berlin", {"at": ("-", "2029-12-31 23:00:00Z")}),
    "expires": ("expires: 2030-01-01T00:00Z", {"expires": ("-", "2030-01-01 00:00:00Z")}),
    "override_freeze": ("override_freeze: it burns", {"override_freeze": ("-", "it burns")}),
    "offline": ("offline: wait", {"offline": ("ignore", "wait 60m")}),
    "offline_deadline": ("offline: wait\n    offline_deadline: 5m", {"offline": ("ignore", "wait 5m")}),
    "newcomers": ("newcomers: wait", {"newcomers": ("join", "wait")}),
    "budgets": ("budgets: {rack: 1, zone: 20%}", {"budgets": ("-", "rack=1,zone=20%")}),
    "order": ("order: label:rack", {"order": ("-", "label:rack")}),
    "priority": ("priority: 3", {"priority": ("0", "3")}),
    "prefetch": ("prefetch: true", {"prefetch": ("-", "yes")}),
}
NAMES = [one.name for one in POLICY_OPTIONS]


def file(policy: str, own: str = "") -> str:
    return (
        f"environments: {{dev: }}\npolicies:\n  p:\n    {policy}\nassignments:\n"
        f"  - {{app: hello, version: 1.0.0, environment: dev, all_hosts: true, policy: p{own}}}\n"
    )


def rollout(**fields: Any) -> Rollout:
    row: dict[str, Any] = {
        "assignment": "a1",
        "app": "hello",
        "version": "1.0.0",
        "environment": "dev",
        "state": "done",
        "reason": "",
        "hosts": (),
        "waves": (WaveProgress(0, "100%", "passed", "", 0, {}),),
        "on_breach": "halt",
        "newcomers": "join",
        "progress_deadline_ms": 600_000,
    }
    return Rollout(**{**row, **fields})


@pytest.mark.parametrize("command", [deploy, plan, promote])
def test_every_option_of_a_deploy_is_a_key_of_a_policy_and_of_an_assignment(command: Any) -> None:
    """An option that the file lacks would be lost at the first apply: the file could not keep what was typed."""
    options = {parameter.name for parameter in command.params} - NO_POLICY - PROMOTION
    assert options == set(NAMES)
    assert options <= set(LimitsSection.model_fields)
    assert options <= set(AssignmentSection.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_each_option_in_a_file_is_seen_as_a_difference(name: str) -> None:
    """Asked for and not there: one change that names it; what the policy says, its assignment may say too."""
    yaml, differs = SAMPLES[name]
    act = compare(parse_fleet_file(file(yaml), "f"), [rollout()], prune=False)[0]
    assert {key: (act.change.was[key], act.change.will[key]) for key in act.change.will} == differs
    own = ", ".join(part.strip() for part in yaml.split("\n"))
    alone = compare(parse_fleet_file(file("on_breach: halt", f", {own}"), "f"), [rollout()], prune=False)[0]
    assert alone.change == act.change


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_no_option_takes_is_one_line_with_its_key(name: str) -> None:
    """A mapping is none of them."""
    with pytest.raises(InputError, match=rf"f, line 4: policies\.p\.{name}: ") as caught:
        parse_fleet_file(file(f"{name}: {{x: [y]}}"), "f")
    assert "\n" not in str(caught.value)


def test_waves_that_nobody_asked_for_are_those_of_the_servers_default_in_a_fleet_of_any_size() -> None:
    """Else a file without waves would differ from a large fleet for ever; waves of somebody else are a difference."""
    asked = parse_fleet_file(file("on_breach: halt"), "f")
    large = tuple(WaveProgress(n, text, "passed", "", 0, {}) for n, text in enumerate(("1", "1%", "10%", "100%")))
    assert compare(asked, [rollout(waves=large)], prune=False)[0].step is None
    other = compare(asked, [rollout(waves=large[1:])], prune=False)[0]
    assert (other.change.was, other.change.will) == ({"waves": "1%,10%,100%"}, {"waves": "by default"})


def test_a_wave_as_a_mapping_may_ask_for_everything_that_the_text_may() -> None:
    """Soak, approvals and metrics of one wave."""
    waves = "waves: [{what: canary, soak: 10m, approve: 2, metrics: [e]}, {what: 50%, manual: true}]"
    metric = "metrics: [e=up < 1]"
    order = parse_fleet_file(file(f"{waves}\n    {metric}"), "f").orders[0]
    assert [one.text for one in order.waves] == ["canary:10m+metric=e+approve=2", "50%:manual", "100%"]
    with pytest.raises(InputError, match="a list of the names of metrics is expected"):
        parse_fleet_file(file("waves: [{what: 1, metrics: e}]"), "f")
