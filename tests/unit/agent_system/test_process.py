"""Processes: hooks that misbehave, apps that outlive the agent, and what is found again."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from towpath_agent.errors import DiskError, StartError
from towpath_agent.system import hook as hooks
from towpath_agent.system import process as processes
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.proc import read_stat
from towpath_agent.system.process import HookResult, ProcessId, run_hook

MARK = "TOWPATH_TEST_MARK"
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
CLOCK = SystemClock()
WAIT_S = 20.0


def until(condition: object, what: str) -> None:
    """Wait for a condition; fail with `what` where it never holds."""
    deadline = Deadline(CLOCK, WAIT_S)
    while not condition():  # type: ignore[operator]
        assert not deadline.expired, what
        pause(0.005)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """Give a value of the marker; whatever still carries it at the end is killed."""
    yield str(tmp_path)
    while found := processes.find_by_env(MARK, str(tmp_path)):
        for process in found:
            processes.stop(process, 0.0, CLOCK)


def script(folder: Path, text: str, name: str = "script", mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def hook(folder: Path, text: str, mark: str = "none", timeout_s: float = WAIT_S) -> HookResult:
    return run_hook(
        [str(script(folder, text))],
        cwd=folder,
        env={**ENV, MARK: mark},
        timeout_s=timeout_s,
        clock=CLOCK,
        kill_grace_s=0.2,
    )


def test_hook_result_tells_status_and_output(tmp_path: Path) -> None:
    """Status and both outputs are reported, in the order written."""
    assert hook(tmp_path, "echo one; echo two >&2; exit 3") == HookResult(3, timed_out=False, output="one\ntwo\n")
    assert hook(tmp_path, "exit 0").ok
    assert not hook(tmp_path, "exit 1").ok
    assert hook(tmp_path, "kill -9 $$").status == -9


def test_hook_has_exactly_the_environment_and_folder_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the agent's own environment reaches a hook; its input is empty."""
    monkeypatch.setenv("AGENT_SECRET", "x")
    result = run_hook(["/usr/bin/env"], cwd=tmp_path, env={"ONLY": "this"}, timeout_s=WAIT_S, clock=CLOCK)
    assert result.output == "ONLY=this\n"
    assert hook(tmp_path, "pwd; cat").output == f"{tmp_path}\n"


def test_hook_that_hangs_is_killed_with_all_its_children(tmp_path: Path, mark: str) -> None:
    """At the deadline the whole group dies, also what ignores TERM; the output so far is reported."""
    result = hook(tmp_path, "trap '' TERM; echo begun; sleep 1000 & sleep 1000", mark, timeout_s=0.3)
    assert result.timed_out
    assert not result.ok
    assert result.output == "begun\n"
    until(lambda: not processes.find_by_env(MARK, mark), "a child of the hook still runs")


def test_nothing_of_a_hook_that_hangs_is_left_when_the_next_thing_begins(tmp_path: Path, mark: str) -> None:
    """What it put into other groups of its session is gone, too, and gone already: nobody has to wait for it."""
    apart = "import os; os.setpgid(0, 0); open('apart', 'w'); os.execlp('sleep', 'sleep', '1000')"
    result = hook(tmp_path, f'{sys.executable} -c "{apart}" & sleep 1000', mark, timeout_s=1.5)
    assert result.timed_out
    assert (tmp_path / "apart").exists()
    assert not processes.find_by_env(MARK, mark)


def test_hook_that_stopped_itself_is_killed_too(tmp_path: Path, mark: str) -> None:
    """A stopped process cannot sit out its deadline."""
    assert hook(tmp_path, "kill -STOP $$", mark, timeout_s=0.2).timed_out
    until(lambda: not processes.find_by_env(MARK, mark), "the hook still runs")


def test_hook_deadline_counts_on_the_given_clock(tmp_path: Path, mark: str) -> None:
    """Under a simulated clock a hook of an hour ends as soon as somebody lets that hour pass."""
    clock = FakeClock()
    path = script(tmp_path, "echo > begun; sleep 1000")

    def let_time_pass() -> None:
        until((tmp_path / "begun").exists, "the hook never began")
        clock.advance(3601)

    thread = threading.Thread(target=let_time_pass)
    thread.start()
    result = run_hook([str(path)], cwd=tmp_path, env={**ENV, MARK: mark}, timeout_s=3600, clock=clock, kill_grace_s=0.1)
    thread.join()
    assert result.timed_out


