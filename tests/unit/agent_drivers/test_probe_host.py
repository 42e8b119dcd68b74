"""Probes that look at the host: units, files, disk, memory, and who holds it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fakes.blocking import BlockingFiles
from fakes.clock import FakeClock
from fakes.probing import UP, check, context_of
from towpath.parameters import Value
from towpath_agent.probes import PROBES
from towpath_agent.probes.base import ProbeResult
from towpath_agent.probes.memory import MemoryProbe
from towpath_agent.probes.process import ProcessProbe
from towpath_agent.probes.unit import UnitProbe
from towpath_agent.system import machine
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.machine import Resident

MIB = 2**20


def unit(root: Path, printed: str, *, status: int = 0) -> ProbeResult:
    """Check a unit where systemctl prints that."""
    script = root / "systemctl"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\nexit {status}\n")
    script.chmod(0o755)
    probe = UnitProbe(Files(), SystemClock(), systemctl=(str(script),))
    return check(probe, {"unit": "app.service"}, root)


@pytest.mark.parametrize(
    ("printed", "ok", "evidence"),
    [
        (
            "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2",
            True,
            "unit app.service: active (running), 2 restarts",
        ),
        ("LoadState=loaded\nActiveState=reloading\nSubState=reload", True, "unit app.service: reloading (reload)"),
        ("LoadState=loaded\nActiveState=active\nSubState=mounted", True, "unit app.service: active (mounted)"),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7",
            False,
            "unit app.service: activating (auto-restart), result exit-code, 7 restarts",
        ),
        (
            "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=oom-kill\nNRestarts=0",
            False,
            "unit app.service: failed (failed), result oom-kill, 0 restarts",
        ),
        ("LoadState=not-found\nActiveState=inactive\nSubState=dead", False, "unit app.service: not-found"),
        ("LoadState=masked\nActiveState=inactive\nSubState=dead", False, "unit app.service: masked"),
        ("", False, "unit app.service: unknown to systemd"),
    ],
)
def test_a_unit_is_active_or_it_is_said_what_it_is(tmp_path: Path, printed: str, ok: bool, evidence: str) -> None:
    """State, sub-state, why it ended and how often it was started again, as systemd has them."""
    assert unit(tmp_path, printed) == ProbeResult(ok, evidence)


def test_a_manager_that_cannot_be_asked_is_said_so(tmp_path: Path) -> None:
    """A host without systemd, and one without systemctl, each fail with what was said."""
    said = unit(tmp_path, "System has not been booted with systemd as init system", status=1)
    assert said == ProbeResult(
        False, "unit app.service: systemctl exited 1: System has not been booted with systemd as init system"
    )
    missing = UnitProbe(Files(), SystemClock(), systemctl=("no-such-systemctl",))
    assert "missing" in check(missing, {"unit": "app.service"}, tmp_path).evidence


def test_what_is_no_unit_is_never_given_to_the_manager(tmp_path: Path) -> None:
    """A parameter cannot become an option of the command."""
    probe = UnitProbe(Files(), SystemClock(), systemctl=("/bin/echo",))
    assert "it is no unit" in check(probe, {"unit": "--host=elsewhere"}, tmp_path).evidence


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="systemctl is not on this machine")
def test_the_real_manager_is_asked_where_there_is_one(tmp_path: Path) -> None:
    """On a host that systemd has booted its basic target is active; elsewhere systemctl's own words are the evidence."""
    booted = Path("/run/systemd/system").is_dir()
    seen = check("unit", {"unit": "basic.target"}, tmp_path)
    assert seen.ok is booted, seen.evidence
    assert seen.evidence.startswith(
        "unit basic.target: active (active)" if booted else "unit basic.target: systemctl exited"
    )


def fresh(root: Path, clock: FakeClock, written_ms: int | None, **options: Value) -> ProbeResult:
    """Check a file that was written `written_ms` before now."""
    context = context_of(root)
    file = context.instance.folder / "beat"
    if written_ms is not None:
        file.write_bytes(b"x" * 100)
        os.utime(file, ns=((clock.now_unix_ms() - written_ms) * 10**6,) * 2)
    return PROBES["fresh"](Files(), clock).check({"path": "beat", "max_age": 60_000, **options}, context)


@pytest.mark.parametrize(
    ("written_ms", "options", "ok", "evidence"),
    [
        (0, {}, True, "was written 0ms ago and holds 100 B"),
        (60_000, {}, True, "60s ago"),
        (60_001, {}, False, "not within 60s: "),
        (-60_000, {}, True, "60s in the future"),
        (-60_001, {}, False, "not within 60s: "),
        (0, {"min_size": 100}, True, "holds 100 B"),
        (0, {"min_size": 101}, False, "less than 101 B: "),
        (None, {}, False, "there is no file"),
        (0, {"max_age": "soon"}, False, "cannot look at"),
        (0, {"path": "."}, False, "is no regular file"),
    ],
)
def test_a_file_is_fresh_and_large_enough_or_it_is_said_how_old_it_is(
    tmp_path: Path, written_ms: int | None, options: Mapping[str, Value], ok: bool, evidence: str
) -> None:
    """Age and size count, limits included; a date further in the future than the limit proves nothing."""
    seen = fresh(tmp_path, FakeClock(), written_ms, **options)
    assert seen.ok is ok
    assert evidence in seen.evidence


