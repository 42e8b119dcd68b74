"""One rig, one server and one set of packages for all tests of a run that boot hosts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # `examples` runs the server

from examples.loopback import Fleet  # noqa: E402

from rig import built  # noqa: E402
from rig.fleets import RigFleet  # noqa: E402
from rig.hosts import RIG_NAME, SERVER, WORKER, Hosts  # noqa: E402


@pytest.fixture(scope="session")
def deb() -> Path:
    """Give the agent's package of these sources."""
    return built.package("deb")


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Give the rig; all of it is gone afterwards. What a killed run left there is taken away at the next start."""
    hosts = Hosts(built.CACHE / f"hosts-of-{RIG_NAME}")
    if WORKER % 2:
        built.package("deb")  # while another worker makes the base system
    hosts.open()
    yield hosts
    hosts.close()


@pytest.fixture(scope="session")
def base(hosts: Hosts, deb: Path) -> Path:
    """Give the disk of hosts that have the package on them."""
    return hosts.with_agent(deb)


@pytest.fixture(scope="session")
def fleet(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give a server at the address that the hosts know, with Hello published."""
    del hosts
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.init()
        fleet.start_server(fleet.fixed_addresses(SERVER))
        fleet.publish(ROOT / "examples/hello/towpath.yaml", "1.0.0")
        yield fleet


@pytest.fixture
def rig_fleet(hosts: Hosts, base: Path, fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[RigFleet]:
    """Give what boots enrolled hosts of a role of this test's own; they are gone after it."""
    rig_fleet = RigFleet(hosts, base, fleet, role=request.node.originalname.removeprefix("test_")[:40])
    yield rig_fleet
    rig_fleet.close()
