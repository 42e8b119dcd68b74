"""Releases of kind `exec` through the whole agent: installed, upgraded, reverted and removed by a real driver process."""

import shutil
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from towpath.release import Install, Release
from towpath.status import State, Verdict

EXAMPLE = Path(__file__).parents[2] / "examples" / "drivers" / "webroot"


class Site:
    """A simulated host with the example driver and a web root."""

    def __init__(self, folder: Path) -> None:
        self.host = SimulatedHost(folder / "agent")
        self.root = folder / "www"
        self.root.mkdir()
        (self.root / "other").write_text("not yours")
        self.drivers = self.host.folder / "drivers"
        self.drivers.mkdir(parents=True)
        shutil.copy(EXAMPLE, self.drivers / "webroot")

    def publish(self, version: str, driver: str = "webroot") -> Release:
        options = {"driver": driver, "options": (f"root={self.root}",)}
        return self.host.publish(version, install=Install("exec", options))

    def run(self, version: str, generation: int = 1, driver: str = "webroot") -> None:
        self.host.assign(self.publish(version, driver), generation=generation)
        if not self.host.boots:
            self.host.boot()
        self.host.settle()

    def page(self) -> str:
        page = self.root / "hello" / "bin" / "serve"
        return page.read_text() if page.exists() else ""

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a host with a web root."""
    return Site(tmp_path)


def test_the_driver_follows_installs_upgrades_reverts_and_removals(site: Site) -> None:
    """What the web root serves is what the host runs, at each step; in the end only what was there before is left."""
    site.run("1.0.0")
    assert site.page() == "hello 1.0.0"
    site.run("2.0.0", 2)
    assert site.page() == "hello 2.0.0"
    site.host.ill.add("3.0.0")
    site.run("3.0.0", 3)
    assert site.host.state().state is State.REVERTED
    assert (site.page(), site.host.live()) == ("hello 2.0.0", "2.0.0")
    site.host.assign()
    site.host.settle()
    assert site.names() == ["other"]


def test_a_first_install_that_fails_is_taken_away_by_its_driver(site: Site) -> None:
    """Nothing of it stays in the web root."""
    site.host.ill.add("1.0.0")
    site.run("1.0.0")
    assert site.host.state().verdict is Verdict.FAILED
    assert site.names() == ["other"]


def test_a_host_without_the_driver_says_so_and_keeps_what_it_runs(site: Site) -> None:
    """The report names the driver and the code; nothing was switched."""
    site.run("1.0.0")
    site.run("2.0.0", 2, driver="nowhere")
    (event,) = [e for e in site.host.transitions(version="2.0.0") if e.state == "Reverting"]
    assert event.code == "no-driver"
    assert "this host has no driver 'nowhere'" in event.reason
    assert site.page() == "hello 1.0.0"


def test_a_driver_that_fails_in_the_switch_is_reverted_with_its_last_words(site: Site) -> None:
    """Its error is the reason, its stderr the evidence; the driver of the old release puts its files back."""
    site.run("1.0.0")
    bad = site.drivers / "bad"
    bad.write_text("#!/bin/sh\n[ $1 != switch ] || { echo 'flash is worn out' >&2; exit 1; }\n")
    bad.chmod(0o755)
    site.run("2.0.0", 2, driver="bad")
    (event,) = [e for e in site.host.transitions(version="2.0.0") if e.state == "Reverting"]
    assert (event.code, event.evidence) == ("driver", "flash is worn out\n")
    assert "it exited 1: flash is worn out" in event.reason
    assert (site.page(), site.host.live(), site.host.serving()) == ("hello 1.0.0", "1.0.0", "1.0.0")


@pytest.mark.timeout(600)
def test_killed_at_any_change_of_a_bad_upgrade_the_old_site_is_served(tmp_path: Path) -> None:
    """The agent dies at every third change of disk or journal: the web root ends with the release that runs."""

    def ready(folder: Path) -> Site:
        site = Site(folder)
        site.run("1.0.0")
        site.host.ill.add("2.0.0")
        return site

    (tmp_path / "count").mkdir()
    count = ready(tmp_path / "count")
    before = count.host.changes
    count.run("2.0.0", 2)
    for point in range(1, count.host.changes - before + 1, 3):
        (tmp_path / str(point)).mkdir()
        site = ready(tmp_path / str(point))
        site.host.assign(site.publish("2.0.0"), generation=2)
        site.host.kill_at = site.host.changes + point
        try:
            site.host.settle()
        except Killed:
            site.host.kill_at = None
            site.host.boot()
            site.host.agent.hint()
            site.host.settle()
        where = f"killed at change {point} ({', '.join(site.host.steps)})"
        assert (site.page(), site.host.live()) == ("hello 1.0.0", "1.0.0"), where
        assert site.names() == [".towpath-hello", "hello", "other"], where
