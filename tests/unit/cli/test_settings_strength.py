"""Where a setting comes from: flag, then variable, then file, then default."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from towpath.errors import InputError
from towpath_cli.main import Towpath, cli
from towpath_cli.options import Operator, operator_command, pairs


def seen(tmp_path: Path, *args: str, env: dict[str, str | None] | None = None, toml: str | None = None) -> Operator:
    """Return what a command gets for these arguments, variables and settings file."""
    result: list[Operator] = []

    @click.command(cls=click.Command)
    @operator_command
    def probe(operator: Operator) -> None:
        result.append(operator)

    fleet = tmp_path / "fleet"
    (fleet / "operator").mkdir(parents=True, exist_ok=True)
    if toml is not None:
        (fleet / "operator" / "towpath.toml").write_text(toml)
    clear: dict[str, str | None] = {"TOWPATH_DIR": None, "TOWPATH_SERVER": None, "TOWPATH_OUTPUT": None}
    done = CliRunner(env=clear | (env or {})).invoke(probe, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return result[0]


def test_server_strength(tmp_path: Path) -> None:
    """--server beats TOWPATH_SERVER, which beats towpath.toml, which beats the default."""
    fleet = ["--dir", str(tmp_path / "fleet")]
    toml = 'server = "file:1"\n'
    env: dict[str, str | None] = {"TOWPATH_SERVER": "variable:1"}
    assert seen(tmp_path, *fleet).server == "127.0.0.1:7445"
    assert seen(tmp_path, *fleet, toml=toml).server == "file:1"
    assert seen(tmp_path, *fleet, toml=toml, env=env).server == "variable:1"
    assert seen(tmp_path, *fleet, "--server", "flag:1", toml=toml, env=env).server == "flag:1"


def test_dir_strength(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--dir beats TOWPATH_DIR, which beats ./fleet; the settings file is the chosen folder's."""
    monkeypatch.chdir(tmp_path)
    toml = 'server = "file:1"\n'
    (tmp_path / "other" / "operator").mkdir(parents=True)
    (tmp_path / "other" / "operator" / "towpath.toml").write_text('server = "other:1"\n')
    env: dict[str, str | None] = {"TOWPATH_DIR": str(tmp_path / "other")}
    assert seen(tmp_path, toml=toml).server == "file:1"
    assert seen(tmp_path, env=env, toml=toml).server == "other:1"
    assert seen(tmp_path, "--dir", "fleet", env=env, toml=toml).server == "file:1"
    # The order of the arguments does not matter.
    assert seen(tmp_path, "-o", "json", "--dir", "other", toml=toml).server == "other:1"


def test_output_strength(tmp_path: Path) -> None:
    """-o follows the same order."""
    fleet = ["--dir", str(tmp_path / "fleet")]
    assert seen(tmp_path, *fleet).output == "table"
    assert seen(tmp_path, *fleet, toml='output = "json"\n').json
    assert not seen(tmp_path, *fleet, "-o", "table", toml='output = "json"\n').json


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('sever = "x:1"\n', ["sever", "'server'", "towpath.toml"]),
        ("server = [1]\n", ["server", "towpath.toml"]),
        ("server =\n", ["towpath.toml"]),
        ('output = "xml"\n', ["xml"]),
    ],
)
def test_a_wrong_settings_file_is_one_line(tmp_path: Path, toml: str, words: list[str]) -> None:
    """An unknown key, a wrong value and garbage each name the file or the value, and change nothing."""
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "towpath.toml").write_text(toml)
    done = CliRunner().invoke(cli, ["status", "--dir", str(tmp_path)])
    assert done.exit_code != 0
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_pairs() -> None:
    """key=value texts are read, a value may hold '=', and a key that is there twice is an error."""
    assert pairs(["a=1", "b=x=y", "c="], "label") == {"a": "1", "b": "x=y", "c": ""}
    for bad in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(InputError):
            pairs(bad, "label")


@pytest.mark.parametrize(
    "args", [["nonsense"], ["deploy"], ["deploy", "--nonsense"], ["token", "create", "--ttl", "x"]]
)
def test_a_wrong_command_line_is_one_line(args: list[str]) -> None:
    """A wrong command line is one line that says where to read on, with exit code 2."""
    done = CliRunner().invoke(cli, args)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("towpath: ")
    assert "--help" in done.stderr


def test_a_fault_of_our_own_is_one_line_too() -> None:
    """An unforeseen exception is a line with its name, never a traceback."""

    @click.group(cls=Towpath)
    def broken() -> None:
        raise RuntimeError("first\nsecond")

    done = CliRunner().invoke(broken, ["version"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "RuntimeError: first second (" in done.stderr


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


def test_every_command_has_help() -> None:
    """Each command, and each below it, explains itself."""
    for path, command in commands(cli, "towpath"):
        assert command.help or command.short_help, path


def test_no_command_has_an_option_twice() -> None:
    """Options that commands share must not hide one of their own."""
    for path, command in commands(cli, "towpath"):
        words = [word for one in command.params for word in one.opts]
        assert len(words) == len(set(words)), f"{path} has {sorted(word for word in words if words.count(word) > 1)}"
