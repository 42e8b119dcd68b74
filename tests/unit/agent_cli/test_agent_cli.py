"""The command `towpath-agent`, without a server: one line for every mistake, tables and JSON for what is there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.authority import Authority
from towpath.errors import InputError
from towpath.reports import AppState, Event
from towpath.status import Health, State, Verdict
from towpath_agent import identity
from towpath_agent.cli import JOURNAL
from towpath_agent.journal import open_journal
from towpath_agent.options import read_settings, settings_files
from towpath_agent.system.files import Files
from towpath_agent.system.host import machine_mark

Run = Callable[..., tuple[int, str, str]]


def one_line(err: str) -> str:
    """Return the only line of an error output."""
    assert err.startswith("towpath-agent: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", ["run", "status", "history", "release"])
def test_before_enrolment_there_is_nothing_to_run_or_see(run: Run, tmp_path: Path, command: str) -> None:
    """A folder without a host says which command enrols one, with this very folder."""
    code, out, err = run(command, "--dir", tmp_path / "new")
    assert (code, out) == (1, "")
    assert "towpath-agent enroll" in one_line(err)
    assert f"--dir {tmp_path / 'new'}" in err
    assert not (tmp_path / "new").exists()


def test_enrolling_twice_is_one_line(run: Run, folder: Path) -> None:
    """A second enrolment of a folder is refused before any server is dialled."""
    token = Authority().token()
    code, _, err = run("enroll", "--server", "127.0.0.1:1", "--token", token, "--name", "h2", "--dir", folder)
    assert code == 1
    assert "enrolled already, as h1 in dev" in one_line(err)


@pytest.mark.parametrize("token", ["nonsense", "tp1.", "tp1.!!!!", "tp1." + "A" * 100, "\u00fc"])
def test_a_malformed_token_is_one_line(run: Run, tmp_path: Path, token: str) -> None:
    """A token that was cut, mistyped or is something else is one line, and no folder is made."""
    code, _, err = run("enroll", "--server", "127.0.0.1:1", "--token", token, "--name", "h", "--dir", tmp_path / "h")
    assert code == 1
    assert "cannot use the token" in one_line(err)
    assert not (tmp_path / "h").exists()


def test_a_missing_token_is_one_line(run: Run, tmp_path: Path) -> None:
    """Without any token the three ways to give one are named."""
    code, _, err = run("enroll", "--server", "127.0.0.1:1", "--name", "h", "--dir", tmp_path)
    assert code == 2
    assert "--token, --token-file or TOWPATH_TOKEN" in one_line(err)
    code, _, err = run("enroll", "--server", "a:1", "--token-file", tmp_path / "no", "--name", "h", "--dir", tmp_path)
    assert code == 1
    assert "there is no file" in one_line(err)


@pytest.mark.parametrize(
    "words",
    [["frobnicate"], ["enroll"], ["status", "--output", "xml"], ["run", "--nonsense"], ["history", "--limit", "0"]],
)
def test_a_wrong_command_line_is_one_line(run: Run, words: list[str]) -> None:
    """Unknown commands, options and values exit with 2 and name the help."""
    code, _, err = run(*words)
    assert code == 2
    assert "--help" in one_line(err)


def test_no_command_shows_the_help(run: Run) -> None:
    """The bare command lists what there is."""
    code, _, err = run()
    assert code == 2
    words = "enroll run status history hold release revert retry explain doctor version"
    for command in words.split():
        assert command in err


def test_version(run: Run) -> None:
    """`version` prints name and version."""
    assert run("version") == (0, "towpath-agent 0.1.0\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('srever = "a:1"', "unknown key 'srever'; did you mean 'server'?"),
        (
            'frob = "a:1"',
            "known are control_group, direct_from, max_prefetch_bytes, max_rate, max_release_bytes, min_rate, name, re",
        ),
        ("name = [1]", "'name' must be one text"),
        ("name = ", "it is no TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(run: Run, folder: Path, text: str, message: str) -> None:
    """agent.toml with a stranger in it, a list, or no TOML at all is named with what is wrong."""
    (folder / "agent.toml").write_text(text)
    code, _, err = run("status", "--dir", folder)
    assert code == 1
    assert message in one_line(err)
    assert str(folder / "agent.toml") in err


def test_flags_beat_variables_beat_the_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of strength is flag, variable, file: seen in which address is called unusable."""
    (tmp_path / "agent.toml").write_text('server = "from-file"\nname = "h"\n')
    token = Authority().token()
    words = ["enroll", "--token", token, "--dir", tmp_path]
    assert "'from-file'" in run(*words)[2]
    monkeypatch.setenv("TOWPATH_AGENT_SERVER", "from-variable")
    assert "'from-variable'" in run(*words)[2]
    assert "'from-flag'" in run(*words, "--server", "from-flag")[2]


