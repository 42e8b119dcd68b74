"""Installer `exec`: drivers that misbehave, come from the wrong place, change, or are left over."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.trees import Tree, make_plan, snapshot
from towpath.errors import InputError, Refusal
from towpath.parameters import Value
from towpath.release import Install
from towpath_agent.errors import DriverBusy, DriverError, StartError
from towpath_agent.installers.base import InstallPlan, current_release
from towpath_agent.installers.driver import DRIVER_VARIABLE
from towpath_agent.installers.exec import ExecInstaller
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_by_env

# Writes each call to $HOME/../../../../log (the test's folder), then does as its body says.
SHELL = """#!/bin/sh
read -r request
printf '%s %s\\n' "$1" "$request" >> "@LOG@"
@BODY@
"""


class Host:
    """An agent's folder with drivers whose calls are logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "agent"
        self.log = folder / "log"
        (self.root / "drivers").mkdir(parents=True)

    def driver(self, body: str, name: str = "d") -> Path:
        path = self.root / "drivers" / name
        path.write_text(SHELL.replace("@LOG@", str(self.log)).replace("@BODY@", body))
        path.chmod(0o755)
        return path

    def plan(
        self, version: str = "1", driver: str = "d", timeout: int = 20_000, **parameters: Value
    ) -> tuple[InstallPlan, Tree]:
        tree = Tree({"bin/install": self._own(version), "data": version.encode()}, {"bin/install": 0o755})
        options: dict[str, Value] = {"driver": driver, "timeout": timeout, "options": ("where=${where}",)}
        return make_plan(self.root, tree, version, Install("exec", options), **{"where": "here", **parameters}), tree

    def _own(self, version: str) -> bytes:
        body = f'echo "own {version}" >> "{self.log}"\n[ "$1" != verify ] || echo \'{{"type":"result","ok":true}}\''
        return SHELL.replace("@LOG@", str(self.log)).replace("@BODY@", body).encode()

    def installer(self) -> ExecInstaller:
        return ExecInstaller(Files(), SystemClock(), self.folder / "system-drivers")

    def go(self, version: str = "1", previous: str | None = None, **options: str | int) -> InstallPlan:
        plan, tree = self.plan(version, **options)  # type: ignore[arg-type]
        self.installer().stage(plan, tree.materialise(Files()))
        before = None if previous is None else self.plan(previous)[0].release_id
        self.installer().switch(plan, before)
        return plan

    def calls(self) -> list[tuple[str, dict[str, object]]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        split = (line.partition(" ") for line in lines if not line.startswith("own "))
        return [(verb, json.loads(request)) for verb, _, request in split]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host without drivers yet."""
    return Host(tmp_path)


def test_a_driver_is_told_all_that_it_needs(host: Host) -> None:
    """The request names release, folders, parameters and the driver's options with their holes filled."""
    host.driver("")
    first = host.go("1", where="/srv")
    second = host.go("2", "1", where="/srv")
    assert [verb for verb, _ in host.calls()] == ["check", "switch", "check", "switch"]
    assert host.calls()[-1][1] == {
        "protocol": 1,
        "verb": "switch",
        "app": "hello",
        "version": "2",
        "release": second.release_id,
        "folder": str(second.folder),
        "previous": {"release": first.release_id, "folder": str(first.folder)},
        "state": str(second.app_dir / "driver"),
        "parameters": {"where": "/srv"},
        "options": {"where": "/srv"},
    }


def test_a_driver_gets_a_clean_environment_and_its_own_folder(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the agent's environment reaches it; it runs in its state folder."""
    monkeypatch.setenv("SECRET", "of the agent")
    host.driver(f'{{ env; pwd; }} > "{host.folder}/seen"')
    plan = host.go()
    lines = (host.folder / "seen").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines[:-1]} - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names == {"PATH", "HOME", "LANG", "TOWPATH_APP", "TOWPATH_RELEASE", "TOWPATH_APP_DIR", DRIVER_VARIABLE}
    assert lines[-1] == str(plan.app_dir / "driver")


def test_a_missing_driver_is_said_before_anything_is_written(host: Host) -> None:
    """The error names the driver and the folders into which it belongs."""
    plan, tree = host.plan(driver="nowhere")
    with pytest.raises(InputError, match="no driver 'nowhere'; put one into .*/agent/drivers or ") as caught:
        host.installer().stage(plan, tree.materialise(Files()))
    assert caught.value.code == "no-driver"
    assert snapshot(host.root / "apps") == {}


def test_a_refused_check_touches_nothing_that_is_live(host: Host) -> None:
    """What the driver says no to never gets to the switch; its reason and its stderr reach the report."""
    host.driver("""echo 'looking at the disk' >&2; echo '{"type":"error","message":"no room here"}'; exit 1""")
    plan, tree = host.plan()
    with pytest.raises(DriverError, match="cannot check hello 1 with driver .*: it exited 1: no room here") as caught:
        host.installer().stage(plan, tree.materialise(Files()))
    assert caught.value.evidence == "looking at the disk\n"
    assert current_release(plan.app_dir) is None


def test_a_driver_that_is_not_its_owners_alone_is_refused(host: Host) -> None:
    """Writable by others, or in a folder that is: whoever can write there could run anything as the agent."""
    path = host.driver("")
    path.chmod(0o775)
    with pytest.raises(Refusal, match="may be written by others") as caught:
        host.go()
    assert caught.value.code == "unsafe-driver"
    path.chmod(0o755)
    path.parent.chmod(0o777)
    with pytest.raises(Refusal, match=f"{path.parent} may be written by others"):
        host.go()
    path.parent.chmod(0o755)
    host.go()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_driver_of_another_user_is_refused_also_behind_a_link(host: Host) -> None:
    """A link in the operator's folder is as trustworthy as what it leads to."""
    path = host.driver("", name="real")
    elsewhere = host.folder / "elsewhere"
    path.rename(elsewhere)
    (host.root / "drivers" / "d").symlink_to(elsewhere)
    host.go()
    os.chown(elsewhere, 12345, 0)
    with pytest.raises(Refusal, match="belongs to user 12345") as caught:
        host.go()
    assert caught.value.code == "unsafe-driver"


def test_the_agents_own_folder_of_drivers_is_looked_into_first(host: Host) -> None:
    """What the operator put into DIR/drivers wins over a package's."""
    system = host.folder / "system-drivers"
    system.mkdir()
    host.driver("exit 1").rename(system / "d")
    with pytest.raises(DriverError):
        host.go()
    host.driver("")
    host.go()


def test_a_driver_of_the_release_is_run_from_its_own_tree(host: Host) -> None:
    """`./bin/install` is signed with the release; each release runs its own, on the way back too."""
    first = host.go("1", driver="./bin/install")
    host.go("2", "1", driver="./bin/install")
    assert host.installer().verify(first)
    host.installer().switch(first, None)
    assert host.installer().verify(first)
    owners = [line for line in host.log.read_text().splitlines() if line.startswith("own ")]
    assert owners == ["own 1", "own 1", "own 2", "own 2", "own 1", "own 1"]


def test_a_driver_of_the_release_may_not_lead_out_of_it(host: Host) -> None:
    """A link in the tree to a program of the host is no program of the release."""
    plan, _ = host.plan(driver="./data")
    Files().make_dirs(plan.folder, 0o755)
    (plan.folder / "data").symlink_to("/bin/sh")
    with pytest.raises(StartError, match="outside its release"):
        host.installer().switch(plan, None)


def test_another_driver_takes_over_only_once_the_first_took_its_things_away(host: Host) -> None:
    """The old driver is asked with what it was told; the way back does the same."""
    host.driver("", name="a")
    host.driver("", name="b")
    first = host.go("1", driver="a", where="old")
    host.go("2", "1", driver="b", where="new")
    asked = [(verb, request["version"], request["options"]) for verb, request in host.calls()[2:]]
    assert asked == [
        ("check", "2", {"where": "new"}),
        ("unswitch", "1", {"where": "old"}),
        ("switch", "2", {"where": "new"}),
    ]
    host.installer().switch(first, None)
    asked = [(verb, request["version"], request["options"]) for verb, request in host.calls()[5:]]
    assert asked == [("unswitch", "2", {"where": "new"}), ("switch", "1", {"where": "old"})]


def test_a_first_driver_that_cannot_take_its_things_away_stops_the_switch(host: Host) -> None:
    """Nothing goes live beside what could not be removed; later both are done."""
    host.driver(f'[ "$1" != unswitch ] || [ -e "{host.folder}/free" ] || exit 1', name="a")
    host.driver("", name="b")
    first = host.go("1", driver="a")
    with pytest.raises(DriverError, match="cannot unswitch"):
        host.go("2", "1", driver="b")
    assert current_release(first.app_dir) == first.release_id
    (host.folder / "free").touch()
    host.go("2", "1", driver="b")
    assert [verb for verb, _ in host.calls()][-2:] == ["unswitch", "switch"]


def test_a_driver_that_failed_half_way_is_asked_to_clear_up(host: Host) -> None:
    """What it may have put in place before it failed is on record already, so that a reverted install leaves nothing."""
    host.driver('[ "$1" != switch ] || exit 1')
    with pytest.raises(DriverError, match="cannot switch"):
        host.go()
    host.installer().unswitch(host.plan()[0])
    assert [verb for verb, _ in host.calls()] == ["check", "switch", "unswitch"]


def test_nothing_is_asked_of_a_driver_that_placed_nothing(host: Host) -> None:
    """A removal of what never went live works also where the driver is gone from the host."""
    path = host.driver("")
    plan, tree = host.plan()
    host.installer().stage(plan, tree.materialise(Files()))
    path.unlink()
    host.installer().unswitch(plan)
    assert [verb for verb, _ in host.calls()] == ["check"]


def test_a_garbled_record_lets_the_plans_own_driver_clear_up(host: Host) -> None:
    """Truncated at any byte, the record still leads to an `unswitch`, which is harmless where nothing is."""
    host.driver("")
    plan = host.go()
    record = plan.app_dir / "exec.json"
    whole = record.read_bytes()
    for length in range(0, len(whole), 7):
        host.log.unlink()
        record.write_bytes(whole[:length])
        host.installer().unswitch(plan)
        assert [(verb, request["release"]) for verb, request in host.calls()] == [("unswitch", plan.release_id)]


def test_a_record_survives_moving_the_agents_folder(host: Host) -> None:
    """The request is told with the folders of today."""
    host.driver("")
    host.go()
    host.root.rename(host.folder / "moved")
    host.root = host.folder / "moved"
    plan = host.plan()[0]
    host.installer().unswitch(plan)
    assert host.calls()[-1][1]["folder"] == str(plan.folder)


def test_a_driver_that_is_busy_is_asked_again(host: Host) -> None:
    """Exit code 75 means later: the call is repeated, and only the time of the release ends that."""
    host.driver(f'[ "$1" = check ] || [ -e "{host.folder}/again" ] || {{ touch "{host.folder}/again"; exit 75; }}')
    host.go()
    assert [verb for verb, _ in host.calls()] == ["check", "switch", "switch"]


def test_a_driver_that_stays_busy_is_given_up_as_retryable(host: Host) -> None:
    """The end of the time is no failure of the release alone: it says that trying later can help."""
    host.driver("echo 'the lock is taken' >&2; exit 75")
    with pytest.raises(DriverBusy, match="try again later: the lock is taken") as caught:
        host.go(timeout=700)
    assert caught.value.retryable


def test_a_driver_that_hangs_is_ended_with_all_it_started(host: Host) -> None:
    """At its deadline the whole group goes; what it was doing is said."""
    host.driver("""echo '{"type":"progress","message":"counting to infinity"}'; sleep 600 & wait""")
    with pytest.raises(DriverError, match="did not end within 0.3s; its last progress: counting to infinity") as caught:
        host.go(timeout=300)
    assert caught.value.code == "driver-timeout"
    assert find_by_env(DRIVER_VARIABLE, str(host.plan()[0].app_dir / "driver")) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo done", "it wrote 'done' to stdout, which is no line of the protocol"),
        ("""echo '{"type":"result","ok":"yes"}'""", "which is no line of the protocol"),
        ("""echo '{"type":"result","ok":true}'; echo '{"type":"result","ok":false}'""", "which is no line"),
        ("echo '[]'", "which is no line of the protocol"),
        ("head -c 100000 /dev/zero", "it wrote more than 65536 bytes to stdout"),
        ("[ $1 != verify ]", "it exited 1: no reason given"),
        ("true", "it gave no result"),
        ("kill -9 $$", "it was killed by signal 9"),
    ],
)
def test_a_driver_that_does_not_speak_the_protocol_is_named(host: Host, body: str, reason: str) -> None:
    """Chatter on stdout, two results, endless output and silence are faults of the driver, each said as such."""
    host.driver("")
    plan = host.go()
    host.driver(body)
    with pytest.raises(DriverError, match=reason):
        host.installer().verify(plan)


