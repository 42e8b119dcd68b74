"""`towpath token create`: lets hosts enrol."""

import click

from towpath.names import check_environment, check_labels
from towpath_cli.options import DURATION, Operator, operator_command, pairs
from towpath_cli.output import echo_json

DAY_MS = 86_400_000


@click.group()
def token() -> None:
    """Make enrolment tokens."""


@token.command()
@click.option("--environment", required=True, metavar="E", help="The environment that the hosts will be pinned to.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label of the hosts; may be repeated.")
@click.option("--uses", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many hosts may enrol.")
@click.option("--ttl", type=DURATION, default=DAY_MS, show_default="1d", help="How long the token is good.")
@operator_command
def create(operator: Operator, *, environment: str, labels: tuple[str, ...], uses: int, ttl: int) -> None:
    """Make a token and print it, alone, on stdout: the server keeps only its hash."""
    check_environment(environment)
    with operator.connect() as client:
        made = client.create_token(environment, check_labels(pairs(labels, "label")), uses, ttl)
    if operator.json:
        echo_json(made)
    else:
        click.echo(made.token)
