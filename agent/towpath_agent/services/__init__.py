"""Services: drivers that run a release. A new kind is one file and one row here."""

from collections.abc import Callable, Mapping

from towpath_agent.services.agent import AgentService
from towpath_agent.services.base import Service
from towpath_agent.services.none import NoneService
from towpath_agent.services.process import ProcessService
from towpath_agent.services.systemd import SystemdService
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files

SERVICES: Mapping[str, Callable[[Files, Clock], Service]] = {
    "systemd": SystemdService,
    "process": ProcessService,
    "none": NoneService,
    "agent": AgentService,
}
