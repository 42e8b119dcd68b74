"""Probe `agent`: the agent itself has synced with its server and reported, since it began.

That is asked of an agent on its trial, and of the one that came back after a trial (so that a server that is away is
not taken for a bad release). Of any other it is not asked: that the server does not answer is no ill health.
"""

from collections.abc import Callable, Mapping

from towpath.parameters import Value
from towpath_agent.probes.base import ProbeContext, ProbeResult, result
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files


class AgentProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Know nothing of the agent yet: `missing` tells what it still has to show, empty where nothing."""
        del files, clock
        self.missing: Callable[[], str] = lambda: "this agent was not started as one that can be changed"

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Ask the agent once."""
        del options, context
        missing = self.missing()
        return result(not missing, missing or "it has synced and reported")
