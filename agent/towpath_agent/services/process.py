"""Service `process`: the app is a child that outlives the agent and is found again.

Rules: the record (`service.json`: process, release, fingerprint, boot) is durable before the program's first
instruction runs, because it waits for that at a gate (`system.process`). A record that is lost or garbled is rebuilt
from the markers in the environment of what runs, so a running app is never touched for it. Before anything is
started, what is left of an earlier run of the app is ended. Programs must stay in the foreground.
Not handled here: starting again an app that ended (runner), resource limits and log rotation while it runs.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, replace

from towpath_agent.errors import ServiceError
from towpath_agent.instance import APP_DIR_VARIABLE, Instance, ServiceState, app_environment
from towpath_agent.services.base import STOPPED
from towpath_agent.system import process as processes
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import ProcessId

RECORD = "service.json"
RUN_VARIABLE = "TOWPATH_RUN"
_MAX_RECORD_BYTES = 2**16
_MAX_LOG_BYTES = 16 * 2**20
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
        record = self._running(instance)
        fingerprint = _fingerprint(instance)
        if record is not None:
            if (record.release_id, record.fingerprint) == (instance.release_id, fingerprint):
                return False
            raise ServiceError(
                f"cannot start {instance.app} {instance.release_id}: {record.release_id} still runs as process "
                f"{record.process.pid}; stop it first"
            )
        self._end_strays(instance)
        fresh = _Record(ProcessId(0, 0.0), instance.release_id, fingerprint, processes.boot_id(), starts=1)
        before = self._read(instance)
        if before is not None and replace(before, process=fresh.process, starts=1) == fresh:
            fresh = replace(fresh, starts=before.starts + 1)
        self._prepare_log(instance)
        marker = f"{fingerprint}-{secrets.token_hex(8)}"
        processes.spawn(
            instance.command,
            cwd=instance.folder,
            env={**app_environment(instance), RUN_VARIABLE: marker},
            log=instance.log,
            recorded=lambda process: self._write(instance, replace(fresh, process=process)),
        )
        return True

    def stop(self, instance: Instance) -> None:
        """End the app: TERM, after the release's `stop_timeout` KILL."""
        record = self._running(instance)
        if record is not None:
            processes.stop(record.process, instance.run.stop_timeout_ms / 1000, self._clock)
        self._end_strays(instance)
        if self._files.exists(instance.app_dir / RECORD):
            self._files.remove(instance.app_dir / RECORD)
            self._files.sync_dir(instance.app_dir)

    def drift(self, instance: Instance) -> str:
        """Return nothing: there is no unit that could be changed."""
        del instance
        return ""

    def state(self, instance: Instance) -> ServiceState:
        """Return whether this very release runs."""
        record = self._running(instance)
        wanted = (instance.release_id, _fingerprint(instance))
        if record is None or (record.release_id, record.fingerprint) != wanted:
            known = self._read(instance)
            restarts = known.starts - 1 if known is not None and (known.release_id, known.fingerprint) == wanted else 0
            return replace(STOPPED, restarts=restarts)
        return ServiceState(
            running=True,
            pid=record.process.pid,
            restarts=record.starts - 1,
            rss_bytes=processes.memory(record.process),
        )

    def _running(self, instance: Instance) -> _Record | None:
        """Return the record of what runs of the app now, whichever release it is."""
        record = self._read(instance)
        if record is None:
            return self._rebuilt(instance)
        if record.boot_id == processes.boot_id() and processes.alive(record.process):
            return record
        return None

    def _rebuilt(self, instance: Instance) -> _Record | None:
        """Find what runs by its environment where there is no record, and put it on record again."""
        for process in processes.find_by_env(APP_DIR_VARIABLE, instance.marker):
            variables = processes.environment(process.pid)
            fingerprint, dash, _ = variables.get(RUN_VARIABLE, "").partition("-")
            if dash and processes.leads_session(process):
                release_id = variables.get("TOWPATH_RELEASE", "")
                record = _Record(process, release_id, fingerprint, processes.boot_id(), starts=1)
                self._write(instance, record)
                return record
        return None

    def _end_strays(self, instance: Instance) -> None:
        """End what carries the app's marker: workers of an app that crashed, daemons of its hooks, second copies."""
        strays: list[ProcessId] = []
        for _ in range(_MAX_SWEEPS):
            strays = processes.find_by_env(APP_DIR_VARIABLE, instance.marker)
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

    def _read(self, instance: Instance) -> _Record | None:
        try:
            raw = json.loads(self._files.read(instance.app_dir / RECORD, _MAX_RECORD_BYTES))
            return _Record(
                process=ProcessId(int(raw["pid"]), float(raw["created"])),
                release_id=str(raw["release_id"]),
                fingerprint=str(raw["fingerprint"]),
                boot_id=str(raw["boot_id"]),
                starts=int(raw["starts"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self, instance: Instance, record: _Record) -> None:
        raw = {
            "pid": record.process.pid,
            "created": record.process.created,
            "release_id": record.release_id,
            "fingerprint": record.fingerprint,
            "boot_id": record.boot_id,
            "starts": record.starts,
        }
        self._files.write_atomic(instance.app_dir / RECORD, json.dumps(raw).encode())


def _fingerprint(instance: Instance) -> str:
    """Return what differs where the same release runs with other parameters."""
    text = json.dumps([instance.command, sorted(instance.env.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
