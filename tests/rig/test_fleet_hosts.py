"""Three Debian hosts and more under one server: what networks, clocks and disks do to them, and that all come back by themselves.

Each has a disk, an address and a systemd of its own, and the packaged agent under its own unit. All tests of three hosts
share them; each has its own versions of hello, so that no order of them matters.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import Fleet

from rig import built
from rig.fleets import RigFleet, moves, serves, status
from rig.hosts import NET, RIG_NAME, SERVER, Hosts, why_not

pytestmark = [
    pytest.mark.rig,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]

MANY = 11
# Keepalive alone has to hold a connection for as long as this.
IDLE_S = 75.0
MOVED = f"{NET}.0.2"
SKEW = Path(__file__).parent / "machines/skew.c"


@pytest.fixture(scope="module")
def trio(hosts: Hosts, base: Path, fleet: Fleet) -> Iterator[RigFleet]:
    """Give three hosts that know the server by name, sync unprompted every ten minutes only, and run hello 1.0.0."""
    trio = RigFleet(hosts, base, fleet, "trio")
    try:
        port = fleet.addresses["enroll"].rpartition(":")[2]
        trio.boot(3, server=f"server.rig:{port}", settings='sync_interval = "10m"')
        trio.deploy("hello", "1.0.0")
        yield trio
    finally:
        trio.close()


def all_serve(fleet: RigFleet, version: str) -> bool:
    return all(serves(host) == version for host in fleet.there.values())


def test_three_hosts_take_a_release_and_are_back_after_a_server_restart(trio: RigFleet) -> None:
    """A push reaches all of them; a server that was killed and started finds them again, and the next push too."""
    trio.publish_hello("2.0.0")
    trio.deploy("hello", "2.0.0")
    assert all_serve(trio, "2.0.0")
    print(f"3 hosts are back {seconds_until_back(trio):.1f} s after a killed server was up again")
    trio.publish_hello("2.1.0")
    trio.deploy("hello", "2.1.0")
    assert all_serve(trio, "2.1.0")


def seconds_until_back(fleet: RigFleet, *, away_s: float = 0.0) -> float:
    """Kill the server, start it after `away_s`; return seconds from when it was ready to the last host's first word."""
    server = fleet.fleet.server
    assert server is not None
    server.kill()
    time.sleep(away_s)  # the length of the outage is what is looked at
    fleet.fleet.start_server()
    ready_ms = time.time() * 1000
    first: dict[str, float] = {}

    def heard() -> bool:
        for row in fleet.fleet.towpath("host", "list", "-o", "json").json():
            if row["last_seen_unix_ms"] > ready_ms - 1000:
                first.setdefault(row["name"], row["last_seen_unix_ms"])
        return {fleet.name(name) for name in fleet.there} <= set(first)

    fleet.wait("all hosts are back", heard)
    return max(0.0, (max(first[fleet.name(name)] for name in fleet.there) - ready_ms) / 1000)


@pytest.mark.long
def test_hosts_follow_the_server_to_another_address_and_back(trio: RigFleet) -> None:
    """The server's name leads elsewhere: hosts are there by themselves, take a release, and come back with it."""
    home = dict(trio.fleet.addresses)
    subprocess.run(["ip", "addr", "add", f"{MOVED}/24", "dev", f"{RIG_NAME}-srv"], check=True)
    try:
        for version, address, away in (("3.0.0", MOVED, SERVER), ("3.1.0", SERVER, MOVED)):
            assert trio.fleet.server is not None
            trio.fleet.server.stop()
            for host in trio.there.values():  # what a name server would be told
                host(f"sed -i 's/^{re.escape(away)} /{address} /' /etc/hosts")
            trio.fleet.start_server({kind: it.replace(SERVER, address) for kind, it in home.items()})
            trio.publish_hello(version)
            trio.deploy("hello", version)
            assert all_serve(trio, version)
    finally:
        if trio.fleet.addresses != home:
            trio.fleet.start_server(home)
        subprocess.run(["ip", "addr", "del", f"{MOVED}/24", "dev", f"{RIG_NAME}-srv"], check=True)


@pytest.mark.long
def test_a_cut_line_costs_time_and_nothing_else(trio: RigFleet) -> None:
    """No carrier, nothing out, nothing in: the server says offline, hello runs on, and after it all take what was missed."""
    trio.publish_hello("4.0.0")
    before = {host.name: serves(host) for host in trio.there.values()}
    try:
        for host, way in zip(trio.there.values(), ("link", "up", "down"), strict=True):
            host.cut(way)
        names = {trio.name(name) for name in trio.there}
        trio.wait("the server sees none of them", lambda: not names & trio.fleet.online())
        trio.start("hello", "4.0.0")
        assert {host.name: serves(host) for host in trio.there.values()} == before
        assert all(host.show("ActiveState") == "active" for host in trio.there.values())
    finally:
        for host in trio.there.values():
            host.heal()
    trio.wait("all serve what they missed", lambda: all_serve(trio, "4.0.0"))


