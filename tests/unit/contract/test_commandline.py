"""How a program ends: one line and the exit code of its kind, whatever went wrong."""

from importlib import import_module

import click
import pytest

from towpath import __version__
from towpath.commandline import INTERRUPTED, WRONG_COMMAND, code_of, run, setting
from towpath.errors import InputError
from towpath.quantity import parse_size
from towpath.settings import check_settings


@click.group()
def group() -> None:
    """Do things."""


@group.command()
@click.argument("what")
@click.pass_context
def end(ctx: click.Context, what: str) -> None:
    """End in some way."""
    match what:
        case "well":
            return
        case "own code":
            ctx.exit(7)
        case "exit":
            raise click.exceptions.Exit(8)
        case "input":
            raise InputError("cannot use\nthat\x1b[31m: it is red")
        case "file":
            raise click.FileError("here", "it is away")
        case "usage":
            raise click.UsageError("Nothing is given.")
        case "interrupt":
            raise KeyboardInterrupt
        case "bug":
            raise KeyError("x")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["end", "well"], 0, ""),
        (["end", "own code"], 7, ""),
        (["end", "exit"], 8, ""),
        (["end", "input"], 1, "towpath-it: cannot use that\\x1b[31m: it is red\n"),
        (["end", "file"], 1, "towpath-it: Could not open file 'here': it is away\n"),
        (["end", "interrupt"], INTERRUPTED, "\ntowpath-it: interrupted\n"),
        (["end"], 2, "towpath-it: missing argument 'WHAT'; see: towpath it end --help\n"),
        (["nonsense"], 2, "towpath-it: no such command 'nonsense'; see: towpath it --help\n"),
        (["end", "usage"], 2, "towpath-it: nothing is given; see: towpath it end --help\n"),
    ],
)
def test_what_a_person_sees_and_a_script_gets(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """Nothing of it on stdout; control characters that came from elsewhere do not reach the terminal."""
    with pytest.raises(SystemExit) as ended:
        run(group, "towpath-it", typed="towpath it", arguments=arguments)
    assert (ended.value.code, *capsys.readouterr()) == (code, "", said)


def test_a_wrong_command_line_that_names_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever finds it wrong may not know which command it was."""

    def main(**_words: object) -> None:
        raise click.UsageError("Nothing is given.")

    assert code_of(main, "towpath-it") == WRONG_COMMAND
    assert capsys.readouterr().err == "towpath-it: nothing is given; see: towpath-it --help\n"


def test_a_fault_of_our_own_says_where_it_is_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, but what somebody who mends it asks for first."""
    with pytest.raises(SystemExit) as ended:
        run(group, "towpath-it", arguments=["end", "bug"])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("towpath-it: cannot go on: KeyError: 'x' (")
    assert said.count("\n") == 1
    assert "test_commandline.py, line " in said


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer who types the name alone learns what there is; a script sees that nothing was done."""
    with pytest.raises(SystemExit) as ended:
        run(group, "towpath-it", arguments=[])
    assert ended.value.code == 2
    assert "end" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "module", "name", "words"),
    [
        ("towpath", "towpath_cli.main", "cli", []),
        ("towpath-server", "towpath_cli.main", "cli", ["server"]),
        ("towpath-relay", "towpath_cli.main", "cli", ["relay"]),
        ("towpath-agent", "towpath_agent.cli", "group", []),
        ("towpath-server", "towpath_server.cli", "group", []),
        ("towpath-relay", "towpath_relay.cli", "group", []),
    ],
)
def test_every_program_says_its_version_in_one_line(
    capsys: pytest.CaptureFixture[str], program: str, module: str, name: str, words: list[str]
) -> None:
    """The same words of all, so that a script can read them."""
    with pytest.raises(SystemExit) as ended:
        run(getattr(import_module(module), name), program, arguments=[*words, "--version"])
    assert (ended.value.code, *capsys.readouterr()) == (0, f"{program} {__version__}\n", "")


@click.command()
@click.option("--space", envvar="TOWPATH_IT_SPACE", callback=setting(parse_size))
@click.option("--room", "rooms", default="1KiB", callback=setting(parse_size))
def keep(space: int | None, rooms: int) -> None:
    """Say what was understood."""
    click.echo(f"{space} {rooms}")


FILE = check_settings({"space": "plenty"}, ("space",), "it.toml")


@pytest.mark.parametrize(
    ("words", "variable", "file", "said"),
    [
        (["--space", "much"], "", {}, "cannot use --space: cannot read 'much' as a size"),
        (["--space", ""], "", {}, "cannot use --space: cannot read '' as a size"),
        (["--room", "much"], "", FILE, "cannot use --room: cannot read 'much' as a size"),
        ([], "little", FILE, "cannot use TOWPATH_IT_SPACE: cannot read 'little' as a size"),
        ([], "", FILE, "cannot use space in it.toml: cannot read 'plenty' as a size"),
        ([], "", {"space": "of no file"}, "cannot use --space: cannot read 'of no file' as a size"),
        (["--space", "2KiB"], "little", FILE, "2048 1024\n"),
        ([], "", {}, "None 1024\n"),
    ],
)
def test_what_cannot_be_read_is_named_by_where_it_stands(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    variable: str,
    file: dict[str, str],
    said: str,
) -> None:
    """The flag, the variable, or the key and its file: whichever counted. An empty variable counts as none."""
    monkeypatch.setenv("TOWPATH_IT_SPACE", variable)
    code_of(keep.main, "towpath-it", args=words, default_map=file)
    assert said in "".join(capsys.readouterr())
