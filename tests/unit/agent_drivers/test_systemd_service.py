"""Service `systemd`: units as they were signed, a drop-in for the host, and nobody else's unit."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.services import end_all, make_instance
from fakes.trees import Crash, CrashAt, snapshot
from towpath.errors import InputError
from towpath.release import Run
from towpath_agent.errors import ServiceError, StartError
from towpath_agent.instance import Instance
from towpath_agent.services.systemd import SystemdService, _span_s
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.systemctl import Systemctl

SYSTEMCTL = Path(__file__).parents[2] / "fakes" / "systemctl.py"
UNIT = "[Service]\nExecStart=app --port ${PORT}\n[Install]\nWantedBy=multi-user.target\n"

Before = Callable[[str, Path], None]


class Host:
    """A host with a fake manager."""

    def __init__(self, root: Path) -> None:
        self.root, self.manager = root, root / "manager"
        self.units = self.manager / "units"
        self.units.mkdir(parents=True)

    def service(self, before: Before | None = None) -> SystemdService:
        systemctl = (sys.executable, "-I", "-S", str(SYSTEMCTL), "--root", str(self.manager))
        files, journal = Files(before), (*systemctl, "journal")
        return SystemdService(files, SystemClock(), systemctl=systemctl, journalctl=journal, unit_dir=self.units)

    def state(self) -> dict[str, object]:
        result: dict[str, object] = json.loads((self.manager / "state.json").read_text())
        return result

    def instance(self, version: str = "1", unit: str = "hello.service", text: str = UNIT, **env: str) -> Instance:
        run = Run("systemd", {"unit": unit}, stop_timeout_ms=4500)
        made = make_instance(self.root, version, run=run, env={"PORT": "80", **env})
        if not unit.startswith("/") and ".." not in unit:
            (made.folder / unit).parent.mkdir(exist_ok=True)
            (made.folder / unit).write_text(text)
        return made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host; what runs on it ends with the test."""
    yield Host(tmp_path)
    end_all(tmp_path)


def running(instance: Instance) -> list[str]:
    found = processes.find_by_env("TOWPATH_APP_DIR", instance.marker)
    return [processes.environment(process.pid)["TOWPATH_RELEASE"] for process in found]


def test_unit_is_installed_as_signed_with_a_drop_in_beside_it(host: Host) -> None:
    """The signed bytes stay as they are; folder, search path, stop timeout and environment come from the host."""
    instance = host.instance()
    host.service().start(instance)
    assert (host.units / "hello.service").read_text() == UNIT
    lines = (host.units / "hello.service.d" / "50-towpath.conf").read_text().splitlines()
    places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert lines[0].startswith("# towpath: {")
    assert lines[1:] == [
        "[Service]",
        f"WorkingDirectory={instance.folder}",
        f"ExecSearchPath={instance.folder}/bin:{instance.folder}:{places}",
        "TimeoutStopSec=4500ms",
        'Environment="PORT=80"',
        'Environment="TOWPATH_APP=hello"',
        f'Environment="TOWPATH_APP_DIR={instance.app_dir}"',
        f'Environment="TOWPATH_RELEASE={instance.release_id}"',
    ]
    assert running(instance) == [instance.release_id]
    assert host.state()["enabled"] == ["hello.service"]


def test_what_the_unit_sets_itself_is_left_to_it(host: Host) -> None:
    """A working directory or a stop timeout of the publisher's is not overridden; a unit without [Install] not enabled."""
    text = "[Service]\nWorkingDirectory=/\n TimeoutStopSec = 7\nExecStart=app\n"
    host.service().start(host.instance(text=text))
    drop_in = (host.units / "hello.service.d" / "50-towpath.conf").read_text()
    assert "WorkingDirectory" not in drop_in
    assert "TimeoutStopSec" not in drop_in
    assert host.state()["enabled"] == []


