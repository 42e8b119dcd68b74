"""Running the tools of a build, and one error for what a person can mend."""

import os
import subprocess
from pathlib import Path

# For a tool that hangs. What is slow is let be: xz on one thread of a machine that does other things takes long.
TIMEOUT_S = 4 * 3600


class Failed(Exception):
    """What is in the way, in one line."""


def run(
    *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> str:
    """Run a tool to its end and return what it printed; `Failed` in one line where it is missing, fails or hangs."""
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
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise Failed(
            f"cannot run {command[0]}: it is not installed; as root: apt-get install -y --no-install-recommends "
            "python3.11 python3.11-minimal libpython3.11-stdlib binutils dpkg-dev rpm"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Failed(
            f"cannot build: {' '.join(command[:4])} ... has not ended within {timeout_s:g} s and was killed; what is "
            "built is not touched. See what keeps this machine busy, and build again"
        ) from error
    if done.returncode != 0:
        last = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise Failed(f"cannot build: {' '.join(command[:4])} ... ended with {done.returncode}: {last}")
    return done.stdout
