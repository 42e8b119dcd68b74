"""The fleet file: what it may hold, where a fault stands, and that its schema is the parser's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import InputError
from towpath.waves import parse_waves
from towpath_cli.changes import Kind
from towpath_cli.comparing import compare, lines
from towpath_cli.fleetfile import load_fleet_file, parse_fleet_file, schema_json
from towpath_cli.model import Rollout, WaveProgress

FILE = """\
environments:
  dev:
  production: {}
policies:
  careful:
    waves:
      - {what: canary, soak: 10m}
      - 10%:1h
      - {what: 50%, manual: true}
    max_failure_share: 5%
    on_breach: revert
assignments:
  - app: hello
    version: 1.10
    environment: production
    select: {role: web}
    policy: careful
    max_unavailable: 5
  - {app: hello, version: 2.0.0, environment: dev, all_hosts: true, soak: 5m, prefetch: true, allow_empty: true}
"""


def test_a_file_is_read_as_the_options_of_a_deploy_would_be() -> None:
    """A version stays a text, both forms of waves are the same, an assignment's own limits win over its policy's."""
    file = parse_fleet_file(FILE, "fleet.yaml")
    assert file.names == ("dev", "production")
    first, second = file.orders
    assert (first.version, first.selector, first.whole_environment) == ("1.10", {"role": "web"}, False)
    assert first.waves == parse_waves("canary:10m,10%:1h,50%:manual,100%")
    assert (first.max_unavailable, first.max_failure_share, first.on_breach) == (5, 500, "revert")
    assert (first.prefetch, second.prefetch) == (False, True)
    assert (second.waves, second.whole_environment, second.allow_empty) == (parse_waves("100%:5m"), True, True)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("policies:", "polices:", "line 4: unknown key 'polices'; did you mean 'policies'?"),
        ("on_breach: revert", "on_breach: explode", "line 11: policies.careful.on_breach: one of halt, revert"),
        ("on_breach: revert", "on_breech: halt", "line 11: policies.careful: unknown key 'on_breech'"),
        ("soak: 10m}", "soak: 10x}", "line 6: policies.careful.waves: "),
        (
            "{what: canary,",
            "{who: canary,",
            "unknown key 'who' of a wave; known are what, soak, manual, approve, metrics",
        ),
        ("{what: canary, soak: 10m}", "{soak: 10m}", "a wave needs a key 'what'"),
        ("manual: true}", "manual: true, soak: 1m}", "either manual (true) or has a soak, approvals or metrics"),
        ("10%:1h", "60%:1h", "cannot use wave 50% after 60%"),
        ("share: 5%", "share: 5", "line 10: policies.careful.max_failure_share: cannot read '5' as a share"),
        ("share: 5%", "share: 5%\n    max_failures: 0", "line 14: assignments[0]: cannot use --max-failures 0"),
        ("environment: production", "environment: prod", "line 15: assignments[0].environment: 'prod' is not among"),
        ("environment: production", "environment: Prod!", "line 15: assignments[0].environment: "),
        ("policy: careful", "policy: carefull", "line 17: assignments[0].policy: there is no policy 'carefull'; did"),
        (
            "select: {role: web}",
            "all_hosts: false",
            "line 13: assignments[0]: give either select (labels) or all_hosts",
        ),
        ("select: {role: web}", "select: [web]", "line 16: assignments[0].select: a mapping of labels is expected"),
        ("select: {role: web}", "select: {'a b': web}", "line 16: assignments[0].select: "),
        ("max_unavailable: 5", "max_unavailable: 0", "line 18: assignments[0].max_unavailable: at least 1"),
        ("max_unavailable: 5", "max_unavailable: many", "line 18: assignments[0].max_unavailable: a whole number"),
        ("    version: 1.10\n", "", "key 'version' is missing"),
        (
            "version: 2.0.0, environment: dev, all_hosts: true",
            "version: 2.0.0, environment: dev, all_hosts: perhaps",
            "true or false",
        ),
        ("max_unavailable: 5", "budgets: rack=1", "line 18: assignments[0].budgets: a mapping of label to 1 or 20%"),
        ("max_unavailable: 5", "budgets: {rack: 0}", "line 18: assignments[0].budgets: cannot use the budget rack=0"),
        ("max_unavailable: 5", "order: rack", "line 18: assignments[0].order: cannot order hosts by 'rack'"),
        ("max_unavailable: 5", "priority: 5000", "line 18: assignments[0].priority: "),
        ("dev:", "de v:", "line 2: environments"),
        ("  - {app: hello", "  - {app: hello, app: x", "is there twice"),
        (FILE, "[]", "a mapping is expected"),
        (FILE, "a: &x b", "anchors and aliases are not supported"),
        (FILE, "a: [", "line"),
    ],
)
def test_a_fault_is_one_line_with_file_line_and_key(old: str, new: str, part: str) -> None:
    """Whatever is wrong, a person is told where."""
    with pytest.raises(InputError) as caught:
        parse_fleet_file(FILE.replace(old, new, 1), "fleet.yaml")
    assert part in str(caught.value)
    assert "fleet.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_budgets_order_and_priority_are_part_of_a_policy() -> None:
    """As `towpath deploy` has them; what an assignment says itself wins."""
    text = (
        "environments: {dev: }\n"
        "policies: {careful: {budgets: {rack: 1, zone: 20%}, order: 'label:rack', priority: 3}}\n"
        "assignments:\n"
        "  - {app: a, version: '1', environment: dev, all_hosts: true, policy: careful}\n"
        "  - {app: b, version: '1', environment: dev, all_hosts: true, policy: careful, budgets: {rack: 2}}\n"
        "  - {app: c, version: '1', environment: dev, all_hosts: true}\n"
    )
    a, b, c = parse_fleet_file(text, "f").orders
    assert [one.text for one in a.budgets] == ["rack=1", "zone=20%"]
    assert (a.order_label, a.priority) == ("rack", 3)
    assert [one.text for one in b.budgets] == ["rack=2"]
    assert (c.budgets, c.order_label, c.priority) == ((), "", 0)


def test_the_same_rule_twice_is_a_fault_and_more_faults_are_counted() -> None:
    """Two deploys of one rule would supersede one another at every apply."""
    rule = "  - {app: a, version: '1', environment: dev, all_hosts: true}\n"
    with pytest.raises(InputError, match="the same app, environment and select stand in line 3 already"):
        parse_fleet_file(f"environments: {{dev: }}\nassignments:\n{rule}{rule}", "f")
    with pytest.raises(InputError, match=r"unknown key 'a'; .* \(and 1 more\)"):
        parse_fleet_file("environments: {}\na: 1\nb: 2\n", "f")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Not there, no text."""
    with pytest.raises(InputError, match="cannot read the fleet file .*: No such file"):
        load_fleet_file(tmp_path / "none.yaml")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        load_fleet_file(tmp_path / "bytes")


