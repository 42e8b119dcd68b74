"""Power cuts at random moments of an app's update and of the agent's own, on three hosts at once.

`POWER_CUTS` is how many each of the two random tests makes at least (default 6), `SEED` which moments they are; what misses
the part of the update that it was aimed at is made again. A cut takes what was not synced, as from a real disk
(`machines/rig powercut`); then the host boots, and nobody touches it. How a moment is hit: `moments`.
"""

import itertools
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from examples.loopback import Fleet

from rig.fleets import WAIT_S, RigFleet, moves, serves, status
from rig.hosts import Host, Hosts, why_not
from rig.moments import HANDED, KEPT, STATES, TRIAL, UNKEPT, Aim, Pointer, cut_in, freeze_at, phases_of, trace
from towpath import __version__
from towpath.selfupdate import AGENT_APP

pytestmark = [
    pytest.mark.rig,
    pytest.mark.network,
    pytest.mark.timeout(6 * 3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]

CUTS = int(os.environ.get("POWER_CUTS", "6"))
SEED = int(os.environ.get("SEED", "1"))
# A phase that is missed so often is not aimed at any more.
MAX_TRIES = 5
APP = AGENT_APP
# The likeliest to hurt come first.
OWN_AIMS = (TRIAL, HANDED, "Switched", "Switching", "Staged", UNKEPT, KEPT, "Prepared", "Fetching", "Planned")
OWN_PARTS = (("Staged", "Prepared"), ("Switching", "Switched", HANDED), (TRIAL,))
PARTS = (("Fetching",), ("Staged", "Prepared"), ("Switching", "Switched"), ("Watching",))
PREFIX = "usr/lib/towpath-agent"
AGENT_POLICY = "{healthy_for: 1s, deadline: 90s, probation: 1s}"


@pytest.fixture(scope="module")
def three(hosts: Hosts, base: Path, fleet: Fleet) -> Iterator[RigFleet]:
    """Give three hosts that run hello and sync unprompted every five seconds."""
    three = RigFleet(hosts, base, fleet, "cuts")
    try:
        three.boot(3, settings='sync_interval = "5s"')
        three.deploy("hello", "1.0.0")
        yield three
    finally:
        three.close()


@dataclass(frozen=True, slots=True)
class Torment:
    """What is done to updates of an app: cuts are aimed at `aims`, in turn, and some must have fallen in each of `parts`.

    `well(host, version)`: the host runs this version and is healthy. It has to come to that by itself after every cut.
    """

    app: str
    versions: Iterator[str]
    well: Callable[[Host, str], bool]
    aims: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]

    def inflict(self, fleet: RigFleet) -> None:
        """Deploy one version after another and cut the power in each; print in which phases of the update that was.

        What is missed, as it may be gone within milliseconds, is aimed at again.
        """
        random, fell, slowest_s = Random(f"{SEED} {self.app}"), Counter[str](), 0.0
        fleet.deploy(self.app, next(self.versions))  # what is fetched but once is on the hosts now
        lengths = self._lengths(fleet)
        todo = [(aimed, 0) for aimed in itertools.islice(itertools.cycle(self.aims), CUTS)]
        missed = 0
        while todo:
            now, todo = todo[: len(fleet.there)], todo[len(fleet.there) :]
            # What is left at the end is aimed at on every host.
            targets = dict(zip(random.sample(list(fleet.there), len(fleet.there)), itertools.cycle(now), strict=False))
            aims = {name: Aim(aimed, random.random() * lengths[aimed]) for name, (aimed, _) in targets.items()}
            found, took_s = self._cut(fleet, aims)
            slowest_s = max(slowest_s, took_s)
            fell.update(found.values())
            hit = {target for name, target in targets.items() if self._hit(target[0], found[name])}
            missed += sum(not self._hit(target[0], found[name]) for name, target in targets.items())
            todo += [(aimed, tries + 1) for aimed, tries in now if (aimed, tries) not in hit and tries < MAX_TRIES]
        print(
            f"{fell.total()} power cuts in updates of {self.app}, seed {SEED}, {missed} of them in another part than aimed at:"
        )
        for name in ("not begun", *phases_of(self.app)):
            print(f"  {name:20}{fell[name]:4}   {lengths.get(name, 0):8.3f} s long without a cut")
        print(f"all hosts healthy on the new version, and the server told, within {slowest_s:.0f} s of the boot")
        untouched = [names for names in self.parts if not any(fell[name] for name in names)]
        assert not untouched, f"no cut fell in {untouched}: {dict(fell)}"

    def _hit(self, aimed: str, found: str) -> bool:
        """Return whether a cut fell in the part of the update that it was aimed at; a part may be a phase alone."""
        return any(aimed in names and found in names for names in (*self.parts, (aimed,)))

    def _lengths(self, fleet: RigFleet) -> dict[str, float]:
        """Return how long each phase of an update takes that nothing disturbs, as one of the hosts shows it."""
        version = next(self.versions)
        first, *others = fleet.there.values()
        with ThreadPoolExecutor(1) as pool:
            tracing = pool.submit(trace, first, self.app, version, lambda: self.well(first, version), WAIT_S)
            fleet.start(self.app, version)
            lengths = tracing.result()
        for host in others:
            fleet.wait(f"{host.name} runs {self.app} {version}", lambda host=host: self.well(host, version))
        return lengths

    def _cut(self, fleet: RigFleet, aims: Mapping[str, Aim]) -> tuple[dict[str, str], float]:
        """Cut one update on the hosts of `aims`; return the phase of each cut, and how long all took to be well again.

        They are booted one after another when all are off: a host that boots while another one's disk is taken away
        may fail.
        """
        version, begun_ms = next(self.versions), time.time() * 1000
        with ThreadPoolExecutor(len(aims) + 1) as pool:
            operator = pool.submit(fleet.start, self.app, version)
            cutting = {
                name: pool.submit(cut_in, fleet.there[name], self.app, version, aim, WAIT_S)
                for name, aim in aims.items()
            }
            cuts = {name: cut.result() for name, cut in cutting.items()}
            for name in cuts:
                fleet.there[name].start()
            operator.result()
        up = time.monotonic()
        found = {name: cut.fell_in(fleet.there[name], self.app, version, begun_ms) for name, cut in cuts.items()}
        for name, host in fleet.there.items():
            what = f"{name} runs {self.app} {version}; seed {SEED}, power was cut in {found}"
            fleet.wait(what, lambda host=host: self.well(host, version))
            assert "Reverted" not in moves(host, self.app, version), what
        fleet.wait("the server has heard of it", lambda: heard(fleet, self.app, version))
        return found, time.monotonic() - up


