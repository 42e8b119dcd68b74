"""`towpath relay run` and `import`: become `towpath-relay` of the same environment; the CLI never imports the relay."""

import sys

import click

from towpath.commandline import version_option
from towpath_cli.options import world_of

MODULE = "towpath_relay.cli"


@click.group()
@version_option("towpath-relay")
def relay() -> None:
    """Run the relay of a site: it carries for its hosts, and fetches each object once."""


@relay.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
    short_help="Run the relay in this terminal; takes the arguments of `towpath-relay run`.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Run the relay: --dir FOLDER and all that `towpath-relay run --help` names."""
    world_of(ctx).become([sys.executable, "-m", MODULE, "run", *arguments])


@relay.command(
    name="import",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
    short_help="Put a bundle into a relay's cache; takes the arguments of `towpath-relay import`.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def import_bundle(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Import a bundle: FILE, and all that `towpath-relay import --help` names."""
    world_of(ctx).become([sys.executable, "-m", MODULE, "import", *arguments])
