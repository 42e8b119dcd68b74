"""What random cuts of the line cost. `python -m bench.cuts`.

One host fetches two releases of one size, the second with cuts. Real processes; the agent's connection leads through a
TCP proxy of `--rate` bytes a second, which counts what comes from the server and closes everything at random bytes.
Everything counts: handshakes, syncs, metadata. Ends with ONE line of JSON on stdout: {cuts, rate, release_bytes,
plain_bytes, cut_bytes, ratio, plain_s, cut_s}.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from examples.loopback import Fleet

from bench.measure import note

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.line import Line

DEPLOY_TIMEOUT_S = 1800.0
RELEASE = """app: blob
version: "1"
artifact: ./blob
install: {kind: tree}
run: {kind: none}
"""


def _publish(fleet: Fleet, folder: Path, version: str, size: int) -> None:
    (folder / "blob").mkdir(exist_ok=True)
    (folder / "blob" / "data").write_bytes(os.urandom(size))
    (folder / "towpath.yaml").write_text(RELEASE)
    fleet.publish(folder / "towpath.yaml", version)


def _timed(fleet: Fleet, line: Line, version: str) -> tuple[int, float]:
    before, began = line.brought, time.monotonic()
    fleet.deploy("blob", version, timeout_s=DEPLOY_TIMEOUT_S)
    return line.brought - before, time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.cuts", description="What random cuts of the line cost.")
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--rate", type=int, default=4_000_000, help="bytes a second")
    parser.add_argument("--size", type=int, default=100_000_000, help="bytes of the release")
    options = parser.parse_args()
    chance = random.Random(1)
    listen = Fleet.fixed_addresses()
    with tempfile.TemporaryDirectory() as folder, Line(listen["agent"]) as line, Fleet(Path(folder)) as fleet:
        fleet.init()
        (fleet.server_folder / "server.toml").write_text(f'public_address = "{line.address}"\n')
        fleet.start_server(listen)
        fleet.add_hosts(["h1"])
        line.rate = options.rate
        for version in ("1", "2"):
            _publish(fleet, Path(folder), version, options.size)
        plain, plain_s = _timed(fleet, line, "1")
        note(f"without cuts: {plain} bytes in {plain_s:.0f} s")
        line.cuts = sorted(line.brought + chance.randrange(options.size) for _ in range(options.cuts))
        cut, cut_s = _timed(fleet, line, "2")
        done = options.cuts - len(line.cuts)
        note(f"with {done} cuts: {cut} bytes in {cut_s:.0f} s")
    result = {
        "cuts": done,
        "rate": options.rate,
        "release_bytes": options.size,
        "plain_bytes": plain,
        "cut_bytes": cut,
        "ratio": round(cut / plain, 4),
        "plain_s": round(plain_s, 1),
        "cut_s": round(cut_s, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
