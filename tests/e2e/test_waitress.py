"""A program of somebody else, taken from its package registry, upgraded from one published version to the next."""

import json
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Fleet, ask
from examples.processes import free_ports, wait_for

from fakes.published import fetch

pytestmark = [pytest.mark.e2e, pytest.mark.network]

# Two hops; 3.0.2 hides from the site what no trusted proxy vouches for, 3.0.1 still shows it.
HOPS = {"X-Forwarded-For": "203.0.113.9, 10.0.0.7"}


@pytest.fixture
def release_file(tmp_path: Path) -> Path:
    """Give the example's release file in a folder of its own, so that test runs do not share its build folder."""
    folder = tmp_path / "waitress"
    folder.mkdir()
    for name in ("towpath.yaml",):
        (folder / name).write_bytes((EXAMPLES / "waitress" / name).read_bytes())
    return folder / "towpath.yaml"


def test_a_published_program_is_upgraded_and_behaves_as_its_new_version(fleet: Fleet, release_file: Path) -> None:
    """Both versions serve as their users run them; after the upgrade the newer one's own fix shows in its answers."""
    for version in ("3.0.1", "3.0.2"):
        fetch(version, release_file.parent / "build" / version)
    (port,) = free_ports(1)
    fleet.start_server()
    fleet.add_hosts(["h1"])
    fleet.towpath("host", "set", "h1", f"waitress.port={port}")
    answers = {}
    for version in ("3.0.1", "3.0.2"):
        text = (EXAMPLES / "waitress" / "towpath.yaml").read_text()
        release_file.write_text(text.replace("./build", f"./build/{version}"))
        fleet.publish(release_file, version)
        fleet.deploy("waitress", version)
        answer = wait_for("waitress answers", lambda: ask(port, headers=HOPS), 5)
        assert answer.headers["Server"] == "waitress"
        answers[version] = json.loads(answer.body)
    assert answers == {
        "3.0.1": {"waitress": "3.0.1", "remote_addr": "10.0.0.7", "forwarded_for": "203.0.113.9, 10.0.0.7"},
        "3.0.2": {"waitress": "3.0.2", "remote_addr": "10.0.0.7", "forwarded_for": "10.0.0.7"},
    }
    row = fleet.status("waitress")["h1"]
    assert (row["current"], row["state"], row["health"]) == ("3.0.2", "Confirmed", "healthy")