def test_environment_values_cannot_break_out_of_their_line(host: Host) -> None:
    """Quotes, specifiers, backslashes and line ends of a value reach the app as they are, and nothing else."""
    value = 'a "b" 100% \\ c\nExecStart=/evil'
    instance = host.instance(ODD=value)
    host.service().start(instance)
    drop_in = (host.units / "hello.service.d" / "50-towpath.conf").read_text()
    assert 'Environment="ODD=a \\"b\\" 100%% \\\\ c\\x0aExecStart=/evil"\n' in drop_in
    assert "\nExecStart" not in drop_in


def test_revert_brings_the_previous_unit_back(host: Host) -> None:
    """Stop the new, start the previous: its unit, drop-in and state are as before, another unit name included."""
    first = host.instance("1")
    service = host.service()
    service.start(first)
    before = snapshot(host.units)
    second = host.instance("2", unit="etc/other.service", text=UNIT + "# new\n")
    service.stop(first)
    service.start(second)
    assert sorted(path.name for path in host.units.iterdir()) == ["other.service", "other.service.d"]
    service.stop(second)
    service.start(first)
    assert snapshot(host.units) == before
    assert host.state()["enabled"] == ["hello.service"]
    assert running(first) == [first.release_id]


def test_stop_leaves_no_trace(host: Host) -> None:
    """A first install that is reverted leaves no unit, no drop-in, nothing enabled or loaded."""
    instance = host.instance()
    host.service().start(instance)
    host.service().stop(instance)
    assert snapshot(host.units) == {}
    assert (host.state()["enabled"], host.state()["loaded"], running(instance)) == ([], {}, [])


@pytest.mark.parametrize("place", ["units", "vendor"])
@pytest.mark.parametrize("loaded", [True, False])
def test_somebody_elses_unit_is_refused(host: Host, place: str, loaded: bool) -> None:
    """A unit of that name, the administrator's or a distribution's, is neither replaced, nor shadowed, nor stopped."""
    folder = host.manager / place
    folder.mkdir(exist_ok=True)
    (folder / "hello.service").write_text("[Service]\nExecStart=/bin/true\n")
    if loaded or place == "vendor":
        host.service()._call("daemon-reload")
    before = snapshot(host.manager)
    instance = host.instance()
    with pytest.raises(ServiceError, match="is there and not from this app") as caught:
        host.service().start(instance)
    assert caught.value.code == "unmanaged-file"
    host.service().stop(instance)
    assert {path: what for path, what in snapshot(host.manager).items() if path != "state.json"} == {
        path: what for path, what in before.items() if path != "state.json"
    }


@pytest.mark.timeout(300)  # hundreds of calls of the fake, each a new Python
def test_crash_at_any_operation_of_an_upgrade_is_survived(host: Host) -> None:
    """Killed before any file operation of stop and start, doing it again ends with the new unit and one copy."""
    one, other = host.instance("1"), host.instance("2", text=UNIT + "# new\n")

    def upgrade(old: Instance, new: Instance, before: Before | None = None) -> None:
        host.service(before).stop(old)
        host.service(before).start(new)

    host.service().start(one)
    recorder = CrashAt()
    upgrade(one, other, recorder)
    wanted = {other.release_id: snapshot(host.units)}
    upgrade(other, one)
    wanted[one.release_id] = snapshot(host.units)
    assert len(recorder.operations) > 8
    old, new = one, other
    for number in range(len(recorder.operations)):
        with pytest.raises(Crash):
            upgrade(old, new, CrashAt(number))
        upgrade(old, new)
        assert snapshot(host.units) == wanted[new.release_id], recorder.operations[number]
        assert running(new) == [new.release_id]
        old, new = new, old


def test_unit_that_was_edited_or_lost_is_put_right_without_a_restart(host: Host) -> None:
    """Starting what runs already restores its unit and leaves the process alone."""
    instance = host.instance()
    service = host.service()
    service.start(instance)
    before, pid = snapshot(host.units), service.state(instance).pid
    (host.units / "hello.service").write_text("[Service]\nExecStart=/evil\n")
    assert not service.start(instance)
    (host.units / "hello.service").unlink()
    assert not service.start(instance)
    assert snapshot(host.units) == before
    assert service.state(instance).pid == pid


