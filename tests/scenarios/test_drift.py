"""Drift of what runs: found within a minute, put back as signed, told once; also without a server."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from towpath.release import Install, Run
from towpath.reports import Event
from towpath.status import Health

Damage = Callable[[Path], None]
MINUTE = 60.0


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """A host on which hello 1.0.0 runs, past its probation."""
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    host.run(120)
    return host


def tree(host: SimulatedHost, app: str = "hello") -> Path:
    return (host.folder / "apps" / app / "current").resolve()


def drifts(host: SimulatedHost) -> list[Event]:
    return [event for event in host.server.events.values() if event.kind == "drift"]


def is_whole(host: SimulatedHost) -> bool:
    program = tree(host) / "bin" / "serve"
    return (
        program.is_file()
        and program.read_bytes() == b"hello 1.0.0"
        and program.stat().st_mode & 0o7777 == 0o755
        and program.parent.stat().st_mode & 0o7777 == 0o755
        and not program.is_symlink()
    )


def _same_size(program: Path) -> None:
    before = program.stat()
    program.write_bytes(b"HELLO 1.0.0")
    os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replaced_by_link(program: Path) -> None:
    program.unlink()
    program.symlink_to("/bin/true")


def _replaced_by_folder(program: Path) -> None:
    program.unlink()
    (program / "sub").mkdir(parents=True)


def _folder_replaced(program: Path) -> None:
    shutil.rmtree(program.parent)
    program.parent.write_text("in the way")


DAMAGES: dict[str, tuple[Damage, str]] = {
    "changed": (lambda program: program.write_bytes(b"evil"), "bin/serve was changed"),
    "changed, times put back": (_same_size, "bin/serve was changed"),
    "deleted": (lambda program: program.unlink(), "bin/serve was deleted"),
    "folder deleted": (lambda program: shutil.rmtree(program.parent), "bin was deleted, and 1 more"),
    "all deleted": (lambda program: shutil.rmtree(program.parents[1]), "releases/1.0.0"),
    "mode": (lambda program: program.chmod(0o644), "bin/serve has other permissions"),
    "setuid": (lambda program: program.chmod(0o4755), "bin/serve has other permissions"),
    "mode of a folder": (lambda program: program.parent.chmod(0o777), "bin has other permissions"),
    "replaced by a link": (_replaced_by_link, "bin/serve was replaced"),
    "replaced by a folder": (_replaced_by_folder, "bin/serve was replaced"),
    "folder replaced by a file": (_folder_replaced, "bin was replaced by something else"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_found_and_put_back_within_a_minute(host: SimulatedHost, name: str) -> None:
    """Whatever was done to it; told once with what it was; the app is not restarted for it; also while offline."""
    damage, what = DAMAGES[name]
    log = list(host.world.log)
    host.server.unreachable = True
    damage(tree(host) / "bin" / "serve")
    assert not is_whole(host)
    host.run(MINUTE)
    assert is_whole(host)
    host.server.unreachable = False
    host.run(120)
    assert [event.code for event in drifts(host)] == ["drift-repaired"]
    assert drifts(host)[0].reason.startswith(what)
    assert drifts(host)[0].version == "1.0.0"
    assert host.world.log == log
    assert host.state().health is Health.HEALTHY
    assert not list((host.folder / "staging").iterdir())


def test_what_was_only_touched_is_no_drift(host: SimulatedHost) -> None:
    """New times on the same bytes are looked into once, and nothing is told."""
    os.utime(tree(host) / "bin" / "serve", (1, 1))
    host.run(300)
    assert drifts(host) == []
    assert tree(host).joinpath("bin/serve").stat().st_mtime == 1


def test_what_changed_while_no_agent_ran_is_found_by_reading(host: SimulatedHost) -> None:
    """No mark of before is left, so the first round after a start reads every file."""
    _same_size(tree(host) / "bin" / "serve")
    host.boot()
    host.run(MINUTE)
    assert is_whole(host)
    assert drifts(host)[0].reason.startswith("bin/serve was changed")


def test_a_damaged_object_of_the_store_is_fetched_again(host: SimulatedHost) -> None:
    """FAULTS 2.5: corrupt bytes in the store and in the installed tree: found, fetched again, healed."""
    program = tree(host) / "bin" / "serve"
    stored = [path for path in (host.folder / "store" / "objects").iterdir() if path.read_bytes() == b"hello 1.0.0"]
    stored[0].write_bytes(b"hello 6.6.6")
    program.write_bytes(b"hello 6.6.6")
    host.run(MINUTE)
    assert is_whole(host)
    assert stored[0].read_bytes() == b"hello 1.0.0"
    assert "drift-not-repaired" not in [event.code for event in drifts(host)]


def test_what_cannot_be_put_back_is_told_once_and_healed_when_it_can(host: SimulatedHost) -> None:
    """Without the object and without a server: one report, growing pauses, and one report when it is over."""
    shutil.rmtree(host.folder / "store" / "objects")
    (host.folder / "store" / "objects").mkdir()
    (tree(host) / "bin" / "serve").unlink()
    host.server.unreachable = True
    host.run(900)
    assert not is_whole(host)
    host.server.unreachable = False
    host.run(1800)
    assert is_whole(host)
    assert [event.code for event in drifts(host)] == ["drift-not-repaired", "drift-repaired"]
    assert "it is tried again" in drifts(host)[0].reason


def test_drift_that_comes_back_again_and_again_is_told_three_times_in_all(host: SimulatedHost) -> None:
    """Somebody's script changes the file each minute: the third report says so, then silence and ever longer pauses."""
    put_back = 0
    for _ in range(120):
        (tree(host) / "bin" / "serve").write_bytes(b"evil")
        host.run(MINUTE)
        put_back += is_whole(host)
    assert 3 <= put_back < 15
    assert [event.code for event in drifts(host)] == ["drift-repaired", "drift-repaired", "drift-recurs"]
    assert "again and again" in drifts(host)[2].reason


