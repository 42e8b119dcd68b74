"""Which assignment covers a host, which one it runs, and when a deploy changes anything."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError
from towpath.waves import Wave
from towpath_server.domain.assignment import (
    MAX_PROGRESS_DEADLINE_MS,
    MIN_PROGRESS_DEADLINE_MS,
    check_limits,
    check_reach,
    check_request,
    matches,
    owner,
    resolve,
    same_rule,
    unchanged,
)
from towpath_server.domain.model import (
    DEFAULT_PROGRESS_DEADLINE_MS,
    Assignment,
    Host,
    HostStatus,
    OnBreach,
    RolloutState,
)

HOST = Host("id1", "web-1", "production", "a1", b"k", b"pem", 0, 0, labels={"role": "web", "zone": "a"})


def rule(generation: int, **fields: Any) -> Assignment:
    known = {
        "id": f"as{generation}",
        "app": "hello",
        "version": f"1.{generation}",
        "release_sha256": b"r",
        "environment": "production",
        "selector": {"role": "web"},
        "max_unavailable": 1,
        "max_failures": 0,
        "progress_deadline_ms": 600_000,
        "created_unix_ms": 0,
        "created_by": "ann",
    }
    return Assignment(generation=generation, **known | fields)


@pytest.mark.parametrize(
    ("fields", "host", "expected"),
    [
        ({}, HOST, True),
        ({"selector": {}}, HOST, True),
        ({"selector": {"role": "web", "zone": "b"}}, HOST, False),
        ({"selector": {"rack": "1"}}, HOST, False),
        ({"environment": "staging"}, HOST, False),
        ({}, replace(HOST, status=HostStatus.REVOKED), False),
    ],
)
def test_a_rule_covers_active_hosts_of_its_environment_with_all_its_labels(
    fields: dict[str, Any], host: Host, expected: bool
) -> None:
    """Environment, status and every label of the selector have to fit."""
    assert matches(rule(1, **fields), host) is expected


def test_the_newest_active_rule_that_covers_the_host_owns_it() -> None:
    """Halted rules own their hosts still; superseded and removed ones, and those that do not match, own nobody."""
    rules = [
        rule(2, state=RolloutState.HALTED),
        rule(1),
        rule(3, state=RolloutState.SUPERSEDED),
        rule(4, state=RolloutState.REMOVED),
        rule(5, environment="staging"),
    ]
    assert owner(rules, HOST) == rules[0]
    assert owner(rules[2:], HOST) is None


def test_a_host_runs_the_newest_rule_that_let_it_in() -> None:
    """A newer rule that did not admit the host, halted or not, leaves it on the older one, superseded or not."""
    first, second = rule(1, state=RolloutState.SUPERSEDED), rule(2, state=RolloutState.HALTED)
    other = rule(3, app="other")
    rules = [second, first, other]
    assert resolve(rules, {"as1", "as3"}, HOST) == {"hello": first, "other": other}
    assert resolve(rules, {"as1", "as2"}, HOST) == {"hello": second}
    assert resolve(reversed(rules), {"as1", "as2"}, HOST) == {"hello": second}
    assert resolve([replace(second, state=RolloutState.REMOVED), first], {"as1", "as2"}, HOST) == {"hello": first}
    assert resolve([first], {"as1"}, replace(HOST, labels={})) == {}


def test_only_an_active_assignment_of_exactly_this_rule_is_the_same_rule() -> None:
    """App, environment and the whole selector decide; history is never superseded again."""
    one = rule(1)
    assert same_rule(one, "hello", "production", {"role": "web"})
    assert not same_rule(one, "other", "production", {"role": "web"})
    assert not same_rule(one, "hello", "staging", {"role": "web"})
    assert not same_rule(one, "hello", "production", {"role": "web", "zone": "a"})
    assert not same_rule(replace(one, state=RolloutState.SUPERSEDED), "hello", "production", {"role": "web"})


def test_a_request_is_checked_before_anything_is_written() -> None:
    """No selector needs --all-hosts; deadlines are 1s to 7d, zero is the default; names have to be usable."""

    def check(selector: dict[str, str], deadline: int = 0, environment: str = "production", whole: bool = False) -> int:
        return check_request(
            environment=environment, selector=selector, whole_environment=whole, progress_deadline_ms=deadline
        )

    assert check({"role": "web"}) == DEFAULT_PROGRESS_DEADLINE_MS
    assert check({}, whole=True) == DEFAULT_PROGRESS_DEADLINE_MS
    for deadline in (MIN_PROGRESS_DEADLINE_MS, MAX_PROGRESS_DEADLINE_MS):
        assert check({"role": "web"}, deadline) == deadline
    for deadline in (-1, MIN_PROGRESS_DEADLINE_MS - 1, MAX_PROGRESS_DEADLINE_MS + 1):
        with pytest.raises(InputError, match="1s to 7d"):
            check({"role": "web"}, deadline)
    with pytest.raises(InputError, match="--all-hosts for every host of production"):
        check({})
    with pytest.raises(InputError, match="an environment"):
        check({"role": "web"}, environment="No Such")
    with pytest.raises(InputError, match="a label"):
        check({"no label": "x"})


def test_deploying_the_same_again_changes_nothing_unless_something_failed() -> None:
    """Same release, same limits, no failures, not halted: no new generation."""

    def same(one: Assignment, failed: int = 0, **fields: Any) -> bool:
        return unchanged(one, rule(9, **fields), failed=failed)

    assert same(rule(1))
    assert same(rule(1, state=RolloutState.DONE))
    assert same(rule(1), waves=(Wave("100%"),)), "no waves are one of all hosts"
    assert not same(rule(1, state=RolloutState.HALTED))
    assert not same(rule(1, state=RolloutState.PAUSED))
    assert not same(rule(1), failed=1)
    for fields in (
        {"release_sha256": b"other"},
        {"max_unavailable": 2},
        {"max_failures": 1},
        {"max_failure_share": 500},
        {"progress_deadline_ms": 1},
        {"on_breach": OnBreach.REVERT},
        {"waves": (Wave("1"), Wave("100%"))},
    ):
        assert not same(rule(1), **fields), fields


def test_what_is_taken_back_owns_only_who_it_let_in() -> None:
    """The others are its predecessor's again; a host on its way back stays with it until it has arrived."""
    before, bad = rule(1), rule(2, state=RolloutState.REVERTING)
    assert owner([bad, before], HOST) == before
    assert owner([bad, before], HOST, {"as2"}) == bad
    assert owner([rule(2, state=RolloutState.CANCELLED), before], HOST, {"as2"}) == rule(
        2, state=RolloutState.CANCELLED
    )
    assert same_rule(bad, "hello", "production", {"role": "web"}), "a new deploy supersedes it too"


