"""`towpath operator create`: another person who may talk to the server, made where the fleet's CA key is."""

import shlex
from pathlib import Path

import click

from towpath.names import check_host
from towpath_cli.options import dir_option, world_of


@click.group()
def operator() -> None:
    """Make operators: people whose names are in the audit log, and who approve rollouts."""


@operator.command()
@click.argument("name")
@click.argument("into", metavar="FOLDER", type=click.Path(path_type=Path))
@dir_option
@click.pass_context
def create(ctx: click.Context, *, name: str, into: Path, folder: Path) -> None:
    """Make FOLDER with an identity for the operator NAME; give it to that person and keep no copy.

    It is signed with the key in server/ of the fleet's folder: type this where the server is.
    """
    from towpath_cli.fleet import create_operator  # noqa: PLC0415 - loads tuf

    create_operator(folder, into, check_host(name), now_ms=world_of(ctx).now_ms())
    click.echo(f"made {into}: operator/ ({name})")
    click.echo(f"next: give it to {name}, and: towpath status --dir {shlex.quote(str(into))}")
