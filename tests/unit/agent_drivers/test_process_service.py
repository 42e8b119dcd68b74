"""Service `process`: what survives a kill of the agent at any instruction, and what is swept."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.service_port import until
from fakes.services import end_all, make_instance
from towpath.release import Run
from towpath_agent.errors import DiskFull, StartError
from towpath_agent.instance import Instance
from towpath_agent.services.process import ProcessService
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.proc import read_stat

TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """End what a test started, however the test ended."""
    yield
    end_all(tmp_path)


def service(files: Files | None = None) -> ProcessService:
    return ProcessService(files or Files(), SystemClock())


def found(instance: Instance) -> list[processes.ProcessId]:
    return processes.find_by_env("TOWPATH_APP_DIR", instance.marker)


def leaders(instance: Instance) -> list[processes.ProcessId]:
    return [process for process in found(instance) if processes.leads_session(process)]


AGENT = """
import os, signal, sys
from pathlib import Path
from fakes.services import make_instance
from towpath_agent.services.process import ProcessService
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
seen = 0
def before(verb, path):
    global seen
    if seen == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    seen += 1
ProcessService(Files(before), SystemClock()).start(make_instance(Path(sys.argv[1]), script=Path(sys.argv[3]).read_text()))
print(seen)
"""


def test_agent_killed_at_any_operation_of_a_start_leaves_one_copy_in_the_end(tmp_path: Path) -> None:
    """SIGKILL before each file operation of a start, in real agents: starting again ends with exactly one copy."""
    runs = tmp_path / "runs"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\necho x >> {runs}\nexec sleep 1000\n")
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    number = 0
    while True:
        root = tmp_path / str(number)
        instance = make_instance(root, script=script.read_text())
        try:
            runs.write_text("")
            command = [sys.executable, "-c", AGENT, str(root), str(number), str(script)]
            ended = subprocess.run(command, env=environment, capture_output=True, check=False)
            if ended.returncode == 0:
                break
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            started = service().start(instance)
            until(lambda: runs.read_text() == "x\n", "the app never ran")
            assert len(leaders(instance)) == 1
            assert service().state(instance).running
            assert started
            service().stop(instance)
            assert found(instance) == []
        finally:
            end_all(root)
        number += 1
    assert number == int(ended.stdout)
    assert number >= 5


def test_agent_killed_after_a_start_adopts_it(tmp_path: Path) -> None:
    """An app outlives the agent that started it; the next agent finds and keeps it, and can stop it."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    instance = make_instance(tmp_path, script=script.read_text())
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    subprocess.run(
        [sys.executable, "-c", AGENT, str(tmp_path), "-1", str(script)],
        env=environment,
        check=True,
        capture_output=True,
    )
    (running,) = leaders(instance)
    assert not service().start(instance)
    assert service().state(instance).pid == running.pid
    service().stop(instance)
    assert found(instance) == []


def test_record_truncated_anywhere_never_touches_the_running_app(tmp_path: Path) -> None:
    """With its record cut at any byte, lost or replaced by another shape, the app is found by its marker and adopted."""
    instance = make_instance(tmp_path)
    service().start(instance)
    pid = service().state(instance).pid
    record = instance.app_dir / "service.json"
    whole = record.read_bytes()
    garbled = [whole[:length] for length in range(len(whole))] + [b"[]", b"null", b"{}", b'{"pid": null}', b"\xff"]
    for data in garbled:
        record.write_bytes(data)
        assert service().state(instance).pid == pid
        record.write_bytes(data)
        assert not service().start(instance)
    record.unlink()
    assert not service().start(instance)
    assert service().state(instance).pid == pid
    assert len(leaders(instance)) == 1


def test_record_of_another_boot_is_not_believed(tmp_path: Path) -> None:
    """After a reboot a pid and start that fit by chance are another process, and restarts are counted anew."""
    instance = make_instance(tmp_path)
    service().start(instance)
    record = instance.app_dir / "service.json"
    raw = json.loads(record.read_bytes())
    service().stop(instance)
    stranger = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    try:
        raw |= {"pid": stranger.pid, "created": start_of(stranger.pid), "starts": 9, "boot_id": "another"}
        record.write_text(json.dumps(raw))
        assert not service().state(instance).running
        assert service().start(instance)
        assert service().state(instance).restarts == 0
        service().stop(instance)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def start_of(pid: int) -> float:
    stat = read_stat(pid)
    assert stat is not None
    return stat.created


def test_leftovers_of_a_crashed_app_end_before_it_starts_again(tmp_path: Path) -> None:
    """A worker in a session of its own that holds a port cannot stand in the way of the next start."""
    script = "#!/bin/sh\nsetsid sleep 1000 &\necho > ready\nexec sleep 1000\n"
    instance = make_instance(tmp_path, script=script)
    service().start(instance)
    until((instance.folder / "ready").exists, "the app never began")
    until(lambda: len(leaders(instance)) == 2, "no worker")
    worker = next(p for p in leaders(instance) if p.pid != service().state(instance).pid)
    os.kill(service().state(instance).pid, signal.SIGKILL)
    until(lambda: not service().state(instance).running, "the app still counts as running")
    assert service().start(instance)
    assert not processes.alive(worker)