@pytest.mark.parametrize("target", ["releases/nowhere", "/tmp", None])
def test_a_link_current_that_is_wrong_is_put_right(host: SimulatedHost, target: str | None) -> None:
    """Dangling, pointing elsewhere or gone: what runs is what the journal says."""
    link = host.folder / "apps" / "hello" / "current"
    link.unlink()
    if target is not None:
        link.symlink_to(target)
    host.run(MINUTE)
    assert host.live() == "1.0.0"
    assert [event.reason for event in drifts(host)] == ["current does not point to the release: put back as signed"]


def test_the_link_previous_is_put_right_with_it(host: SimulatedHost) -> None:
    """A repair does not lose what is kept to return to."""
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    folder = host.folder / "apps" / "hello"
    for name in ("current", "previous"):
        (folder / name).unlink()
    host.run(MINUTE)
    assert host.live() == "2.0.0"
    assert (folder / "previous").resolve().name.startswith("1.0.0-")


def test_shared_paths_and_strangers_are_the_apps_own(host: SimulatedHost) -> None:
    """Data that changed, a shared link that an editor replaced, and files beside the signed ones are not touched."""
    host.assign(host.publish("2.0.0", install=Install("tree", {"shared": ("data/", "bin/serve")})), generation=2)
    host.settle()
    here = tree(host)
    (here / "data" / "db").write_text("mine")
    (here / "bin" / "serve").unlink()
    (here / "bin" / "serve").write_text("edited")
    (here / "cache.tmp").write_text("mine")
    host.run(200)
    assert drifts(host) == []
    assert ((here / "data" / "db").read_text(), (here / "bin" / "serve").read_text()) == ("mine", "edited")


def test_a_unit_that_was_changed_is_put_back(host: SimulatedHost) -> None:
    """Stopped, masked and disabled units are the service's to tell; it is told as drift with what it was."""
    host.world.unit_flaws["hello"] = "hello.service is masked"
    host.run(MINUTE)
    assert host.world.unit_flaws == {}
    assert [event.reason for event in drifts(host)] == ["unit hello.service is masked: put back as signed"]


def test_a_placed_file_that_was_changed_is_put_back(host: SimulatedHost, tmp_path: Path) -> None:
    """Kind file: the file at its path on the host is looked after like the tree."""
    path = tmp_path.parent / f"{tmp_path.name}.conf"
    conf = host.publish("3.0.0", app="conf", install=Install("file", {"path": str(path)}), run=Run("none"), probes=())
    host.assign(host.wishes[0][0], conf)
    host.settle()
    for damage in (lambda: path.write_text("edited"), path.unlink):
        damage()
        host.run(MINUTE)
        assert path.read_text() == "conf 3.0.0"
    assert [event.app for event in drifts(host)] == ["conf", "conf"]


def test_an_app_that_keeps_dying_is_started_ever_more_seldom_and_told_three_times(host: SimulatedHost) -> None:
    """A crash loop burns neither the host nor the operator's patience; the state says that it is ill."""
    starts = len(host.world.log)
    for _ in range(900):
        if host.serving():
            host.world.crash("hello")
        host.run(1)
    assert len(host.world.log) - starts < 30
    assert [event.code for event in drifts(host)] == ["drift-repaired", "drift-repaired", "drift-recurs"]
    assert host.state().health is Health.UNHEALTHY
    assert "stopped by itself" in host.state().reason


def test_an_app_that_cannot_be_started_is_told_once(host: SimulatedHost) -> None:
    """The reason is the service's; when it can be started again that is told as well."""

    def broken(verb: str, path: Path) -> None:
        if verb == "start":
            raise OSError(12, "Cannot allocate memory")

    host.extra_change = broken
    host.world.crash("hello")
    host.run(600)
    host.extra_change = lambda _verb, _path: None
    host.run(200)
    assert host.serving() == "1.0.0"
    assert [event.code for event in drifts(host)] == ["drift-not-repaired", "drift-repaired"]
