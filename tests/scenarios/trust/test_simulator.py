"""The simulator is held to what real parties are held to, so that a test against it means something."""

from fakes.repository import RepositorySimulator
from towpath_server.domain.metadata import check_repository


def test_the_simulators_repository_passes_the_servers_check(sim: RepositorySimulator) -> None:
    """What the simulator serves is a whole repository, also after publishing and rotating every key."""
    sim.publish("hello", "1.0.0", 1)
    for role in ("root", "timestamp", "snapshot", "targets", "director"):
        sim.rotate(role)
        assert check_repository(sim.served, sim.now_ms) == []