def test_stop_ends_daemons_that_left_the_session(tmp_path: Path) -> None:
    """Whatever carries the app's marker ends with it."""
    script = "#!/bin/sh\nsetsid sleep 1000 &\necho > ready\nexec sleep 1000\n"
    instance = make_instance(tmp_path, script=script)
    service().start(instance)
    until((instance.folder / "ready").exists, "the app never began")
    service().stop(instance)
    assert found(instance) == []
    assert not (instance.app_dir / "service.json").exists()


def test_workers_forked_while_the_app_is_stopped_end_too(tmp_path: Path) -> None:
    """An app that answers TERM with a new daemon is looked for again until nothing of it is left."""
    script = "#!/bin/sh\ntrap 'setsid sh -c \"trap : TERM; sleep 1000\" & exit 0' TERM\necho > ready\nwhile :; do sleep 0.05; done\n"
    instance = make_instance(tmp_path, script=script)
    service().start(instance)
    until((instance.folder / "ready").exists, "the app never began")
    service().stop(instance)
    assert found(instance) == []


def test_app_that_ignores_term_is_killed_after_its_timeout(tmp_path: Path) -> None:
    """The release's stop timeout is an end, not a wish."""
    instance = make_instance(
        tmp_path, script="#!/bin/sh\ntrap '' TERM\necho > ready\nwhile :; do sleep 1; done\n", stop_timeout_ms=200
    )
    service().start(instance)
    until((instance.folder / "ready").exists, "the app never began")
    service().stop(instance)
    assert found(instance) == []


def test_app_sees_its_release_and_nothing_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is clean, and what identifies the app cannot be forged by a release."""
    monkeypatch.setenv("AGENT_SECRET", "x")
    script = "#!/bin/sh\nenv; pwd; echo done\n"
    instance = make_instance(tmp_path, env={"PORT": "80", "TOWPATH_APP_DIR": "/forged"}, script=script)
    service().start(instance)
    until(lambda: "done" in instance.log.read_text(), "the app printed nothing")
    text = instance.log.read_text()
    assert "AGENT_SECRET" not in text
    assert "PORT=80\n" in text
    assert f"TOWPATH_APP_DIR={instance.app_dir}\n" in text
    assert f"\n{instance.folder}\n" in text


def test_log_grows_over_restarts_and_is_put_aside_when_large(tmp_path: Path) -> None:
    """What an earlier start printed is kept; a huge log is renamed at the next start, not lost."""
    instance = make_instance(tmp_path, script="#!/bin/sh\necho line\n")
    for count in (1, 2):
        service().start(instance)
        until(lambda count=count: instance.log.read_text() == "line\n" * count, "the app printed nothing")
        until(lambda: not service().state(instance).running, "the app still runs")
    os.truncate(instance.log, 17 * 2**20)
    service().start(instance)
    until(lambda: instance.log.read_text() == "line\n", "the app printed nothing")
    assert instance.log.with_name(f"{instance.log.name}.1").stat().st_size == 17 * 2**20
    assert instance.log.parent.stat().st_mode & 0o777 == 0o700


def test_program_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """A program that is not executable is named; nothing runs and nothing is on record."""
    instance = make_instance(tmp_path)
    (instance.folder / "bin" / "app").chmod(0o644)
    with pytest.raises(StartError, match="bin/app is not executable"):
        service().start(instance)
    assert not (instance.app_dir / "service.json").exists()
    outside = replace(instance, command=("../../../../evil",), run=Run("process"))
    with pytest.raises(StartError, match="outside its release"):
        service().start(outside)
    assert found(instance) == []


def test_full_disk_starts_nothing_that_is_not_on_record(tmp_path: Path) -> None:
    """Where the record cannot be written, the program never runs, and later it starts."""

    def full(verb: str, path: Path) -> None:
        if path.parent.name == "hello" and verb == "write":
            raise OSError(errno.ENOSPC, "full")

    instance = make_instance(tmp_path, script="#!/bin/sh\necho > ran\nexec sleep 1000\n")
    with pytest.raises(DiskFull):
        service(Files(full)).start(instance)
    until(lambda: not found(instance), "the gate still waits")
    assert not (instance.folder / "ran").exists()
    assert service().start(instance)
    until((instance.folder / "ran").exists, "the app never ran")


def test_log_of_a_running_app_is_kept_short(tmp_path: Path) -> None:
    """An app that never stops printing cannot fill the disk: the old part is freed, no line printed meanwhile is lost."""
    loop = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"
    instance = make_instance(tmp_path, run=Run("process", command=("sh", "-c", loop)))
    runs = service()
    runs.start(instance)
    until(lambda: b"line 2\n" in instance.log.read_bytes(), "the app printed nothing")
    with instance.log.open("ab") as log:
        log.write(b"old\n" * (5 * 2**20))
    assert instance.log.stat().st_blocks * 512 > 16 * 2**20
    assert runs.state(instance).running
    assert instance.log.stat().st_blocks * 512 < 10 * 2**20
    seen = instance.log.read_bytes().count(b"line ")
    until(lambda: instance.log.read_bytes().count(b"line ") > seen, "the app prints no more")
    tail = instance.log.read_bytes().rpartition(b"old\n")[2].split(b"\n")[:-1]
    numbers = [int(line.removeprefix(b"line ")) for line in tail if line.startswith(b"line ")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    size = instance.log.stat().st_blocks
    runs.state(instance)
    assert instance.log.stat().st_blocks >= size  # short enough: left alone
    runs.stop(instance)
