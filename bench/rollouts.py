"""What deciding costs and what it prevents: `python -m bench.rollouts`, about ten minutes, or `--quick`.

Ends with ONE line of JSON on stdout; what goes on is told on stderr.

- `tick_ms_100k`: CPU of one tick (rows read, decided, written, committed) of a rollout over 100,000 hosts of which
  1,000 have reported since the last one (all that a wave of 25,000 says in a second where a host takes 100 s and
  reports four states); `tick_ms_100k_idle`: the same where nothing happened. `ticks` has the rest, 100 and 10,000 of
  them too, which shows that it grows with them and not with the fleet.
- `rehearsal_s_20k`: CPU seconds of a rehearsal of 20,000 hosts, 3 % of which fail and a tenth are away.
- `random_rollouts`: so many with random fleets, policies, faults and operators; `violations` counts those in
  which a rule of `tests/fakes/invariants.py` was broken (each is told with its seed).
- `harmed_share`: percent of 1,000 hosts that a release which fails everywhere took down, mean over seeds, with the
  policy that `towpath deploy` has when nothing is said about it.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # the simulation is shared with the tests

from bench.measure import note, report
from fakes.deciding import SetClock, deciding, deploy, enrol
from fakes.rows import OLD, REVERTED, reported
from fakes.simulated import chance, make, play
from fakes.simulated_host import SWITCHING
from towpath.status import State
from towpath_server.domain.model import OnBreach, ReportedApp, RolloutState
from towpath_server.domain.rehearsal import Policy, rehearse
from towpath_server.domain.simulated import Assumptions
from towpath_server.domain.waves import default_waves
from towpath_server.services import ticking
from towpath_server.services.context import Context
from towpath_server.storage import SqlStorage

TICKS_PLAYED = 50
STEPS = [reported(state, current_sha256=OLD.current_sha256) for state in (State.FETCHING, State.STAGED, State.PREPARED)]


def ticks(folder: Path, hosts: int, changes: tuple[int, ...], repeats: int) -> dict[int, float]:
    """Return hosts that reported since the last tick to the CPU milliseconds of a tick."""
    storage = SqlStorage(folder / f"{hosts}.db")
    clock = SetClock()
    context = deciding(storage, clock)
    rows = enrol(context, hosts)
    with storage.transaction() as tx:
        for row in rows:
            tx.replace_app_states(row.id, [ReportedApp(row.id, OLD, 0)])
    deploy(context, max_unavailable=hosts // 4)
    for row in rows:
        context.presence.watch(row.id)
    whole = tick_ms(context)
    note(f"  {hosts} hosts: {whole:.0f} ms for the first tick, which reads all of them and admits a quarter")
    tick_ms(context)
    with storage.transaction() as tx:
        moving = sorted(tx.admissions("a1"))
    result = {}
    for count in (one for one in changes if one <= len(moving)):
        times = []
        for step in range(repeats):
            state = STEPS[step % len(STEPS)]
            clock.now += 1_000
            with storage.transaction() as tx:
                for host_id in moving[:count]:
                    tx.replace_app_states(host_id, [ReportedApp(host_id, state, clock.now)])
            times.append(tick_ms(context))
        result[count] = round(statistics.median(times), 2)
        note(f"  {hosts} hosts, {count} reported: {result[count]} ms")
    storage.close()
    return result


def tick_ms(context: Context) -> float:
    """Return the CPU milliseconds of a tick."""
    began = time.process_time()
    ticking.tick(context, {"dev"})
    return (time.process_time() - began) * 1000


def random_rollout(seed: int) -> str:
    """Play one; return what was broken, or an empty text."""
    try:
        play(chance(Random(seed)), TICKS_PLAYED)
    except AssertionError as error:
        return f"seed {seed}: {error}"
    return ""


def harmed(seed: int, failing: float = 1.0, hosts: int = 1_000) -> float:
    """Return the share of hosts that a bad release took down before its rollout stopped, in percent."""
    rng = Random(seed)
    ends = [REVERTED if rng.random() < failing else reported() for _ in range(hosts)]
    fleet = make(ends, "", rng)
    fleet.picture = replace(
        fleet.picture, assignment=f"a{seed}", waves=default_waves(hosts), max_unavailable=0, max_failures=0
    )
    fleet.calm_after = 0
    down: set[str] = set()
    while fleet.picture.state is RolloutState.ROLLING:
        fleet.live(0)
        down |= {name for name, host in fleet.hosts.items() if host.view.state is SWITCHING and host.end is REVERTED}
        fleet.apply()
    return 100 * len(down) / hosts


def rehearsal_s() -> float:
    """Return the CPU seconds of one rehearsal by the default waves."""
    policy = Policy(default_waves(20_000), 0, 2_000, 0, OnBreach.HALT, 600_000)
    assumed = Assumptions(failures=0.03, offline=0.1, spread=0.5, away_ms=8 * 3_600_000, person_ms=1_800_000)
    began = time.process_time()
    numbers = rehearse(policy, (), 20_000, assumed, Random(7))
    took = time.process_time() - began
    note(f"  a rehearsal of 20,000 hosts: {numbers.state}, {numbers.moved} moved, {took:.1f} s of CPU")
    return round(took, 1)


def measure(folder: Path, *, quick: bool) -> dict[str, object]:
    """Measure everything."""
    note("ticks")
    sizes = (500, 2_000) if quick else (10_000, 100_000)
    changes = (0, 10, 100) if quick else (0, 100, 1_000, 10_000)
    found = {hosts: ticks(folder, hosts, changes, 3 if quick else 7) for hosts in sizes}
    largest = found[sizes[-1]]
    count = 200 if quick else 20_000
    note(f"{count} random rollouts")
    with multiprocessing.Pool() as pool:
        broken = [text for text in pool.imap_unordered(random_rollout, range(count), chunksize=50) if text]
    for text in broken:
        note(f"  {text}")
    note("a bad release with the default policy")
    seeds = range(2 if quick else 20)
    shares = {
        f"{percent}%": statistics.mean(harmed(seed, percent / 100) for seed in seeds) for percent in (100, 30, 10)
    }
    note(f"  it fails on so many hosts, and takes down so many (percent): {shares}")
    rehearsed = rehearsal_s()
    return {
        "ticks": {str(hosts): {str(n): ms for n, ms in row.items()} for hosts, row in found.items()},
        "harmed_shares": {name: round(share, 3) for name, share in shares.items()},
        "tick_ms_100k": largest[changes[-2]],
        "tick_ms_100k_idle": largest[0],
        "random_rollouts": count,
        "violations": len(broken),
        "rehearsal_s_20k": rehearsed,
        "harmed_share": round(shares["100%"], 3),
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="small numbers: does the bench work?")
    quick = parser.parse_args().quick
    return report(lambda folder: measure(folder, quick=quick))


if __name__ == "__main__":
    sys.exit(main())
