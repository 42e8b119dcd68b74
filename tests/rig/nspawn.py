"""A host with a real systemd, booted by systemd-nspawn over this machine's own files, gone without a trace afterwards.

An overlay of `/` on a tmpfs is its root: the host has the same programs as this machine (Python and the environment of the
tests among them), and what it writes is lost with it. It has no network, process ids of its own, a `/tmp` of its own, and
boots no further than `basic.target`, so no service of this machine runs in it. Its mounts live in a mount namespace that
ends with it, so a test run that is killed leaves nothing mounted.

Not handled here: a clean Debian of another release, a network, power cuts.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from towpath_agent.system.clock import Deadline, SystemClock, pause

# Says that it hangs, not that the machine is busy.
BOOT_S = 240.0
END_S = 15.0
PROGRAMS = ("systemd-nspawn", "nsenter", "unshare", "mount")
SYSTEMD = Path("/lib/systemd/systemd")
# Hybrid machines hold systemd's own hierarchies beside the controllers; pure ones have one for all.
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
PURE_CGROUP = Path("/sys/fs/cgroup/cgroup.controllers")

_START = """
set -eu
mount -t tmpfs towpath-rig "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
rm -f "$1"/root/etc/systemd/system/sockets.target.wants/* "$1"/root/etc/systemd/system/timers.target.wants/*
root=$1 groups=$2; shift 2
for group in $groups; do echo $$ > "$group/cgroup.procs"; done
exec systemd-nspawn --quiet --boot --directory="$root/root" --register=no --keep-unit --private-network \\
  --link-journal=no --resolv-conf=off --timezone=off --console=pipe "$@" systemd.unit=basic.target
"""


def why_not() -> str:
    """Return why no host can be booted here, or an empty text."""
    if os.geteuid() != 0:
        return "booting a host needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"booting a host needs {missing[0]}; install the Debian package systemd-container"
    if not SYSTEMD.exists():
        return f"booting a host needs {SYSTEMD}; install the Debian package systemd"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "booting a host needs overlayfs in the kernel"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "booting a host needs CAP_SYS_ADMIN, this container has it not"


class NspawnHost:
    """One booted host. Use as a context manager."""

    def __init__(self, folder: Path, *, shared: Sequence[Path] = ()) -> None:
        """Keep mounts and the console's log below `folder`; `shared` folders are seen inside at the same place."""
        self._folder, self._shared = folder, shared
        self._name = f"towpath-{os.getpid()}"
        roots = ("/sys/fs/cgroup",) if PURE_CGROUP.exists() else CGROUPS
        self._groups = [Path(root) / self._name for root in roots if Path(root).is_dir()]
        self._nspawn: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        """Boot; AssertionError with the console's last words where systemd does not come up."""
        root = self._folder / "rig"
        root.mkdir()
        for group in self._groups:
            group.mkdir(exist_ok=True)
        # Slave: what is unmounted outside (another host's disk) goes away in here too, and is not kept alive.
        start = [
            "unshare",
            "--mount",
            "--propagation=slave",
            "sh",
            "-c",
            _START,
            "rig",
            str(root),
            " ".join(map(str, self._groups)),
        ]
        with (self._folder / "console.log").open("wb") as console:
            self._nspawn = subprocess.Popen(
                [*start, f"--machine={self._name}", *(f"--bind={path}" for path in self._shared)],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._wait_for_boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let everything in it die at once."""
        self._end()

    def run(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, output and errors together."""
        leader = self._leader()
        assert leader is not None, self.console()
        environment = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        return subprocess.run(
            ["nsenter", "-t", str(leader), "-a", "--", *environment, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def console(self) -> str:
        """Return the last words of the console."""
        return (self._folder / "console.log").read_text(errors="replace")[-4000:]

    def _leader(self) -> int | None:
        """Return the host's PID 1 as seen from here."""
        pid = self._nspawn.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return None

    def _wait_for_boot(self) -> None:
        deadline = Deadline(SystemClock(), BOOT_S)
        state = "no systemd yet"
        while state not in ("running", "degraded"):
            assert self._nspawn.poll() is None, f"the host ended while it booted: {self.console()}"
            assert not deadline.expired, f"the host did not come up ({state}): {self.console()}"
            pause(0.05)
            if self._leader() is not None:
                state = self.run("systemctl", "is-system-running").stdout.strip()

    def _end(self) -> None:
        leader = self._leader()
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, signal.SIGKILL)
        try:
            self._nspawn.wait(END_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(END_S)
        for group in self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
