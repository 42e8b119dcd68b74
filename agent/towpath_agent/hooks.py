"""Hooks: a publisher's scripts at fixed points of a transaction.

Rules: a hook runs in its release's folder with the app's clean environment and TOWPATH_HOOK, in a process group of
its own, to its deadline at most; it cannot hang the agent by what it leaves behind (`system.hook`). A program of the
release is named relative to its folder and must lie inside it.
Not handled here: which hook runs when, and what a failed one means (runner).
"""

from collections.abc import Mapping

from towpath.parameters import Value, render
from towpath.release import Hook
from towpath_agent.errors import StartError
from towpath_agent.instance import Instance, app_environment
from towpath_agent.system.clock import Clock
from towpath_agent.system.process import HookResult, find_program, run_hook

_MS_PER_S = 1000


class HookRunner:
    """Runs hooks, one at a time."""

    def __init__(self, clock: Clock) -> None:
        """Count deadlines on `clock`."""
        self._clock = clock

    def run(self, hook: Hook, instance: Instance, parameters: Mapping[str, Value]) -> HookResult:
        """Run `hook` with its `${parameters}` filled; StartError names hook and file where it cannot be started."""
        argv = [render(word, parameters) for word in hook.command]
        environment = {**app_environment(instance), "TOWPATH_HOOK": hook.point}
        try:
            program = find_program(argv[0], folder=instance.folder, search_path=environment["PATH"])
            return run_hook(
                [str(program), *argv[1:]],
                cwd=instance.folder,
                env=environment,
                timeout_s=hook.timeout_ms / _MS_PER_S,
                clock=self._clock,
                name=instance.app,
            )
        except StartError as error:
            raise StartError(f"cannot run hook {hook.point}: {error}", code="hook-not-runnable") from error
