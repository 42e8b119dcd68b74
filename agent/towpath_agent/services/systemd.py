"""Service `systemd`: the release ships its unit file; systemd runs it.

Rules: the unit (option `unit`, a path in the tree) is installed as it was signed. What the host adds stands in a
drop-in beside it: the environment with the parameters filled, working directory, search path and stop timeout unless
the unit sets them. The drop-in is written first and removed last; its first line says whose the unit is, so facts on
disk tell what is ours after any crash. A unit that somebody else installed is refused, never replaced. `stop` takes
everything away again, so a revert, which stops the new release and starts the previous one, brings the previous unit
back. The unit is enabled where it has an [Install] section: apps come back at boot even where the agent does not.
A start returns when systemd calls the unit started: for Type=notify when it said READY. One that never does ends in an
error with systemd's own words, and the unit's last lines in the journal as evidence.
Not handled here: user managers, template units, sockets and timers.
"""

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from towpath.errors import InputError
from towpath_agent.errors import ServiceError, StartError
from towpath_agent.instance import SEARCH_PATH, Instance, ServiceState
from towpath_agent.services.base import STOPPED
from towpath_agent.system import process as processes
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import HookResult
from towpath_agent.system.systemctl import RUNNING, Systemctl, number, properties

UNIT_DIR = Path("/etc/systemd/system")
DROP_IN = "50-towpath.conf"
_FRESH = "unit.new"
_MARK = "# towpath: "
_UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,200}\.service")
_MAX_UNIT_BYTES = 2**18
_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_CALL_TIMEOUT_S = 30.0
# A unit may ask for longer than systemd's 90 s; but no start may hold up the other apps of a host for ever.
_MAX_START_S = 900.0
_JOURNAL_LINES = "20"
_MAX_EVIDENCE = 4096
# systemctl show prints spans as "1min 30s".
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)")
_SPAN_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_FACTS = (
    "ActiveState,LoadState,FragmentPath,NeedDaemonReload,MainPID,NRestarts,MemoryCurrent,UnitFileState,Result,"
    "ExecMainCode,ExecMainStatus,TimeoutStartUSec"
)
# Everything else (activating, deactivating, waiting for its next restart) still may run a process.
_ENDED = frozenset({"inactive", "failed"})


@dataclass(frozen=True, slots=True)
class _Mark:
    """Whose a unit is, and for what it was installed."""

    app_dir: str
    release_id: str
    env: dict[str, str]


