"""How the agent's commands show things: tables and lines for people, one JSON document for machines.

Rules: what came from an app, a hook or a person is shown in one line without control characters: it must not drive a
terminal.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

MAX_CELL = 120


def time_text(unix_ms: int) -> str:
    """Return a time as people read it, in UTC; empty for none."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if unix_ms else ""


def printable(value: object) -> str:
    """Return one line of printable text."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def _cell(value: object) -> str:
    text = printable(value)
    return (text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "...") or "-"


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print an aligned table, its header in capitals."""
    lines = [[column.upper() for column in columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def echo_json(value: object) -> None:
    """Print `value` as one JSON document, bytes as hex."""
    click.echo(json.dumps(_plain(value), indent=2))
