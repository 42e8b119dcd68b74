"""The parts that need a terminal: drawn tables, a live tree of a rollout, a progress bar. Only these load rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from towpath.commandline import clean
from towpath_cli.following import bar_line, finished, headline, left_out, told
from towpath_cli.model import Rollout, WaveProgress
from towpath_cli.output import count
from towpath_cli.watch import describe

WIDE = 120
BAR_WIDTH = 30
NARROW_BAR_WIDTH = 12
# Of a failed host in a tree: its last lines say most, and several hosts must fit a screen.
SHOWN_LINES = 5

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
    "going_back": "yellow",
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


def build_tree(rollout: Rollout, columns: int = WIDE) -> Tree:
    """Return a rollout as a tree: a bar per wave, and below it the hosts that failed or move, with their reasons.

    `columns`: how wide the terminal is; the bars of a narrow one are short, so that the words beside them have room.
    """
    tree = Tree(Text(headline(rollout), style="bold"))
    for barred in rollout.bars:
        tree.add(Text(bar_line(barred), style="yellow"))
    names = [f"{wave.number + 1} {wave.text}" for wave in rollout.waves]
    width = min(max((len(name) for name in names), default=0), columns // 2)
    for name, wave in zip(names, rollout.waves, strict=True):
        line = Table.grid(padding=(0, 1))
        line.add_column(width=width, overflow="fold")
        style = "red" if _failed(wave) else "bar.complete"
        filled = 0 if _never_opened(rollout, wave) else finished(wave)
        size = BAR_WIDTH if columns >= WIDE else NARROW_BAR_WIDTH
        bar = ProgressBar(max(1, wave.hosts), filled, size, complete_style=style, finished_style=style)
        line.add_row(Text(name), bar, Text(_said(rollout, wave)))
        branch = tree.add(line)
        for host in told([one for one in rollout.hosts if one.wave == wave.number]):
            style = _COLOURS["failed"] if host.evidence else _COLOURS.get(host.phase, "")
            twig = branch.add(Text(describe(host), style=style))
            for said in host.evidence[-SHOWN_LINES:]:
                twig.add(Text(clean(said), style="dim"))
    return tree


def _failed(wave: WaveProgress) -> int:
    return wave.phases.get("failed", 0) + wave.phases.get("inconclusive", 0)


def _never_opened(rollout: Rollout, wave: WaveProgress) -> bool:
    """Return whether a wave of a rollout that is taken back had not begun: its hosts are back, for they never left."""
    return rollout.state in ("reverting", "reverted") and wave.state == "closed"


def _said(rollout: Rollout, wave: WaveProgress) -> str:
    """Return what stands beside a wave's bar: its state, how many have finished and failed, what it waits for."""
    if _never_opened(rollout, wave):
        return f"never opened, {count(wave.hosts, 'host')}"
    if wave.state == "closed" and not finished(wave):
        return f"closed, {count(wave.hosts, 'host')}"
    failed = f", {_failed(wave)} failed" if _failed(wave) else ""
    if rollout.state in ("reverting", "reverted"):
        return f"{wave.phases.get('back', 0)} of {wave.hosts} back{failed}{left_out(wave)}"
    waits = f"; {wave.waits}" if wave.waits else ""
    return clean(f"{wave.state}, {finished(wave)} of {wave.hosts} finished{failed}{left_out(wave)}{waits}")


def print_tree(rollout: Rollout) -> None:
    """Draw a rollout once, on stdout."""
    console = Console()
    console.print(build_tree(rollout, console.width))


@contextmanager
def live_tree(*, keep: bool = False) -> Iterator[Callable[[Rollout], None]]:
    """Yield a function that redraws a rollout in place; `keep`: the last picture stays on the screen."""
    console = Console()
    # Drawn when there is news and not ten times a second: nothing flickers, and a slow line is left in peace.
    with Live(console=console, auto_refresh=False, transient=not keep) as live:

        def show(rollout: Rollout) -> None:
            live.update(build_tree(rollout, console.width), refresh=True)

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
