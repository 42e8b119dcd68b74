"""`towpath environment`: which environments there are, in which order, and what a release must have been through."""

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.names import check_environment
from towpath.quantity import format_duration
from towpath_cli.model import EnvironmentRow
from towpath_cli.options import DURATION, Operator, operator_command
from towpath_cli.output import echo_json, echo_table

COLUMNS = ("environment", "after", "healthy there for", "hosts", "note")


@click.group()
def environment() -> None:
    """See and order environments."""


@environment.command(name="list")
@operator_command
def list_environments(operator: Operator) -> None:
    """List the environments in their order."""
    with operator.connect() as client:
        rows = client.list_environments()
    if operator.json:
        echo_json(rows)
    else:
        echo_table(operator.world, COLUMNS, [_row(one) for one in rows])


def _row(one: EnvironmentRow) -> tuple[object, ...]:
    required = format_duration(one.healthy_for_ms) if one.healthy_for_ms else ""
    return one.name, one.after, required, one.hosts, "" if one.declared else "not declared, only its hosts say so"


@environment.command(name="set")
@click.argument("name", metavar="E")
@click.option("--after", metavar="E", default=None, help="The environment that it follows.")
@click.option("--first", is_flag=True, help="It follows none.")
@click.option(
    "--healthy-for",
    type=DURATION,
    default=None,
    help="How long a release has to be healthy in the one before; 0s: nothing is required.",
)
@operator_command
def set_environment(operator: Operator, *, name: str, after: str | None, first: bool, healthy_for: int | None) -> None:
    """Add the environment E, or say what it follows and what a release must have been through before."""
    if first and after is not None:
        raise InputError("cannot use --first together with --after: choose one")
    follows = "" if first else check_environment(after) if after is not None else None
    with operator.connect() as client:
        row = client.set_environment(check_environment(name), follows, healthy_for)
    if operator.json:
        echo_json(row)
        return
    where = f"after {row.after}" if row.after else "the first of its row"
    required = (
        f", releases have to be healthy there for {format_duration(row.healthy_for_ms)}" if row.healthy_for_ms else ""
    )
    click.echo(clean(f"{row.name}: {where}{required}"))
