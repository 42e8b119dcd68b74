"""Fetching ahead where something is short, broken or wrong: disk, a day's bytes, crashes, and what a server says."""

import errno
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fakes.host import Killed, SimulatedHost
from fakes.person import reasons, running
from fakes.prefetching import (
    MIB,
    SOON_S,
    ahead,
    big,
    digest,
    fetched,
    free,
    here,
    largest,
    object_fetches,
    objects,
    objects_of,
    untouched,
)
from towpath.errors import Refusal, Unavailable
from towpath.index import MAX_INDEX_BYTES
from towpath.release import Release
from towpath.reports import PrefetchState
from towpath.wire import encode_release
from towpath_agent.engine.planning import Wish
from towpath_agent.journal import Deployed
from towpath_agent.runner import announced, prefetch, space
from towpath_agent.runner.obtaining import obtain
from towpath_agent.system.files import Files


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """Return a host that runs 1.0.0."""
    host = SimulatedHost(tmp_path / "host")
    running(host, "1.0.0")
    return host


def test_no_byte_comes_without_room_for_its_unpacking_and_the_margin(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the later change will need is counted before the first byte; it comes once there is room."""
    release = big(host)
    needed = space.MARGIN_BYTES + release.artifact.index_size + 2 * release.artifact.tree_size
    room = free(monkeypatch, needed - 1)
    host.announce(release)
    host.run(SOON_S)
    assert "not enough disk: it needs 38.0 MiB free" in ahead(host).reason
    assert object_fetches(host) == 2  # of 1.0.0
    room["bytes"] = needed
    host.run(SOON_S)
    assert ahead(host) == here(release)


def test_a_disk_that_fills_gets_back_what_was_fetched_ahead(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an app writes goes before what nobody runs: below the margin every prefetched byte is dropped."""
    release, before = big(host), objects(host)
    fetched(host, release)
    room = free(monkeypatch, space.MARGIN_BYTES - 1)
    host.run(120)
    assert objects(host) == before
    assert ahead(host).state is PrefetchState.WAITING
    assert host.live() == host.serving() == "1.0.0"
    room["bytes"] = 10**12
    host.run(SOON_S)
    assert ahead(host) == here(release)


def test_a_disk_that_is_full_in_mid_fetch_is_freed_and_harms_nothing(host: SimulatedHost) -> None:
    """ENOSPC at a write of the download: what came is dropped at once, the host goes on, and later it comes whole."""
    release, before = big(host), objects(host)
    state = {"full": True}

    def fill(verb: str, path: Path) -> None:
        if state["full"] and verb == "write" and path.parent.name in ("objects", "partial"):
            raise OSError(errno.ENOSPC, "No space left on device")

    host.extra_change = fill
    host.announce(release)
    host.run(SOON_S)
    assert "No space left" in ahead(host).reason
    assert objects(host) == before
    assert host.serving() == "1.0.0"
    state["full"] = False
    host.run(900)
    assert ahead(host) == here(release)


def test_a_change_that_lacks_room_takes_that_of_what_was_fetched_ahead(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another app is to be installed and there is too little disk: what waits for its window makes room."""
    release = big(host)
    fetched(host, release)
    mine = objects_of(host, release)
    other = host.publish("1.0.0", app="other")

    def room(_self: Files, _path: Path) -> int:
        return space.MARGIN_BYTES + (0 if mine & objects(host) else 3 * MIB)

    monkeypatch.setattr(Files, "disk_free", room)
    first = host.wishes[0][0]
    host.assign(first, other)
    host.settle()
    assert host.live("other") == "1.0.0"
    assert not mine & objects(host)
    assert ahead(host).state is PrefetchState.WAITING


def test_the_very_release_that_lacks_room_keeps_its_own_bytes(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To drop what the change is about would only fetch it again."""
    release = big(host)
    fetched(host, release)
    mine = objects_of(host, release)
    free(monkeypatch, space.MARGIN_BYTES)
    host.announce()
    host.assign(release, generation=2)
    host.run(20)
    assert "not enough disk" in host.state().reason
    assert mine <= objects(host)


# Limits against a stolen server


def test_a_server_that_announces_ever_other_releases_gets_a_days_bytes_and_no_more(tmp_path: Path) -> None:
    """A stolen director announces one signed release after the other: the disk holds one, the line carries the limit."""
    host = SimulatedHost(tmp_path / "host")
    host.prefetch_day_bytes = 5 * MIB
    host.chance = 0.0
    running(host, "1.0.0")
    before, begun = objects(host), host.server.sent_bytes
    for number in range(2, 9):
        host.announce(big(host, f"{number}.0.0", 2 * MIB))
        host.run(200)
        assert len(objects(host)) <= len(before) + 2
    assert host.server.sent_bytes - begun < 5 * MIB + 64 * 1024 * 8
    assert ahead(host).state is PrefetchState.WAITING
    assert "ahead today: at most 5.0 MiB a day" in ahead(host).reason
    host.boot()
    host.run(200)
    assert ahead(host).state is PrefetchState.WAITING, "a restart gives no new day"
    host.clock.advance(86_400)
    host.run(200)
    assert ahead(host).state is PrefetchState.COMPLETE


def test_a_host_may_fetch_nothing_ahead(tmp_path: Path) -> None:
    """Its own limit of 0: it says so, and takes the change in its time."""
    host = SimulatedHost(tmp_path / "host")
    host.prefetch_day_bytes = 0
    running(host, "1.0.0")
    release = big(host)
    host.announce(release)
    host.run(SOON_S)
    assert ahead(host).reason.endswith("more than this host fetches ahead: nothing")
    host.announce()
    host.assign(release, generation=2)
    host.settle()
    assert host.live() == "2.0.0"


def test_a_server_that_sends_more_than_was_signed_is_cut_at_the_limit(tmp_path: Path) -> None:
    """Bytes that turn out to be nothing count too: a lie that is repeated ends with the day's limit."""
    host = SimulatedHost(tmp_path / "host")
    host.prefetch_day_bytes = 10 * MIB
    host.chance = 0.0
    running(host, "1.0.0")
    release = big(host, size=2 * MIB)
    name = bytes.fromhex(largest(host))
    host.server.lies[name] = host.server.carried[name][:-9] + b"different"
    begun = host.server.sent_bytes
    host.announce(release)
    host.run(43_200)
    assert ahead(host).state is not PrefetchState.COMPLETE
    assert host.server.sent_bytes - begun < 12 * MIB


# Crashes


def _ready(folder: Path) -> tuple[SimulatedHost, Release]:
    host = SimulatedHost(folder)
    host.chance = 0.0
    running(host, "1.0.0")
    return host, big(host, size=MIB)


@pytest.mark.timeout(600)
def test_killed_at_any_change_it_comes_whole_and_touches_nothing(tmp_path: Path) -> None:
    """Every change of disk or journal while a release comes ahead: after the restart all of it is here, nothing else."""
    host, release = _ready(tmp_path / "count")
    begun = host.changes
    fetched(host, release)
    points = host.changes - begun
    assert points > 8
    for point in range(1, points + 1):
        host, release = _ready(tmp_path / str(point))
        before = untouched(host)
        host.announce(release)
        host.kill_at = host.changes + point
        with pytest.raises(Killed):
            host.run(SOON_S)
        where = f"killed at change {point} ({', '.join(host.steps)})"
        host.kill_at = None
        host.boot()
        host.run(SOON_S)
        assert ahead(host) == here(release), where
        assert untouched(host) == before, where
        fetches = object_fetches(host)
        host.announce()
        host.assign(release, generation=2)
        host.settle()
        assert (host.live(), object_fetches(host)) == ("2.0.0", fetches), where


@pytest.mark.parametrize("at", [0, MIB // 2])
def test_what_a_crash_left_is_dropped_though_nobody_announces_it_any_more(host: SimulatedHost, at: int) -> None:
    """Which releases may have bytes here was written down before the first came: nothing is left for good."""
    before, release = objects(host), big(host)
    host.announce(release)
    host.run(2)
    begun = host.server.sent_bytes

    def die(_want: int) -> None:
        if host.server.sent_bytes - begun > at:
            raise Killed

    host.server.before_chunk = die
    with pytest.raises(Killed):
        host.run(SOON_S)
    assert objects(host) > before
    host.server.before_chunk = None
    host.announced = []
    host.boot()
    host.run(120)
    assert objects(host) == before


@pytest.mark.timeout(600)
def test_killed_at_any_change_of_dropping_it_is_gone_in_the_end(tmp_path: Path) -> None:
    """A withdrawn announcement leaves no byte for good, whenever the agent dies."""
    host, release = _ready(tmp_path / "count")
    before = objects(host)
    fetched(host, release)
    begun = host.changes
    host.announce()
    host.run(5)
    assert objects(host) == before
    for point in range(1, host.changes - begun + 1):
        host, release = _ready(tmp_path / str(point))
        fetched(host, release)
        host.announce()
        host.kill_at = host.changes + point
        with pytest.raises(Killed):
            host.run(5)
        where = f"killed at change {point} ({', '.join(host.steps)})"
        host.kill_at = None
        host.boot()
        host.run(130)
        assert len(objects(host)) == 2, where
        assert host.state().prefetch is None, where


@pytest.mark.timeout(600)
def test_an_io_error_at_any_change_ends_neither_the_agent_nor_the_download(tmp_path: Path) -> None:
    """EIO once, wherever a release comes ahead: it comes in the end, and what runs is never touched."""
    host, release = _ready(tmp_path / "count")
    begun = host.changes
    fetched(host, release)
    for point in range(1, host.changes - begun + 1):
        host, release = _ready(tmp_path / str(point))
        before, at = untouched(host), host.changes + point

        def fail(verb: str, path: Path, host: SimulatedHost = host, at: int = at) -> None:
            if host.changes == at and path.name != "state.db" and "trust" not in path.parts:
                raise OSError(errno.EIO, f"{verb} {path.name}")

        host.extra_change = fail
        host.announce(release)
        host.run(900)
        assert ahead(host) == here(release), point
        assert untouched(host) == before, point


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        ("prefetch", "{"),
        ("prefetch", '[["{}", "AA=="]]'),
        ("prefetch_refused", "[]"),
        ("prefetch_refused", '{"hello": {}}'),
        ("prefetch_kept", "7"),
        ("prefetch_kept", '["zz"]'),
        ("prefetch_spent", "[]"),
        ("prefetch_states", '{"hello": {"version": "1"}}'),
        ("prefetch_states", "nonsense"),
    ],
)
def test_a_garbled_fact_costs_at_most_a_download(host: SimulatedHost, fact: str, text: str) -> None:
    """The agent starts, runs what it ran, and fetches ahead what is announced next."""
    fetched(host, big(host))
    host.journal.set_meta(**{fact: text})
    host.boot()
    host.run(120)
    assert host.serving() == "1.0.0"
    release = big(host, "3.0.0")
    fetched(host, release)
    assert announced.announced(host.journal)[0].wish.version == "3.0.0"


# Trust


def test_an_announcement_is_verified_like_what_is_to_run(host: SimulatedHost) -> None:
    """Another platform, a withdrawn counter, a release that nobody signed: refused by name, no object of it comes."""
    fetches = object_fetches(host)
    host.announce(host.publish("2.0.0", platforms=("linux/sparc",)))
    host.run(SOON_S)
    assert ahead(host).state is PrefetchState.REFUSED
    assert ahead(host).reason.startswith("wrong-platform: ")
    host.announce(host.publish("2.0.1", environments=("production",)))
    host.run(SOON_S)
    assert ahead(host).reason.startswith("wrong-environment: ")
    assert object_fetches(host) == fetches
    assert host.live() == "1.0.0"
    assert "was announced and is refused" in reasons(host)


def test_a_refused_announcement_does_not_hold_up_a_change(host: SimulatedHost) -> None:
    """It is no part of the desired set: what is to run runs."""
    host.announce(host.publish("3.0.0", platforms=("linux/sparc",)))
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    assert host.live() == "2.0.0"
    assert ahead(host).state is PrefetchState.REFUSED


def test_a_file_that_is_on_its_way_is_not_fetched_twice_at_once(host: SimulatedHost) -> None:
    """A repair in mid-fetch that needs the very object is told to wait; others come as ever."""
    content = os.urandom(2 * MIB)
    other = host.server.add_object(b"other")
    wanted = host.server.add_object(content)
    seen: list[object] = []

    def between() -> bool:
        if not seen:
            with pytest.raises(Unavailable, match="it is on its way already") as caught:
                host.site.store.fetch({wanted: len(content)}, host.server)
            seen.append(caught.value.code)
            host.site.store.fetch({other: 5}, host.server)
        return False

    host.site.store.fetch({wanted: len(content)}, host.server, interrupted=between)
    assert seen == ["on-its-way"]
    assert host.site.store.read(wanted, 2 * MIB) == content
    assert host.site.store.read(other, 5) == b"other"


def test_an_index_that_is_too_long_is_refused_before_it_is_fetched(host: SimulatedHost) -> None:
    """By a change and ahead of one alike."""
    release = host.publish("2.0.0")
    huge = replace(release, artifact=replace(release.artifact, index_size=MAX_INDEX_BYTES + 1))
    it = Deployed(Wish("hello", digest(huge), "2.0.0"), encode_release(huge))
    with pytest.raises(Refusal, match="cannot fetch an index of") as caught:
        obtain(host.site, it, host.server, lambda: False)
    assert caught.value.code == "endless-data"


def test_a_long_download_lets_the_loop_turn(host: SimulatedHost) -> None:
    """A certificate may be due: however long it takes, the fetch is left for a moment every ten minutes."""
    release = big(host)
    ticks: list[float] = []
    plain = host.agent.tick

    def tick() -> float:
        ticks.append(host.clock.monotonic())
        return plain()

    host.agent.tick = tick  # type: ignore[method-assign]
    host.announce(release)
    host.run(2)
    host.server.before_chunk = lambda _want: host.clock.advance(250)
    host.run(50_000, lambda: ahead(host).state is PrefetchState.COMPLETE)
    gaps = [after - before for before, after in pairwise(ticks)]
    assert max(gaps) <= prefetch.MAX_STEP_S + 2 * 250
    assert ahead(host) == here(release)
