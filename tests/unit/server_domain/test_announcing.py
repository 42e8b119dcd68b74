"""Which releases a host may fetch before it is let in: of its own rollout, while that goes on, and nothing that it could not run."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.rows import OLD_DIGEST, assignment, host
from towpath.manifest import MAX_APPS
from towpath_server.domain.announcing import announced, announces
from towpath_server.domain.model import Assignment, Host, RolloutState

OLD = assignment(1, release_sha256=OLD_DIGEST, state=RolloutState.SUPERSEDED)
NEW = assignment(2, prefetch=True)


def ahead(*rules: Assignment, one: Host | None = None, bound: tuple[str, ...] = ("a1",), **runs: Any) -> list[str]:
    found = announced(rules, one or host(), bound=bound, runs=runs or {"hello": OLD})
    assert all(app == rule.app for app, rule in found.items())
    return [rule.id for rule in found.values()]


def test_a_host_that_was_not_let_in_may_fetch_what_its_rollout_announces() -> None:
    """Whatever it waits for; a rollout that does not say so announces nothing."""
    assert ahead(NEW, OLD) == ["a2"]
    assert ahead(replace(NEW, prefetch=False), OLD) == []


@pytest.mark.parametrize("state", list(RolloutState))
def test_only_a_rollout_that_goes_on_announces(state: RolloutState) -> None:
    """Paused as well, so that a pause does not cost the bytes; done, for those that are barred still."""
    going_on = state in (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE)
    assert announces(replace(NEW, state=state)) is going_on
    assert ahead(replace(NEW, state=state), OLD) == (["a2"] if going_on else [])


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ((NEW, OLD), {"bound": ("a1", "a2")}),
        ((replace(NEW, selector={"role": "db"}), OLD), {}),
        ((replace(NEW, environment="staging"), OLD), {}),
        ((NEW, OLD), {"hello": replace(OLD, release_sha256=NEW.release_sha256)}),
        ((replace(NEW, state=RolloutState.DONE, roster=("id-h2",)), OLD), {}),
        ((assignment(3), NEW, OLD), {}),
        ((assignment(3, state=RolloutState.REVERTING), NEW, OLD), {"bound": ("a1", "a3")}),
    ],
    ids=["let in", "other labels", "other environment", "runs it", "newcomer", "newer rule", "on its way back"],
)
def test_who_is_let_in_left_out_or_another_rules_gets_nothing(
    rules: tuple[Assignment, ...], fields: dict[str, Any]
) -> None:
    """The bytes of what a host will not be told to run are nobody's."""
    assert ahead(*rules, **fields) == []


def test_a_host_on_the_roster_and_one_without_the_app_get_it_too() -> None:
    """Who was away when the rollout was done; a first install."""
    assert ahead(replace(NEW, state=RolloutState.DONE, roster=("id-h1",)), OLD) == ["a2"]
    assert ahead(NEW, bound=(), other=OLD) == ["a2"]


def test_never_more_apps_than_a_manifest_takes() -> None:
    """What is announced is no reason for a host to refuse its manifest."""
    rules = [assignment(n, app=f"app-{n:03}", prefetch=True) for n in range(1, MAX_APPS + 3)]
    assert len(ahead(*rules, bound=())) == MAX_APPS
