"""Service `process`: the app is a child that outlives the agent and is found again.

Rules: the record (`service.json`: process, release, fingerprint, boot) is durable before the program's first
instruction runs, because it waits for that at a gate (`system.process`). A record that is lost or garbled is rebuilt
from the markers in the environment of what runs, so a running app is never touched for it. Before anything is
started, what is left of an earlier run of the app is ended. Programs must stay in the foreground.
Copies in the two slots of an app (a handover) have a record each and TOWPATH_SLOT in their environment, and do not see
one another. A copy without a slot never runs beside one with a slot: it may hold what there is only one of.
The log is bounded: at a start it is renamed when it is long, and while the app runs the disk space of its old part is
given back (`forget_head`), which neither loses a line nor needs the app's help, as copying and a pipe would.
Not handled here: starting again an app that ended (runner), resource limits, log files that the app itself opens.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from towpath.handover import SLOTS
from towpath_agent.errors import DiskError, ServiceError
from towpath_agent.instance import APP_DIR_VARIABLE, SLOT_VARIABLE, Instance, ServiceState, app_environment
from towpath_agent.services.base import STOPPED
from towpath_agent.system import process as processes
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import ProcessId

RUN_VARIABLE = "TOWPATH_RUN"
_MAX_RECORD_BYTES = 2**16
_MAX_LOG_BYTES = 16 * 2**20
_KEPT_LOG_BYTES = 8 * 2**20
# One that forks while it is being stopped leaves a child that only the next look finds.
_MAX_SWEEPS = 20
_LOG_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class _Record:
    """What was started last. `process.created` counts from boot, so it means nothing under another `boot_id`."""

    process: ProcessId
    release_id: str
    fingerprint: str
    boot_id: str
    starts: int


class ProcessService:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Keep records with `files`, wait for ends by `clock`."""
        self._files = files
        self._clock = clock

    def start(self, instance: Instance) -> bool:
        """Start the command, or adopt the one that runs."""
        fingerprint = _fingerprint(instance)
        for slot, record in self._running(instance, _rivals(instance)).items():
            if (slot, record.release_id, record.fingerprint) == (instance.slot, instance.release_id, fingerprint):
                return False
            raise ServiceError(
                f"cannot start {instance.app} {instance.release_id}: {record.release_id} still runs as process "
                f"{record.process.pid}; stop it first"
            )
        self._end_strays(instance)
        fresh = _Record(ProcessId(0, 0.0), instance.release_id, fingerprint, processes.boot_id(), starts=1)
        before = self._read(instance, instance.slot)
        if before is not None and replace(before, process=fresh.process, starts=1) == fresh:
            fresh = replace(fresh, starts=before.starts + 1)
        self._prepare_log(instance)
        marker = f"{fingerprint}-{secrets.token_hex(8)}"
        processes.spawn(
            instance.command,
            cwd=instance.folder,
            env={**app_environment(instance), RUN_VARIABLE: marker},
            log=instance.log,
            recorded=lambda process: self._write(instance, instance.slot, replace(fresh, process=process)),
            name=instance.app,
        )
        return True

    def stop(self, instance: Instance) -> None:
        """End the app: TERM, after the release's `stop_timeout` KILL."""
        for record in self._running(instance, _rivals(instance)).values():
            processes.stop(record.process, instance.run.stop_timeout_ms / 1000, self._clock)
        self._end_strays(instance)
        records = [path for slot in _rivals(instance) if self._files.exists(path := _path(instance, slot))]
        for path in records:
            self._files.remove(path)
        if records:
            self._files.sync_dir(instance.app_dir)

    def state(self, instance: Instance) -> ServiceState:
        """Return whether this very release runs."""
        self._trim_log(instance)
        record = self._running(instance, [instance.slot]).get(instance.slot)
        wanted = (instance.release_id, _fingerprint(instance))
        if record is None or (record.release_id, record.fingerprint) != wanted:
            known = self._read(instance, instance.slot)
            restarts = known.starts - 1 if known is not None and (known.release_id, known.fingerprint) == wanted else 0
            return replace(STOPPED, restarts=restarts)
        return ServiceState(
            running=True,
            pid=record.process.pid,
            restarts=record.starts - 1,
            rss_bytes=processes.memory(record.process),
        )

    def drift(self, instance: Instance) -> str:
        """Find nothing: a process has no files beside its release."""
        del instance
        return ""

    def evidence(self, instance: Instance) -> str:
        """Know nothing: what the app printed stands in its log."""
        del instance
        return ""

    def _running(self, instance: Instance, slots: Sequence[int | None]) -> dict[int | None, _Record]:
        """Return the record of what runs of the app in each of `slots` now, whichever release it is."""
        records = {slot: self._read(instance, slot) for slot in slots}
        running = {
            slot: record
            for slot, record in records.items()
            if record is not None and record.boot_id == processes.boot_id() and processes.alive(record.process)
        }
        lost = [slot for slot, record in records.items() if record is None]
        return running | (self._rebuilt(instance, lost) if lost else {})

    def _rebuilt(self, instance: Instance, slots: Sequence[int | None]) -> dict[int | None, _Record]:
        """Find what runs by its environment where there is no record, and put it on record again."""
        rebuilt: dict[int | None, _Record] = {}
        for process in self._found(instance, slots):
            variables = processes.environment(process.pid)
            fingerprint, dash, _ = variables.get(RUN_VARIABLE, "").partition("-")
            slot = next(slot for slot in slots if _variable(slot) == variables.get(SLOT_VARIABLE, ""))
            if dash and slot not in rebuilt and processes.leads_session(process):
                release_id = variables.get("TOWPATH_RELEASE", "")
                record = _Record(process, release_id, fingerprint, processes.boot_id(), starts=1)
                self._write(instance, slot, record)
                rebuilt[slot] = record
        return rebuilt

    @staticmethod
    def _found(instance: Instance, slots: Sequence[int | None]) -> list[ProcessId]:
        """Return what carries the app's marker in one of `slots`, oldest first."""
        wanted = {_variable(slot) for slot in slots}
        found = processes.find_by_env(APP_DIR_VARIABLE, instance.marker)
        return [one for one in found if processes.environment(one.pid).get(SLOT_VARIABLE, "") in wanted]

    def _end_strays(self, instance: Instance) -> None:
        """End what carries the app's marker: workers of an app that crashed, daemons of its hooks, second copies."""
        strays: list[ProcessId] = []
        for _ in range(_MAX_SWEEPS):
            strays = self._found(instance, _rivals(instance))
            for process in strays:
                processes.stop(process, instance.run.stop_timeout_ms / 1000, self._clock)
            if not strays:
                return
        raise ServiceError(f"cannot stop {instance.app}: its processes start new ones faster than they end")

    def _prepare_log(self, instance: Instance) -> None:
        files, log = self._files, instance.log
        files.make_dirs(log.parent, _LOG_FOLDER_MODE)
        if files.exists(log) and files.size(log) > _MAX_LOG_BYTES:
            files.rename(log, log.with_name(f"{log.name}.1"))

    def _trim_log(self, instance: Instance) -> None:
        """Keep the log of what runs short. Trouble with it makes no app ill; the next look tries again."""
        with suppress(DiskError):
            self._files.forget_head(instance.log, _KEPT_LOG_BYTES, _MAX_LOG_BYTES)

    def _read(self, instance: Instance, slot: int | None) -> _Record | None:
        try:
            raw = json.loads(self._files.read(_path(instance, slot), _MAX_RECORD_BYTES))
            return _Record(
                process=ProcessId(int(raw["pid"]), float(raw["created"])),
                release_id=str(raw["release_id"]),
                fingerprint=str(raw["fingerprint"]),
                boot_id=str(raw["boot_id"]),
                starts=int(raw["starts"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self, instance: Instance, slot: int | None, record: _Record) -> None:
        raw = {
            "pid": record.process.pid,
            "created": record.process.created,
            "release_id": record.release_id,
            "fingerprint": record.fingerprint,
            "boot_id": record.boot_id,
            "starts": record.starts,
        }
        self._files.write_atomic(_path(instance, slot), json.dumps(raw).encode())


def _path(instance: Instance, slot: int | None) -> Path:
    return instance.app_dir / ("service.json" if slot is None else f"service.{slot}.json")


def _variable(slot: int | None) -> str:
    return "" if slot is None else str(slot)


def _rivals(instance: Instance) -> Sequence[int | None]:
    """Return the slots that must be empty before this copy starts, and are emptied when it is stopped."""
    return (None, *range(SLOTS)) if instance.slot is None else (instance.slot, None)


def _fingerprint(instance: Instance) -> str:
    """Return what differs where the same release runs with other parameters."""
    text = json.dumps([instance.command, sorted(instance.env.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
