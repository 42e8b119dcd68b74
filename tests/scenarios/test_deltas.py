"""The real agent takes a release by a delta from the one that it runs, and by objects where there is none."""

import errno
import os
from pathlib import Path

import pytest

from fakes.delta_host import NEW, RANDOM, DeltaHost
from fakes.deltas import make
from fakes.host import Killed, SimulatedHost
from towpath.status import Health
from towpath_agent.ports import Want
from towpath_agent.runner.staging import MAX_FETCH_TRIES


def check(it: DeltaHost, where: str = "") -> None:
    """2.0.0 runs, whole, and nothing is left of how it came."""
    host = it.host
    assert (host.live(), host.serving()) == ("2.0.0", "2.0.0"), where
    assert host.state().health is Health.HEALTHY, where
    tree = host.folder / "apps" / "hello" / "current"
    assert {name: (tree / name).read_bytes() for name in NEW} == NEW, where
    assert (tree / "bin" / "serve").read_bytes() == b"hello 2.0.0", where
    assert not list((host.folder / "staging").iterdir()), where


def test_a_release_that_a_delta_makes_costs_no_object(tmp_path: Path) -> None:
    """One want for all of it, and as many bytes as the delta has."""
    it = DeltaHost(tmp_path)
    it.offer(it.delta())
    it.upgrade()
    check(it)
    assert it.asked == ["delta"]
    assert it.left() == []
    assert it.notes() == []


def test_a_host_does_not_wait_for_a_delta(tmp_path: Path) -> None:
    """Where none is ready, and where the server has never heard of deltas, it takes the objects in the same moment."""
    for name, knows in (("none", True), ("old", False)):
        it = DeltaHost(tmp_path / name)
        it.host.server.knows_deltas = knows
        it.upgrade()
        check(it)
        assert it.asked[0] == "delta"
        assert set(it.asked[1:]) == {"object"}
        assert it.notes() == []


def test_the_first_release_of_an_app_asks_for_no_delta(tmp_path: Path) -> None:
    """There is nothing to start from."""
    it = DeltaHost(tmp_path)
    other = it.host.publish("1.0.0", app="other")
    it.host.assign(it.old, other, generation=2)
    it.host.settle()
    assert set(it.asked) == {"object"}


def test_a_host_that_lost_an_object_of_its_release_takes_objects(tmp_path: Path) -> None:
    """A delta is only asked for where everything that it may use is here."""
    it = DeltaHost(tmp_path)
    it.offer(it.delta())
    lost = next(iter(it.contents(it.old)))
    it.host.site.store.path(lost).unlink()
    it.upgrade()
    check(it)
    assert set(it.asked) == {"object"}


def test_a_line_that_keeps_breaking_brings_the_release_by_objects_in_the_end(tmp_path: Path) -> None:
    """A delta that breaks off at every try is given up for what can be had."""
    it = DeltaHost(tmp_path)
    it.offer(it.delta())
    honest = it.host.server.bytes_of

    def cut(want: Want) -> bytes | None:
        it.host.server.cut_after = 1 if want.kind == "delta" else None
        return honest(want)

    it.host.server.bytes_of = cut
    it.upgrade()
    check(it)
    assert it.asked[:4] == ["delta"] * 4
    assert set(it.asked[4:]) == {"object"}


@pytest.mark.parametrize("delta", [True, False])
def test_a_line_that_breaks_over_and_over_brings_the_release_all_the_same(tmp_path: Path, delta: bool) -> None:
    """More cuts than a host makes vain tries: each brought something, so none of them counts."""
    it = DeltaHost(tmp_path)
    release = it.host.publish("3.0.0", files={"data": RANDOM.randbytes(200_000)})
    if delta:
        old = it.contents(it.old)
        new = [content for digest, content in it.contents(release).items() if digest not in old]
        pair = it.old.artifact.index_sha256, release.artifact.index_sha256
        it.host.server.deltas[pair] = make(list(old.values()), new, index_last=True)
    it.host.server.cut_after = 9_000
    it.host.assign(release, generation=2)
    it.host.settle()
    assert (it.host.live(), it.host.serving()) == ("3.0.0", "3.0.0")
    assert len(it.host.server.fetches) > 3 * MAX_FETCH_TRIES
    assert set(it.asked[1:]) == ({"delta"} if delta else {"object"})
    assert it.host.server.sent_bytes < 210_000
    assert it.notes() == []
    assert "Reverting" not in it.host.chain(version="3.0.0")


class Fault:
    """Strikes once, at one change."""

    def __init__(self, host: SimulatedHost, at: int, kind: str) -> None:
        self._host, self._at, self._kind, self.hit = host, at, kind, ""

    def __call__(self, verb: str, path: Path) -> None:
        if self._host.changes == self._at and not self.hit:
            self.hit = f"{verb} {path.name}"
            raise Killed if self._kind == "kill" else OSError(errno.EIO, "injected")


def points(tmp_path: Path) -> int:
    it = DeltaHost(tmp_path / "count")
    it.offer(it.delta())
    before = it.host.changes
    it.upgrade()
    return it.host.changes - before


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "first"), [("kill", 1), ("EIO", 2)])
def test_cut_off_at_any_change_the_host_has_the_release_in_the_end(tmp_path: Path, kind: str, first: int) -> None:
    """Killed, or told EIO once, while a delta comes, is applied, and the release is put in place.

    Every third change, all where TOWPATH_ALL_POINTS is set.
    """
    step = 1 if "TOWPATH_ALL_POINTS" in os.environ else 3
    for point in range(1 if step == 1 else first, points(tmp_path) + 1, step):
        it = DeltaHost(tmp_path / f"{point}")
        it.offer(it.delta())
        host = it.host
        fault = Fault(host, host.changes + point, kind)
        host.extra_change = fault
        host.assign(it.new, generation=2)
        for _ in range(3):
            try:
                host.settle(600)
            except (Killed, OSError):
                host.boot()
                host.agent.hint()
            else:
                break
        where = f"{kind} at change {point} ({fault.hit})"
        assert fault.hit, where
        if host.live() == "2.0.0":
            check(it, where)
        else:
            assert kind == "EIO", where
            assert (host.live(), host.serving()) == ("1.0.0", "1.0.0"), where
        assert it.notes() == [], where
        assert set(it.left()) <= {""}, where
