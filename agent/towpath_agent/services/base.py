"""What a service promises: it runs one release of an app, and knows what runs.

A service outlives the agent; a new driver object after a restart finds what the old one started. A crash of the agent
between any two instructions leaves what is found again: never two copies, never one that is lost.
"""

from typing import Protocol

from towpath_agent.instance import Instance, ServiceState, app_environment

__all__ = ["Instance", "Service", "ServiceState", "app_environment"]

STOPPED = ServiceState(running=False, pid=0, restarts=0, rss_bytes=0)


class Service(Protocol):
    """Runs apps. Every call may be repeated."""

    def start(self, instance: Instance) -> bool:
        """Start the unit and return True; False where exactly this runs already (it is adopted).

        ServiceError where another release of the app runs, StartError where the program cannot be started.
        """
        ...

    def stop(self, instance: Instance) -> None:
        """End whatever runs of the app, whichever release it is, strays included; nothing there is fine."""
        ...

    def drift(self, instance: Instance) -> str:
        """Return what of the unit of a release that was started is not as it was installed; "" where all is.

        Whether it runs is not asked here. `start` puts right what is named.
        """
        ...

    def state(self, instance: Instance) -> ServiceState:
        """Return what runs of exactly this release with exactly this command and environment."""
        ...
