"""Two hosts and a bucket: what goes by a signed address does not go through the server. Installed commands."""

import os
import shutil
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Fleet
from examples.processes import free_ports

from fakes.line import Line
from fakes.s3 import Bucket

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RELEASE_BYTES = 8 * 2**20


def release(folder: Path, version: str) -> Path:
    """Make a release of `hello` with 8 MiB that nothing compresses; return its file."""
    made = folder / version
    shutil.copytree(EXAMPLES / "hello", made)
    (made / "app" / "ballast").write_bytes(os.urandom(RELEASE_BYTES))
    return made / "towpath.yaml"


def test_only_a_host_that_names_the_bucket_goes_there(fleet: Fleet, bucket: Bucket, tmp_path: Path) -> None:
    """Both install; one took 8 MiB through the server, the other took them from the bucket."""
    (fleet.server_folder / "server.toml").write_text(
        f'object_store = "{bucket.url}"\nobject_store_endpoint = "{bucket.endpoint}"\nobject_store_direct = "10m"\n'
        'delta_space = "0"\n'
    )
    fleet.start_server()
    token = fleet.token(uses=2)
    lines = {}
    for name, port in zip(("h1", "h2"), free_ports(2), strict=True):
        lines[name] = Line(fleet.addresses["agent"])
        fleet.enrol(name, token)
        fleet.towpath("host", "set", name, f"hello.port={port}")
    with lines["h1"], lines["h2"]:
        for name, line in lines.items():
            record = fleet.agent_dir(name) / "host.json"
            record.write_text(record.read_text().replace(fleet.addresses["agent"], line.address))
        (fleet.agent_dir("h1") / "agent.toml").write_text(f'direct_from = "{bucket.endpoint}"\n')
        for name in lines:
            fleet.start_agent(name)
        fleet.wait_online(lines)
        fleet.publish(release(tmp_path, "1.0.0"), "1.0.0")
        fleet.deploy("hello", "1.0.0", "--max-unavailable", "2")
        assert {row["current"] for row in fleet.status().values()} == {"1.0.0"}
        assert lines["h1"].brought < RELEASE_BYTES / 10
        assert lines["h2"].brought > RELEASE_BYTES