def test_limits_that_could_never_hold_are_refused() -> None:
    """Counts beyond any fleet, a share that nothing exceeds, and a policy that does not exist."""
    fine = {"max_unavailable": 1, "max_failures": 0, "max_failure_share": 500, "on_breach": ""}
    assert check_limits(**fine) is OnBreach.HALT
    assert check_limits(**{**fine, "on_breach": "revert"}) is OnBreach.REVERT
    for fields, part in (
        ({"max_unavailable": 1_000_001}, "no fleet is that large"),
        ({"max_failures": 1_000_001}, "no fleet is that large"),
        ({"max_failure_share": 10_000}, "below 100%"),
        ({"max_failure_share": -1}, "above 0%"),
        ({"on_breach": "panic"}, "halt or revert"),
    ):
        with pytest.raises(InputError, match=part):
            check_limits(**{**fine, **fields})


def test_a_rule_that_reaches_nobody_is_refused_unless_hosts_are_to_come() -> None:
    """A selector or a wave that no host has is a typing mistake; more failures allowed than hosts is no limit."""
    labels = [{"role": "web", "wave": "canary"}, {"role": "web"}]
    fine = rule(1, waves=(Wave("canary"), Wave("100%")))
    check_reach(fine, labels, allow_empty=False)
    check_reach(fine, [], allow_empty=True)
    with pytest.raises(InputError, match="no host of production has role=web; .* --allow-empty"):
        check_reach(fine, [], allow_empty=False)
    with pytest.raises(InputError, match="no host is in production"):
        check_reach(rule(1, selector={}), [], allow_empty=False)
    with pytest.raises(InputError, match="by wave rack=a: none of its 2 hosts .* --label rack=a"):
        check_reach(rule(1, waves=(Wave("canary"), Wave("rack=a"), Wave("100%"))), labels, allow_empty=False)
    with pytest.raises(InputError, match="3 failures allowed: it has 2 hosts"):
        check_reach(rule(1, max_failures=3), labels, allow_empty=False)
    check_reach(rule(1, max_failures=2), labels, allow_empty=False)
