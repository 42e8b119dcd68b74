"""Probe `unit`: a systemd unit is active. Option: `unit`, with its type, such as `nginx.service`.

It may be any unit of the host, not only what the release runs as. A unit that is being started, stopped or waits for
its next restart is not active.
"""

from collections.abc import Mapping, Sequence

from towpath.errors import TowpathError
from towpath.parameters import Value
from towpath.probes import is_unit
from towpath_agent.instance import SEARCH_PATH
from towpath_agent.probes.base import ProbeContext, ProbeResult, result
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.systemctl import RUNNING, Systemctl, number, properties

_PROPERTIES = "LoadState,ActiveState,SubState,Result,NRestarts"


class UnitProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock, *, systemctl: Sequence[str] = ("systemctl",)) -> None:
        """Ask the manager by the command `systemctl`; no file is needed."""
        del files
        self._systemctl = Systemctl(clock, search_path=SEARCH_PATH, program=systemctl)

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Ask the manager once."""
        unit = str(options.get("unit", ""))
        if not is_unit(unit):
            return result(False, f"cannot look at {unit[:100]!r}: it is no unit; name it with its type")
        try:
            ended = self._systemctl.call("show", f"--property={_PROPERTIES}", unit, timeout_s=context.timeout_s)
        except TowpathError as error:
            return result(False, f"cannot look at unit {unit}: {error}")
        if ended.timed_out:
            return result(False, f"unit {unit}: systemctl timed out after {context.timeout_s:g} s")
        if not ended.ok:
            return result(False, f"unit {unit}: systemctl exited {ended.status}: {ended.output.strip()}")
        facts = properties(ended.output)
        if facts.get("LoadState") != "loaded":
            return result(False, f"unit {unit}: {facts.get('LoadState', 'unknown to systemd')}")
        state, sub = facts.get("ActiveState", ""), facts.get("SubState", "")
        why = f", result {facts['Result']}" if facts.get("Result", "success") not in ("", "success") else ""
        restarts = f", {number(facts['NRestarts'])} restarts" if facts.get("NRestarts") else ""
        return result(state in RUNNING, f"unit {unit}: {state} ({sub}){why}{restarts}")
