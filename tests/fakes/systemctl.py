"""A systemctl that keeps state: it loads units, runs their ExecStart for real, and forgets nothing between calls.

    systemctl.py --root DIR COMMAND ...

`DIR/units` is the unit folder, `DIR/vendor` another where a distribution would put its own, `DIR/state.json` what the
manager knows. As with the real one, a unit that was changed on disk is as it was loaded until `daemon-reload`, and every
refusal has a message and a status above zero. Modules are imported late: it is started hundreds of times. `DIR/fail` may hold a command that is to fail.
"""

import json
import os
import sys
from pathlib import Path

KILL_AFTER_S = 2.0


def alive(pid: int) -> bool:
    """Return whether a process runs and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Manager:
    """The state of the manager, kept in a file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "state.json"
        empty = {"loaded": {}, "enabled": [], "pids": {}, "log": []}
        self.state = json.loads(self.path.read_text()) if self.path.exists() else empty

    def save(self) -> None:
        self.path.write_text(json.dumps(self.state))

    def on_disk(self, unit: str) -> dict[str, str] | None:
        """Return where a unit lies and its text, drop-ins appended; the administrator's folder comes first."""
        for folder in ("units", "vendor"):
            path = self.root / folder / unit
            if path.exists():
                drop_ins = sorted((self.root / "units" / f"{unit}.d").glob("*.conf"))
                return {"path": str(path), "text": "\n".join(p.read_text() for p in (path, *drop_ins))}
        return None

    def reload(self) -> None:
        names = {path.name for folder in ("units", "vendor") for path in (self.root / folder).glob("*.service")}
        running = {name: unit for name, unit in self.state["loaded"].items() if self.running(name)}
        self.state["loaded"] = running | {name: self.on_disk(name) for name in sorted(names)}

    def settings(self, unit: str) -> list[tuple[str, str]]:
        lines = self.state["loaded"][unit]["text"].splitlines()
        return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if "=" in line and line[0] != "#"]

    def running(self, unit: str) -> int:
        pid = self.state["pids"].get(unit, 0)
        return pid if pid and alive(pid) else 0

    def start(self, unit: str) -> None:
        if unit not in self.state["loaded"]:
            fail(f"Failed to start {unit}: Unit {unit} not found.", 5)
        if self.running(unit):
            return
        import shlex
        import subprocess

        settings = self.settings(unit)
        last = dict(settings)
        environment = {"PATH": "/usr/bin:/bin"}
        for name, value in settings:
            if name == "Environment":
                for word in shlex.split(value):
                    key, _, text = word.partition("=")
                    environment[key] = text.replace("%%", "%")
        words = [os.path.expandvars(word) for word in shlex.split(expand(last["ExecStart"], environment))]
        if not words[0].startswith("/"):
            places = [Path(place, words[0]) for place in last.get("ExecSearchPath", "").split(":")]
            words[0] = str(next((place for place in places if place.is_file()), words[0]))
        try:
            child = subprocess.Popen(
                words,
                cwd=last.get("WorkingDirectory", "/"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            fail(f"Job for {unit} failed: {error}", 1)
        self.state["pids"][unit] = child.pid
        self.state["log"].append(f"start {unit}")

    def stop(self, unit: str) -> None:
        if unit not in self.state["loaded"]:
            fail(f"Failed to stop {unit}: Unit {unit} not loaded.", 5)
        pid = self.running(unit)
        if pid:
            import signal
            import time

            os.killpg(pid, signal.SIGTERM)
            end = time.monotonic() + KILL_AFTER_S
            while alive(pid):
                if time.monotonic() > end:
                    os.killpg(pid, signal.SIGKILL)
                time.sleep(0.01)
            self.state["log"].append(f"stop {unit}")
            if self.on_disk(unit) is None:
                del self.state["loaded"][unit]
        self.state["pids"].pop(unit, None)

    def show(self, unit: str, names: list[str]) -> None:
        loaded = self.state["loaded"].get(unit)
        pid = self.running(unit)
        values = {
            "ActiveState": "active" if pid else "failed" if unit in self.state["pids"] else "inactive",
            "LoadState": "loaded" if loaded else "not-found",
            "UnitFileState": "enabled" if unit in self.state["enabled"] else "disabled",
            "FragmentPath": loaded["path"] if loaded else "",
            "NeedDaemonReload": "yes" if loaded and loaded != self.on_disk(unit) else "no",
            "MainPID": str(pid),
            "NRestarts": "0",
            "MemoryCurrent": "4096000" if pid else "[not set]",
        }
        for name in names:
            print(f"{name}={values[name]}")

    def enable(self, unit: str) -> None:
        if "[Install]" not in self.state["loaded"].get(unit, {}).get("text", ""):
            fail(f"The unit {unit} has no installation config", 1)
        self.state["enabled"] = sorted({*self.state["enabled"], unit})

    def disable(self, unit: str) -> None:
        self.state["enabled"] = [name for name in self.state["enabled"] if name != unit]


def expand(text: str, environment: dict[str, str]) -> str:
    """Replace ${NAME} from the unit's environment."""
    for name, value in environment.items():
        text = text.replace("${" + name + "}", value)
    return text


def fail(message: str, status: int) -> None:
    """End as systemctl does."""
    print(message, file=sys.stderr)
    raise SystemExit(status)


def main(words: list[str]) -> None:
    """Run one command."""
    manager = Manager(Path(words[words.index("--root") + 1]))
    command, *rest = [word for word in words[words.index("--root") + 2 :] if word != "--no-pager"]
    failing = manager.root / "fail"
    if failing.exists() and failing.read_text() == command:
        fail(f"Failed to {command}: as the test asked", 1)
    match command:
        case "daemon-reload":
            manager.reload()
        case "start" | "stop" | "enable" | "disable":
            getattr(manager, command)(rest[0])
        case "reset-failed":
            if not manager.running(rest[0]):
                manager.state["pids"].pop(rest[0], None)
        case "show":
            manager.show(rest[1], rest[0].removeprefix("--property=").split(","))
        case _:
            fail(f"Unknown command verb {command}.", 1)
    manager.save()


if __name__ == "__main__":
    main(sys.argv[1:])
