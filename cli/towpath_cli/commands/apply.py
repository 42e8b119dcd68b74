"""`towpath apply` and `towpath diff`: the fleet as a file says, done or only shown.

`diff` exits 0 where the file asks for nothing new, 1 where it does, 2 where it could not be compared.
"""

from pathlib import Path

import click

from towpath.errors import InputError, TowpathError
from towpath_cli.client import Client
from towpath_cli.comparing import Change, Kind, compare, lines
from towpath_cli.fleetfile import FleetFile, load_fleet_file, schema_json
from towpath_cli.model import DeployOrder
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import clean, count, echo_json, say_error

DIFFERENT, TROUBLE = 1, 2
_FILE = click.option("-f", "--file", "path", type=click.Path(path_type=Path), help="The fleet file.")
_PRUNE = click.option("--prune", is_flag=True, help="Also take off what is not in the file, in its environments.")
Compared = list[tuple[Change, DeployOrder | None]]


def _compared(client: Client, file: FleetFile, *, prune: bool) -> Compared:
    return compare(file, client.list_rollouts("", "", history=False), prune=prune)


def _needed(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("missing option '-f': give the fleet file")
    return path


@click.command()
@_FILE
@_PRUNE
@operator_command
def diff(operator: Operator, *, path: Path | None, prune: bool) -> None:
    """Show what applying a fleet file would change: exit 0 (nothing), 1 (something), 2 (cannot compare)."""
    context = click.get_current_context()
    try:
        file = load_fleet_file(_needed(path))
        with operator.connect() as client:
            changes = [change for change, _ in _compared(client, file, prune=prune)]
    except TowpathError as error:
        say_error(str(error))
        context.exit(TROUBLE)
    differs = any(change.kind.differs for change in changes)
    if operator.json:
        echo_json({"differs": differs, "changes": changes})
    else:
        _tell(changes)
        if not differs:
            click.echo("nothing to change")
    context.exit(DIFFERENT if differs else 0)


def _tell(changes: list[Change]) -> None:
    for line in lines(changes):
        click.echo(clean(line))


@click.command()
@_FILE
@_PRUNE
@click.option("--yes", is_flag=True, help="Do not ask before --prune takes something off.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a fleet file, for editors, and do nothing.")
@operator_command
def apply(operator: Operator, *, path: Path | None, prune: bool, yes: bool, schema: bool) -> None:
    """Have the fleet run what a file says. Everything is checked first; what is in place already stays as it is."""
    if schema:
        click.echo(schema_json())
        return
    file = load_fleet_file(_needed(path))
    with operator.connect() as client:
        compared = _compared(client, file, prune=prune)
        changes = [change for change, _ in compared]
        orders = [order for _, order in compared if order is not None]
        gone = [change for change in changes if change.kind is Kind.REMOVE]
        for order in orders:
            client.plan(order)  # the checks of every deploy before the first of them
        if not operator.json:
            _tell(changes)
        _agree(operator, gone, yes=yes)
        for order in orders:
            client.deploy(order)
        for change in gone:
            client.undeploy(change.app, change.environment, change.selector)
    if operator.json:
        echo_json({"changed": len(orders) + len(gone), "changes": changes})
    elif orders or gone:
        click.echo(f"{count(len(orders) + len(gone), 'change')} made; see: towpath rollout list")
    else:
        click.echo("nothing to change")


def _agree(operator: Operator, gone: list[Change], *, yes: bool) -> None:
    """Return where what is to be taken off may be; ask a person at a terminal."""
    if not gone or yes:
        return
    what = count(len(gone), "assignment")
    if not operator.world.is_tty() or operator.json:
        raise InputError(f"cannot take {what} off unasked: say --yes, or leave --prune away; nothing was changed")
    if not click.confirm(f"take {what} off?"):
        raise InputError("cannot apply: it was not agreed to; nothing was changed")