def _mask(host: Host) -> None:
    (host.units / "hello.service").unlink()
    (host.units / "hello.service").symlink_to("/dev/null")


def _link(host: Host) -> None:
    (host.units / "hello.service").rename(host.root / "elsewhere")
    (host.units / "hello.service").symlink_to(host.root / "elsewhere")


def _disable(host: Host) -> None:
    path = host.manager / "state.json"
    path.write_text(json.dumps(host.state() | {"enabled": []}))


def _edit_drop_in(host: Host) -> None:
    path = host.units / "hello.service.d" / "50-towpath.conf"
    path.write_text(path.read_text() + "Nice=19\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_mask, "hello.service is masked"),
        (_link, "hello.service was changed"),
        (_disable, "unit hello.service is disabled, its release wants it enabled"),
        (lambda host: (host.units / "hello.service").write_text("[Service]\n"), "hello.service was changed"),
        (lambda host: (host.units / "hello.service").unlink(), "hello.service is gone"),
        (_edit_drop_in, "50-towpath.conf was changed"),
    ],
)
def test_drift_of_a_unit_is_named_and_start_puts_it_right(
    host: Host, damage: Callable[[Host], object], said: str
) -> None:
    """Masked, disabled, edited, lost or replaced by a link: told by name, and put right without a restart."""
    instance = host.instance()
    service = host.service()
    service.start(instance)
    assert service.drift(instance) == ""
    before = service.state(instance).pid
    damage(host)
    assert service.drift(instance).endswith(said)
    service.start(instance)
    assert service.drift(instance) == ""
    assert service.state(instance).pid == before
    assert not (host.units / "hello.service").is_symlink()


def test_a_unit_that_asks_for_no_boot_need_not_be_enabled(host: Host) -> None:
    """Without [Install] there is nothing to enable, so nothing that drifts."""
    instance = host.instance(text="[Service]\nExecStart=app\n")
    host.service().start(instance)
    assert host.service().drift(instance) == ""


def test_unit_whose_file_was_lost_is_still_stopped(host: Host) -> None:
    """Systemd runs on what it loaded; a stop ends that too, and a disable that then fails is no trouble."""
    instance = host.instance()
    host.service().start(instance)
    (host.units / "hello.service").unlink()
    host.service().stop(instance)
    assert running(instance) == []
    assert snapshot(host.units) == {}


def test_start_that_fails_tells_what_systemd_said(host: Host) -> None:
    """The message has the words of systemctl; after it, a stop leaves no trace."""
    instance = host.instance(text="[Service]\nExecStart=/no/such/program\n")
    with pytest.raises(ServiceError, match="cannot start hello.service for hello: Job for hello.service failed"):
        host.service().start(instance)
    assert not host.service().state(instance).running
    host.service().stop(instance)
    assert snapshot(host.units) == {}


def test_start_that_fails_carries_the_journals_last_lines(host: Host) -> None:
    """The error's evidence is how the unit ended and what it printed."""
    instance = host.instance(text="[Service]\nExecStart=/no/such/program\n")
    with pytest.raises(ServiceError) as caught:
        host.service().start(instance)
    assert caught.value.evidence.splitlines() == [
        "unit hello.service is inactive, Result=success, ExecMainCode=0, ExecMainStatus=0, NRestarts=0",
        "hello.service: here stands what it printed",
    ]


def test_missing_journalctl_does_not_hide_why_a_start_failed(host: Host) -> None:
    """On a host without journald the error is still systemd's, its evidence how the unit ended."""
    instance = host.instance(text="[Service]\nExecStart=/no/such/program\n")
    service = host.service()
    service._journalctl = Systemctl(SystemClock(), search_path="/nowhere", program=("no-such-journalctl",))
    with pytest.raises(ServiceError, match="cannot start hello.service for hello: Job for") as caught:
        service.start(instance)
    assert caught.value.evidence.startswith("unit hello.service is inactive")


