"""Each service keeps what all promise; so does the fake."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.service_port import ServiceSuite, SlotSubject, SlotSuite, Subject
from fakes.drivers import FakeService, World
from fakes.services import end_all, make_instance
from towpath.kinds import SERVICES as KNOWN
from towpath.release import Run
from towpath_agent.instance import Instance
from towpath_agent.services import SERVICES
from towpath_agent.services.none import NoneService
from towpath_agent.services.process import ProcessService
from towpath_agent.services.systemd import SystemdService
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

SYSTEMCTL = Path(__file__).parents[1] / "fakes" / "systemctl.py"


def test_every_known_kind_has_its_driver() -> None:
    """What a publisher's lint allows, the agent can run; and nothing else."""
    assert set(SERVICES) == set(KNOWN)
    for make in SERVICES.values():
        assert make(Files(), SystemClock())


class TestFake(ServiceSuite):
    """The suite, on the fake."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return a fake on a world of its own."""
        world = World()

        def count(instance: Instance) -> int:
            return int(world.running(instance.app) is not None)

        return Subject(
            service=lambda: FakeService(world),
            instance=lambda version, **env: make_instance(tmp_path, version, env=env),
            crash=lambda instance: world.crash(instance.app),
            count=count,
        )


class TestFakeSlots(SlotSuite):
    """The suite of slots, on the fake."""

    @pytest.fixture
    def slotted(self, tmp_path: Path) -> SlotSubject:
        """Return a fake on a world of its own."""
        world = World()
        return SlotSubject(
            service=lambda: FakeService(world),
            instance=lambda version, slot: make_instance(tmp_path, version, slot=slot),
            crash=lambda instance: world.crash(instance.app, instance.slot),
            count=lambda instance: len(world.copies(instance.app)),
        )


def running(instance: Instance) -> list[processes.ProcessId]:
    """Return the leaders of what really runs for an app on this machine."""
    found = processes.find_by_env("TOWPATH_APP_DIR", instance.marker)
    return [process for process in found if processes.leads_session(process)]


def crash(instance: Instance) -> None:
    """Kill what runs for an app."""
    for process in running(instance):
        os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """End what a test started, however the test ended."""
    yield
    end_all(tmp_path)


@pytest.mark.usefixtures("_nothing_left")
class TestProcess(ServiceSuite):
    """The suite, on real processes."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the service on this machine."""
        return Subject(
            service=lambda: ProcessService(Files(), SystemClock()),
            instance=lambda version, **env: make_instance(tmp_path, version, env=env),
            crash=crash,
            count=lambda instance: len(running(instance)),
        )


@pytest.mark.usefixtures("_nothing_left")
class TestProcessSlots(SlotSuite):
    """The suite of slots, on real processes."""

    @pytest.fixture
    def slotted(self, tmp_path: Path) -> SlotSubject:
        """Return the service on this machine."""

        def crash_slot(instance: Instance) -> None:
            os.kill(ProcessService(Files(), SystemClock()).state(instance).pid, signal.SIGKILL)

        return SlotSubject(
            service=lambda: ProcessService(Files(), SystemClock()),
            instance=lambda version, slot: make_instance(tmp_path, version, slot=slot),
            crash=crash_slot,
            count=lambda instance: len(running(instance)),
        )


@pytest.mark.usefixtures("_nothing_left")
class TestSystemd(ServiceSuite):
    """The suite, on a systemctl that keeps state and runs units for real."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the service on a manager of its own."""
        manager = tmp_path / "manager"
        (manager / "units").mkdir(parents=True)

        def instance(version: str, **env: str) -> Instance:
            made = make_instance(tmp_path, version, run=Run("systemd", {"unit": "etc/hello.service"}), env=env)
            unit = made.folder / "etc" / "hello.service"
            unit.parent.mkdir(exist_ok=True)
            unit.write_text(f"[Unit]\nDescription=hello {version}\n[Service]\nExecStart=app\n[Install]\n")
            return made

        systemctl = (sys.executable, "-I", "-S", str(SYSTEMCTL), "--root", str(manager))
        return Subject(
            service=lambda: SystemdService(
                Files(),
                SystemClock(),
                systemctl=systemctl,
                journalctl=(*systemctl, "journal"),
                unit_dir=manager / "units",
            ),
            instance=instance,
            crash=crash,
            count=lambda instance: len(running(instance)),
            counts_restarts=False,
        )


def test_none_always_runs_as_it_should(tmp_path: Path) -> None:
    """Nothing is started or stopped, and state says that all is well, so nothing is repaired without end."""
    service, instance = NoneService(Files(), SystemClock()), make_instance(tmp_path, "1", run=Run("none"))
    assert not service.start(instance)
    assert service.state(instance).running
    service.stop(instance)
    assert service.state(instance).running
    assert not instance.log.exists()
