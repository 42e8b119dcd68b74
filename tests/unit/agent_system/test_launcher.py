"""The launcher, as the program that it is: which agent it starts, what it counts, and that no kill can confuse it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.enrolled import RECORD, enrolled_folder
from towpath_agent import identity, launcher
from towpath_agent.engine.selfupdate import Pointer, from_bytes, to_bytes
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import Files
from towpath_agent.system.launch import LAUNCHER, taken

WAIT_S = 30.0
# A release that does what its folder's script says, and tells how it was started.
TELLS = 'printf "%s %s %s\\n" "${0%/bin/*}" "$TOWPATH_LAUNCH" "$NOTIFY_SOCKET" >> "$DIR/starts"\n'
KEEPS = """printf '{"current": "%s", "trying": "", "deadline_s": 0, "starts": 0, "failed": "", "output": ""}' \
"$(basename "${0%/bin/*}")" > "$DIR/launch.json.new"; mv "$DIR/launch.json.new" "$DIR/launch.json"; exit 75\n"""
CALLS = "openat,write,fchmod,fsync,rename"


class Host:
    """An agent's folder with a packaged agent that ends well, and releases that do what a test says."""

    def __init__(self, folder: Path) -> None:
        """Make the packaged one."""
        self.folder = folder / "h1"
        self.folder.mkdir()
        self.base = self.program(folder / "packaged", "")

    def program(self, folder: Path, script: str) -> Path:
        path = folder / "bin/towpath-agent"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\nDIR={self.folder}\n{TELLS}{script}")
        path.chmod(0o755)
        return path

    def release(self, name: str, script: str = "") -> Path:
        return self.program(self.folder / launcher.RELEASES / name, script)

    def point(self, **facts: Any) -> None:
        (self.folder / "launch.json").write_bytes(to_bytes(Pointer(**facts)))

    @property
    def pointer(self) -> Pointer:
        found = from_bytes((self.folder / "launch.json").read_bytes())
        assert found is not None
        return found

    def argv(self, *words: str) -> list[str]:
        words = words or ("run", "--dir", str(self.folder))
        return [sys.executable, "-I", "-S", str(LAUNCHER), str(self.base), *words]

    def launch(self, *words: str, before: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *self.argv(*words)], env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, check=False, timeout=WAIT_S
        )  # fmt: skip

    def starts(self) -> list[str]:
        """Return what was started, in order: release or `packaged`, with `?` where it was on trial."""
        path = self.folder / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        found = []
        for line in lines:
            folder, said = line.split(" ", 1)
            launch = taken({"TOWPATH_LAUNCH": said.rpartition(" ")[0]})
            assert launch.release in ("", Path(folder).name)
            assert list(launch.argv) == self.argv()
            found.append(Path(folder).name + "?" * launch.trial)
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def until(condition: Callable[[], object]) -> None:
    deadline = Deadline(SystemClock(), WAIT_S)
    while not condition():
        assert not deadline.expired
        pause(0.01)


def test_without_a_pointer_the_packaged_agent_runs(host: Host) -> None:
    """Nothing was ever changed: the packaged one is started in the launcher's place, and nothing is written."""
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]
    assert sorted(path.name for path in host.folder.iterdir()) == ["starts"]


def test_a_pointer_cut_at_any_byte_starts_the_packaged_agent(host: Host) -> None:
    """Incident 15, truncated at every byte offset: whatever is left of the file names no release."""
    host.release("1.0.0-a")
    host.point(current="1.0.0-a", trying="1.1.0-b", deadline_s=9.0)
    path = host.folder / "launch.json"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        command, _, trial = launcher.choose(str(host.folder), "packaged")
        assert (command, trial) == ("packaged", False), whole[:end]
    for text in (b"[]", b"{}", b'"x"', b"\xff" * 40, b"[" * 60_000, whole.replace(b"9.0", b'"soon"')):
        path.write_bytes(text)
        assert launcher.choose(str(host.folder), "packaged")[0] == "packaged", text[:40]


def test_the_launcher_and_the_agent_understand_one_another() -> None:
    """Both have code for the file, because the launcher stands on nothing: it says the same to both."""
    pointer = Pointer("1.0.0-a", "1.1.0-b", 35.5, 2, "it died", "Traceback ...")
    assert from_bytes(json.dumps(launcher.read_bytes(to_bytes(pointer))).encode()) == pointer
    for deadline_s in (float("nan"), float("inf"), -1.0):
        assert 0 <= launcher.read_bytes(to_bytes(replace(pointer, deadline_s=deadline_s)))["deadline_s"] <= 86400


@pytest.mark.parametrize("name", ["../../../evil", "..", ".hidden", "/bin", "1.0.0-a/../../x"])
def test_a_pointer_leads_nowhere_else(host: Host, name: str) -> None:
    """Only names below the releases of the agent are followed."""
    host.program(host.folder / launcher.RELEASES / name if not name.startswith("/") else host.folder / "x", "")
    host.point(current=name)
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to somebody else needs root")
def test_a_pointer_of_somebody_else_is_not_followed(host: Host) -> None:
    """Root that looks into the folder of a user runs nothing of what that user put there."""
    host.release("1.0.0-a")
    host.point(current="1.0.0-a")
    os.chown(host.folder / "launch.json", 12345, 12345)
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]


def test_a_confirmed_release_is_started_in_the_launchers_place(host: Host) -> None:
    """Same process, no trial; other commands are those of the same version; without its program the packaged one runs."""
    program = host.release("1.0.0-a", 'echo "$$ $@"\n')
    host.point(current="1.0.0-a")
    with subprocess.Popen(host.argv(), stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]}) as child:
        assert child.communicate(timeout=WAIT_S)[0] == f"{child.pid} run --dir {host.folder}\n"
    assert host.launch("status", f"--dir={host.folder}", "-o", "json").stdout.endswith(" -o json\n")
    assert host.launch("history", TOWPATH_AGENT_DIR=str(host.folder)).stdout.endswith(" history\n")
    assert host.pointer == Pointer(current="1.0.0-a", starts=1)
    program.chmod(0o644)
    (host.folder / "starts").unlink()
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]


def test_a_release_on_trial_that_is_kept_is_started_anew_without_a_parent(host: Host) -> None:
    """It writes that it is kept and asks to be started: from then on it takes the launcher's place."""
    host.release("1.0.0-a")
    host.release("1.1.0-b", f'case "$TOWPATH_LAUNCH" in *\'"trial": true\'*) {KEEPS} ;; esac\n')
    host.point(current="1.0.0-a", trying="1.1.0-b", deadline_s=20.0)
    assert host.launch().returncode == 0
    assert host.starts() == ["1.1.0-b?", "1.1.0-b"]
    assert host.pointer == Pointer(current="1.1.0-b", starts=1)


@pytest.mark.parametrize("old", ["1.0.0-a", ""])
def test_one_that_dies_on_trial_three_times_is_given_up(host: Host, old: str) -> None:
    """What ran before is started; the file says why, and the last words of what was given up. It is not tried again."""
    host.release("1.0.0-a")
    host.release("1.1.0-b", 'echo out; echo "ImportError: boom" >&2; exit 3\n')
    host.point(current=old, trying="1.1.0-b", deadline_s=20.0)
    done = host.launch()
    assert done.returncode == 0
    assert host.starts() == ["1.1.0-b?"] * 3 + [old or "packaged"]
    assert host.pointer.failed == "it ended 3 times before it had reported, the last time with exit code 3"
    assert host.pointer.output == "out\nImportError: boom"
    assert done.stdout.count("ImportError: boom") == 3
    assert "given up" in done.stderr
    assert host.launch().returncode == 0
    assert host.starts()[4:] == [old or "packaged"]


def test_one_that_hangs_on_trial_is_ended_at_its_deadline(host: Host) -> None:
    """One deadline is enough: what hangs once is given up at once."""
    host.release("1.1.0-b", "trap '' TERM\nsleep 600 & wait\n")
    host.point(trying="1.1.0-b", deadline_s=0.5)
    assert host.launch().returncode == 0
    assert host.starts() == ["1.1.0-b?", "packaged"]
    assert host.pointer.failed == "it had not reported within 0.5s"


@pytest.mark.parametrize("broken", ["no program", "no interpreter"])
def test_a_release_that_cannot_be_started_is_given_up(host: Host, broken: str) -> None:
    """Without a program, or with one that no kernel runs."""
    program = host.release("1.1.0-b")
    if broken == "no program":
        program.chmod(0o644)
    else:
        program.write_text("#!/no/such/interpreter\n")
    host.point(trying="1.1.0-b", deadline_s=20.0)
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]
    assert (
        host.pointer.failed
        == {
            "no program": "its tree has no bin/towpath-agent",
            "no interpreter": "it ended 3 times before it had reported, the last time with exit code 127",
        }[broken]
    )


def test_a_confirmed_release_that_cannot_be_started_gives_way_to_the_packaged_one(host: Host) -> None:
    """A kernel that refuses its program leaves the host with an agent all the same."""
    host.release("1.0.0-a").write_text("#!/no/such/interpreter\n")
    host.point(current="1.0.0-a")
    assert host.launch().returncode == 0
    assert host.starts() == ["packaged"]


def test_a_confirmed_release_that_never_works_gives_way_to_the_packaged_one(host: Host) -> None:
    """Its files broke after it was kept: ten starts without a first round, then the packaged one, which can repair it."""
    host.release("1.0.0-a", "exit 1\n")
    host.point(current="1.0.0-a")
    for _ in range(launcher.MAX_STARTS):
        assert host.launch().returncode == 1
    assert host.launch().returncode == 0
    assert host.launch().returncode == 0
    assert host.starts()[-3:] == ["1.0.0-a", "packaged", "packaged"]
    assert host.pointer.trying == "1.0.0-a"
    assert "10 times and ended each time before its first round" in host.pointer.failed


@pytest.mark.parametrize("trouble", ["settings", "command line", "locked"])
def test_what_a_person_has_to_mend_says_nothing_against_a_confirmed_release(tmp_path: Path, trouble: str) -> None:
    """The real agent as a release: an end for its settings, its command line or another agent's lock is not counted."""
    host = Host(tmp_path)
    enrolled_folder(host.folder)
    host.release("1.0.0-a", f'exec {sys.executable} -c "from towpath_agent.cli import main; main()" "$@"\n')
    host.point(current="1.0.0-a", starts=launcher.MAX_STARTS - 1)
    words, says = ["run", "--dir", str(host.folder)], "another process holds it"
    if trouble == "settings":
        (host.folder / "agent.toml").write_text('sync_intervall = "60s"\n')
        says = "sync_intervall"
    elif trouble == "command line":
        words, says = [*words, "--sync-intervall", "60s"], "--sync-intervall"
    (host.folder / "trust").mkdir()
    (host.folder / identity.ROOT).write_bytes(b"{}")
    with Files().lock(host.folder / identity.LOCK):
        done = host.launch(*words, PYTHONPATH=os.pathsep.join(sys.path))
    assert says in done.stderr
    assert done.returncode == (2 if trouble == "command line" else 1)
    assert host.pointer == Pointer(current="1.0.0-a", starts=launcher.MAX_STARTS - 1)


def test_a_stop_in_the_first_round_says_nothing_against_a_confirmed_release(tmp_path: Path) -> None:
    """The real agent as a release, told to end while it waits for its server: it ends well, and the start is taken back."""
    host = Host(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(WAIT_S)
        enrolled_folder(host.folder, replace(RECORD, agent_address=f"127.0.0.1:{silent.getsockname()[1]}"))
        (host.folder / "trust").mkdir()
        (host.folder / identity.ROOT).write_bytes(b"{}")
        host.release("1.0.0-a", f'exec {sys.executable} -c "from towpath_agent.cli import main; main()" "$@"\n')
        host.point(current="1.0.0-a", starts=launcher.MAX_STARTS - 1)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(host.argv(), env=env, stdout=subprocess.DEVNULL) as child:
            asked, _ = silent.accept()
            assert host.pointer.starts == launcher.MAX_STARTS
            child.terminate()
            with asked:
                silent.close()  # what it asks in this round fails
            assert child.wait(WAIT_S) == 0
    assert host.pointer == Pointer(current="1.0.0-a", starts=launcher.MAX_STARTS - 1)


def test_a_stop_in_mid_trial_counts_for_nothing(host: Host) -> None:
    """TERM reaches what is on trial, whose code is the launcher's; that it was told to end says nothing against it."""
    host.release("1.1.0-b", 'trap "exit 9" TERM\necho up\nwhile :; do sleep 0.05; done\n')
    host.point(trying="1.1.0-b", deadline_s=20.0)
    for _ in range(4):
        with subprocess.Popen(host.argv(), stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            child.terminate()
            assert child.wait(WAIT_S) == 9
    assert host.starts() == ["1.1.0-b?"] * 4
    assert host.pointer == Pointer(trying="1.1.0-b", deadline_s=20.0)


def test_what_is_on_trial_dies_with_the_launcher(host: Host) -> None:
    """Kill -9: no agent is left that would hold the folder against the next one; the start has counted."""
    host.release("1.1.0-b", "echo $$\nexec sleep 600\n")
    host.point(trying="1.1.0-b", deadline_s=60.0)
    with subprocess.Popen(host.argv(), stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
    assert host.pointer.starts == 1


def test_the_service_manager_hears_the_launcher_and_not_the_child(host: Host, tmp_path: Path) -> None:
    """Ready and alive are told by the main process, which the launcher is during a trial; the agent tells itself later."""
    host.release("1.1.0-b", f'case "$TOWPATH_LAUNCH" in *\'"trial": true\'*) sleep 0.5; {KEEPS} ;; esac\n')
    host.point(trying="1.1.0-b", deadline_s=20.0)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        assert host.launch(NOTIFY_SOCKET=address, WATCHDOG_USEC="600000000", WATCHDOG_PID="1").returncode == 0
        manager.setblocking(False)
        heard = [manager.recv(4096).decode() for _ in range(2)]
    assert heard == ["READY=1\nSTATUS=agent 1.1.0-b on trial, start 1 of 3", "WATCHDOG=1"]
    sockets = [line.rpartition(" ")[2] for line in (host.folder / "starts").read_text().splitlines()]
    assert sockets == ["", address]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC"])
def test_killed_or_without_space_at_every_call_the_next_launch_goes_on(host: Host, tmp_path: Path, fault: str) -> None:
    """At each file operation of a trial: the file is whole, and the host has the new agent or the one before."""
    host.release("1.0.0-a")
    host.release("1.1.0-b", f'case "$TOWPATH_LAUNCH" in *\'"trial": true\'*) {KEEPS} ;; esac\n')
    log = tmp_path / "calls"
    host.point(current="1.0.0-a", trying="1.1.0-b", deadline_s=20.0)
    host.launch(before=("strace", "-y", "-qq", "-e", f"trace={CALLS}", "-o", str(log)))
    count: dict[str, int] = {}
    struck = []
    for line in log.read_text(errors="replace").splitlines():
        if (match := re.match(r"(\w+)\(", line)) is None:
            continue
        name = match[1]
        count[name] = count.get(name, 0) + 1
        if f"{host.folder}" in line and (name != "openat" or "O_CREAT" in line or "O_DIRECTORY" in line):
            struck.append((name, count[name]))
    assert len(struck) >= 10, log.read_text()
    for name, number in struck:
        (host.folder / "starts").unlink(missing_ok=True)
        host.point(current="1.0.0-a", trying="1.1.0-b", deadline_s=20.0)
        point = f"inject={name}:{fault}:when={number}"
        host.launch(before=("strace", "-qq", "-e", f"trace={name}", "-o", "/dev/null", "-e", point))
        assert from_bytes((host.folder / "launch.json").read_bytes()) is not None, (name, number)
        assert host.launch().returncode == 0, (name, number)
        assert host.starts()[-1] in ("1.1.0-b", "1.0.0-a"), (name, number, host.starts())
        if fault == "signal=KILL":
            assert host.pointer.current == "1.1.0-b", (name, number)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
