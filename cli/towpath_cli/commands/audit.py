"""`towpath audit`: who did what, and what was refused."""

import click

from towpath_cli.options import Operator, operator_command
from towpath_cli.output import echo_json, echo_table, when

COLUMNS = ("at", "actor", "act", "subject", "detail", "outcome")


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many entries.")
@operator_command
def audit(operator: Operator, *, limit: int) -> None:
    """Show the newest entries of the server's audit log."""
    with operator.connect() as client:
        entries = client.audit(limit)
    if operator.json:
        echo_json(entries)
    elif entries:
        rows = [(when(e.at_unix_ms), e.actor, e.act, e.subject, e.detail, e.outcome) for e in entries]
        echo_table(operator.world, COLUMNS, rows)
    else:
        click.echo("nothing was done yet")
