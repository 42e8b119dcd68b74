"""Probes: single checks of a running release. A new kind is one file and one row here."""

from collections.abc import Callable, Mapping

from towpath_agent.probes.base import Probe
from towpath_agent.probes.exec import ExecProbe
from towpath_agent.probes.http import HttpProbe
from towpath_agent.probes.process import ProcessProbe
from towpath_agent.probes.tcp import TcpProbe
from towpath_agent.system.clock import Clock

PROBES: Mapping[str, Callable[[Clock], Probe]] = {
    "http": HttpProbe,
    "tcp": TcpProbe,
    "exec": ExecProbe,
    "process": ProcessProbe,
}
