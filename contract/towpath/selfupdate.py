"""A release of the agent itself: the app `towpath-agent`, run by the kind `agent`.

Its tree is the agent's whole environment, the same as in its package (ADR 30). There is one such app, because a host
has one agent, whose launcher knows where to look: `apps/towpath-agent/releases/ID/bin/towpath-agent`. That release is
the agent itself, so it is not told anything (no command, no parameters, no hooks), and it moves alone.
Not handled here: which version runs (the agent's `engine.selfupdate`, and its launcher).
"""

from typing import TYPE_CHECKING

from towpath.errors import InputError

if TYPE_CHECKING:
    from towpath.release import Release

AGENT_APP = "towpath-agent"
AGENT_KIND = "agent"
# What a tree must have, as an executable: it is called as the package's own command is, `run --dir DIR` for one.
AGENT_COMMAND = "bin/towpath-agent"


def check_agent(where: str, release: "Release") -> None:
    """Raise InputError where a release of the agent asks for what it cannot have; `where` begins the message."""
    probes = [probe.kind for probe in release.probes]
    if release.run.kind != AGENT_KIND:
        if release.app == AGENT_APP:
            raise InputError(f"cannot use {where}: the app {AGENT_APP} is the agent itself; it needs run kind 'agent'")
        if AGENT_KIND in probes:
            raise InputError(f"cannot use {where}: the probe 'agent' is of run kind 'agent' alone")
        return
    if release.app != AGENT_APP:
        raise InputError(f"cannot use {where}: run kind 'agent' is for the agent itself, the app {AGENT_APP}")
    if release.install.kind != "tree" or release.install.options:
        raise InputError(f"cannot use {where}: an agent needs install kind 'tree', without options")
    if AGENT_KIND not in probes:
        raise InputError(f"cannot use {where}: an agent needs the probe 'agent': it must have reported to be kept")
    for what, there in (
        ("env", release.run.env),
        ("hooks", release.hooks),
        ("parameters", release.parameters),
        ("requires apps", release.requires_apps),
        ("together", release.together),
    ):
        if there:
            raise InputError(f"cannot use {where}: an agent takes no {what}")