def test_verify_asks_only_about_what_was_put_in_place_like_this(host: Host) -> None:
    """Staged but not live, or live with other options, is not the driver's to judge; its word is the answer."""
    host.driver("""[ "$1" != verify ] || echo '{"type":"result","ok":false,"reason":"bent"}'""")
    plan = host.go("1")
    other, tree = host.plan("2")
    host.installer().stage(other, tree.materialise(Files()))
    assert host.installer().verify(other)
    assert host.installer().verify(host.plan("1", where="else")[0])
    assert not host.installer().verify(plan)


def test_a_driver_that_an_agent_left_running_is_ended_first(host: Host) -> None:
    """After kill -9 of the agent its driver may still work: never two of them at once."""
    host.driver("")
    plan = host.go()
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={DRIVER_VARIABLE: str(plan.app_dir / "driver")},
        start_new_session=True,
    )
    try:
        deadline = Deadline(SystemClock(), 20)
        while not find_by_env(DRIVER_VARIABLE, str(plan.app_dir / "driver")):
            assert not deadline.expired
            pause(0.01)
        host.installer().switch(plan, None)
        assert left.wait(timeout=20) in (-signal.SIGKILL, -signal.SIGTERM)
    finally:
        left.kill()
        left.wait()


def test_an_option_with_an_undeclared_parameter_is_named(host: Host) -> None:
    """A hole that nothing fills is an error with its name."""
    host.driver("")
    tree = Tree({"a": b""})
    install = Install("exec", {"driver": "d", "options": ("where=${nowhere}",)})
    with pytest.raises(Exception, match="option 'where' names 'nowhere'"):
        host.installer().stage(make_plan(host.root, tree, "1", install), tree.materialise(Files()))