class SystemdService:
    """See the module."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        *,
        systemctl: tuple[str, ...] = ("systemctl",),
        journalctl: tuple[str, ...] = ("journalctl",),
        unit_dir: Path = UNIT_DIR,
    ) -> None:
        """Install units in `unit_dir`, talk to the manager by `systemctl`, read what they printed by `journalctl`."""
        self._files = files
        self._systemctl = Systemctl(clock, search_path=SEARCH_PATH, program=systemctl)
        self._journalctl = Systemctl(clock, search_path=SEARCH_PATH, program=journalctl)
        self._unit_dir = unit_dir

    def start(self, instance: Instance) -> bool:
        """Install the unit, load it, start it; adopt it where it runs."""
        unit, text = self._unit(instance)
        wanted = _mark(instance)
        owned = self._owned(instance)
        for name, mark in owned.items():
            state = self._show(name).get("ActiveState")
            if (name, mark) == (unit, wanted):
                if state in RUNNING:
                    self._install(instance, unit, text)
                    self._enable(instance, unit, text)
                    return False
            elif state not in _ENDED:
                raise ServiceError(
                    f"cannot start {instance.app} {instance.release_id}: {mark.release_id} still runs as unit {name}; "
                    "stop it first"
                )
        for name in owned:
            if name != unit:
                self._call("disable", name)
                self._uninstall(name)
        if unit not in owned:
            self._refuse_strangers(instance, unit)
        self._install(instance, unit, text)
        # Or the tries of an earlier release, and our own, would count towards the start limit of this one.
        self._call("reset-failed", unit)
        self._enable(instance, unit, text)
        limit = min(_MAX_START_S, _span_s(self._show(unit).get("TimeoutStartUSec", "")) + _CALL_TIMEOUT_S)
        try:
            self._must(instance, "start", unit, timeout_s=limit)
        except ServiceError as error:
            error.evidence = self.evidence(instance)
            raise
        return True

    def stop(self, instance: Instance) -> None:
        """Stop the app's units and take away what was installed."""
        for unit in self._owned(instance):
            # Whether its file is there or not: systemd runs on what it loaded.
            if self._show(unit).get("ActiveState") not in _ENDED:
                limit = instance.run.stop_timeout_ms / 1000 + _CALL_TIMEOUT_S
                self._must(instance, "stop", unit, timeout_s=limit)
            self._call("disable", unit)
            self._uninstall(unit)
            self._must(instance, "daemon-reload")
            self._call("reset-failed", unit)

    def state(self, instance: Instance) -> ServiceState:
        """Return what systemd says of the unit."""
        for unit, mark in self._owned(instance).items():
            if mark != _mark(instance):
                continue
            facts = self._show(unit)
            restarts = number(facts.get("NRestarts"))
            if facts.get("ActiveState") not in RUNNING:
                why = _ended_how(unit, facts)
                return ServiceState(running=False, pid=0, restarts=restarts, rss_bytes=0, why=why)
            pid = number(facts.get("MainPID"))
            # Not every host accounts memory by unit (a container, an old systemd): then its processes are counted.
            memory = number(facts.get("MemoryCurrent")) or processes.memory_of(pid)
            return ServiceState(True, pid, restarts, memory)
        return STOPPED

    def drift(self, instance: Instance) -> str:
        """Return what is wrong with the unit's files, or that it was masked or disabled."""
        unit, text = self._unit(instance)
        facts = self._show(unit)
        if facts.get("LoadState") == "masked" or self._files.read_link(self._unit_dir / unit) == "/dev/null":
            return f"unit {unit} is masked"
        wanted = {
            self._unit_dir / unit: text,
            self._unit_dir / f"{unit}.d" / DROP_IN: _drop_in(instance, text),
        }
        for path, content in wanted.items():
            if not self._files.exists(path):
                return f"{path} is gone"
            if self._files.read_link(path) is not None or not self._holds(path, _encoded(content)):
                return f"{path} was changed"
        if _wants_enabling(text) and facts.get("UnitFileState") != "enabled":
            return f"unit {unit} is {facts.get('UnitFileState') or 'not enabled'}, its release wants it enabled"
        return ""

    def evidence(self, instance: Instance) -> str:
        """Return how the unit ended, and the last lines that it and systemd left in the journal."""
        said = []
        for unit, mark in self._owned(instance).items():
            if mark == _mark(instance):
                said.append(_ended_how(unit, self._show(unit)))
                words = ["--quiet", "--output=short-iso", f"--lines={_JOURNAL_LINES}", f"--unit={unit}"]
                with contextlib.suppress(StartError):  # a host without journald: what is known must not hide behind it
                    said.append(self._journalctl.call(*words, timeout_s=_CALL_TIMEOUT_S).output.strip())
        return "\n".join(said)[-_MAX_EVIDENCE:].strip()

    def _unit(self, instance: Instance) -> tuple[str, str]:
        """Return name and text of the unit that the release ships."""
        option = str(instance.run.options.get("unit", ""))
        path = PurePosixPath(option)
        if path.is_absolute() or ".." in path.parts or _UNIT_NAME.fullmatch(path.name) is None:
            raise InputError(
                f"cannot run {instance.app}: {option[:200]!r} is no unit of its release; name a path ending in .service"
            )
        source = instance.folder / path
        if self._files.read_link(source) is not None or not self._files.exists(source):
            raise InputError(f"cannot run {instance.app}: the release holds no unit file {option!r}")
        return path.name, self._files.read(source, _MAX_UNIT_BYTES).decode("utf-8", "surrogateescape")

    def _owned(self, instance: Instance) -> dict[str, _Mark]:
        """Return the units that carry this app's mark."""
        result = {}
        for name in self._files.listdir(self._unit_dir):
            unit = name.removesuffix(".d")
            if unit != name and _UNIT_NAME.fullmatch(unit) is not None:
                mark = self._read_mark(self._unit_dir / name / DROP_IN)
                if mark is not None and mark.app_dir == instance.marker:
                    result[unit] = mark
        return result

    def _read_mark(self, path: Path) -> _Mark | None:
        try:
            line = self._files.read(path, _MAX_UNIT_BYTES).decode("utf-8", "replace").partition("\n")[0]
            raw = json.loads(line.removeprefix(_MARK)) if line.startswith(_MARK) else {}
            return _Mark(str(raw["app_dir"]), str(raw["release_id"]), dict(raw["env"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _refuse_strangers(self, instance: Instance, unit: str) -> None:
        """Refuse a unit of that name from anywhere: ours in /etc would silently replace a distribution's."""
        # What is loaded but gone from disk is no stranger: we took it away and were cut off before the reload.
        places = (Path(self._show(unit).get("FragmentPath") or "/nowhere"), self._unit_dir / unit)
        place = next((place for place in places if self._files.exists(place)), None)
        if place is not None:
            raise ServiceError(
                f"cannot install unit {unit} of {instance.app}: {place} is there and not from this app; "
                "rename the release's unit",
                code="unmanaged-file",
            )

    def _enable(self, instance: Instance, unit: str, text: str) -> None:
        if _wants_enabling(text):
            self._must(instance, "enable", unit)

    def _install(self, instance: Instance, unit: str, text: str) -> None:
        files, folder = self._files, self._unit_dir / f"{unit}.d"
        files.make_dirs(folder, _FOLDER_MODE)
        files.sweep(folder)
        changed = False
        data = _encoded(_drop_in(instance, text))
        if not self._holds(folder / DROP_IN, data):
            files.write_atomic(folder / DROP_IN, data, _FILE_MODE)
            changed = True
        data = _encoded(text)
        masked = self._files.read_link(self._unit_dir / unit) is not None
        if masked or not self._holds(self._unit_dir / unit, data):
            # Made in our folder and moved: a crash leaves nothing of ours among the units of others.
            files.write_atomic(folder / _FRESH, data, _FILE_MODE)
            files.rename(folder / _FRESH, self._unit_dir / unit)
            changed = True
        facts = {} if changed else self._show(unit)
        if facts.get("LoadState") != "loaded" or facts.get("NeedDaemonReload") == "yes":
            self._must(instance, "daemon-reload")

    def _holds(self, path: Path, data: bytes) -> bool:
        if self._files.read_link(path) is not None or not self._files.exists(path):
            return False  # a link to /dev/null is how a unit is masked
        return self._files.read(path, _MAX_UNIT_BYTES) == data

    def _uninstall(self, unit: str) -> None:
        """Remove the unit, then the mark that says it is ours."""
        files, folder = self._files, self._unit_dir / f"{unit}.d"
        files.remove(self._unit_dir / unit)
        files.sync_dir(self._unit_dir)
        files.remove(folder / _FRESH)
        files.sweep(folder)
        files.remove(folder / DROP_IN)
        if not files.listdir(folder):
            files.remove_tree(folder)
        files.sync_dir(self._unit_dir)

    def _show(self, unit: str) -> dict[str, str]:
        return properties(self._call("show", f"--property={_FACTS}", unit).output)

    def _must(self, instance: Instance, *words: str, timeout_s: float = _CALL_TIMEOUT_S) -> None:
        result = self._call(*words, timeout_s=timeout_s)
        if not result.ok:
            why = "it took too long" if result.timed_out else " ".join(result.output.split())[-500:]
            raise ServiceError(f"cannot {' '.join(words)} for {instance.app}: {why or f'status {result.status}'}")

    def _call(self, *words: str, timeout_s: float = _CALL_TIMEOUT_S) -> HookResult:
        return self._systemctl.call(*words, timeout_s=timeout_s)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _mark(instance: Instance) -> _Mark:
    return _Mark(instance.marker, instance.release_id, dict(instance.env))


def _drop_in(instance: Instance, unit_text: str) -> str:
    """Return what the host adds to a unit; what the unit sets itself stays as it is."""
    folder = str(instance.folder).replace("%", "%%")
    added = {
        "WorkingDirectory": folder,
        "ExecSearchPath": f"{folder}/bin:{folder}:{SEARCH_PATH}",
        "TimeoutStopSec": f"{instance.run.stop_timeout_ms}ms",
    }
    variables = {
        **instance.env,
        "TOWPATH_APP": instance.app,
        "TOWPATH_RELEASE": instance.release_id,
        "TOWPATH_APP_DIR": instance.marker,
    }
    lines = [_MARK + json.dumps(asdict(_mark(instance)), sort_keys=True), "[Service]"]
    for name, value in added.items():
        if re.search(rf"^\s*{name}\s*=", unit_text, re.MULTILINE) is None:
            lines.append(f"{name}={value}")
    lines.extend(f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(variables.items()))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return one word as systemd.syntax(7) wants it: quoted, with its specifiers and escapes made plain."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    words = (c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in plain)
    return f'"{"".join(words)}"'


def _wants_enabling(text: str) -> bool:
    return re.search(r"^\[Install\]", text, re.MULTILINE) is not None


def _ended_how(unit: str, facts: dict[str, str]) -> str:
    """Return the state of a unit in systemd's words: `unit x.service is failed, Result=exit-code, ...`."""
    names = ("Result", "ExecMainCode", "ExecMainStatus", "NRestarts")
    state = f"unit {unit} is {facts.get('ActiveState', 'unknown')}"
    return ", ".join([state, *(f"{name}={facts.get(name, '')}" for name in names)])


def _span_s(text: str) -> float:
    """Return the seconds of a span such as `1min 30s`; without end or not readable: the longest we wait."""
    parts = _SPAN.findall(text)
    return sum(float(number) * _SPAN_S[unit] for number, unit in parts) if parts else _MAX_START_S
