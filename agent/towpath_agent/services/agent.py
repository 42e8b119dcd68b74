"""Service `agent`: the app is the agent itself, this very process.

Rules: what runs is what its launcher said, and nothing else can be found out about it. A start puts the release on
trial in launch.json and ends this agent; the next one goes on with the transaction. Before that the journal is copied:
the new agent may write it in its own way, and what comes back must be able to read it (`runner.recovery`). So what goes
back on its trial copies nothing: the copy from before it is the one that counts.
A stop of what runs does nothing: an agent ends only where another one is to follow (`engine.selfupdate.after_round`).
Not handled here: who starts what (`towpath_agent.launcher`), when that may be (`engine.selfupdate.waits`).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from towpath.errors import Broken
from towpath.selfupdate import AGENT_COMMAND
from towpath_agent.engine import selfupdate
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE, MAX_POINTER_BYTES, POINTER, Pointer
from towpath_agent.errors import ServiceError, StartError
from towpath_agent.instance import Instance, ServiceState
from towpath_agent.services.base import STOPPED
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files, temporary
from towpath_agent.system.launch import Launch
from towpath_agent.system.proc import rss_bytes
from towpath_agent.system.process import find_program

_JOURNAL = "state.db"


Leave = Callable[[], None]


def _nobody_to_tell() -> None:
    """Be the agent of a test, or none."""


class AgentService:
    """See the module."""

    def __init__(self, files: Files, clock: Clock, *, launch: Launch | None = None) -> None:
        """Know how this agent was started.

        `leave` is called where another one is to take over; `not_now` tells why none may, empty where one may. `why`
        tells what speaks against the release under way.
        """
        del clock
        self._files, self._launch = files, launch or Launch()
        self.leave: Leave = _nobody_to_tell
        self.not_now: Callable[[], str] = str
        self.why: Callable[[], str] = str

    def start(self, instance: Instance) -> bool:
        """Have `instance` take over; False where it is what runs."""
        folder = _folder(instance)
        if self._runs(instance):
            return False
        pointer = read_pointer(self._files, folder) or Pointer()
        if pointer.trying == instance.release_id and pointer.failed:
            error = StartError(f"cannot run {instance.release_id} as the agent: {pointer.failed}")
            error.evidence = pointer.output
            raise error
        if not self._launch.argv:
            raise StartError("cannot change the agent: its launcher did not start it; use: towpath-agent run")
        find_program(AGENT_COMMAND, folder=instance.folder, search_path="")
        if why := self.not_now():
            raise ServiceError(f"cannot change the agent now: {why}")
        release = instance.release_id
        if release != pointer.current:
            self._keep_journal(folder)
        left = selfupdate.begin(pointer, release, instance.health_deadline_ms, self.why())
        write_pointer(self._files, folder, left)
        self.leave()
        return True

    def stop(self, instance: Instance) -> None:
        """Take `instance` off its trial."""
        folder = _folder(instance)
        pointer = read_pointer(self._files, folder)
        if pointer is not None and not self._runs(instance):
            left = selfupdate.dropped(pointer, instance.release_id)
            if left != pointer:
                write_pointer(self._files, folder, left)

    def state(self, instance: Instance) -> ServiceState:
        """Return whether it is this process, and where it is not, why it was given up."""
        if self._runs(instance):
            return ServiceState(running=True, pid=os.getpid(), restarts=0, rss_bytes=rss_bytes(os.getpid()))
        pointer = read_pointer(self._files, _folder(instance))
        if pointer is not None and pointer.trying == instance.release_id and pointer.failed:
            return ServiceState(running=False, pid=0, restarts=0, rss_bytes=0, why=pointer.failed)
        return STOPPED

    def drift(self, instance: Instance) -> str:
        """Find nothing: an agent has no files beside its release."""
        del instance
        return ""

    def evidence(self, instance: Instance) -> str:
        """Return the last that it printed before it was given up."""
        pointer = read_pointer(self._files, _folder(instance))
        return pointer.output if pointer is not None and pointer.trying == instance.release_id else ""

    def pardon(self, folder: Path) -> str:
        """Forget that a release was given up, so that it may be put on trial again; return which, empty where none."""
        pointer = read_pointer(self._files, folder)
        if pointer is None or not pointer.failed:
            return ""
        write_pointer(self._files, folder, selfupdate.dropped(pointer, pointer.trying))
        return pointer.trying

    def _runs(self, instance: Instance) -> bool:
        return bool(self._launch.argv) and self._launch.release == instance.release_id

    def _keep_journal(self, folder: Path) -> None:
        """Copy the journal. Nothing is being committed: this is the thread that does."""
        files, temp = self._files, temporary(folder / JOURNAL_BEFORE)
        files.copy(folder / _JOURNAL, temp)
        files.sync_file(temp)
        files.rename(temp, folder / JOURNAL_BEFORE)


def read_pointer(files: Files, folder: Path) -> Pointer | None:
    """Return what launch.json in the agent's folder says; None where it is missing or garbled."""
    try:
        return selfupdate.from_bytes(files.read(folder / POINTER, MAX_POINTER_BYTES))
    except FileNotFoundError:
        return None


def write_pointer(files: Files, folder: Path, pointer: Pointer) -> None:
    """Make `pointer` what launch.json says, durable."""
    files.write_atomic(folder / POINTER, selfupdate.to_bytes(pointer))


def uncount(files: Files, launch: Launch) -> None:
    """Take back that this start counts against the release: what ends it, or who, is not in its files."""
    if not launch.release or launch.trial or not launch.folder:
        return
    with suppress(Broken):  # then it counts
        folder = Path(launch.folder)
        pointer = read_pointer(files, folder) or Pointer()
        left = selfupdate.uncounted(pointer, launch.release)
        if left != pointer:
            write_pointer(files, folder, left)


def forget_copy(files: Files, folder: Path) -> None:
    """Drop the copy of the journal: the agent that could need it is not on its way back any more."""
    if files.exists(folder / JOURNAL_BEFORE):
        files.remove(folder / JOURNAL_BEFORE)
        files.sync_dir(folder)


def _folder(instance: Instance) -> Path:
    """Return the agent's folder, of which the app has its own."""
    return instance.app_dir.parent.parent