def test_unit_that_ended_says_how(host: Host) -> None:
    """The state of a unit that was killed has systemd's result; that of one never started has none."""
    instance = host.instance()
    service = host.service()
    assert service.state(instance).why == ""
    assert service.evidence(instance) == ""
    service.start(instance)
    end_all(host.root)
    assert service.state(instance).why == (
        "unit hello.service is failed, Result=signal, ExecMainCode=2, ExecMainStatus=9, NRestarts=0"
    )


def test_drift_of_a_unit_is_told_and_put_right_by_start(host: Host) -> None:
    """Masked, edited, deleted, disabled: each is named; start mends it and leaves the process alone."""
    instance = host.instance()
    service = host.service()
    service.start(instance)
    pid = service.state(instance).pid
    unit, drop_in = host.units / "hello.service", host.units / "hello.service.d" / "50-towpath.conf"

    def mask() -> None:
        unit.unlink()
        unit.symlink_to("/dev/null")

    faults: list[tuple[Callable[[], object], str]] = [
        (mask, "unit hello.service is masked"),
        (lambda: unit.write_text("[Service]\nExecStart=/evil\n"), f"{unit} was changed"),
        (unit.unlink, f"{unit} is gone"),
        (lambda: drop_in.write_text(drop_in.read_text() + "Nice=3\n"), f"{drop_in} was changed"),
        (
            lambda: service._call("disable", "hello.service"),
            "unit hello.service is disabled, its release wants it enabled",
        ),
    ]
    for spoil, said in faults:
        assert service.drift(instance) == ""
        spoil()
        assert service.drift(instance) == said
        assert not service.start(instance)
    assert (service.drift(instance), service.state(instance).pid) == ("", pid)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1min 30s", 90.0), ("2h 5min 1.5s", 7501.5), ("500ms", 0.5), ("1d", 86400.0), ("infinity", 900.0), ("", 900.0)],
)
def test_spans_are_read_as_systemd_prints_them(text: str, seconds: float) -> None:
    """A unit may start for as long as it asks for; without end means the longest that we wait."""
    assert _span_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("command", ["daemon-reload", "enable", "start", "stop"])
def test_every_failing_command_is_an_error(host: Host, command: str) -> None:
    """No refusal of systemctl that matters goes unseen, and later all goes well."""
    instance = host.instance()
    if command == "stop":
        host.service().start(instance)
    (host.manager / "fail").write_text(command)
    act = host.service().stop if command == "stop" else host.service().start
    with pytest.raises(ServiceError, match=f"cannot {command}.*as the test asked"):
        act(instance)
    (host.manager / "fail").unlink()
    act(instance)
    assert len(running(instance)) == (0 if command == "stop" else 1)


@pytest.mark.parametrize(
    "unit", ["../hello.service", "/etc/systemd/system/hello.service", "hello", "hello.socket", "a@b.service", "x/.service",
             "-x.service", "gone/hello.service", ""],
)  # fmt: skip
def test_option_that_is_no_unit_of_the_release_is_refused(host: Host, unit: str) -> None:
    """A path that leaves the release, another kind of unit, a strange name or a missing file: nothing is installed."""
    instance = host.instance(unit=unit) if unit.startswith(("/", "..")) else host.instance()
    changed = Run("systemd", {"unit": unit})
    with pytest.raises(InputError, match="unit"):
        host.service().start(replace(instance, run=changed))
    assert snapshot(host.units) == {}


def test_unit_that_is_a_link_is_refused(host: Host) -> None:
    """A link named as the unit could bring in a file of the host."""
    instance = host.instance()
    (instance.folder / "hello.service").unlink()
    (instance.folder / "hello.service").symlink_to("bin/app")
    with pytest.raises(InputError, match="holds no unit file"):
        host.service().start(instance)


def test_missing_systemctl_is_an_error_with_its_name(tmp_path: Path) -> None:
    """On a host without systemd the message says what is missing."""
    host = Host(tmp_path)
    service = SystemdService(Files(), SystemClock(), systemctl=("no-such-systemctl",), unit_dir=host.units)
    with pytest.raises(StartError, match="no-such-systemctl"):
        service.start(host.instance())
