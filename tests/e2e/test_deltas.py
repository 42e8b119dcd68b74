"""A published program is updated by the bytes that changed: installed commands, real processes, counted on the wire."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Fleet
from examples.processes import free_ports, wait_for

from fakes.line import Line
from fakes.published import fetch

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(400)]

OLD, NEW = "3.0.1", "3.0.2"
WAIT_S = 60.0


class Site:
    """Two hosts behind one line, that run the old version; the new one is published and its delta is made."""

    def __init__(self, fleet: Fleet, line: Line, folder: Path) -> None:
        self.fleet, self.line = fleet, line
        self.release_file = folder / "towpath.yaml"
        for version in (OLD, NEW):
            fetch(version, folder / "build" / version)
        fleet.add_hosts(["h1", "h2"])
        for host, port in zip(("h1", "h2"), free_ports(2), strict=True):
            fleet.towpath("host", "set", host, f"waitress.port={port}")
        self.publish(OLD)
        fleet.deploy("waitress", OLD)
        before = self.objects()
        self.publish(NEW)
        self.full = sum(size for name, size in self.objects().items() if name not in before)
        self.delta = wait_for("the delta is made", self._made, WAIT_S)

    def publish(self, version: str) -> None:
        text = (EXAMPLES / "waitress" / "towpath.yaml").read_text()
        self.release_file.write_text(text.replace("./build", f"./build/{version}"))
        self.fleet.publish(self.release_file, version)

    def objects(self) -> dict[str, int]:
        """The carried sizes of all objects that the server has."""
        return {str(path): path.stat().st_size for path in (self.fleet.server_folder / "objects").glob("??/*")}

    def _made(self) -> Path | None:
        folder = self.fleet.server_folder / "objects" / "deltas"
        assert not list(folder.glob("*.none"))
        return next((path for path in folder.glob("*-*") if path.is_file()), None)

    def update(self) -> int:
        """Deploy the new version everywhere; return how many bytes came over the line meanwhile."""
        before = self.line.brought
        self.fleet.deploy("waitress", NEW)
        rows = self.fleet.status("waitress")
        assert {(row["current"], row["health"]) for row in rows.values()} == {(NEW, "healthy")}
        assert len(rows) == 2
        return self.line.brought - before

    def codes(self, host: str) -> list[str]:
        """The codes of what a host told of beside its steps."""
        return [event["code"] for event in self.fleet.history(host) if event["kind"] == "note"]


@pytest.fixture
def site(fleet: Fleet, tmp_path: Path) -> Iterator[Site]:
    listen = Fleet.fixed_addresses()
    folder = tmp_path / "waitress"
    folder.mkdir()
    with Line(listen["agent"]) as line:
        (fleet.server_folder / "server.toml").write_text(f'public_address = "{line.address}"\n')
        fleet.start_server(listen)
        yield Site(fleet, line, folder)
        fleet.close()


def test_an_update_costs_the_bytes_that_changed(site: Site) -> None:
    """Two hosts: metadata, syncs, reports and the release included, less comes over their line than one full release."""
    size = site.delta.stat().st_size
    assert size < site.full / 10
    words = ("plan", "waitress", NEW, "--environment", "dev", "--select", "role=web", "-o", "json")
    assert site.fleet.towpath(*words).json()["at_most_bytes"] == 2 * size
    came = site.update()
    print(f"delta {size} bytes, objects {site.full}; over the line for two hosts {came}")
    assert came < site.full
    assert [site.codes(host) for host in ("h1", "h2")] == [[], []]


def test_a_delta_that_somebody_changed_on_the_server_costs_time_and_nothing_else(site: Site) -> None:
    """Each host names it in its history, and runs the signed release out of whole objects."""
    data = bytearray(site.delta.read_bytes())
    data[len(data) // 2] ^= 0x20
    site.delta.write_bytes(data)
    assert site.update() > site.full * 2
    assert [site.codes(host) for host in ("h1", "h2")] == [["corrupt-delta"], ["corrupt-delta"]]
