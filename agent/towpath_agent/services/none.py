"""Service `none`: nothing is to be run, so it always runs as it should."""

from towpath_agent.instance import Instance, ServiceState
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files


class NoneService:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Need nothing of what all services are given."""
        del files, clock

    def start(self, instance: Instance) -> bool:
        """Start nothing."""
        del instance
        return False

    def stop(self, instance: Instance) -> None:
        """Stop nothing."""

    def drift(self, instance: Instance) -> str:
        """Return nothing: there is no unit that could be changed."""
        del instance
        return ""

    def state(self, instance: Instance) -> ServiceState:
        """Return that all runs as it should."""
        del instance
        return ServiceState(running=True, pid=0, restarts=0, rss_bytes=0)
