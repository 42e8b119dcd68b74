"""Runnable releases for tests of services, hooks and probes, and an end to all that they started."""

from collections.abc import Mapping
from pathlib import Path

from towpath.names import release_id
from towpath.release import Run
from towpath_agent.instance import Instance
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock

APP = "#!/bin/sh\nexec sleep 1000\n"


def make_instance(
    root: Path,
    version: str = "1",
    *,
    run: Run | None = None,
    env: Mapping[str, str] | None = None,
    script: str = APP,
    stop_timeout_ms: int = 5000,
    slot: int | None = None,
) -> Instance:
    """Return an installed release of the app `hello` whose program is `bin/app`; it ignores its parameters."""
    run = run or Run("process", command=("bin/app", "--version", version), stop_timeout_ms=stop_timeout_ms)
    app_dir = root / "apps" / "hello"
    identity = release_id(version, version.encode() * 32)
    program = app_dir / "releases" / identity / "bin" / "app"
    program.parent.mkdir(parents=True, exist_ok=True)
    if not program.exists() or program.read_text() != script:  # one that runs is busy and cannot be written
        program.write_text(script)
        program.chmod(0o755)
    return Instance(
        app="hello",
        release_id=identity,
        folder=program.parents[1],
        app_dir=app_dir,
        command=run.command,
        env=dict(env or {}),
        run=run,
        log=app_dir / "logs" / f"{identity}.log",
        slot=slot,
    )


def end_all(root: Path) -> None:
    """Kill all that runs for apps below `root`."""
    while found := processes.find_by_env("TOWPATH_APP_DIR", str(root / "apps" / "hello")):
        for process in found:
            processes.stop(process, 0.0, SystemClock())
