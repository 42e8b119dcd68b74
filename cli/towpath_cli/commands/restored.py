"""`towpath restored`: hosts that know more than the server's database, and the way out once that is settled."""

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.holds import check_line
from towpath_cli.model import RestoredRow
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import count, echo_json, echo_table

COLUMNS = ("environment", "host", "knows more", "app", "runs", "would run", "")


@click.group()
def restored() -> None:
    """See and settle that the server's database was put back from a backup."""


@restored.command()
@operator_command
def show(operator: Operator) -> None:
    """Show what hosts run that know more than the database, and what it would have them run."""
    with operator.connect() as client:
        rows = client.show_restored()
    if operator.json:
        echo_json(rows)
    elif not rows:
        click.echo("no host knows more than the database: nothing is to be settled")
    else:
        echo_table(operator.world, COLUMNS, [_row(one) for one in rows])
        moving = [one for one in rows if one.current != one.desired]
        click.echo(f"{len(moving)} of {count(len(rows), 'row')} would change; until then every host keeps what it runs")
        click.echo("publish and deploy again what was lost, look again, then: towpath restored accept --reason TEXT")


def _row(one: RestoredRow) -> tuple[object, ...]:
    change = "" if one.current == one.desired else "would change"
    return (one.environment, one.host, "yes" if one.ahead else "", one.app, one.current, one.desired, change)


@restored.command()
@click.option("--reason", required=True, help="Why, for the audit log.")
@click.option("--yes", is_flag=True, help="Also where hosts would go to another release.")
@operator_command
def accept(operator: Operator, *, reason: str, yes: bool) -> None:
    """Let the database count again: hosts follow it from now on, whatever they knew before."""
    check_line(reason, "reason")
    with operator.connect() as client:
        moving = sorted({one.host for one in client.show_restored() if one.current != one.desired})
        if moving and not yes:
            raise InputError(
                f"cannot accept the database: {count(len(moving), 'host')} would change ({', '.join(moving[:3])}); "
                "deploy again what was lost (towpath restored show), or say --yes"
            )
        hosts = client.accept_restored(reason)
    if operator.json:
        echo_json({"hosts": hosts})
    else:
        click.echo(clean(f"the database counts again; {count(hosts, 'host')} had known more"))
