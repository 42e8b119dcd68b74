"""Clean-up by count and bytes: what goes, what never goes, and what is kept for the person who looks for a reason."""

from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from towpath.release import Install, Release
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.runner import cleanup
from towpath_agent.system.files import Files

BLOCK = 1024


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def _run(host: SimulatedHost, version: str, install: Install, generation: int, size: int = BLOCK) -> Release:
    release = host.publish(version, content=version.ljust(size, "x"), install=install)
    host.assign(release, generation=generation)
    if not host.boots:
        host.boot()
    host.settle()
    host.run(120)
    return release


def _names(host: SimulatedHost, folder: str) -> list[str]:
    path = host.folder / "apps" / "hello" / folder
    return sorted({name.name.partition("-")[0] for name in path.iterdir()}) if path.exists() else []


def test_releases_beyond_their_number_go_with_records_and_objects(host: SimulatedHost) -> None:
    """The oldest trees go after a confirm, then their records, then the objects that only they named."""
    for number in range(1, 6):
        _run(host, f"{number}.0.0", Install("tree", keep=3), number)
    assert _names(host, "releases") == _names(host, "records") == ["3.0.0", "4.0.0", "5.0.0"]
    objects = {path.name for path in (host.folder / "store" / "objects").iterdir()}
    assert len(objects) == 6  # an index and a file for each


def test_releases_beyond_their_bytes_go_though_their_number_would_allow_them(host: SimulatedHost) -> None:
    """`keep_bytes` of the release that runs decides; current and previous stay even where they alone are too large."""
    for number in range(1, 6):
        _run(host, f"{number}.0.0", Install("tree", keep=9, keep_bytes=3 * BLOCK), number)
    assert _names(host, "releases") == ["3.0.0", "4.0.0", "5.0.0"]
    _run(host, "6.0.0", Install("tree", keep=9, keep_bytes=1), 6)
    assert _names(host, "releases") == ["5.0.0", "6.0.0"]


@pytest.mark.parametrize(("signed", "own", "left"), [(0, 3, 3), (4, 3, 3), (3, 4, 3), (0, 0, 6)])
def test_the_hosts_own_limit_counts_beside_the_signed_one(
    host: SimulatedHost, signed: int, own: int, left: int
) -> None:
    """The smaller of the two limits holds; none means none."""
    host.max_release_bytes = own * BLOCK
    for number in range(1, 7):
        _run(host, f"{number}.0.0", Install("tree", keep=9, keep_bytes=signed * BLOCK), number)
    assert len(_names(host, "releases")) == left


def test_failing_releases_do_not_pile_up(host: SimulatedHost) -> None:
    """After a revert the same clean-up runs: a publisher of bad nightly builds cannot fill the disk."""
    _run(host, "1.0.0", Install("tree", keep=2), 1)
    for number in range(2, 6):
        host.ill.add(f"{number}.0.0")
        _run(host, f"{number}.0.0", Install("tree", keep=2), number)
    assert host.live() == "1.0.0"
    assert len(_names(host, "releases")) == 2
    assert "1.0.0" in _names(host, "releases")


def test_log_of_the_last_failed_release_stays_when_all_others_go(host: SimulatedHost) -> None:
    """Logs of gone releases are bounded by number, the oldest first; that of the last failure is never counted."""
    logs = host.folder / "apps" / "hello" / "logs"
    logs.mkdir(parents=True)
    _run(host, "0.8.0", Install("tree", keep=2), 1)
    host.ill.add("0.9.0")
    log = logs / "none"

    def print_something(verb: str, path: Path) -> None:
        nonlocal log
        if verb == "start" and path.name.startswith("0.9.0"):
            log = logs / f"{path.name}.log"
            log.write_text("why it failed")

    host.extra_change = print_something
    _run(host, "0.9.0", Install("tree", keep=2), 2)
    for number in range(30):
        (logs / f"gone-{number:02}.log").write_text("old")
    _run(host, "1.0.0", Install("tree", keep=2), 3)
    _run(host, "1.1.0", Install("tree", keep=2), 4)
    assert "0.9.0" not in _names(host, "releases")
    assert log.read_text() == "why it failed"
    gone = sorted(path.name for path in logs.iterdir() if path.name not in (log.name, cleanup.LAST_FAILED))
    assert gone == [f"gone-{number:02}.log" for number in range(30 - cleanup.OLD_LOGS, 30)]


def test_logs_are_bounded_by_bytes_too(host: SimulatedHost) -> None:
    """A few huge logs of gone releases go as well, though they are few."""
    logs = host.folder / "apps" / "hello" / "logs"
    logs.mkdir(parents=True)
    for name in ("a.log", "b.log.1", "c.log"):
        with (logs / name).open("wb") as log:
            log.write(bytes(range(256)) * 4096 * 30)
    _run(host, "1.0.0", Install("tree"), 1)
    assert sorted(path.name for path in logs.iterdir()) == ["b.log.1", "c.log"]


def test_nothing_goes_while_current_is_unknown(host: SimulatedHost) -> None:
    """Neither trees nor records nor logs are touched where nobody can say what runs."""
    for number in range(1, 4):
        _run(host, f"{number}.0.0", Install("tree", keep=9), number)
    app = host.folder / "apps" / "hello"
    (app / "current").unlink()
    (app / "logs").mkdir(exist_ok=True)
    for number in range(30):
        (app / "logs" / f"gone-{number}.log").touch()
    before = sorted(app.rglob("*"))
    cleanup.prune_releases(host.site, TreeInstaller(Files()), "hello", keep=0, keep_bytes=1)
    assert sorted(app.rglob("*")) == before
