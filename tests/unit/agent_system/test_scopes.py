"""Control groups of apps: when there are any, and what systemd is asked. On a real systemd: tests/rig."""

import os

import pytest

from towpath_agent.system import scopes


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/towpath-agent.service\n", "towpath-agent.service"),
        ("3:cpu:/\n1:name=systemd:/system.slice/towpath-agent.service\n0::/\n", "towpath-agent.service"),
        ("0::/machine/h1/payload/system.slice/towpath-agent@blue.service\n", "towpath-agent@blue.service"),
        ("0::/system.slice/actions-runner.service\n", ""),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("0::/system.slice/towpath-agent.service/sub\n", ""),
        ("4:memory:/system.slice/towpath-agent.service\n0::/\n", ""),
        ("", ""),
    ],
)
def test_an_agent_is_a_unit_where_systemd_started_it_as_one(groups: str, unit: str) -> None:
    """By systemd's own hierarchy, old or new; other units, sessions and groups inside a unit are none."""
    assert scopes.own_unit(groups) == unit


def test_systemd_is_asked_for_one_scope_with_all_processes() -> None:
    """Counts fit what follows them, the scope is in the apps' slice and ends after the agent."""
    words = scopes.scope_arguments("x.scope", [12, 13], unit="towpath-agent.service", name="web")
    assert words == [
        "ssa(sv)a(sa(sv))", "x.scope", "fail", "6",
        "PIDs", "au", "2", "12", "13",
        "Slice", "s", "towpath-apps.slice",
        "Description", "s", "Towpath app web",
        "Before", "as", "1", "towpath-agent.service",
        "CollectMode", "s", "inactive-or-failed",
        "TimeoutStopUSec", "t", "30000000",
        "0",
    ]  # fmt: skip


def test_outside_a_unit_nothing_is_moved() -> None:
    """In a terminal, a container, a test: processes stay where they are, and nobody is asked."""
    assert scopes.own_unit() == ""
    assert not scopes.set_apart([os.getpid()], "web")
    assert scopes.set_apart_what_stayed("PATH") == 0