def test_what_systemd_takes_is_not_the_hooks_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    """A hook has its whole timeout from when it is let go, however long a control group of its own took."""
    clock, asked = FakeClock(), list[str]()

    def slow_systemd(_processes: Sequence[int], name: str) -> bool:
        asked.append(name)
        clock.advance(25)
        return False

    monkeypatch.setattr(hooks, "own_unit", lambda: "towpath-agent.service")
    monkeypatch.setattr(hooks, "set_apart", slow_systemd)
    path = script(tmp_path, "sleep 0.2; echo done")
    env = {**ENV, MARK: mark}
    result = run_hook([str(path)], cwd=tmp_path, env=env, timeout_s=WAIT_S, clock=clock, name="web")
    assert (result, asked) == (HookResult(0, timed_out=False, output="done\n"), ["web"])


def test_daemon_that_keeps_the_output_open_does_not_hang_the_agent(tmp_path: Path, mark: str) -> None:
    """A hook that leaves a daemon in a session of its own, writing to the hook's output, ends when the hook ends."""
    result = hook(
        tmp_path, "echo done; setsid sh -c 'echo > ready; sleep 1000' & while [ ! -e ready ]; do :; done", mark
    )
    assert (result.status, result.timed_out) == (0, False)
    assert result.output == "done\n"


def test_what_a_hook_leaves_in_its_group_is_ended(tmp_path: Path, mark: str) -> None:
    """A background job of a hook that has ended does not stay."""
    assert hook(tmp_path, "sleep 1000 & exit 0", mark).ok
    until(lambda: not processes.find_by_env(MARK, mark), "the background job still runs")


def test_hook_that_writes_a_gigabyte_costs_no_memory(tmp_path: Path) -> None:
    """Only the last bytes of the output are kept, and the hook ends well."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = hook(tmp_path, "head -c 1073741824 /dev/zero; echo the end", timeout_s=100)
    assert result.ok
    assert len(result.output) == 8192
    assert result.output.endswith("the end\n")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_output_that_is_no_text_is_shown_as_such(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 do not break a report."""
    assert hook(tmp_path, r"printf '\377ok'").output == "\ufffdok"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "there is no file"),
        (lambda folder: (folder / "script").mkdir(), "is no regular file"),
        (lambda folder: script(folder, "exit 0", mode=0o644), "is not executable; set its mode to 0755"),
        (lambda folder: (folder / "script").write_text("#!/no/such/shell\n"), "names the interpreter '/no/such/shell'"),
        (lambda folder: (folder / "script").write_bytes(b"#!/bin/sh\r\nexit 0\r\n"), "names the interpreter"),
        (lambda folder: (folder / "script").write_bytes(b"#!\n"), "names the interpreter ''"),
    ],
)
def test_program_that_cannot_start_says_why(tmp_path: Path, make: object, reason: str) -> None:
    """Missing, a folder, not executable, without its interpreter or with Windows line ends: each is named."""
    make(tmp_path)  # type: ignore[operator]
    if (tmp_path / "script").is_file() and "executable" not in reason:
        (tmp_path / "script").chmod(0o755)
    with pytest.raises(StartError, match=reason):
        processes.find_program("./script", folder=tmp_path, search_path="/bin")


def test_program_of_a_release_lies_inside_it(tmp_path: Path) -> None:
    """A path or a link that leaves the release is refused, even where it names a good program."""
    folder = tmp_path / "release"
    (folder / "bin").mkdir(parents=True)
    outside = script(tmp_path, "exit 0", "outside")
    (folder / "bin" / "link").symlink_to(outside)
    (folder / "bare").symlink_to(outside)
    for word in ("../outside", "bin/../../outside", "bin/link", "bare"):
        with pytest.raises(StartError, match="lies outside its release"):
            processes.find_program(word, folder=folder, search_path="/bin")


def test_bare_name_is_the_releases_own_first_then_the_systems(tmp_path: Path) -> None:
    """`sh` is the system's unless the release has a file `sh`; a name that neither has is refused."""
    assert processes.find_program("sh", folder=tmp_path, search_path="/nowhere:/bin") == Path("/bin/sh")
    own = script(tmp_path, "exit 0", "sh")
    assert processes.find_program("sh", folder=tmp_path, search_path="/bin") == own
    assert processes.find_program("/bin/sh", folder=tmp_path, search_path="") == Path("/bin/sh")
    with pytest.raises(StartError, match="neither a file of the release nor in /bin"):
        processes.find_program("no-such-program", folder=tmp_path, search_path="/bin")


def test_wrong_format_and_missing_folder_are_start_errors(tmp_path: Path) -> None:
    """What only the kernel can refuse comes as the same kind of error."""
    (tmp_path / "script").write_bytes(b"\x7fELFgarbage")
    (tmp_path / "script").chmod(0o755)
    with pytest.raises(StartError, match="cannot start"):
        run_hook([str(tmp_path / "script")], cwd=tmp_path, env=ENV, timeout_s=1, clock=CLOCK)
    with pytest.raises(StartError, match="is missing"):
        run_hook(["/bin/sh"], cwd=tmp_path / "gone", env=ENV, timeout_s=1, clock=CLOCK)
    with pytest.raises(StartError, match="null"):
        run_hook(["/bin/sh", "a\0b"], cwd=tmp_path, env=ENV, timeout_s=1, clock=CLOCK)


