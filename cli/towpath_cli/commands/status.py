"""`towpath status`: what runs where."""

import click

from towpath.names import check_app
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import echo_json, echo_table, say_notice

COLUMNS = ("host", "environment", "app", "current", "desired", "state", "health", "reason")


@click.command()
@click.argument("app", required=False)
@operator_command
def status(operator: Operator, *, app: str | None) -> None:
    """Show what runs where, and how well: APP, or every app."""
    with operator.connect() as client:
        rows = client.status(check_app(app) if app else "")
        say_notice(client.notice)
    if operator.json:
        echo_json(rows)
    elif rows:
        echo_table(operator.world, COLUMNS, [tuple(getattr(row, column) for column in COLUMNS) for row in rows])
    else:
        what = f"no host has {app}" if app else "no host has an app"
        click.echo(f"{what}; give it one with: towpath deploy APP VERSION --environment E --select k=v")