def walk(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(schema["$defs"][name]["properties"])


def test_the_schema_in_the_docs_is_the_parsers() -> None:
    """The file is what `towpath apply --schema` prints; its keys are those that the parser knows, and no others."""
    text = (Path(__file__).parents[3] / "docs" / "fleet.schema.json").read_text()
    assert text.rstrip("\n") == schema_json()
    schema = json.loads(text)
    assert schema["additionalProperties"] is False
    for key in schema["properties"]:
        assert f"unknown key '{key}'" not in refused(f"{key}: [x]")
    for key in walk(schema, "AssignmentSection"):
        assert f"unknown key '{key}'" not in refused(f"environments: {{}}\nassignments: [{{{key}: []}}]")
    for key in walk(schema, "LimitsSection"):
        assert f"unknown key '{key}'" not in refused(f"environments: {{}}\npolicies: {{p: {{{key}: {{x: y}}}}}}")
    assert set(schema["$defs"]["AssignmentSection"]["required"]) == {"app", "version", "environment"}
    for key in schema["$defs"]["AssignmentSection"]["required"]:
        assert f"key '{key}' is missing" in all_of("environments: {}\nassignments: [{x: y}]")


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_fleet_file(text, "f")
    return str(caught.value)


def all_of(text: str) -> str:
    from pydantic import ValidationError

    from towpath_cli.fleetmodels import FleetSection
    from towpath_cli.releasefile import in_order
    from towpath_cli.yamlfile import parse_yaml

    document = parse_yaml(text, "f")
    with pytest.raises(ValidationError) as caught:
        FleetSection.model_validate(document.data)
    return "\n".join(in_order(document, caught.value.errors(include_url=False)))


def rollout(**fields: Any) -> Rollout:
    row = {
        "assignment": "a1",
        "app": "hello",
        "version": "2.0.0",
        "environment": "dev",
        "state": "done",
        "reason": "",
        "hosts": (),
        "waves": (WaveProgress(0, "100%:5m", "passed", "", 0, {}),),
        "generation": 1,
        "on_breach": "halt",
        "newcomers": "join",
        "progress_deadline_ms": 600_000,
    }
    return Rollout(**{**row, **fields})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.SAME),
        ({"state": "rolling"}, Kind.SAME),
        ({"state": "reverted"}, Kind.STOPPED),
        ({"state": "cancelled"}, Kind.STOPPED),
        ({"state": "halted"}, Kind.STOPPED),
        ({"state": "superseded"}, Kind.ADD),
        ({"selector": {"role": "web"}}, Kind.ADD),
        ({"version": "1.0.0", "state": "halted"}, Kind.CHANGE),
        ({"progress_deadline_ms": 1_000}, Kind.CHANGE),
        ({"max_failures": 1}, Kind.CHANGE),
    ],
)
def test_a_rule_is_compared_by_what_it_asks_and_a_stopped_one_is_no_difference(
    fields: dict[str, Any], kind: Kind
) -> None:
    """New, changed, the same, or stopped: only the first two are done."""
    text = "environments: {dev: }\nassignments:\n  - {app: hello, version: 2.0.0, environment: dev, all_hosts: true, soak: 5m}\n"
    act = compare(parse_fleet_file(text, "f"), [rollout(**fields)], prune=False)[0]
    assert act.change.kind is kind
    assert (act.step is not None) is kind.differs
    assert bool(lines([act.change])) is (kind is not Kind.SAME)


