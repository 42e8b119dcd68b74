"""Running the tools of a build, and one error for what a person can mend."""

import os
import subprocess
from pathlib import Path

TIMEOUT_S = 900


class Failed(Exception):
    """What is in the way, in one line."""


def run(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a tool to its end and return what it printed; `Failed` with its last words where it is missing or fails."""
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise Failed(
            f"cannot run {command[0]}: it is not installed; as root: apt-get install -y --no-install-recommends "
            "python3.11 python3.11-minimal libpython3.11-stdlib binutils dpkg-dev rpm"
        ) from error
    if done.returncode != 0:
        last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise Failed(f"cannot build: {' '.join(command[:4])} ... ended with {done.returncode}: {last}")
    return done.stdout
