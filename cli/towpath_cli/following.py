"""Following a rollout on the screen: a live tree on a terminal, one line per change elsewhere.

Nothing is decided here: `towpath_cli.watch` says how a rollout ended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import click

from towpath_cli.client import Client
from towpath_cli.model import Bar, HostProgress, Rollout, WaveProgress
from towpath_cli.options import Operator
from towpath_cli.output import clean, count, echo_json, when
from towpath_cli.watch import ChangeLines, Outcome, Result, verdict, wait

COLUMNS = ("host", "phase", "current", "state", "health", "reason")
FINISHED = ("healthy", "failed", "inconclusive", "back")
_TOLD = ("failed", "inconclusive", "in_flight", "going_back")
MAX_TOLD = 8


def follow(
    operator: Operator,
    client: Client,
    assignment: str,
    *,
    timeout_ms: int,
    judge: Callable[[Rollout], Result | None] = verdict,
    keep: bool = False,
) -> Outcome:
    """Show the rollout until it ended or `timeout_ms` is over; return how. `keep`: a tree's last picture stays."""

    def note(text: str) -> None:
        click.echo(text, err=True)

    with ExitStack() as stack:
        if operator.world.is_tty() and not operator.json:
            from towpath_cli.terminal import live_tree  # noqa: PLC0415 - rich is loaded only where it is seen

            show = stack.enter_context(live_tree(keep=keep))
        else:
            lines = RolloutLines()

            def show(rollout: Rollout) -> None:
                for line in lines.changes(rollout):
                    click.echo(line, err=operator.json)

        return wait(
            lambda seconds: client.get_assignment(assignment, seconds),
            world=operator.world,
            timeout_ms=timeout_ms,
            show=show,
            note=note,
            judge=judge,
        )


def look(operator: Operator, rollout: Rollout) -> None:
    """Show the rollout as it is now, once: a tree on a terminal, lines elsewhere."""
    if operator.json:
        echo_json(rollout)
    elif operator.world.is_tty():
        from towpath_cli.terminal import print_tree  # noqa: PLC0415 - rich is loaded only where it is seen

        print_tree(rollout)
    else:
        click.echo(headline(rollout))
        for line in RolloutLines().changes(rollout):
            click.echo(line)


class RolloutLines:
    """One line per change: of the rollout and its waves where there are several, and of each host."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._hosts = ChangeLines()
        self._state = "rolling"
        self._waves: dict[int, tuple[str, str]] = {}
        self._bars: tuple[Bar, ...] = ()

    def changes(self, rollout: Rollout) -> Iterator[str]:
        """Yield a line for everything that is not as it was: hosts first, they are why the rest changed."""
        yield from self._hosts.changes(rollout)
        if len(rollout.waves) > 1:
            for wave in rollout.waves:
                now = (wave.state, wave.waits if wave.state == "soaking" else "")
                if self._waves.get(wave.number, ("closed", "")) != now:
                    self._waves[wave.number] = now
                    yield wave_line(rollout, wave)
        yield from (bar_line(bar) for bar in rollout.bars if bar not in self._bars)
        if self._bars and not rollout.bars:
            yield "hosts are let in again"
        self._bars = rollout.bars
        if rollout.state not in (self._state, "done"):
            yield clean(f"rollout {rollout.state}: {rollout.reason}")
        self._state = rollout.state


def bar_line(bar: Bar) -> str:
    """Return why nobody is let in now, with the command that would change it."""
    return clean(f"nobody is let in now: {bar.fact}; to change it: {bar.command}")


def wave_line(rollout: Rollout, wave: WaveProgress) -> str:
    """Return one line about a wave."""
    finished = sum(number for phase, number in wave.phases.items() if phase in FINISHED)
    waits = f": {wave.waits}" if wave.state == "soaking" else ""
    return clean(
        f"wave {wave.number + 1} of {len(rollout.waves)} ({wave.text}): {wave.state}, {finished} of "
        f"{count(wave.hosts, 'host')} finished{waits}"
    )


def told(hosts: Sequence[HostProgress]) -> list[HostProgress]:
    """Return the hosts that a picture names: those that failed first, then those that move; a few of them."""
    return sorted((h for h in hosts if h.phase in _TOLD), key=lambda h: (_TOLD.index(h.phase), h.host))[:MAX_TOLD]


def headline(rollout: Rollout) -> str:
    """Return the first line of a picture."""
    return clean(f"{rollout.app} {rollout.version} in {rollout.environment}: {rollout.state}, {rollout.reason}")


def wave_rows(rollout: Rollout) -> list[tuple[object, ...]]:
    """Return the table of waves."""
    return [
        (
            wave.number + 1,
            wave.text,
            wave.state,
            wave.hosts,
            *(wave.phases.get(phase, 0) for phase in ("healthy", "in_flight", "waiting", "failed", "offline")),
            when(wave.soak_until_unix_ms),
            wave.waits,
        )
        for wave in rollout.waves
    ]


WAVE_COLUMNS = (
    "wave",
    "what",
    "state",
    "hosts",
    "healthy",
    "in flight",
    "waiting",
    "failed",
    "offline",
    "soaks until",
    "waits for",
)


def host_rows(rollout: Rollout) -> list[tuple[object, ...]]:
    """Return the table of hosts."""
    return [tuple(getattr(host, column) for column in COLUMNS) for host in rollout.hosts]