def test_the_newest_of_a_rule_counts_and_others_environments_are_never_pruned() -> None:
    """What stands in an environment that the file does not name is not its business."""
    file = parse_fleet_file("environments: {dev: }\n", "f")
    there = [rollout(), rollout(app="other", environment="production"), rollout(app="gone", state="reverted")]
    assert [act.change.kind for act in compare(file, there, prune=True)] == [Kind.REMOVE]
    assert [act.change.kind for act in compare(file, there, prune=False)] == [Kind.LEFT]


TAKEN_BACK = ("reverting", "reverted", "cancelled")


def applied(version: str, *there: Rollout) -> tuple[Kind, str]:
    rule = f"{{app: hello, version: {version}, environment: dev, all_hosts: true, soak: 5m}}"
    text = f"environments: {{dev: }}\nassignments:\n  - {rule}\n"
    (act,) = compare(parse_fleet_file(text, "f"), there, prune=True)
    return act.change.kind, str(act.change.was.get("version", ""))


@pytest.mark.parametrize("state", TAKEN_BACK)
def test_what_counts_again_is_in_place_where_the_newer_one_was_taken_back(state: str) -> None:
    """The server answers that nothing changed; what was taken back is not tried again where the file still names it."""
    before, failed = rollout(version="1.0.0"), rollout(version="1.1.0", generation=2, state=state)
    assert applied("1.0.0", failed, before) == (Kind.SAME, "")
    assert applied("1.1.0", failed, before) == (Kind.STOPPED, "")
    assert applied("1.2.0", failed, before) == (Kind.CHANGE, "1.1.0")
    assert applied("1.0.0", failed, replace(before, max_failures=1))[0] is Kind.CHANGE
    assert applied("1.0.0", failed, replace(before, state="halted")) == (Kind.STOPPED, "")
    assert applied("1.0.0", failed, replace(before, state="superseded")) == (Kind.CHANGE, "1.1.0")
    again = replace(failed, version="1.0.0")
    assert applied("1.0.0", again, before) == (Kind.STOPPED, ""), "as the newer one was, and that one was taken back"


@pytest.mark.parametrize("state", TAKEN_BACK)
def test_what_counts_again_is_pruned_where_its_rule_left_the_file(state: str) -> None:
    """It runs on hosts, though the newest of its rule does not."""
    there = [rollout(version="1.0.0"), rollout(version="1.1.0", generation=2, state=state)]
    (act,) = compare(parse_fleet_file("environments: {dev: }\n", "f"), there, prune=True)
    assert (act.change.kind, act.change.was) == (Kind.REMOVE, {"version": "1.0.0"})