def test_a_file_that_a_release_links_to_is_followed(tmp_path: Path) -> None:
    """What survives releases is a link in their folders: the file behind it is what counts, a loop is said."""
    clock = FakeClock()
    assert fresh(tmp_path, clock, 0).ok
    folder = context_of(tmp_path).instance.folder
    (folder / "data").symlink_to(folder / "beat")
    (folder / "loop").symlink_to("loop")
    assert fresh(tmp_path, clock, 0, path="data").ok
    assert not fresh(tmp_path, clock, 0, path="loop").ok


def test_a_mount_that_hangs_costs_one_thread_and_no_more_than_the_timeout(tmp_path: Path) -> None:
    """However often it is looked at; once it answers again, so does the probe."""
    files = BlockingFiles()
    probe = PROBES["disk"](files, SystemClock())
    for _ in range(5):
        seen = probe.check({"free": 1}, context_of(tmp_path, timeout_s=0.05))
        assert not seen.ok
        assert "timed out" in seen.evidence
    assert files.looks == 1
    files.release.set()
    assert probe.check({"free": 1}, context_of(tmp_path)).ok


def test_free_space_is_compared_with_what_is_needed(tmp_path: Path) -> None:
    """By default where the app is; the evidence names the place and both sizes."""
    free = Files().disk_free(tmp_path)
    assert check("disk", {"free": free // 2}, tmp_path).ok
    seen = check("disk", {"free": free * 4}, tmp_path)
    assert not seen.ok
    assert "less than " in seen.evidence
    assert str(tmp_path / "apps" / "hello") in seen.evidence
    assert str(tmp_path) in check("disk", {"free": 1, "path": str(tmp_path)}, tmp_path).evidence


@pytest.mark.parametrize(("available", "ok"), [(100 * MIB, True), (100 * MIB - 1, False)])
def test_available_memory_is_compared_with_what_is_needed(tmp_path: Path, available: int, ok: bool) -> None:
    """The limit included; the evidence has both sizes."""
    seen = check(MemoryProbe(Files(), SystemClock(), read=lambda: available), {"available": 100 * MIB}, tmp_path)
    assert seen.ok is ok
    assert "100.0 MiB" in seen.evidence


def test_available_memory_is_the_kernels_estimate() -> None:
    """It is what /proc/meminfo calls MemAvailable, as near as two looks can be."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kernel,) = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    assert abs(machine.available_memory() - kernel) < kernel / 4


def test_psutil_is_loaded_by_a_question_and_not_before() -> None:
    """An agent whose releases ask nothing of it does not hold it."""
    code = (
        "import sys, towpath_agent.daemon; from towpath_agent.system import machine; early = 'psutil' in sys.modules; "
        "http = 'http.client' in sys.modules; machine.available_memory(); print(early, http, 'psutil' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False", "True"]


def test_the_largest_processes_of_a_tree_are_found() -> None:
    """Children of children count; what is gone has none."""
    tree = "import subprocess, sys; subprocess.run(['sh', '-c', 'echo up; read x'], stdout=2)"
    with subprocess.Popen([sys.executable, "-c", tree], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"up\n"
        found = machine.largest(process.pid, 5)
        assert {one.name for one in found} >= {"sh"}
        assert found[0].pid == process.pid
        assert found[0].rss_bytes > found[1].rss_bytes > 0
        assert machine.largest(process.pid, 1) == [machine.largest(process.pid, 5)[0]]
        process.communicate(b"\n")
    assert machine.largest(process.pid, 5) == []


def test_too_much_memory_names_who_holds_it(tmp_path: Path) -> None:
    """A person sees which process of the unit grew."""

    def largest(pid: int, count: int) -> list[Resident]:
        assert (pid, count) == (UP.pid, 3)
        return [Resident(7, "serve", 300 * MIB), Resident(9, "worker", 100 * MIB)]

    seen = check(ProcessProbe(Files(), SystemClock(), largest=largest), {"max_rss": 1}, tmp_path)
    assert seen.evidence.endswith("; most have 7 serve 300.0 MiB, 9 worker 100.0 MiB")


def test_the_fake_manager_of_other_tests_answers_the_probe(tmp_path: Path) -> None:
    """The stateful systemctl that the service is tested with says of a unit what this probe asks."""
    root = tmp_path / "manager"
    (root / "units").mkdir(parents=True)
    loaded = {"app.service": {"path": "/x", "text": ""}}
    state = {"loaded": loaded, "enabled": [], "pids": {"app.service": 2**22 + 1}, "log": []}
    (root / "state.json").write_text(json.dumps(state))
    program = (sys.executable, "-I", "-S", str(Path(__file__).parents[2] / "fakes/systemctl.py"), "--root", str(root))
    seen = check(UnitProbe(Files(), SystemClock(), systemctl=program), {"unit": "app.service"}, tmp_path)
    assert seen == ProbeResult(False, "unit app.service: failed (failed), result signal, 0 restarts")
