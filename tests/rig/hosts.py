"""Debian hosts of their own for tests of packages: clean systems behind an outbound-only firewall, with power to cut.

`machines/rig` does the work; this is its face for pytest. Unlike `nspawn.NspawnHost` they share nothing with this machine but
the kernel, and what they write is on a disk of their own. The base system is made once and kept in BASE; a disk with the
agent's package on it is made once for each package.
Not handled here: how packages are built (`built`).
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rig import built
from towpath_agent.system.clock import Deadline, SystemClock, pause

RIG = Path(__file__).parent / "machines" / "rig"
BASE = Path(os.environ.get("TOWPATH_RIG_BASE", "/var/cache/towpath-rig/bookworm"))
# Rigs may stand side by side, each with a name and two address bytes of its own: every worker of a run has one.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RIG_NAME = os.environ.get("TOWPATH_RIG", f"towpath{WORKER}")
NET = os.environ.get("TOWPATH_RIG_NET", f"10.{97 + WORKER}")
SERVER = f"{NET}.0.1"
TOOLS = ("mmdebstrap", "zstd", "mkfs.ext4", "systemd-nspawn", "ip", "nft", "conntrack", "dpkg-deb", "strip")
# Two waits for a systemd, each with a limit of its own in `machines/rig`, and a disk to copy.
START_S = 600
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
        self.folder = folder
        self._env = {
            **os.environ,
            "RIG": RIG_NAME,
            "RIG_NET": NET,
            "RIG_DIR": str(folder),
            "RIG_BASE": str(BASE),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    def open(self) -> None:
        """Make the base system where it is not there yet, and the network."""
        self.rig("down")
        BASE.parent.mkdir(parents=True, exist_ok=True)
        with BASE.with_name("base.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not BASE.with_name(f"{BASE.name}.ext4").exists():
                self.rig("base", timeout_s=1800)
        self.rig("net")

    def close(self) -> None:
        """Destroy all hosts and the network."""
        self.rig("down")

    def with_agent(self, deb: Path) -> Path:
        """Return the base of hosts that have this package, freshly installed; made on the host `h9` where it is not kept."""

        def make(folder: Path) -> None:
            host = Host(self, "h9")
            host.put(deb, "/opt/agent.deb")
            host("dpkg -i /opt/agent.deb; sync")
            self.rig("stop", "h9")
            disk = self.folder / "hosts/h9/disk"
            subprocess.run(["cp", "--sparse=always", str(disk), str(folder / "base.ext4")], check=True)
            self.rig("wipe", "h9")

        return built.kept(f"disk-{deb.parent.name.rpartition('-')[2]}", make) / "base"

    def boot(self, names: list[str], base: Path, **more: str) -> dict[str, "Host"]:
        """Boot hosts with fresh disks from `base`, some at a time; `more` are variables of the rig."""
        with ThreadPoolExecutor(3) as pool:
            return dict(zip(names, pool.map(lambda name: Host(self, name, base=base, **more), names), strict=True))

    def connections(self, name: str) -> set[str]:
        """Return the source ports of the connections of a host that the firewall knows as established."""
        words = ["ip", "netns", "exec", f"{RIG_NAME}-net", "conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED"]
        source = f"{NET}.{name.removeprefix('h')}.2"
        said = subprocess.run([*words, "-s", source], capture_output=True, text=True, check=True, timeout=60).stdout
        return set(re.findall(rf"src={re.escape(source)} dst=\S+ sport=(\d+)", said))

    def rig(self, *words: str, timeout_s: float = 180, **more: str) -> str:
        """Run one command of the rig; `more` are variables of it."""
        done = subprocess.run(
            [RIG, *words],
            env={**self._env, **more},
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

    def __init__(self, hosts: Hosts, name: str, *, base: Path = BASE, **more: str) -> None:
        """Boot `name` with a fresh disk; `more` are variables of the rig that it keeps, such as RIG_CGROUP."""
        self._hosts, self.name, self._more = hosts, name, {"RIG_BASE": str(base), **more}
        hosts.rig("wipe", name)
        self.start()

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

    def start(self) -> None:
        """Boot it."""
        self._hosts.rig("start", self.name, timeout_s=START_S, **self._more)

    @property
    def root(self) -> Path:
        """Return where its disk is mounted here, as long as it is on. What is held open there keeps it from going off."""
        return self._hosts.folder / "hosts" / self.name / "root"

    def freeze(self) -> None:
        """Stop everything inside dead, this very moment; to be followed by `power_off`."""
        pure = Path("/sys/fs/cgroup")
        group = (
            (pure if (pure / "cgroup.controllers").exists() else pure / "unified") / RIG_NAME / self.name / "payload"
        )
        (group / "cgroup.freeze").write_text("1")
        deadline = Deadline(SystemClock(), 5)
        while "frozen 1" not in (group / "cgroup.events").read_text() and not deadline.expired:
            pause(0.001)

    def power_off(self) -> None:
        """Pull the plug: what was not synced is lost."""
        self._hosts.rig("powercut", self.name)

    def power_cut(self) -> None:
        """Pull the plug and boot again."""
        self.power_off()
        self.start()

    def reboot(self) -> None:
        """Stop in order and boot again."""
        self._hosts.rig("stop", self.name)
        self.start()

    def cut(self, way: str) -> None:
        """Lose what goes `both` ways, `up`, `down`, or the carrier (`link`)."""
        self._hosts.rig("cut", self.name, way)

    def heal(self) -> None:
        """Undo every cut."""
        self._hosts.rig("heal", self.name)

    def shape(self, *words: str) -> None:
        """Make its line slow, late or lossy, each way: `rate=64kbit`, `delay=250`, `loss=10`; or `off`."""
        self._hosts.rig("shape", self.name, *words)

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
