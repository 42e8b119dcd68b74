"""Calls of the host's package and image tools: one at a time, with a deadline, in English, and never with a question.

Rules: a tool runs in a session of its own, so that at its deadline it is ended with all of its scripts, and so that it
survives the agent. Its processes carry `TOWPATH_INSTALL`, by which a later agent knows its own orphans: those are
waited for as long as they might have taken, then ended. Anybody else who holds the package database is waited for, and
then named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Broken, InputError
from towpath.index import Entry
from towpath_agent.errors import PackageError, PackageLocked, StartError
from towpath_agent.installers.base import InstallPlan
from towpath_agent.installers.tree import is_file
from towpath_agent.instance import SEARCH_PATH
from towpath_agent.system import process as processes
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files
from towpath_agent.system.process import HookResult, find_program, run_hook

INSTALL_VARIABLE = "TOWPATH_INSTALL"
LOCK_TIMEOUT_S = 120.0
QUERY_TIMEOUT_S = 60.0
TIMEOUT_S = 600.0
OUTPUT_BYTES = 2**16
_LOCK_POLL_S = 0.2
_MS_PER_S = 1000
_SHOWN_CHARACTERS = 700
_ENVIRONMENT: Mapping[str, str] = {
    "PATH": SEARCH_PATH,
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to do: how long the tool may take, and by which word its processes are found again after a crash."""

    what: str
    timeout_s: float
    marker: str


def call_of(plan: InstallPlan, verb: str) -> Call:
    """Return the call by which a tool shall `verb` the release; option `timeout` is its deadline."""
    timeout = plan.release.install.options.get("timeout")
    timeout_s = timeout / _MS_PER_S if isinstance(timeout, int) and timeout > 0 else TIMEOUT_S
    return Call(f"{verb} {plan.app} {plan.release.version}", timeout_s, str(plan.app_dir))


def require_whole(files: Files, path: Path, entry: Entry, plan: InstallPlan) -> None:
    """Compare the package with its digest at the last moment: it is handed to a tool that runs as root."""
    if not is_file(files, path, mode=entry.mode, size=entry.size, sha256=entry.sha256):
        raise Broken(
            f"cannot install {plan.app} {plan.release.version}: its package is not what was signed; deploy it again",
            code="damaged",
        )


def require(kind: str, program: str) -> None:
    """InputError (code "no-tool") where the host does not have `program`."""
    try:
        find_program(program, folder=Path("/"), search_path=SEARCH_PATH)
    except StartError as error:
        name = Path(program).name
        raise InputError(
            f"cannot install kind {kind!r} here: there is no {name} on this host; install it first", code="no-tool"
        ) from error


def ask(argv: Sequence[str], clock: Clock, *, limit: int = OUTPUT_BYTES) -> HookResult:
    """Run a tool that changes nothing; of its output the last `limit` bytes are kept."""
    return run_hook(argv, cwd=Path("/"), env=_ENVIRONMENT, timeout_s=QUERY_TIMEOUT_S, clock=clock, log_limit=limit)


def act(argv: Sequence[str], clock: Clock, call: Call) -> HookResult:
    """Run a tool that changes the host, to its end or its deadline."""
    environment = {**_ENVIRONMENT, INSTALL_VARIABLE: call.marker}
    return run_hook(argv, cwd=Path("/"), env=environment, timeout_s=call.timeout_s, clock=clock, log_limit=OUTPUT_BYTES)


def failure(call: Call, result: HookResult) -> PackageError:
    """Return the error for a call that did not end well, with the last of what was said."""
    why = f"it did not end within {call.timeout_s:g}s" if result.timed_out else f"status {result.status}"
    return PackageError(f"cannot {call.what}: {why}: {shown(result.output)}".removesuffix(": "))


def shown(output: str) -> str:
    """Return the last of an output on one line."""
    return " ".join(output.split())[-_SHOWN_CHARACTERS:]


class Turn:
    """Waiting until nobody else holds the package database."""

    def __init__(self, call: Call, clock: Clock, lock_timeout_s: float) -> None:
        """Wait for strangers `lock_timeout_s`, and for an orphan of ours as long as `call` itself may take."""
        self._call, self._clock = call, clock
        self._strangers = Deadline(clock, lock_timeout_s)
        self._orphans = Deadline(clock, call.timeout_s)

    def wait(self, pid: int) -> None:
        """Wait a moment for `pid` (0: unknown); PackageLocked where that has been too long."""
        if pid and processes.environment(pid).get(INSTALL_VARIABLE) == self._call.marker:
            if self._orphans.expired:
                for process in processes.find_by_env(INSTALL_VARIABLE, self._call.marker):
                    if process.pid == pid:
                        processes.stop(process, 0.0, self._clock)
        elif self._strangers.expired:
            words = " ".join(processes.command_line(pid)[:3])[:80] if pid else ""
            who = f"process {pid} ({words or 'unknown'})" if pid else "another process"
            raise PackageLocked(
                f"cannot {self._call.what}: the package database is held by {who}; it will be tried again"
            )
        self._clock.wait(None, _LOCK_POLL_S)
