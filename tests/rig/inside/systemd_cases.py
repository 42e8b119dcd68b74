"""Cases for a real systemd. Run by tests/rig/test_systemd_host.py inside a host of its own, never on this machine.

Collected by name only: pytest does not look into files that do not begin with `test_`.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.service_port import ServiceSuite, Subject, until
from fakes.services import make_instance
from fakes.trees import snapshot
from towpath.release import Run
from towpath_agent.errors import ServiceError
from towpath_agent.instance import Instance
from towpath_agent.services.systemd import UNIT_DIR, SystemdService
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

UNIT = "hello.service"
INSTALL = "[Install]\nWantedBy=multi-user.target\n"
SERVE = f"[Service]\nExecStart=app\n{INSTALL}"
NOTIFY = "#!/bin/sh\necho getting ready\nsleep 0.5\nsystemd-notify --ready --pid=parent\nexec sleep 1000\n"
LIMITS = (
    "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2\n[Service]\nExecStart=app\nRestart=always\nRestartSec=20ms\n"
)


def service() -> SystemdService:
    return SystemdService(Files(), SystemClock())


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def show(name: str) -> str:
    return systemctl("show", f"--property={name}", "--value", UNIT).strip()


def release(root: Path, version: str = "1", text: str = SERVE, script: str | None = None, **env: str) -> Instance:
    run = Run("systemd", {"unit": f"etc/{UNIT}"}, stop_timeout_ms=3000)
    script = script if script is not None else "#!/bin/sh\nexec sleep 1000\n"
    made = make_instance(root, version, run=run, script=script, env=env)
    unit = made.folder / "etc" / UNIT
    unit.parent.mkdir(exist_ok=True)
    unit.write_text(text)
    return made


def running(instance: Instance) -> list[processes.ProcessId]:
    """Return what really runs for an app, its main processes only."""
    pid = int(show("MainPID"))
    # For Type=simple a unit counts as started before its process has become the program.
    until(lambda: not pid or processes.environment(pid).get("TOWPATH_APP_DIR"), "the process never became the app")
    found = processes.find_by_env("TOWPATH_APP_DIR", instance.marker)
    return [one for one in found if processes.leads_session(one)]


def crash(instance: Instance) -> None:
    for process in running(instance):
        os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    """Leave the host as it was, and see that the service did."""
    before = snapshot(UNIT_DIR)
    yield
    (UNIT_DIR / UNIT).unlink(missing_ok=True) if (UNIT_DIR / UNIT).is_symlink() else None
    service().stop(release(tmp_path))
    assert snapshot(UNIT_DIR) == before
    assert show("LoadState") == "not-found"


class TestSystemdForReal(ServiceSuite):
    """The suite of all services, on a real systemd."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the service of this host."""
        return Subject(
            service=service,
            instance=lambda version, **env: release(tmp_path, version, **env),
            crash=crash,
            count=lambda instance: len(running(instance)),
            counts_restarts=False,
        )


def test_a_unit_is_enabled_and_has_its_folder_and_environment(tmp_path: Path) -> None:
    """What the drop-in adds is what systemd runs with: clean environment, working directory, stop timeout."""
    instance = release(tmp_path, PORT='80 "%h" \\ $x')
    service().start(instance)
    assert show("UnitFileState") == "enabled"
    pid = service().state(instance).pid
    assert processes.environment(pid)["PORT"] == '80 "%h" \\ $x'
    assert Path(f"/proc/{pid}/cwd").readlink() == instance.folder
    assert show("TimeoutStopUSec") == "3s"
    assert service().drift(instance) == ""


def test_a_revert_brings_back_the_unit_and_drop_in_to_the_byte(tmp_path: Path) -> None:
    """After another release with another unit, the previous one's files and what systemd has loaded are as before."""
    first = release(tmp_path, "1", PORT="80")
    second = release(tmp_path, "2", text=f"[Service]\nExecStart=app\nUMask=0027\n{INSTALL}", PORT="81")
    service().start(first)
    before, loaded = snapshot(UNIT_DIR), systemctl("cat", UNIT)
    service().stop(first)
    service().start(second)
    assert show("UMask") == "0027"
    service().stop(second)
    service().start(first)
    assert snapshot(UNIT_DIR) == before
    assert (systemctl("cat", UNIT), show("UMask"), show("NeedDaemonReload")) == (loaded, "0022", "no")
    assert service().state(first).running


def test_a_unit_that_hits_its_start_limit_is_failed_with_its_reason(tmp_path: Path) -> None:
    """Once systemd gives up, the state says how it ended, and the evidence has what the app printed."""
    instance = release(tmp_path, text=LIMITS, script="#!/bin/sh\necho no database here\nexit 3\n")
    service().start(instance)
    until(lambda: show("ActiveState") == "failed", "systemd never gave up")
    state = service().state(instance)
    assert not state.running
    assert state.why.startswith(f"unit {UNIT} is failed, Result=exit-code, ExecMainCode=1, ExecMainStatus=3")
    until(lambda: "no database here" in service().evidence(instance), "the journal has no line of it")
    assert "Start request repeated too quickly" in service().evidence(instance)


