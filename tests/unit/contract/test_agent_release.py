"""What a release of the agent may be, and that nothing else may be taken for one."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError
from towpath.parameters import Parameter
from towpath.release import Artifact, Hook, Install, Probe, Release, Run, check_release

AGENT = Release(
    "towpath-agent", "1.1.0", 1, Artifact(bytes(32), 1, 1), Install("tree"), Run("agent"), probes=(Probe("agent"),)
)
OTHER = replace(AGENT, app="hello", run=Run("none"), probes=())

REFUSED: dict[str, tuple[Release, str]] = {
    "the agent run otherwise": (replace(AGENT, run=Run("none"), probes=()), "it needs run kind 'agent'"),
    "another app as the agent": (replace(AGENT, app="hello"), "is for the agent itself, the app towpath-agent"),
    "another app with its probe": (
        replace(OTHER, probes=(Probe("agent"),)),
        "the probe 'agent' is of run kind 'agent'",
    ),
    "another installer": (replace(AGENT, install=Install("oci")), "needs install kind 'tree', without options"),
    "shared paths": (replace(AGENT, install=Install("tree", {"shared": ("data/",)})), "'tree', without options"),
    "no proof": (replace(AGENT, probes=()), "needs the probe 'agent': it must have reported to be kept"),
    "a command": (replace(AGENT, run=Run("agent", command=("a",))), "run kind 'agent' takes no command"),
    "env": (replace(AGENT, run=Run("agent", env={"A": "1"})), "an agent takes no env"),
    "hooks": (replace(AGENT, hooks=(Hook("prepare", ("a",)),)), "an agent takes no hooks"),
    "parameters": (replace(AGENT, parameters=(Parameter("port", "port", 1),)), "an agent takes no parameters"),
    "required apps": (replace(AGENT, requires_apps=("hello",)), "an agent takes no requires apps"),
    "a set": (replace(AGENT, together=("hello",), critical=("together-1",)), "an agent takes no together"),
}


def test_a_release_of_the_agent_is_an_ordinary_one() -> None:
    """App towpath-agent, tree, run kind and probe agent: that is all; other probes may stand beside."""
    assert check_release(AGENT) == AGENT
    more = replace(AGENT, probes=(Probe("agent"), Probe("disk", {"free": 1})))
    assert check_release(more) == more
    assert check_release(OTHER) == OTHER


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_agent_cannot_have_is_refused(name: str) -> None:
    """One line that says what; lint, server and host say the same."""
    release, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        check_release(release)


def test_no_probe_of_the_agent_has_options() -> None:
    """What proves an agent is the agent's to know."""
    probe: Any = Probe("agent", {"server": "x"})
    with pytest.raises(InputError, match="unknown option 'server'"):
        check_release(replace(AGENT, probes=(probe,)))
