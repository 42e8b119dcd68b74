"""`towpath server run`: becomes `towpath-server run` of the same environment; the CLI never imports the server."""

import sys

import click

from towpath_cli.options import world_of

MODULE = "towpath_server.cli"


@click.group()
def server() -> None:
    """Run a server."""


@server.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
    short_help="Run the server in this terminal; takes the arguments of `towpath-server run`.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Run the server: --dir FOLDER and all that `towpath-server run --help` names."""
    world_of(ctx).become([sys.executable, "-m", MODULE, "run", *arguments])