@pytest.mark.long
def test_a_nat_that_forgets_after_thirty_seconds_forgets_nobody(hosts: Hosts, trio: RigFleet) -> None:
    """Incident 11, NAT closes idle connections after 30 s: keepalive holds them; where it cannot, hosts dial again."""
    trio.wait("all are online", trio.online)
    try:
        hosts.rig("natidle", "30")
        before = {name: hosts.connections(name) for name in trio.there}
        assert all(before.values()), before
        time.sleep(IDLE_S)  # the idle time is what is looked at: more than twice what the NAT remembers
        after = {name: hosts.connections(name) for name in trio.there}
        assert after == before, "a connection was forgotten and dialled anew"
        trio.publish_hello("5.0.0")
        began = time.monotonic()
        trio.start("hello", "5.0.0")
        trio.wait("the hint arrived", lambda: all(moves(h, "hello", "5.0.0") for h in trio.there.values()), 60)
        print(f"a push after {IDLE_S:g} s of silence began on 3 hosts within {time.monotonic() - began:.1f} s")
        trio.wait("all serve it", lambda: all_serve(trio, "5.0.0"))

        hosts.rig("natidle", "5")  # shorter than keepalive: nothing can hold it
        trio.wait("the NAT forgot one", lambda: any(not hosts.connections(name) for name in trio.there), 60)
        trio.publish_hello("5.1.0")
        trio.start("hello", "5.1.0")
        trio.wait("all serve it all the same", lambda: all_serve(trio, "5.1.0"))
    finally:
        hosts.rig("natidle", "432000")


@pytest.mark.long
def test_slow_late_and_lossy_lines_carry_a_release(trio: RigFleet) -> None:
    """500 ms of latency, 20 % loss each way, 64 kbit/s: one release, 200 kB, reaches a host behind each."""
    trio.publish_hello("6.0.0", bulk=200_000)
    lines = ("delay=250", "loss=20", "rate=64kbit")
    try:
        for host, line in zip(trio.there.values(), lines, strict=True):
            host.shape(line)
        began = time.monotonic()
        trio.start("hello", "6.0.0")
        for host, line in zip(trio.there.values(), lines, strict=True):
            trio.wait(f"it runs behind {line}", lambda host=host: serves(host) == "6.0.0", 600)
            print(f"{line}: served within {time.monotonic() - began:.0f} s")
            assert "Reverted" not in moves(host, "hello", "6.0.0")
    finally:
        for host in trio.there.values():
            host.shape("off")


@pytest.mark.long
def test_a_full_disk_is_said_and_heals_when_there_is_space(trio: RigFleet) -> None:
    """Incident 4: 50 kB are left: nothing changes and the host says why; freed, it takes the release unaided."""
    host = next(iter(trio.there.values()))
    trio.publish_hello("7.0.0", bulk=200_000)
    before = serves(host)
    host("free=$(df --output=avail -B1 /var/lib | tail -1); fallocate -l $((free - 50000)) /var/lib/full")
    try:
        trio.start("hello", "7.0.0", "--max-failures", "3")  # a host that cannot is no reason to stop the others
        trio.wait("it says that the disk is full", lambda: "not enough disk" in host("towpath-agent explain hello"))
        assert serves(host) == before
        assert host.show("ActiveState") == "active"
        assert host.show("NRestarts") == "0"
    finally:
        host("rm /var/lib/full")
    trio.wait("all serve it", lambda: all_serve(trio, "7.0.0"))
    trio.wait("it is confirmed", lambda: status(host, "hello")["state"] == "Confirmed")


@pytest.mark.long
def test_a_host_that_boots_in_1970_runs_its_apps_and_catches_up_when_it_learns_the_time(trio: RigFleet) -> None:
    """Incident 12, host boots in 1970: hello runs, the server is asked in vain, nothing is judged by that clock."""
    host = list(trio.there.values())[1]
    host.put(skew(), "/usr/local/lib/skew.so")
    folder = "/etc/systemd/system/towpath-agent.service.d"
    seconds = -int(time.time()) + 3600
    host(f"mkdir -p {folder}; sync")
    host(
        f"printf '[Service]\\nEnvironment=LD_PRELOAD=/usr/local/lib/skew.so SKEW={seconds}\\n' > {folder}/clock.conf; sync"
    )
    before = serves(host)
    host.power_cut()
    trio.wait("hello runs again", lambda: serves(host) == before)
    trio.publish_hello("8.0.0")
    trio.start("hello", "8.0.0")
    in_vain = "the server did not answer"
    trio.wait("it asked in vain", lambda: in_vain in host("towpath-agent explain hello"))
    assert (serves(host), host.show("ActiveState")) == (before, "active")
    assert "Traceback" not in host("journalctl -b --no-pager -u towpath-agent")
    host(f"rm -r {folder}; systemctl daemon-reload; systemctl restart towpath-agent")
    trio.wait("all serve it", lambda: all_serve(trio, "8.0.0"))


def skew() -> Path:
    """Return the library that moves one program's wall clock and nothing else."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("moving a clock needs a C compiler: apt-get install gcc libc6-dev")

    def make(folder: Path) -> None:
        words = [compiler, "-shared", "-fPIC", "-O2", "-o", str(folder / "skew.so"), str(SKEW), "-ldl"]
        subprocess.run(words, check=True)

    return built.kept(f"skew-{built.state_of((str(SKEW.relative_to(built.ROOT)),))}", make) / "skew.so"


@pytest.mark.long
def test_eleven_hosts_are_back_soon_after_a_server_restart(rig_fleet: RigFleet) -> None:
    """A restart, and a quarter of a minute without a server: how long until the last of eleven hosts has spoken again."""
    rig_fleet.boot(int(os.environ.get("RIG_HOSTS", MANY)))
    rig_fleet.wait("all are online", rig_fleet.online)
    count = len(rig_fleet.there)
    for away_s in (0.0, 15.0):
        seconds = seconds_until_back(rig_fleet, away_s=away_s)
        print(f"{count} hosts are back {seconds:.1f} s after a server that was away {away_s:g} s more was ready")
        assert seconds < 60


def test_a_host_opens_no_port(trio: RigFleet) -> None:
    """Behind a firewall that lets nothing in, every host still listens on nothing but what its apps open."""
    for host in trio.there.values():
        listens = set(re.findall(r":(\d+)\s", host("ss -Hltn")))
        assert listens == {"8080"}, listens