def start(folder: Path, mark: str, text: str, recorded: object = None) -> ProcessId:
    script(folder, text, "app")
    return processes.spawn(
        ["./app"],
        cwd=folder,
        env={**ENV, MARK: mark},
        log=folder / "log",
        **({} if recorded is None else {"recorded": recorded}),  # type: ignore[arg-type]
    )


def test_spawned_app_has_its_own_session_environment_and_log(tmp_path: Path, mark: str) -> None:
    """It runs in its folder with exactly its environment, leads a session, and what it prints is appended to its log."""
    (tmp_path / "log").write_text("before\n")
    process = start(
        tmp_path, mark, "pwd; env | sort | grep -v -e ^_= -e ^SHLVL= -e ^PWD= -e ^OLDPWD=; echo error >&2; sleep 1000"
    )
    until(lambda: "error" in (tmp_path / "log").read_text(), "the app printed nothing")
    assert (tmp_path / "log").read_text() == f"before\n{tmp_path}\nPATH={ENV['PATH']}\n{MARK}={mark}\nerror\n"
    assert processes.alive(process)
    assert processes.leads_session(process)
    assert processes.find_by_env(MARK, mark)[0] == process
    assert processes.environment(process.pid)[MARK] == mark
    processes.stop(process, 5.0, CLOCK)
    assert not processes.alive(process)
    assert processes.environment(process.pid) == {}


def test_app_that_ended_is_dead_although_nobody_reaped_it(tmp_path: Path, mark: str) -> None:
    """A zombie of ours is not alive, and is reaped on the way."""
    process = start(tmp_path, mark, "exec sleep 1000")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not processes.alive(process), "the zombie counts as alive")
    until(lambda: not Path(f"/proc/{process.pid}").exists(), "the zombie is not reaped")
    assert processes.memory(process) == 0


def test_app_of_an_agent_whose_place_was_taken_is_reaped_too() -> None:
    """A child that this program did not start, but this process did before it became this program, is no zombie for ever."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    until(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text(), "the child has not ended")
    stat = read_stat(pid)
    assert stat is not None
    assert not processes.alive(replace(stat.process, created=stat.created + 1))
    assert Path(f"/proc/{pid}").exists()
    assert not processes.alive(stat.process)
    assert not Path(f"/proc/{pid}").exists()


def test_zombie_of_another_parent_is_dead(tmp_path: Path, mark: str) -> None:
    """A process that ended and that its parent has not looked at is not alive and not found."""
    process = start(tmp_path, mark, "sh -c 'echo $$ > pid' & exec sleep 1000")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"), "no child")
    child = int((tmp_path / "pid").read_text())
    until(lambda: " Z " in Path(f"/proc/{child}/stat").read_text(), "the child is no zombie")
    assert child not in [found.pid for found in processes.find_by_env(MARK, mark)]
    stat = read_stat(child)
    assert stat is not None
    assert not processes.alive(stat.process)
    assert processes.alive(process)


def test_number_used_again_by_another_process_is_not_ours(tmp_path: Path, mark: str) -> None:
    """A pid with another start is another process: dead to us, and never stopped."""
    process = start(tmp_path, mark, "exec sleep 1000")
    stranger = ProcessId(process.pid, process.created - 1)
    assert not processes.alive(stranger)
    processes.stop(stranger, 0.0, CLOCK)
    assert processes.alive(process)


def test_stop_ends_the_whole_session(tmp_path: Path, mark: str) -> None:
    """TERM first; what ignores it, in whatever group of the session, is killed after the timeout."""
    text = "trap 'echo got TERM; exit 0' TERM\nset -m\nsh -c 'trap \"\" TERM; echo > ready; while :; do sleep 1; done' &\nwait"
    process = start(tmp_path, mark, text)
    until((tmp_path / "ready").exists, "the worker never began")
    processes.stop(process, 0.3, CLOCK)
    assert "got TERM" in (tmp_path / "log").read_text()
    assert processes.find_by_env(MARK, mark) == []


def test_stop_waits_for_an_orderly_end(tmp_path: Path, mark: str) -> None:
    """An app that needs a moment after TERM gets it, and is not killed."""
    process = start(
        tmp_path, mark, "trap 'sleep 0.3; echo orderly; exit 0' TERM; echo > ready; while :; do sleep 0.05; done"
    )
    until((tmp_path / "ready").exists, "the app never began")
    processes.stop(process, WAIT_S, CLOCK)
    assert (tmp_path / "log").read_text().endswith("orderly\n")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    processes.stop(process, WAIT_S, CLOCK)


def test_stop_ends_what_outlived_its_leader(tmp_path: Path, mark: str) -> None:
    """Workers whose leader crashed are still of its session, and end."""
    process = start(tmp_path, mark, "sleep 1000 & echo > ready; exec sleep 1000")
    until((tmp_path / "ready").exists, "the app never began")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not processes.alive(process), "the leader still lives")
    assert processes.find_by_env(MARK, mark)
    processes.stop(process, 5.0, CLOCK)
    assert processes.find_by_env(MARK, mark) == []


def test_memory_is_that_of_the_whole_tree(tmp_path: Path, mark: str) -> None:
    """Descendants count: an app cannot hide its memory in a worker."""
    python = f'exec {sys.executable} -c \'import time; data = bytearray(64 << 20); open("ready", "w").close(); time.sleep(1000)\''
    process = start(tmp_path, mark, f"sh -c '{python.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}' & wait")
    until((tmp_path / "ready").exists, "the worker never began")
    assert processes.memory(process) > 64 * 2**20


def test_nothing_runs_where_the_record_cannot_be_written(tmp_path: Path, mark: str) -> None:
    """The gate stays shut when `recorded` fails: the program's first instruction never runs."""

    def fail(_process: ProcessId) -> None:
        raise DiskError("cannot write the record")

    with pytest.raises(DiskError):
        start(tmp_path, mark, "echo > ran", fail)
    until(lambda: not processes.find_by_env(MARK, mark), "the gate still waits")
    assert not (tmp_path / "ran").exists()


