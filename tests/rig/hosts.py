"""Debian hosts of their own for tests of packages: clean systems behind an outbound-only firewall, with power to cut.

`machines/rig` does the work; this is its face for pytest. Unlike `nspawn.NspawnHost` they share nothing with this machine but
the kernel, and what they write is on a disk of their own. The base system is made once and kept in BASE.
Not handled here: what is installed on them.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from towpath_agent.system.clock import Deadline, SystemClock, pause

RIG = Path(__file__).parent / "machines" / "rig"
BASE = Path(os.environ.get("TOWPATH_RIG_BASE", "/var/cache/towpath-rig/bookworm"))
NET = "10.97"
SERVER = f"{NET}.0.1"
TOOLS = ("mmdebstrap", "zstd", "mkfs.ext4", "systemd-nspawn", "ip", "nft", "conntrack", "dpkg-deb", "strip")
PACKAGES = "mmdebstrap zstd e2fsprogs systemd-container iproute2 nftables conntrack dpkg-dev binutils"


def why_not() -> str:
    """Return why no such host can be made here, or an empty text."""
    if os.geteuid() != 0:
        return "booting hosts needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"booting hosts needs {missing[0]}; run make rig-test, or install {PACKAGES}" if missing else ""


class Failed(AssertionError):
    """A command of the rig, or inside a host, ended otherwise than was asked."""


class Hosts:
    """The hosts of one test session, h1 to h9."""

    def __init__(self, folder: Path) -> None:
        """Keep disks and logs below `folder`."""
        self._env = {
            **os.environ,
            "RIG": "towpath",
            "RIG_NET": NET,
            "RIG_DIR": str(folder),
            "RIG_BASE": str(BASE),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def open(self) -> None:
        """Make the base system where it is not there yet, and the network."""
        self.rig("down")
        if not BASE.with_name(f"{BASE.name}.tar.zst").exists():
            BASE.parent.mkdir(parents=True, exist_ok=True)
            self.rig("base", timeout_s=600)
        self.rig("net")

    def close(self) -> None:
        """Destroy all hosts and the network."""
        self.rig("down")

    def rig(self, *words: str, timeout_s: float = 180) -> str:
        """Run one command of the rig."""
        done = subprocess.run(
            [RIG, *words],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise Failed(f"rig {' '.join(words)}: {done.stdout}")
        return done.stdout


class Host:
    """One host that is on."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        """Boot `name` with a fresh disk."""
        self._hosts, self.name = hosts, name
        hosts.rig("wipe", name)
        hosts.rig("start", name)

    def __call__(self, script: str, *, code: int | None = 0, timeout_s: float = 180) -> str:
        """Run a shell script inside as root; return what it printed, errors too. `code` None: any exit code."""
        wrapped = f"({script}\n) 2>&1; echo rig-code=$?"
        said, _, ended = self._hosts.rig("exec", self.name, "sh", "-c", wrapped, timeout_s=timeout_s).rpartition(
            "rig-code="
        )
        if code is not None and int(ended) != code:
            raise Failed(f"{self.name}: {script!r} ended with {ended.strip()}: {said}")
        return said.strip()

    def put(self, source: Path, to: str) -> None:
        """Copy a file in."""
        self._hosts.rig("put", self.name, str(source), to)

    def power_cut(self) -> None:
        """Pull the plug: what was not synced is lost; then boot again."""
        self._hosts.rig("powercut", self.name)
        self._hosts.rig("start", self.name)

    def reboot(self) -> None:
        """Stop in order and boot again."""
        self._hosts.rig("reboot", self.name)

    def until(self, script: str, timeout_s: float = 90) -> str:
        """Return what `script` printed as soon as it ends with 0."""
        deadline = Deadline(SystemClock(), timeout_s)
        while True:
            try:
                return self(script)
            except Failed as error:
                if deadline.expired:
                    logs = self("journalctl -b -n 40 --no-pager -u towpath-agent", code=None)
                    raise Failed(f"{error}\n{logs}") from error
            pause(0.2)

    def show(self, name: str, unit: str = "towpath-agent") -> str:
        """Return a property of a unit."""
        return self(f"systemctl show --value --property={shlex.quote(name)} {unit}")