def heard(fleet: RigFleet, app: str, version: str) -> bool:
    """Return whether the server sees all hosts online, and this version of the app confirmed on them."""
    rows = fleet.fleet.status(app)
    return fleet.online() and all(
        (row["current"], row["state"]) == (version, "Confirmed")
        for row in (rows[fleet.name(name)] for name in fleet.there)
    )


def tidy(host: Host) -> bool:
    """Return whether nothing of a transaction is left lying about."""
    return host("find /var/lib/towpath/staging -mindepth 1; find /var/lib/towpath -name '*.new' -o -name '.tmp*'") == ""


def test_hosts_come_back_healthy_from_power_cuts_in_an_apps_update(three: RigFleet) -> None:
    """At any moment of an update of hello: every host boots, and ends with the new version served and the folder tidy."""

    def versions() -> Iterator[str]:
        for number in itertools.count(1):
            three.publish_hello(f"20.{number}.0", bulk=300_000)
            yield f"20.{number}.0"

    def well(host: Host, version: str) -> bool:
        return serves(host) == version and status(host, "hello").get("state") == "Confirmed"

    Torment("hello", versions(), well, STATES[1:7], PARTS).inflict(three)
    for host in three.there.values():
        three.wait(f"{host.name} is tidy", lambda host=host: tidy(host))


