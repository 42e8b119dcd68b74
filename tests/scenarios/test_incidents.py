"""Incidents of other systems, by name, that no other test has. The whole list with its tests is in docs/torture.md."""

import errno
import random
import re
import resource
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from torture.faults import settle
from torture.matrix import Case, Stage
from torture.situations import situations
from towpath.release import Hook
from towpath.reports import MAX_EVIDENCE_CHARS
from towpath.status import State, Verdict

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "torture.md"


def _running(tmp_path: Path) -> SimulatedHost:
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    assert host.serving() == "1.0.0"
    return host


def test_an_agent_killed_while_it_tidies_up_reports_success(tmp_path: Path) -> None:
    """Incident 1, agent killed in clean-up after success: whatever it dies at there, it reports success, not failure."""
    stage = Stage(situations()["upgrade of a tree"], tmp_path)
    points = [point for point in stage.points if point.state == "settle"]
    assert {point.kind for point in points} == {"change", "call"}
    for point in points:
        fault = "killed" if point.kind == "change" else "killed after"
        assert stage.play(Case("upgrade of a tree", point, fault)) == []  # the model ends in Confirmed, succeeded


def test_a_disk_that_fills_in_mid_transaction_and_is_freed_again_recovers_unaided(tmp_path: Path) -> None:
    """Incident 4, disk filled and freed again: the release is not blamed for it, and runs once there is space."""
    host = _running(tmp_path)
    full = True

    def fill(verb: str, _path: Path) -> None:
        if full and verb in ("write", "make") and host.phase[1] == State.FETCHING:
            raise OSError(errno.ENOSPC, "full")

    host.extra_change = fill
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    host.run(300)
    assert (host.serving(), host.state().state, host.state().verdict) == ("1.0.0", State.REVERTED, Verdict.FAILED)
    assert "free some space" in host.state().reason
    full = False
    host.run(120)
    host.settle()
    assert (host.serving(), host.live()) == ("2.0.0", "2.0.0")


@pytest.mark.timeout(600)
def test_a_hook_that_writes_a_gigabyte_fills_neither_memory_nor_disk_nor_the_report(tmp_path: Path) -> None:
    """Incident 8, hook that writes 1 GB: its last words are kept and reported; it may even succeed."""
    host = _running(tmp_path)
    flood = "yes all work and no play | head -c 1000000000; echo; echo last words; exit 1"
    hook = Hook("prepare", ("/bin/sh", "-c", flood), 500_000)
    before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host.assign(host.publish("2.0.0", hooks=(hook,)), generation=2)
    host.settle()
    assert (host.serving(), host.state().state) == ("1.0.0", State.REVERTED)
    (event,) = [it for it in host.transitions(version="2.0.0") if it.state == "Reverting"]
    assert event.evidence.rstrip().endswith("last words")
    assert len(event.evidence) <= MAX_EVIDENCE_CHARS
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown_kib < 50 * 1024
    after = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert after - before < 2**20


@pytest.mark.parametrize("seed", range(5))
def test_a_random_walk_over_good_and_bad_releases_ends_with_the_last_good_one(tmp_path: Path, seed: int) -> None:
    """Incident 6, random walk of releases: 20 of them, some bad, kills between; always the last good one serves."""
    dice = random.Random(seed)
    host = _running(tmp_path)
    good = "1.0.0"
    for number in range(2, 22):
        version = f"{number}.0.0"
        if dice.random() < 0.4:
            host.ill.add(version)
        else:
            good = version
        left = [dice.randrange(1, 90)] if dice.random() < 0.5 else []

        def die(_verb: str, _path: Path, left: list[int] = left) -> None:
            if left:
                left[0] -= 1
                if left[0] == 0:
                    left.clear()
                    raise Killed

        host.extra_change = die
        host.assign(host.publish(version), generation=number)
        settle(host)
        assert (host.serving(), host.live()) == (good, good), f"seed {seed}, release {version}"


def test_every_incident_stands_in_the_page_with_its_tests() -> None:
    """The table of docs/torture.md names, for each incident, tests that exist and say so; or that it is open, and why."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 19))
    told = {}
    for number, _, tests in rows:
        names = re.findall(r"`(test_\w+)`", tests)
        assert names or "open:" in tests, number
        told |= dict.fromkeys(names, int(number))
    found = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name, number in re.findall(r"def (test_\w+)\([^\"]*?\"\"\"Incident (\d+), ", path.read_text()):
            found[name] = int(number)
    assert told == found
