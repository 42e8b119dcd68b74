"""A site behind a thin, broken line: installed commands, real processes, and a TCP proxy that is slow, loses and cuts.

The proxy loses what a sender sees of it: a packet comes a retransmission later, with all that is behind it.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import Fleet
from examples.processes import wait_for

from fakes.line import Line

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

CONVERGE_S = 240.0
RELEASE = """app: blob
version: "1"
artifact: ./blob
install: {kind: tree}
run: {kind: none}
"""


@pytest.fixture
def line(fleet: Fleet) -> Iterator[Line]:
    """The only way from host h1, whose agent runs, to the server."""
    listen = Fleet.fixed_addresses()
    with Line(listen["agent"], seed=5) as line:
        (fleet.server_folder / "server.toml").write_text(f'public_address = "{line.address}"\n')
        fleet.start_server(listen)
        fleet.add_hosts(["h1"])
        yield line
        line.rate, line.loss = 0, 0.0
        fleet.close()


def publish(fleet: Fleet, folder: Path, version: str, size: int) -> bytes:
    """Publish a release of one file of so many bytes that do not compress; return them."""
    data = os.urandom(size)
    (folder / "blob").mkdir(exist_ok=True)
    (folder / "blob" / "data").write_bytes(data)
    (folder / "towpath.yaml").write_text(RELEASE)
    fleet.publish(folder / "towpath.yaml", version)
    return data


def order(fleet: Fleet, version: str) -> None:
    """Deploy without waiting for the end."""
    fleet.towpath("deploy", "blob", version, "--environment", "dev", "--select", "role=web")


def installed(fleet: Fleet) -> bytes:
    """Return the file that is current on the host; empty where there is none."""
    path = fleet.agent_dir("h1") / "apps" / "blob" / "current" / "data"
    return path.read_bytes() if path.exists() else b""


def steps(fleet: Fleet, version: str) -> list[str]:
    """Return the states that the host told of a version."""
    return [it["state"] for it in fleet.history("h1") if it["version"] == version and it["kind"] == "transition"]


def test_a_release_arrives_over_64_kbit_a_second_with_losses_and_cuts(fleet: Fleet, line: Line, tmp_path: Path) -> None:
    """64 kbit/s, every fifth packet lost, three cuts: it is installed, people see it coming, and little comes twice."""
    data = publish(fleet, tmp_path, "1", 90_000)
    line.packet, line.rate, line.loss = 1460, 8_000, 0.2
    before = line.brought
    line.cuts = [before + offset for offset in (20_000, 55_000, 90_000)]
    order(fleet, "1")
    seen: set[str] = set()

    def arrived() -> bool:
        status = fleet.agent("h1", "status", "-o", "json").json()
        seen.update(it["text"] for it in status["transfers"].values())
        return installed(fleet) == data

    wait_for("it is installed", arrived, CONVERGE_S, fleet.logs)
    brought = line.brought - before
    print(f"{brought} bytes for {len(data)}, {line.accepted} connections, {sorted(seen)}")
    assert not line.cuts
    assert seen
    line.rate, line.loss = 0, 0.0
    wait_for(
        "the server knows", lambda: fleet.status("blob").get("h1", {}).get("current") == "1", CONVERGE_S, fleet.logs
    )
    assert "Reverted" not in steps(fleet, "1")
    # Handshakes, metadata, syncs and reports of four connections are in it.
    assert brought < len(data) + 80_000
    assert fleet.agent("h1", "status", "-o", "json").json()["transfers"] == {}


def test_max_rate_of_the_settings_holds_on_the_line(fleet: Fleet, line: Line, tmp_path: Path) -> None:
    """A window that is always open: its rate counts, doctor says so, and what comes over the line keeps to it."""
    size, rate = 500_000, 50_000
    fleet.agents["h1"].stop()
    (fleet.agent_dir("h1") / "agent.toml").write_text('max_rate = "full; daily 00:00-24:00 local 50KB/s"\n')
    assert "now 48.8KiB/s; max_rate is full; daily 00:00-24:00 local" in fleet.agent("h1", "doctor", code=None).out
    fleet.start_agent("h1")
    data = publish(fleet, tmp_path, "1", size)
    before, began = line.brought, time.monotonic()
    order(fleet, "1")
    wait_for("it is installed", lambda: installed(fleet) == data, CONVERGE_S, fleet.logs)
    took = time.monotonic() - began
    print(f"{line.brought - before} bytes in {took:.1f} s")
    # What was on its way when the last piece was asked for need not be waited for; metadata and syncs are not limited.
    assert took > size / rate * 0.9
    (fleet.agent_dir("h1") / "agent.toml").write_text('max_rate = "fast"\n')
    assert "cannot read 'fast' as a rate" in fleet.agent("h1", "run", code=1).err


def test_an_agent_that_is_killed_at_random_bytes_goes_on_where_it_was(fleet: Fleet, line: Line, tmp_path: Path) -> None:
    """Kill -9 in mid-fetch, again and again; in the end a partial file is garbled too: found, dropped, fetched anew."""
    chance = random.Random(4)
    size = 1_500_000
    data = publish(fleet, tmp_path, "1", size)
    line.rate = 500_000
    before = line.brought
    order(fleet, "1")
    partials = fleet.agent_dir("h1") / "store" / "partial"

    def kept() -> int:
        return sum(path.stat().st_size for path in partials.iterdir())

    agent = fleet.agents["h1"]
    for offset in sorted(chance.randrange(10_000, size * 2 // 3) for _ in range(4)):
        wait_for("so many bytes are here", lambda offset=offset: kept() >= offset, CONVERGE_S, fleet.logs)
        agent.kill()
        assert kept() >= offset
        fleet.start_agent("h1")
    wait_for("most of it is here", lambda: kept() >= size * 3 // 4, CONVERGE_S, fleet.logs)
    agent.kill()
    whole = line.brought - before
    print(f"{whole} bytes with kills for {kept()}")
    assert whole < kept() + 300_000
    (partial,) = partials.iterdir()
    partial.write_bytes(b"garbled" + bytes(kept() - 7))
    fleet.start_agent("h1")
    wait_for("it is installed", lambda: installed(fleet) == data, CONVERGE_S, fleet.logs)
    assert line.brought - before < whole + size + 300_000
    assert json.loads(json.dumps(steps(fleet, "1")))[-1] in ("Watching", "Confirmed")
