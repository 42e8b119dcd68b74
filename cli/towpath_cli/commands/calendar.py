"""`towpath freeze` and `towpath window`: when the rollouts of an environment, or of all, move nobody."""

from collections.abc import Callable
from typing import Any

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.names import check_environment, check_labels
from towpath.windows import parse_window
from towpath_cli.model import CalendarEntry, EntryOrder
from towpath_cli.options import Operator, operator_command, pairs
from towpath_cli.output import cell, echo_json, echo_table, when
from towpath_cli.timing import zoned

COLUMNS = ("id", "environment", "hosts", "when", "now", "by", "reason")


@click.group()
def freeze() -> None:
    """Say when no rollout lets a host in. Going back is never frozen."""


@click.group()
def window() -> None:
    """Say at which times of the week alone an environment's rollouts let hosts in."""


def _where(environment: str, everywhere: bool, what: str) -> str:
    if bool(environment) == everywhere:
        raise InputError(f"cannot add a {what}: say --environment E, or --all-environments")
    return check_environment(environment) if environment else ""


_SCOPE = (
    click.option("--environment", metavar="E", default="", help="Of this environment."),
    click.option("--all-environments", "everywhere", is_flag=True, help="Of every environment."),
)


def _scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SCOPE):
        function = option(function)
    return function


@freeze.command(name="add")
@_scoped
@click.option("--select", "selector", multiple=True, metavar="K=V", help="Only hosts with this label.")
@click.option("--from", "begins", metavar="TIME", default="", help="When it begins, such as 2026-12-20T00:00.")
@click.option("--until", "ends", metavar="TIME", default="", help="When it ends.")
@click.option("--zone", metavar="ZONE", default="", help="Whose clocks --from and --until are, such as Europe/Berlin.")
@click.option("--weekly", metavar="WHEN", default="", help="Every week, such as 'Fri 15:00-24:00 Europe/Berlin'.")
@click.option("--reason", required=True, help="Why; everybody who is stopped sees it.")
@operator_command
def add_freeze(
    operator: Operator,
    *,
    environment: str,
    everywhere: bool,
    selector: tuple[str, ...],
    begins: str,
    ends: str,
    zone: str,
    weekly: str,
    reason: str,
) -> None:
    """Let no rollout move hosts then, once or every week."""
    if bool(weekly) == bool(begins or ends):
        raise InputError("cannot add a freeze: say --from and --until, or --weekly")
    order = EntryOrder(
        kind="freeze",
        environment=_where(environment, everywhere, "freeze"),
        everywhere=everywhere,
        selector=check_labels(pairs(selector, "selector")),
        weekly=parse_window(weekly).text if weekly else "",
        begins=zoned(begins, zone, "--from"),
        ends=zoned(ends, zone, "--until"),
        reason=reason,
    )
    _added(operator, order)


@window.command(name="add")
@_scoped
@click.argument("text", metavar="WHEN")
@click.option("--reason", default="as agreed", show_default=True, help="Why; everybody who waits sees the window.")
@operator_command
def add_window(operator: Operator, *, environment: str, everywhere: bool, text: str, reason: str) -> None:
    """Let rollouts move hosts only at WHEN, such as 'Mon-Fri 22:00-04:00 UTC'; of several, one must be open."""
    where = _where(environment, everywhere, "window")
    _added(operator, EntryOrder("window", where, reason, everywhere=everywhere, weekly=parse_window(text).text))


def _added(operator: Operator, order: EntryOrder) -> None:
    with operator.connect() as client:
        entry = client.add_entry(order)
    if operator.json:
        echo_json(entry)
        return
    click.echo(clean(f"{entry.kind} {entry.id} of {_scope(entry)}: {_when(entry)}, {entry.now}: {entry.reason}"))
    click.echo(f"to end it: towpath {entry.kind} remove {entry.id}")


def _scope(entry: CalendarEntry) -> str:
    hosts = f", hosts with {cell(entry.selector)}" if entry.selector else ""
    return f"{entry.environment or 'every environment'}{hosts}"


def _when(entry: CalendarEntry) -> str:
    return entry.weekly or f"{when(entry.from_unix_ms)} to {when(entry.until_unix_ms)}"


def _row(entry: CalendarEntry) -> tuple[object, ...]:
    where, hosts = entry.environment or "(every one)", entry.selector or "(every host)"
    return entry.id, where, hosts, _when(entry), entry.now, entry.created_by, entry.reason


def _list(operator: Operator, kind: str, none: str) -> None:
    with operator.connect() as client:
        found = client.list_entries(kind)
    if operator.json:
        echo_json(found)
    elif found:
        echo_table(operator.world, COLUMNS, [_row(entry) for entry in found])
    else:
        click.echo(none)


@freeze.command(name="list")
@operator_command
def list_freezes(operator: Operator) -> None:
    """List the freezes, those that are over too."""
    _list(operator, "freeze", "nothing is frozen; towpath freeze add --environment E --from TIME --until TIME --zone Z")


@window.command(name="list")
@operator_command
def list_windows(operator: Operator) -> None:
    """List the windows of environments; those of one rollout are in `towpath rollout show`."""
    _list(operator, "window", "no environment has a window; towpath window add --environment E WHEN")


def _remove(operator: Operator, kind: str, name: str) -> None:
    with operator.connect() as client:
        entry = client.remove_entry(kind, name)
    if operator.json:
        echo_json(entry)
    else:
        click.echo(clean(f"{entry.kind} {entry.id} of {_scope(entry)} is removed: {entry.reason}"))


@freeze.command(name="remove")
@click.argument("name", metavar="ID")
@operator_command
def remove_freeze(operator: Operator, *, name: str) -> None:
    """Remove a freeze, by its id or the beginning of it: what it stopped goes on."""
    _remove(operator, "freeze", name)


@window.command(name="remove")
@click.argument("name", metavar="ID")
@operator_command
def remove_window(operator: Operator, *, name: str) -> None:
    """Remove a window of an environment; without any, its rollouts move hosts at all times."""
    _remove(operator, "window", name)