def test_our_own_start_does_not_fall_to_the_limit_of_the_last_release(tmp_path: Path) -> None:
    """A start limit that was hit is reset before a start, however often it has to be started."""
    bad = release(tmp_path, "1", text=LIMITS, script="#!/bin/sh\nexit 3\n")
    service().start(bad)
    until(lambda: show("ActiveState") == "failed", "systemd never gave up")
    assert "failed" in systemctl("start", UNIT)
    assert service().start(bad)
    service().stop(bad)
    good = release(tmp_path, "2", text=LIMITS)
    for _ in range(4):
        assert service().start(good)
        crash(good)
        until(lambda: show("SubState") == "running", "systemd did not start it again")
        systemctl("kill", "--signal=KILL", UNIT)
        systemctl("stop", UNIT)
    assert service().start(good)
    assert service().state(good).running


def test_a_notifying_unit_is_started_only_when_it_is_ready(tmp_path: Path) -> None:
    """Start returns once READY was said, not before."""
    text = f"[Service]\nType=notify\nNotifyAccess=all\nExecStart=app\n{INSTALL}"
    instance = release(tmp_path, text=text, script=NOTIFY)
    clock = SystemClock()
    began_s = clock.monotonic()
    assert service().start(instance)
    assert clock.monotonic() - began_s >= 0.5
    assert service().state(instance).running
    assert show("StatusErrno") == "0"


def test_a_unit_that_is_never_ready_times_out_with_its_last_lines(tmp_path: Path) -> None:
    """The error has systemd's words, and as evidence the result and what the app printed."""
    text = f"[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=app\n{INSTALL}"
    instance = release(tmp_path, text=text, script="#!/bin/sh\necho waiting for a lock\nexec sleep 1000\n")
    with pytest.raises(ServiceError, match=f"cannot start {UNIT} for hello: .*a timeout was exceeded") as caught:
        service().start(instance)
    assert f"unit {UNIT} is failed, Result=timeout" in caught.value.evidence
    assert "waiting for a lock" in caught.value.evidence
    assert not service().state(instance).running
    assert running(instance) == []


def test_a_unit_may_take_as_long_to_start_as_it_asks_for(tmp_path: Path) -> None:
    """The wait is the unit's own TimeoutStartSec and a little more, not a number of ours."""
    text = "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=2min 3s\nExecStart=app\n"
    instance = release(tmp_path, text=text, script=NOTIFY)
    service().start(instance)
    assert show("TimeoutStartUSec") == "2min 3s"


def test_a_bad_unit_is_refused_with_systemds_words(tmp_path: Path) -> None:
    """A unit that systemd cannot load ends in an error that says so."""
    instance = release(tmp_path, text="[Service]\nNonsense\n")
    with pytest.raises(ServiceError, match=f"cannot start {UNIT} for hello: .*bad unit file setting"):
        service().start(instance)
    assert not service().state(instance).running


@pytest.mark.parametrize("stopped", [False, True])
def test_a_masked_unit_is_drift_and_start_puts_it_right(tmp_path: Path, stopped: bool) -> None:
    """A link to /dev/null in place of the unit is told, and replaced by the release's unit again."""
    instance = release(tmp_path)
    service().start(instance)
    pid = service().state(instance).pid
    (UNIT_DIR / UNIT).unlink()
    assert "created" in systemctl("mask", UNIT).lower()
    if stopped:
        systemctl("stop", UNIT)
    assert service().drift(instance) == f"unit {UNIT} is masked"
    assert service().start(instance) is stopped
    assert service().drift(instance) == ""
    assert show("LoadState") == "loaded"
    assert service().state(instance).running
    assert (service().state(instance).pid == pid) is not stopped


def test_a_disabled_unit_is_drift_and_start_enables_it_again(tmp_path: Path) -> None:
    """A unit that would not come back at boot is told, and enabled without touching what runs."""
    instance = release(tmp_path)
    service().start(instance)
    pid = service().state(instance).pid
    systemctl("disable", UNIT)
    assert service().drift(instance) == f"unit {UNIT} is disabled, its release wants it enabled"
    assert not service().start(instance)
    assert (service().drift(instance), service().state(instance).pid) == ("", pid)
    assert show("UnitFileState") == "enabled"


def test_edited_and_deleted_files_are_drift_and_start_puts_them_right(tmp_path: Path) -> None:
    """Unit and drop-in are compared with the release; a unit that needs no enabling is none."""
    instance = release(tmp_path, text="[Service]\nExecStart=app\n")
    service().start(instance)
    drop_in = UNIT_DIR / f"{UNIT}.d" / "50-towpath.conf"
    (UNIT_DIR / UNIT).write_text("[Service]\nExecStart=/bin/false\n")
    assert service().drift(instance) == f"{UNIT_DIR / UNIT} was changed"
    assert not service().start(instance)
    drop_in.write_text(drop_in.read_text() + "Nice=3\n")
    assert service().drift(instance) == f"{drop_in} was changed"
    assert not service().start(instance)
    (UNIT_DIR / UNIT).unlink()
    assert service().drift(instance) == f"{UNIT_DIR / UNIT} is gone"
    assert not service().start(instance)
    assert service().drift(instance) == ""


def test_a_unit_of_the_distribution_is_refused(tmp_path: Path) -> None:
    """A unit that systemd knows from elsewhere is not shadowed."""
    vendor = Path("/usr/lib/systemd/system") / UNIT
    vendor.write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    try:
        systemctl("daemon-reload")
        with pytest.raises(ServiceError, match="is there and not from this app"):
            service().start(release(tmp_path))
    finally:
        vendor.unlink()
        systemctl("daemon-reload")
