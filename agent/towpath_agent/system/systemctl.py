"""Calls of systemctl: for the service that runs units and for the probe that looks at them.

Every call has a deadline, a clean environment and plain output. What a property means is the caller's.
Not handled here: user managers, D-Bus (no dependency is worth what one program on every systemd host does).
"""

from collections.abc import Sequence
from pathlib import Path

from towpath_agent.system.clock import Clock
from towpath_agent.system.hook import HookResult, run_hook

# A unit in these states runs; `reloading` does so while it reads its settings anew.
RUNNING = frozenset({"active", "reloading"})
_KILL_GRACE_S = 0.5


class Systemctl:
    """The manager, by its command."""

    def __init__(self, clock: Clock, *, search_path: str, program: Sequence[str] = ("systemctl",)) -> None:
        """Run `program`, found in `search_path`; count timeouts on `clock`."""
        self._clock = clock
        self._program = tuple(program)
        self._env = {"PATH": search_path, "LANG": "C.UTF-8"}

    def call(self, *words: str, timeout_s: float) -> HookResult:
        """Run one command; StartError where there is no systemctl."""
        return run_hook(
            [*self._program, "--no-pager", *words],
            cwd=Path("/"),
            env=self._env,
            timeout_s=timeout_s,
            clock=self._clock,
            kill_grace_s=_KILL_GRACE_S,
        )


def properties(output: str) -> dict[str, str]:
    """Return what `show --property=...` printed, by name."""
    return {name: value for name, _, value in (line.partition("=") for line in output.splitlines())}


def number(text: str | None) -> int:
    """Return a property's number; `[not set]` and the like are 0."""
    return int(text) if text is not None and text.isdecimal() and int(text) < 2**63 else 0
