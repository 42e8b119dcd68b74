"""What the rig's hosts install, built once for each state of the sources and kept for the next run.

The key is of every file that goes into a package, so that a changed file is a new package and nothing else is. What was
built is renamed into place whole: a run that is killed leaves no half of it. Kept in CACHE, the newest few of each kind.
Not handled here: whether two builds give the same bytes (tests/packaging).
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("TOWPATH_RIG_CACHE", "/var/cache/towpath-rig"))
KEPT = 3
PYTHON = Path("/usr/bin/python3.11")
AGENT_SOURCES = (
    *("agent", "contract", "LICENSE"),
    *(f"packaging/{name}" for name in ("agent", "deb", "make", "systemd")),
)
SOURCES = {
    "deb": AGENT_SOURCES,
    "server-deb": (*AGENT_SOURCES, "packaging/server", "server", "cli", "relay", "pyproject.toml"),
}
# A build compresses 200 MB and may share its cores with everything else: a limit that says "it hangs", not "it is slow".
BUILD_S = 3600


def package(kind: str) -> Path:
    """Return the package of these sources, `deb` or `server-deb`, little compressed."""

    def build(folder: Path) -> None:
        command = [sys.executable, str(ROOT / "packaging/make"), kind, "--fast", "--out", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILD_S)
        assert done.returncode == 0, done.stderr

    (made,) = kept(f"{kind}-{state_of(SOURCES[kind])}", build).glob("*.deb")
    return made


def state_of(names: tuple[str, ...]) -> str:
    """Return a digest of the files below `names`, by path, mode and content, and of the Python that is packed with them."""
    digest = hashlib.sha256(PYTHON.read_bytes() if PYTHON.exists() else b"")
    for name in names:
        top = ROOT / name
        for path in sorted([top] if top.is_file() else top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode & 0o111:o}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder CACHE/name, filled by `make` where it is not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    there, kind = CACHE / name, name.rpartition("-")[0]
    with (CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.is_dir():
            fresh = Path(tempfile.mkdtemp(prefix="new-", dir=CACHE))
            try:
                make(fresh)
                fresh.rename(there)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        os.utime(there)
        older = sorted((one for one in CACHE.glob(f"{kind}-*") if one.name.rpartition("-")[0] == kind), key=_age)
        for one in older[:-KEPT]:
            shutil.rmtree(one)
    return there


def _age(path: Path) -> float:
    return path.stat().st_mtime
