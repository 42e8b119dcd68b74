"""What a relay saves a site: bytes over the line to the server for one host and for many, with and without a relay.

A server, a relay and hosts as real processes over real TLS; the line is a TCP proxy that counts both directions, so
syncs, metadata, handshakes and reports count too. The release is random bytes in files of many sizes, so that nothing
compresses. `ratio` is the line's bytes for all hosts over those for one, both with the relay.

    .venv/bin/python -m bench.relay [--hosts 20] [--mib 32]
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.measure import note

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from examples.loopback import EXAMPLES, Fleet, clean_env, command  # noqa: E402
from examples.processes import Daemon, free_ports  # noqa: E402

from fakes.line import Line  # noqa: E402

SMALL_FILES, SMALL_BYTES = 200, 2_000


def _release(folder: Path, size: int) -> Path:
    """Return the release file of an app with `size` bytes of ballast, most of them in one file."""
    shutil.copytree(EXAMPLES / "hello", folder)
    for number in range(SMALL_FILES):
        (folder / "app" / f"small-{number}").write_bytes(os.urandom(SMALL_BYTES))
    (folder / "app" / "large").write_bytes(os.urandom(size - SMALL_FILES * SMALL_BYTES))
    return folder / "towpath.yaml"


def carried(root: Path, hosts: int, size: int, *, relayed: bool) -> int:
    """Return the bytes that a site's line carried from the start of its agents until `hosts` hosts run the release."""
    names = [f"h{number}" for number in range(1, hosts + 1)]
    with Fleet(root) as fleet:
        fleet.init()
        fleet.start_server()
        with Line(fleet.addresses["agent"]) as line:
            token = fleet.token(uses=hosts)
            for name, port in zip(names, free_ports(hosts), strict=True):
                fleet.enrol(name, token)
                fleet.towpath("host", "set", name, f"hello.port={port}")
                record = fleet.agent_dir(name) / "host.json"  # the line is the site's only way to the server
                record.write_text(record.read_text().replace(fleet.addresses["agent"], line.address))
            folders = ["--dir", str(root / "relay"), "--agent-dir", str(fleet.agent_dir("h1"))]
            ports = ["--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0"]
            relay = Daemon(
                [command("towpath"), "relay", "run", *folders, *ports],
                log=root / "logs" / "relay.log",
                env=clean_env(),
                cwd=root,
            )
            try:
                if relayed:
                    relay.start()
                    relay.wait_for_line(r"^ready")
                    address = relay.wait_for_line(r"^agents on (\S+:\d+)\s*$")[1]
                for name in names:
                    if relayed:
                        (fleet.agent_dir(name) / "agent.toml").write_text(f'relay = "{address}"\n')
                    fleet.start_agent(name)
                fleet.wait_online(names, 120)
                fleet.publish(_release(root / "app", size), "1.0.0")
                fleet.deploy("hello", "1.0.0", "--max-unavailable", str(hosts), timeout_s=600)
                return line.carried_bytes
            finally:
                if relay.running:
                    relay.stop()


def main() -> int:
    """Measure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--mib", type=int, default=32)
    options = parser.parse_args()
    size = options.mib * 2**20
    found: dict[str, int] = {}
    for name, hosts, relayed in (("one", 1, True), ("all", options.hosts, True), ("two_direct", 2, False)):
        note(f"{name}: {hosts} hosts, {'with' if relayed else 'without'} relay")
        with tempfile.TemporaryDirectory(prefix="towpath-relay-") as folder:
            found[name] = carried(Path(folder), hosts, size, relayed=relayed)
    ratio = round(found["all"] / found["one"], 4)
    print(json.dumps({"hosts": options.hosts, "release_bytes": size, "line_bytes": found, "ratio": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