def test_the_folder_comes_from_the_environment(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TOWPATH_AGENT_DIR stands for --dir."""
    monkeypatch.setenv("TOWPATH_AGENT_DIR", str(folder))
    assert "host h1 in dev" in run("status")[1]


def test_an_agent_that_never_ran_has_no_apps(run: Run, folder: Path) -> None:
    """Without a journal there is a host and nothing else, and looking makes no file."""
    before = sorted(folder.iterdir())
    code, out, _ = run("status", "--dir", folder)
    assert code == 0
    assert "no app yet" in out
    assert run("history", "--dir", folder)[1] == "nothing happened yet\n"
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def lived(folder: Path) -> Path:
    """Return the folder of a host with an app and a history."""
    journal = open_journal(folder / JOURNAL)
    state = AppState(
        "hello",
        current_version="1.0.0",
        current_sha256=b"\1" * 32,
        desired_version="1.1.0",
        state=State.REVERTED,
        health=Health.HEALTHY,
        verdict=Verdict.FAILED,
        reason="probe http: 500\x1b[31m\nred",
        since_unix_ms=1_700_000_000_000,
        parameters={"port": 9001},
    )
    journal.set_app_states([state], 1)
    journal.add_event(Event("e1", 1_700_000_000_000, "transition", app="hello", state="Confirmed", version="1.0.0"))
    journal.add_event(Event("e2", 1_700_000_001_000, "transition", app="other", state="Confirmed", version="2"))
    journal.add_event(replace(Event("e3", 1_700_000_002_000, "transition"), app="hello", state="Reverted"))
    journal.close()
    return folder


def test_status_shows_the_apps(run: Run, lived: Path) -> None:
    """The table has a line for each app; control characters of an app's output do not reach the terminal."""
    code, out, _ = run("status", "--dir", lived)
    assert code == 0
    row = out.splitlines()[-1]
    for text in ("hello", "1.0.0", "1.1.0", "Reverted", "healthy", "failed", "2023-11-14 22:13:20Z", "probe http: 500"):
        assert text in row
    assert "\x1b" not in out


def test_status_as_json(run: Run, lived: Path) -> None:
    """JSON has the host and every field of the apps, digests in hex."""
    table = json.loads(run("status", "--dir", lived, "-o", "json")[1])
    assert table["host"]["name"] == "h1"
    assert table["apps"][0]["current_sha256"] == "01" * 32
    assert table["apps"][0]["parameters"] == {"port": 9001}
    assert table["apps"][0]["state"] == "Reverted"


def test_history_shows_what_happened(run: Run, lived: Path) -> None:
    """Events come oldest first, of one app where it is named, the newest N where a limit is given."""
    assert [row["id"] for row in json.loads(run("history", "--dir", lived, "-o", "json")[1])] == ["e1", "e2", "e3"]
    of_hello = json.loads(run("history", "hello", "--dir", lived, "-o", "json")[1])
    assert [row["id"] for row in of_hello] == ["e1", "e3"]
    assert [row["id"] for row in json.loads(run("history", "--dir", lived, "-o", "json", "--limit", "1")[1])] == ["e3"]
    assert run("history", "hello", "--dir", lived)[1].splitlines()[1].split()[2:6] == [
        "transition",
        "hello",
        "1.0.0",
        "Confirmed",
    ]
    assert run("history", "nothing", "--dir", lived)[1] == "nothing happened to nothing yet\n"


def test_a_damaged_journal_is_one_line(run: Run, folder: Path) -> None:
    """A journal that cannot be read is an error, not a traceback."""
    (folder / JOURNAL).write_bytes(b"no database " * 100)
    code, _, err = run("status", "--dir", folder)
    assert code == 1
    assert "journal" in one_line(err)


def test_a_second_agent_in_a_folder_is_one_line(folder: Path) -> None:
    """`run` in a folder in which an agent works ends at once, saying so."""
    (folder / "trust").mkdir()
    (folder / identity.ROOT).write_bytes(b"{}")
    with Files().lock(folder / identity.LOCK):
        program = "from towpath_agent.cli import main; main()"
        words = [sys.executable, "-c", program, "run", "--dir", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "another process holds it" in one_line(done.stderr)


def test_an_unusable_interval_is_one_line(run: Run, folder: Path) -> None:
    """A duration without a unit is bad input that shows the form."""
    code, _, err = run("run", "--sync-interval", "60", "--dir", folder)
    assert code == 1
    assert "such as 90s" in one_line(err)


def test_a_limit_of_bytes_that_is_no_size_stops_the_agent_from_starting(run: Run, folder: Path) -> None:
    """The host's own limit is read from agent.toml too; a limit that nobody can read is not taken for none."""
    code, _, err = run("run", "--max-release-bytes", "much", "--dir", folder)
    assert code == 1
    assert "cannot read 'much' as a size" in one_line(err)
    (folder / "agent.toml").write_text('max_release_bytes = "plenty"')
    place = f"max_release_bytes in {folder / 'agent.toml'}"
    assert f"cannot use {place}: cannot read 'plenty' as a size" in one_line(run("run", "--dir", folder)[2])


def test_an_empty_rate_is_not_taken_for_no_limit(folder: Path) -> None:
    """No limit is `full`. An empty variable counts as none, as everywhere, so that the file counts."""
    (folder / "agent.toml").write_text('max_rate = ""')
    (folder / "trust").mkdir()
    (folder / identity.ROOT).write_bytes(b"{}")
    with Files().lock(folder / identity.LOCK):  # an agent that did start would end at once
        words = [sys.executable, "-c", "from towpath_agent.cli import main; main()", "run", "--dir", str(folder)]
        variables = {**os.environ, "TOWPATH_AGENT_MAX_RATE": ""}
        said = [
            one_line(
                subprocess.run(line, capture_output=True, text=True, timeout=60, env=variables, check=False).stderr
            )
            for line in (words, [*words, "--max-rate", ""])
        ]
    for line, place in zip(said, (f"max_rate in {folder / 'agent.toml'}", "--max-rate"), strict=True):
        assert f"cannot use {place}: cannot read '' as a rate: write a number" in line
        assert line.rstrip().endswith("or full for no limit")


def test_a_bad_rate_of_a_variable_is_named_by_the_variable(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the unit's environment and a settings file both have one, a person sees which of them to mend."""
    (folder / "agent.toml").write_text('max_rate = "1MiB/s"')
    monkeypatch.setenv("TOWPATH_AGENT_MAX_RATE", "fast")
    assert "cannot use TOWPATH_AGENT_MAX_RATE: cannot read 'fast' as a rate" in one_line(run("run", "--dir", folder)[2])


def test_the_folders_settings_beat_the_hosts(tmp_path: Path) -> None:
    """What stands in DIR/agent.toml beats /etc/towpath/agent.toml key by key; the latter is for the default folder alone."""
    weak, strong = tmp_path / "weak.toml", tmp_path / "strong.toml"
    weak.write_text('name = "a"\nserver = "weak:1"\n')
    strong.write_text('server = "strong:1"\n')
    assert read_settings([weak, strong], Files()) == {"name": "a", "server": "strong:1"}
    assert settings_files(tmp_path) == [tmp_path / "agent.toml"]
    assert settings_files(Path("/var/lib/towpath")) == [
        Path("/etc/towpath/agent.toml"),
        Path("/var/lib/towpath/agent.toml"),
    ]


def test_setup_is_for_the_units_folder(run: Run, tmp_path: Path) -> None:
    """Another folder than the unit's is refused with the commands that are for it, and nothing is made."""
    code, _, err = run("setup", "--server", "127.0.0.1:1", "--token", "x", "--dir", tmp_path / "h")
    assert code == 1
    assert f"towpath-agent run --dir {tmp_path / 'h'}" in one_line(err)
    assert not (tmp_path / "h").exists()


def test_a_folder_belongs_to_the_machine_it_was_first_run_on(folder: Path) -> None:
    """The first machine is noted; another one is told apart, with the way out; without machine-ids nothing is."""
    files, one, two = Files(), "1" * 64, "2" * 64
    identity.check_machine(folder, files, "")
    assert not files.exists(folder / identity.MACHINE)
    identity.check_machine(folder, files, one)
    identity.check_machine(folder, files, one)
    identity.check_machine(folder, files, "")
    with pytest.raises(InputError, match="setup --new-identity") as caught:
        identity.check_machine(folder, files, two)
    assert caught.value.code == "cloned"
    assert identity.is_clone(folder, files, two)


def test_the_agent_of_a_clone_ends_with_a_status_of_its_own(folder: Path) -> None:
    """The daemon in a folder of another machine ends with 78, which the unit does not restart after."""
    if not machine_mark():
        pytest.skip("this machine has no machine-id to be told apart by")
    identity.note_machine(folder, Files(), "2" * 64)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "towpath_agent.daemon", "--dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78
    assert "was enrolled on another machine" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("text", "marked"), [("0123456789abcdef" * 2 + "\n", True), ("uninitialized\n", False), ("", False)]
)
def test_the_mark_of_a_machine_is_a_digest(tmp_path: Path, text: str, marked: bool) -> None:
    """The machine-id itself is not written anywhere; an image that has none yet has no mark."""
    (tmp_path / "machine-id").write_text(text)
    mark = machine_mark(tmp_path / "machine-id")
    assert bool(mark) is marked
    assert not mark or mark != text.strip()
    assert machine_mark(tmp_path / "missing") == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--relay", "relay:port"), "cannot use --relay: cannot use 'relay:port' as a server's address"),
        (("--direct-from", "bucket"), "cannot use --direct-from: cannot ask 'bucket': write http://HOST"),
        (("--max-rate", "fast"), "cannot use --max-rate: cannot read 'fast' as a rate"),
        (("--max-rate", "1MiB/s; at night full"), "as a window"),
        (("--max-rate", "1MiB/s; daily 22:00-06:00 Europe/Atlantis full"), "this host knows none of that name"),
        (("--min-rate", "much"), "cannot use --min-rate: cannot read 'much' as a rate"),
        (("--sync-interval", "60"), "cannot use --sync-interval: cannot read '60' as a duration"),
        (("--max-prefetch-bytes", "much"), "cannot use --max-prefetch-bytes: cannot read 'much' as a size"),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(
    run: Run, folder: Path, words: tuple[str, str], message: str
) -> None:
    """The agent does not start with half a limit, or without its relay; the flag is named."""
    code, _, err = run("run", "--dir", folder, *words)
    assert code == 1
    assert message in one_line(err)
