"""The server's .deb on a machine that boots: docs/server.md typed from top to bottom."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import built
from rig.guides import blocks
from rig.nspawn import NspawnHost, why_not

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/server.md"
NAME = "towpath-server_0.1.0_amd64.deb"
PLACE = "/opt"  # /root may be a mount of this machine, which the host does not see
MISSING = [tool for tool in ("/usr/bin/python3.11", "dpkg-deb", "strip", "ss") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.rig,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("packages"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be booted"),
    pytest.mark.skipif(bool(MISSING), reason=f"building the package needs {' '.join(MISSING)}"),
]

# Everything of the package, by name; what this very machine keeps for its own tests lies elsewhere.
LEFT = "find /usr /etc /var/lib /run/systemd -xdev -name '*towpath*' -not -path '/var/lib/dpkg/*'"


@pytest.fixture(scope="module")
def server_deb() -> Path:
    """Give the server's package of these sources."""
    return built.package("server-deb")


class Machine:
    """A booted machine; what is typed there is typed by root."""

    def __init__(self, host: NspawnHost) -> None:
        self._host = host

    def __call__(self, script: str, *, code: int = 0) -> str:
        """Run a shell script; return what it printed, errors too."""
        done = self._host.run("sh", "-c", script, timeout_s=300)
        assert done.returncode == code, f"{script!r} ended with {done.returncode}: {done.stdout}"
        return done.stdout.strip()

    def show(self, name: str, unit: str = "towpath-server") -> str:
        """Return a property of a unit."""
        return self(f"systemctl show --value --property={name} {unit}")


@pytest.fixture
def machine(tmp_path: Path, server_deb: Path) -> Iterator[Machine]:
    """Give a freshly booted machine with the package in root's home; what is written there is gone afterwards."""
    with NspawnHost(tmp_path, shared=[server_deb.parent]) as host:
        machine = Machine(host)
        machine(f"cp {server_deb} {PLACE}/{NAME}")
        yield machine


def test_the_guide_works_as_typed(machine: Machine) -> None:
    """Every block of the guide, in its order; between them what it promises is looked at."""
    seen = []

    def check(heading: str, line: str) -> None:
        """Look whether what the guide says after this line is so."""
        if line.startswith("dpkg -i") and heading == "Install":
            assert machine.show("ActiveState") == "inactive"
            assert machine("stat -c '%U %a' /var/lib/towpath-server") == "towpath 700"
        if line.startswith("systemctl enable"):
            pid = machine.show("MainPID")
            assert machine(f"ps -o user= -p {pid}") == "towpath"
            print(
                machine(
                    f"grep -E 'VmRSS|Threads' /proc/{pid}/status; systemd-analyze security towpath-server | tail -1"
                )
            )
            for name, expected in {"MemoryHigh": 2 * 2**30, "MemoryMax": 3 * 2**30, "TasksMax": 512}.items():
                assert machine.show(name) == str(expected)
            machine("for port in 7443 7444 7445; do ss -ltn | grep -q :$port; done")
            assert re.search(r"127\.0\.0\.1\]?:7445", machine("ss -ltn")), "operators from this machine only"
        if line.startswith("towpath server backup"):
            assert machine("stat -c '%U %a' /var/backups/towpath/first.tar.zst") == "root 600"
            assert "it is there already" in machine(line, code=1)
        if line.startswith("dpkg -i") and heading == "Upgrade":
            assert machine.show("ActiveState") == "active"
        if line.startswith("towpath server migrate"):
            assert machine("find /var/lib/towpath-server ! -user towpath") == ""
        if line.startswith("towpath server restore"):
            assert machine("find /var/lib/towpath-server ! -user towpath -o -type f -perm /077") == ""
        if line.startswith("dpkg -r"):
            assert "/var/lib/towpath-server/ca.key" in machine(
                "ls /var/lib/towpath-server/ca.key /etc/towpath/server.toml"
            )
            assert machine.show("LoadState") == "not-found"
        if line.startswith("dpkg -P"):
            assert machine("ls /var/lib/towpath-server/ca.key && ! ls -d /etc/towpath") != ""

    for heading, lines in blocks(GUIDE):
        for line in lines:
            said = machine(f"cd {PLACE}; {line}")
            print(f"$ {line}\n{said}")
            seen.append(heading)
            check(heading, line)
            if line == "towpath server doctor":
                assert said.splitlines()[-1] == "nothing fails"
            if "restore" in line:
                assert "0 hosts" in said
    assert set(seen) == {"Install", "Back up", "Upgrade", "The server is lost", "Uninstall"}
    assert "no such user" in machine("id towpath", code=1)
    assert machine(LEFT) == ""


def test_a_purge_before_there_was_a_fleet_leaves_nothing(machine: Machine) -> None:
    """No keys, nothing to lose: user and folder go as well. And a server without a fleet is no failed unit."""
    machine(f"dpkg -i {PLACE}/{NAME}")
    machine("systemctl start towpath-server")
    assert machine.show("ActiveState") == "inactive"
    machine("dpkg -P towpath-server")
    assert "no such user" in machine("id towpath", code=1)
    assert machine(LEFT) == ""


def test_the_blocks_of_the_guide_are_found() -> None:
    """A guide without blocks would test nothing."""
    assert sum(len(lines) for _, lines in blocks(GUIDE)) > 20
    assert re.search(
        r"^towpath server restore", "\n".join(line for _, lines in blocks(GUIDE) for line in lines), re.MULTILINE
    )
