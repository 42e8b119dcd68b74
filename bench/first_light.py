"""What first light costs, each number beside its yardstick from the same run: `python -m bench.first_light`.

Ends with ONE line of JSON on stdout; what goes on is told on stderr. One fleet of real processes on loopback is used
for everything, so numbers hold for this machine as it is now: compare with the yardsticks, not with other machines.
`--quick` shrinks windows, sizes and fleets to see that the bench itself works.
"""

import argparse
import os
import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from examples.loopback import Fleet

from bench import carrying, costs, deploys
from bench.measure import note, report, span


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    fleets: tuple[int, ...]
    idle_window_s: float
    syncs: int
    bulk_mib: int
    repeats: int


FULL = Size(fleets=(1, 5, 20), idle_window_s=120.0, syncs=2000, bulk_mib=256, repeats=5)
QUICK = Size(fleets=(1, 2), idle_window_s=10.0, syncs=300, bulk_mib=16, repeats=2)


def measure(folder: Path, size: Size) -> dict[str, object]:
    """Return all numbers. The order matters: one host first, the crowd last."""
    result: dict[str, object] = {
        "bench": "first_light",
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
    }
    with Fleet(folder) as fleet, span() as whole:
        fleet.init()
        fleet.start_server()
        fleet.add_hosts(["h1"])
        note("a deploy of 5 files, 1 MB, to one host")
        result["small_deploy"] = deploys.small_deploy(fleet, size.repeats)
        note("hints")
        result["hint"] = costs.hint(fleet, size.repeats)
        note("start of an agent")
        result["agent_start"] = costs.agent_start(fleet, size.repeats)
        note("publish and fetch")
        result["carrying"] = carrying.measure(fleet, size.bulk_mib)
        note("rollouts")
        result["rollouts"] = deploys.fleets(fleet, size.fleets)
        note(f"an idle agent for {size.idle_window_s:g} s")
        result["agent_idle"] = costs.idle(fleet, size.idle_window_s)
        note("syncs beside an echo")
        result["sync"] = costs.sync(fleet, size.syncs)
    result["seconds"] = round(whole.seconds, 1)
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small windows, sizes and fleets: a test of the bench")
    parser.add_argument("--bulk-mib", type=int, help="size of the one large file that is published and fetched")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    if arguments.bulk_mib is not None:
        size = replace(size, bulk_mib=arguments.bulk_mib)
    return report(lambda folder: measure(folder, size))


if __name__ == "__main__":
    sys.exit(main())
