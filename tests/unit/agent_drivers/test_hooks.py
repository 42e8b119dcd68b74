"""Hooks: what they see, and how one that cannot run is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.service_port import until
from fakes.services import end_all, make_instance
from towpath.errors import Broken
from towpath.release import Hook
from towpath_agent.errors import StartError
from towpath_agent.hooks import HookRunner
from towpath_agent.instance import Instance
from towpath_agent.system import process as processes
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.process import HookResult


def run(instance: Instance, *command: str, timeout_ms: int = 20_000, **parameters: int | str) -> HookResult:
    return HookRunner(SystemClock()).run(Hook("prepare", command, timeout_ms), instance, parameters)


def test_hook_sees_the_release_and_nothing_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, the release's variables, its point, what identifies the app, and no variable of the agent's."""
    monkeypatch.setenv("AGENT_SECRET", "x")
    instance = make_instance(tmp_path, env={"MODE": "fast", "TOWPATH_APP": "forged"}, script="#!/bin/sh\npwd\nenv\n")
    lines = run(instance, "bin/app").output.splitlines()
    assert lines[0] == str(instance.folder)
    variables = dict(line.split("=", 1) for line in lines[1:])
    for noise in ("_", "SHLVL", "OLDPWD"):
        variables.pop(noise, None)
    assert variables == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(instance.app_dir),
        "LANG": "C.UTF-8",
        "PWD": str(instance.folder),
        "MODE": "fast",
        "TOWPATH_APP": "hello",
        "TOWPATH_RELEASE": instance.release_id,
        "TOWPATH_APP_DIR": str(instance.app_dir),
        "TOWPATH_HOOK": "prepare",
    }


def test_parameters_fill_words_and_never_become_more_of_them(tmp_path: Path) -> None:
    """A value with spaces or holes of its own stays one word, and is not expanded again."""
    instance = make_instance(tmp_path, script='#!/bin/sh\nfor word; do echo "[$word]"; done\n')
    result = run(instance, "bin/app", "--name=${name}", "${port}", name="a b; ${port} $(id)", port=80)
    assert result.output == "[--name=a b; ${port} $(id)]\n[80]\n"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("bin/gone", "there is no file"),
        ("bin/plain", "bin/plain is not executable; set its mode to 0755"),
        ("../../../../outside", "lies outside its release"),
        ("bin/elf", "Exec format error"),
    ],
)
def test_hook_that_cannot_run_names_point_and_file(tmp_path: Path, word: str, reason: str) -> None:
    """Incident 8, hook that misbehaves: the message begins with the hook's point and says what is wrong with which file."""
    instance = make_instance(tmp_path)
    (instance.folder / "bin" / "plain").write_text("#!/bin/sh\n")
    (instance.folder / "bin" / "plain").chmod(0o644)
    (instance.folder / "bin" / "elf").write_bytes(b"\x7fELF")
    (instance.folder / "bin" / "elf").chmod(0o755)
    (tmp_path / "outside").write_text("#!/bin/sh\n")
    with pytest.raises(StartError, match=f"cannot run hook prepare: .*{reason}") as caught:
        run(instance, word)
    assert caught.value.code == "hook-not-runnable"
    assert word.rpartition("/")[2] in str(caught.value)


def test_hook_is_killed_at_its_timeout(tmp_path: Path) -> None:
    """Incident 8, hook that misbehaves: A hook that hangs ends with what it said so far, and nothing of it stays."""
    instance = make_instance(tmp_path, script="#!/bin/sh\necho begun\nsleep 1000 & sleep 1000\n")
    result = run(instance, "bin/app", timeout_ms=300)
    assert (result.timed_out, result.output) == (True, "begun\n")
    until(lambda: not processes.find_by_env("TOWPATH_APP_DIR", instance.marker), "a child of the hook still runs")


def test_daemon_of_a_hook_does_not_hang_it_and_is_found_by_its_app(tmp_path: Path) -> None:
    """Incident 8, hook that misbehaves: A daemon that keeps the output open is not waited for; it carries the app's marker, so that a stop ends it."""
    script = "#!/bin/sh\nsetsid sh -c 'echo > ready; sleep 1000' &\nwhile [ ! -e ready ]; do :; done\n"
    instance = make_instance(tmp_path, script=script)
    try:
        assert run(instance, "bin/app").ok
        assert processes.find_by_env("TOWPATH_APP_DIR", instance.marker)
    finally:
        end_all(tmp_path)


def test_relative_folders_are_refused(tmp_path: Path) -> None:
    """Two agents with the same relative folder would take each other's processes for their own."""
    with pytest.raises(Broken, match="must be an absolute path"):
        replace(make_instance(tmp_path), app_dir=Path("apps/hello"))