@pytest.fixture(scope="module")
def agents(three: RigFleet, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give ever new versions of the packaged agent itself, published; they differ in a line."""
    unpacked = tmp_path_factory.mktemp("agent")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True, timeout=300)
    package = unpacked / PREFIX / "lib/python3.11/dist-packages/towpath"
    shutil.rmtree(package / "__pycache__")  # unchecked: it would be believed
    text = (package / "__init__.py").read_text()
    release_file = unpacked / "towpath.yaml"
    release_file.write_text(
        f"app: {APP}\nartifact: ./{PREFIX}\ninstall: {{kind: tree, keep: 2}}\nrun: {{kind: agent}}\n"
        f"probes:\n  - agent: {{}}\nhealth: {AGENT_POLICY}\n"
    )

    def published() -> Iterator[str]:
        for number in itertools.count(1):
            version = f"9.{number}.0"
            (package / "__init__.py").write_text(text.replace(f'"{__version__}"', f'"{version}"'))
            three.fleet.towpath("release", "publish", str(release_file), "--version", version, timeout_s=600)
            yield version

    return published()


def agent_runs(host: Host, version: str) -> bool:
    """Return whether this version of the agent runs for good, and none is on trial."""
    said = host("cat /var/lib/towpath/launch.json", code=None)
    return (
        f'"current": "{version}-' in said
        and '"trying": ""' in said
        and f"agent {version} runs" in host.show("StatusText")
    )


def reverted_to(fleet: RigFleet, name: str, version: str) -> bool:
    """Return whether the server sees the agent of this host gone back to `version`; that comes after the host's own sign."""
    row = fleet.fleet.status(APP)[name]
    return (row["current"], row["state"]) == (version, "Reverted")


def test_hosts_come_back_healthy_from_power_cuts_in_the_agents_own_update(
    three: RigFleet, agents: Iterator[str]
) -> None:
    """At any moment of the agent's update of itself: the new one runs in the end, hello serves, and none is on trial."""
    served = {host.name: serves(host) for host in three.there.values()}

    def well(host: Host, version: str) -> bool:
        return (
            agent_runs(host, version)
            and status(host, APP).get("state") == "Confirmed"
            and serves(host) == served[host.name]
        )

    Torment(APP, agents, well, OWN_AIMS, OWN_PARTS).inflict(three)
    for host in three.there.values():
        assert host.show("ActiveState") == "active"
        three.wait(f"{host.name} is tidy", lambda host=host: tidy(host))


@pytest.mark.long
def test_a_host_whose_power_fails_in_every_trial_is_back_with_the_old_agent_and_takes_the_new_one_when_told_to(
    three: RigFleet, agents: Iterator[str]
) -> None:
    """Three starts on trial end in power cuts: what ran before is healthy again and says why; `retry` ends the update."""
    before, version = next(agents), next(agents)
    three.deploy(APP, before)
    host = next(iter(three.there.values()))
    app, name = serves(host), three.name(host.name)
    three.wait(f"{before} is kept", lambda: agent_runs(host, before))

    three.start(APP, version)
    for number in range(1, 4):
        freeze_at(host, Pointer(trying=True, starts=number), WAIT_S)
        host.power_cut()
    three.wait(f"{before} is back", lambda: agent_runs(host, before) and serves(host) == app)
    three.wait("the server has heard that it went back", lambda: reverted_to(three, name, before))
    row = three.fleet.status(APP)[name]
    assert "was started 3 times, and none lived until it had reported" in row["reason"]

    host(f"towpath-agent retry {APP}")
    three.wait(f"{version} is kept", lambda: agent_runs(host, version) and serves(host) == app)
    three.wait("the server has heard of it", lambda: heard(three, APP, version))
