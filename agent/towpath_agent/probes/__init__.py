"""Probes: single checks of a running release. A new kind is one file and one row here."""

from collections.abc import Callable, Mapping

from towpath_agent.probes.agent import AgentProbe
from towpath_agent.probes.base import Probe
from towpath_agent.probes.disk import DiskProbe
from towpath_agent.probes.exec import ExecProbe
from towpath_agent.probes.fresh import FreshProbe
from towpath_agent.probes.grpc import GrpcProbe
from towpath_agent.probes.http import HttpProbe
from towpath_agent.probes.log import LogProbe
from towpath_agent.probes.memory import MemoryProbe
from towpath_agent.probes.process import ProcessProbe
from towpath_agent.probes.prometheus import PrometheusProbe
from towpath_agent.probes.tcp import TcpProbe
from towpath_agent.probes.unit import UnitProbe
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files

PROBES: Mapping[str, Callable[[Files, Clock], Probe]] = {
    "http": HttpProbe,
    "tcp": TcpProbe,
    "grpc": GrpcProbe,
    "exec": ExecProbe,
    "process": ProcessProbe,
    "unit": UnitProbe,
    "log": LogProbe,
    "fresh": FreshProbe,
    "disk": DiskProbe,
    "memory": MemoryProbe,
    "prometheus": PrometheusProbe,
    "agent": AgentProbe,
}
