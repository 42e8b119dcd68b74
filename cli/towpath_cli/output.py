"""How results are shown: tables for people, one JSON document for machines.

Rules: on a terminal a table is drawn with rich; elsewhere columns are aligned with spaces and nothing is coloured. What
came from a host is shown with its control characters escaped: a reason or a hook's output must not drive a terminal.
JSON goes to stdout alone, bytes as hex, names as in the dataclasses.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

from towpath.commandline import clean, say
from towpath_cli.world import World

PROGRAM = "towpath"
MAX_CELL = 200


def say_error(message: str) -> None:
    """Print one line on stderr, whatever is in `message`."""
    say(PROGRAM, message)


def say_notice(text: str) -> None:
    """Print what concerns everything that is listed, beside it: one line on stderr, nothing for an empty text."""
    if text:
        click.echo(clean(f"notice: {text}"), err=True)


def cell(value: object) -> str:
    """Return one cell of a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, Mapping):
        return clean(" ".join(f"{key}={cell(value[key])}" for key in sorted(value))) or "-"
    text = clean(str(value))
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "..."


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned table without colours; the header in capitals."""
    lines = [[column.upper() for column in columns], *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def to_plain(value: object) -> object:
    """Return `value` as JSON knows it: dataclasses as objects, bytes as hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value


def echo_json(value: object) -> None:
    """Print `value` as one JSON document."""
    click.echo(json.dumps(to_plain(value), indent=2, ensure_ascii=True))


def echo_table(world: World, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: drawn on a terminal, aligned plain text elsewhere."""
    if not world.is_tty():
        click.echo(plain_table(columns, rows))
        return
    from towpath_cli.terminal import print_table  # noqa: PLC0415 - rich is loaded only where it is seen

    print_table(columns, [[cell(value) for value in row] for row in rows])


def when(unix_ms: int) -> str:
    """Return a time as people read it, in UTC; '-' for none."""
    if unix_ms <= 0:
        return "-"
    try:
        moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def count(number: int, thing: str) -> str:
    """Return `1 file`, `2 files`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
