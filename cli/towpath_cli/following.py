"""Following a rollout on the screen: a live tree on a terminal, one line per change elsewhere.

Nothing is decided here: `towpath_cli.watch` says how a rollout ended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import click

from towpath.commandline import clean
from towpath_cli.client import Client
from towpath_cli.model import Bar, HostProgress, Rollout, WaveProgress
from towpath_cli.options import Operator
from towpath_cli.output import count, echo_json, when
from towpath_cli.watch import ChangeLines, Outcome, Result, verdict, wait

COLUMNS = ("host", "phase", "current", "state", "health", "reason")
FINISHED = ("healthy", "failed", "inconclusive", "back")
_TOLD = ("failed", "inconclusive", "in_flight", "going_back")
# Who neither blocks a wave nor counts in it.
_LEFT_OUT = ("offline", "held")
MAX_TOLD = 8
_WAVE_PHASES = ("healthy", "in_flight", "waiting", "failed", "offline")
_BACK_PHASES = ("going_back", "back")


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
        """Yield a line for everything that is not as it was, causes before what follows from them.

        Hosts that finished let a wave pass, a wave that opened moves hosts, and all of it may stop the rollout. Where
        it is taken back, the rollout is why hosts change.
        """
        turned = rollout.state not in (self._state, "done")
        self._state = rollout.state
        said = clean(f"rollout {rollout.state}: {rollout.reason}")
        if turned and rollout.state == "reverting":
            yield said
        yield from self._hosts.changes(host for host in rollout.hosts if host.phase in FINISHED)
        if len(rollout.waves) > 1:
            for wave in rollout.waves:
                now = (wave.state, wave.waits if wave.state == "soaking" else "")
                if self._waves.get(wave.number, ("closed", "")) != now:
                    self._waves[wave.number] = now
                    yield wave_line(rollout, wave)
        yield from self._hosts.changes(host for host in rollout.hosts if host.phase not in FINISHED)
        yield from (bar_line(bar) for bar in rollout.bars if bar not in self._bars)
        if self._bars and not rollout.bars:
            yield "hosts are let in again"
        self._bars = rollout.bars
        if turned and rollout.state != "reverting":
            yield said


def bar_line(bar: Bar) -> str:
    """Return why nobody is let in now, with the command that would change it."""
    return clean(f"nobody is let in now: {bar.fact}; to change it: {bar.command}")


def wave_line(rollout: Rollout, wave: WaveProgress) -> str:
    """Return one line about a wave."""
    waits = f": {wave.waits}" if wave.state == "soaking" else ""
    return clean(
        f"wave {wave.number + 1} of {len(rollout.waves)} ({wave.text}): {wave.state}, {finished(wave)} of "
        f"{count(wave.hosts, 'host')} finished{left_out(wave)}{waits}"
    )


def finished(wave: WaveProgress) -> int:
    """Return how many hosts of a wave have finished."""
    return sum(number for phase, number in wave.phases.items() if phase in FINISHED)


def left_out(wave: WaveProgress) -> str:
    """Return how many hosts of a wave it does not wait for, empty where there are none."""
    return "".join(f", {wave.phases[phase]} {phase}" for phase in _LEFT_OUT if wave.phases.get(phase))


def told(hosts: Sequence[HostProgress]) -> list[HostProgress]:
    """Return the hosts that a picture names: those that failed first, then those that move; a few of them.

    Who failed is told for as long as the rollout is looked at, also when it is back on another release.
    """
    named = [host for host in hosts if host.phase in _TOLD or host.evidence]
    return sorted(named, key=lambda host: (_TOLD.index(host.phase) if not host.evidence else 0, host.host))[:MAX_TOLD]


def headline(rollout: Rollout) -> str:
    """Return the first line of a picture."""
    return clean(f"{rollout.app} {rollout.version} in {rollout.environment}: {rollout.state}, {rollout.reason}")


def wave_table(rollout: Rollout) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and the rows of the table of waves; of a rollout that is taken back who is back, too."""
    phases = _WAVE_PHASES + (_BACK_PHASES if rollout.state in ("reverting", "reverted") else ())
    columns = (
        "wave",
        "what",
        "state",
        "hosts",
        *(phase.replace("_", " ") for phase in phases),
        "soaks until",
        "waits for",
    )
    rows: list[tuple[object, ...]] = [
        (
            wave.number + 1,
            wave.text,
            wave.state,
            wave.hosts,
            *(wave.phases.get(phase, 0) for phase in phases),
            when(wave.soak_until_unix_ms),
            wave.waits,
        )
        for wave in rollout.waves
    ]
    return columns, rows


def host_rows(rollout: Rollout) -> list[tuple[object, ...]]:
    """Return the table of hosts."""
    return [tuple(getattr(host, column) for column in COLUMNS) for host in rollout.hosts]
