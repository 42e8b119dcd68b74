"""Tables, JSON and what must never reach a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.commandline import clean
from towpath.reports import AppState
from towpath.status import State
from towpath_cli.output import cell, count, echo_json, echo_table, plain_table, say_error, when
from towpath_cli.world import World


def test_plain_tables_are_aligned() -> None:
    """Elsewhere than on a terminal a table has aligned columns, capitals on top and no trailing blanks."""
    assert plain_table(("host", "state"), [("h1", "Confirmed"), ("longer", "")]) == (
        "HOST    STATE\nh1      Confirmed\nlonger  -"
    )


def test_cells() -> None:
    """Nothing is a dash, truth is yes or no, labels are key=value sorted, digests are short hex."""
    assert [cell(v) for v in (None, "", True, False, 0, {"b": 1, "a": ""}, b"\xab" * 32)] == [
        "-",
        "-",
        "yes",
        "no",
        "0",
        "a=- b=1",
        "abababababababab",
    ]
    assert len(cell("x" * 1000)) == 200


@given(st.text())
def test_hosts_cannot_drive_the_terminal(text: str) -> None:
    """Whatever a host reports is shown without control characters."""
    assert clean(text).isprintable()
    assert "\x1b" not in cell("\x1b[2J" + text)


def test_json_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has the dataclasses' names, digests as hex and states as their words."""
    echo_json([AppState("hello", current_sha256=b"\x01", state=State.CONFIRMED, parameters={"p": 1})])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["app"], row["current_sha256"], row["state"], row["parameters"]) == (
        "hello",
        "01",
        "Confirmed",
        {"p": 1},
    )


def test_a_terminal_gets_a_drawn_table(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the table is drawn by rich, and cells are texts, never markup."""
    echo_table(World(is_tty=lambda: True), ("host", "reason"), [("h1", "[red]not markup[/red]")])
    assert "[red]not markup[/red]" in capsys.readouterr().out


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An error is one line on stderr whatever its message holds."""
    say_error("cannot go on:\nreason \x1b[31m\r\nend")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "towpath: cannot go on: reason \\x1b[31m end\n"


def test_times_and_counts() -> None:
    """Times are UTC to the second, none is a dash, a nonsensical one is shown as it is; one file, two files."""
    assert [when(0), when(1_700_000_000_999), when(2**62)] == ["-", "2023-11-14 22:13:20Z", f"{2**62} ms"]
    assert [count(1, "file"), count(2, "file"), count(0, "file")] == ["1 file", "2 files", "0 files"]
