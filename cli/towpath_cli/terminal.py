"""The parts that need a terminal: drawn tables, a live table of a rollout, a progress bar. Only these load rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "healthy": "green",
    "Confirmed": "green",
    "failed": "red",
    "unhealthy": "red",
    "Reverted": "red",
    "Stuck": "red",
    "refused": "red",
    "revoked": "red",
    "in_flight": "yellow",
    "offline": "dim",
}


def build_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a drawn table; cells are texts, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, style=_COLOURS.get(text, "")) for text in row))
    return table


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table on stdout."""
    Console().print(build_table(columns, rows))


@contextmanager
def live_table(columns: Sequence[str]) -> Iterator[Callable[[Sequence[Sequence[str]]], None]]:
    """Yield a function that redraws the table in place."""
    with Live(console=Console(), refresh_per_second=10, transient=True) as live:

        def show(rows: Sequence[Sequence[str]]) -> None:
            live.update(build_table(columns, rows))

        yield show


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that adds bytes to a bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total or None)

        def add(size: int) -> None:
            progress.advance(task, size)

        yield add
