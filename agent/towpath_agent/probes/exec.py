"""Probe `exec`: a program of the release that ends with status 0. Option: `command`.

It runs as a hook does: in the release's folder, with the app's clean environment, in a process group that is killed at
the timeout.
"""

from collections.abc import Mapping

from towpath.parameters import Value
from towpath_agent.errors import StartError
from towpath_agent.instance import app_environment
from towpath_agent.probes.base import MAX_EVIDENCE_CHARS, ProbeContext, ProbeResult, result
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_program, run_hook

_KILL_GRACE_S = 0.5


class ExecProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Count timeouts on `clock`; no file is needed."""
        del files
        self._clock = clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Run the command once."""
        command = options.get("command", ())
        words = command if isinstance(command, tuple) else (str(command),)
        if not words:
            return result(False, "cannot run a probe without a command")
        environment = app_environment(context.instance)
        try:
            program = find_program(words[0], folder=context.instance.folder, search_path=environment["PATH"])
            ended = run_hook(
                [str(program), *words[1:]],
                cwd=context.instance.folder,
                env=environment,
                timeout_s=context.timeout_s,
                clock=self._clock,
                log_limit=MAX_EVIDENCE_CHARS,
                kill_grace_s=_KILL_GRACE_S,
            )
        except StartError as error:
            return result(False, str(error))
        how = f"timed out after {context.timeout_s:g} s" if ended.timed_out else f"exited {ended.status}"
        return result(ended.ok, f"{words[0]} {how}: {ended.output.strip()}")
