"""The order of environments: what is declared, what may be changed, and what a rollout waits for before it begins."""

from dataclasses import replace

import pytest

from fakes.rows import NOW, OLD, reported, seen, view
from towpath.errors import InputError
from towpath.waves import parse_waves
from towpath_server.domain.environments import (
    DEFAULTS,
    MAX_ENVIRONMENTS,
    Stay,
    changed,
    declared,
    entry,
    named,
    unknown,
)
from towpath_server.domain.gates import counts
from towpath_server.domain.model import EnvironmentRule, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import standing

HOUR = 3_600_000
RULE = EnvironmentRule("production", "staging", 2 * HOUR)
DONE = RolloutState.DONE


def test_three_environments_are_there_and_others_join_where_they_are_put() -> None:
    """A row takes the place of the default of its name; what follows nothing comes after the others."""
    assert [one.name for one in declared([])] == ["dev", "staging", "production"]
    rows = [EnvironmentRule("lab"), EnvironmentRule("canary", "staging"), RULE]
    assert [one.name for one in declared(rows)] == ["dev", "staging", "production", "canary", "lab"]
    assert named(declared(rows), "production") == RULE
    assert named(declared(rows), "prod") is None
    assert "it is none of dev, staging, production; towpath environment set prod adds it" in unknown(DEFAULTS, "prod")


def test_a_slip_of_the_keyboard_is_no_new_environment() -> None:
    """The known one that was meant comes before the command that would add another."""
    said = unknown(DEFAULTS, "prodction")
    known = "it is none of dev, staging, production; did you mean 'production'? if it is a new one, "
    assert said == f"{known}towpath environment set prodction adds it"


def test_a_change_leaves_the_rest_as_it_was() -> None:
    """The order alone, the time alone, both, and back to none."""
    rules = declared([])
    assert changed(rules, "production", healthy_for_ms=HOUR) == EnvironmentRule("production", "staging", HOUR)
    assert changed(declared([RULE]), "production", after="dev") == EnvironmentRule("production", "dev", 2 * HOUR)
    assert changed(declared([RULE]), "production", healthy_for_ms=0) == EnvironmentRule("production", "staging")
    assert changed(rules, "staging", after="") == EnvironmentRule("staging")
    assert changed(rules, "lab") == EnvironmentRule("lab")


def test_a_change_that_cannot_be_is_one_line() -> None:
    """An unknown one before it, a circle, a time that nothing can be healthy for, a bad name, too many."""
    rules = declared([])
    for name, fields, part in (
        ("production", {"after": "stage"}, "cannot put production after stage: it is none of dev, staging, production"),
        ("dev", {"after": "production"}, "dev after production after staging after dev would be a circle"),
        ("dev", {"after": "dev"}, "dev after dev would be a circle"),
        ("dev", {"healthy_for_ms": HOUR}, "it follows no environment; give --after"),
        ("production", {"after": "", "healthy_for_ms": HOUR}, "it follows no environment"),
        ("production", {"healthy_for_ms": 31 * 24 * HOUR}, "the most is 30d"),
        ("No Such", {}, "as an environment"),
    ):
        with pytest.raises(InputError, match=part):
            changed(rules, name, **fields)  # type: ignore[arg-type]
    many = [EnvironmentRule(f"e{number}") for number in range(MAX_ENVIRONMENTS - 3)]
    with pytest.raises(InputError, match="there are 100, the most"):
        changed(declared(many), "another")
    assert changed(declared(many), "dev") == EnvironmentRule("dev")


@pytest.mark.parametrize(
    ("stays", "part"),
    [
        ((), "it does not run there"),
        ((Stay("1.0.0", RolloutState.ROLLING, 0, 3),), "1.0.0 is rolling there"),
        ((Stay("1.0.0", RolloutState.HALTED, 0, 3),), "1.0.0 is halted there"),
        ((Stay("1.0.0", DONE, NOW - 9 * HOUR, 3, "h1: silent"),), "h1: silent"),
        ((Stay("1.0.0", DONE, NOW - 9 * HOUR, 0),), "no host there is online and healthy"),
        ((Stay("1.0.0", DONE, NOW - HOUR, 3),), "60m left"),
        ((Stay("1.0.0", DONE, NOW - 9 * HOUR, 3), Stay("1.0.0", DONE, NOW - 2 * HOUR + 5_000, 3)), "5s left"),
    ],
)
def test_a_release_waits_until_it_was_healthy_in_the_environment_before(stays: tuple[Stay, ...], part: str) -> None:
    """Everywhere there and for long enough; the words say what is missing."""
    assert entry(RULE, stays, NOW) == f"it has to be healthy in staging for 2h first: {part}"


def test_what_was_healthy_for_long_enough_begins() -> None:
    """To the millisecond; and where nothing is required nothing is asked."""
    proven = (Stay("1.0.0", DONE, NOW - 2 * HOUR, 1),)
    assert entry(RULE, proven, NOW) == ""
    assert entry(RULE, proven, NOW - 1)
    assert entry(EnvironmentRule("production", "staging"), (), NOW) == ""
    assert entry(EnvironmentRule("dev", "", HOUR), (), NOW) == ""


def test_nobody_moves_while_the_order_keeps_a_rollout_waiting() -> None:
    """No host is admitted, no wave is open, and the reason is the order's; then it goes on as any other."""
    hosts = [seen(f"h{n}", OLD, admitted=False) for n in range(3)]
    picture = view(*hosts, seen("h9", reported(), admitted=False), waves=parse_waves("1,100%"), max_unavailable=4)
    kept = replace(picture, entry="it has to be healthy in staging first")
    decision = decide(kept, NOW)
    assert (decision.state, decision.admit, decision.wave) == (RolloutState.ROLLING, (), 0)
    assert decision.reason.startswith("wave 1 of 2 (1) it has to be healthy in staging first")
    standings = [(host, standing(kept, host, NOW)) for host in kept.hosts]
    waves, _ = counts(kept, standings, NOW)
    assert [(wave.state, wave.waits) for wave in waves] == [("closed", kept.entry), ("closed", "")]
    assert decide(picture, NOW).admit