def test_app_killed_at_the_gate_is_dead_and_on_record(tmp_path: Path, mark: str) -> None:
    """A process that dies before the gate opens is no error of the agent; it is simply not alive."""
    seen: list[ProcessId] = []

    def kill(process: ProcessId) -> None:
        seen.append(process)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not processes.alive(process), "still there")

    process = start(tmp_path, mark, "echo > ran", kill)
    assert seen == [process]
    assert not processes.alive(process)
    assert not (tmp_path / "ran").exists()


AGENT = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from towpath_agent.system import hook as hooks
from towpath_agent.system import process as processes
folder = Path(sys.argv[1])
def recorded(process):
    if sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
processes.spawn(["./app"], cwd=folder, env={"PATH": "/usr/bin:/bin", sys.argv[2]: str(folder)}, log=folder / "log",
                recorded=recorded)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_agent_killed_around_the_start_leaves_nothing_or_a_running_app(tmp_path: Path, mark: str, moment: str) -> None:
    """Killed before the record is done, nothing ever runs; killed after, the app runs on and is found by its marker."""
    script(tmp_path, "echo > ran; exec sleep 1000", "app")
    ended = subprocess.run([sys.executable, "-c", AGENT, str(tmp_path), MARK, moment], check=False)
    assert ended.returncode == -signal.SIGKILL
    if moment == "before":
        until(lambda: not processes.find_by_env(MARK, mark), "the gate still waits")
        assert not (tmp_path / "ran").exists()
    else:
        until((tmp_path / "ran").exists, "the app never ran")
        found = processes.find_by_env(MARK, mark)
        assert len(found) == 1
        assert processes.leads_session(found[0])


def test_search_by_marker_leaves_out_our_own_session(mark: str) -> None:
    """An agent that was itself started with the marker never finds itself or its children."""
    child = subprocess.Popen(["/bin/sleep", "1000"], env={MARK: mark})
    try:
        assert processes.find_by_env(MARK, mark) == []
    finally:
        child.kill()
        child.wait()


def test_unknown_user_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """A user that the host does not have is named."""
    script(tmp_path, "exit 0", "app")
    with pytest.raises(StartError, match="no such user; create it first"):
        processes.spawn(["./app"], cwd=tmp_path, env=ENV, log=tmp_path / "log", user="no-such-user-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_app_runs_as_its_user(tmp_path: Path) -> None:
    """The app has that user's identity and groups, and nothing of root's."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    script(tmp_path, "id -un; id -G", "app")
    processes.spawn(["./app"], cwd=tmp_path, env=ENV, log=tmp_path / "log", user="nobody")
    until(lambda: (tmp_path / "log").read_text().count("\n") == 2, "the app printed nothing")
    name, groups = (tmp_path / "log").read_text().splitlines()
    assert name == "nobody"
    assert "0" not in groups.split()


def test_boot_id_stays_while_the_machine_runs() -> None:
    """It is asked twice and the same."""
    assert processes.boot_id() == processes.boot_id() != ""
