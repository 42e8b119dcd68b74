"""`towpath version`."""

import platform

import click

from towpath import __version__
from towpath_cli.options import JSON, output_option
from towpath_cli.output import echo_json


@click.command()
@output_option
def version(output: str) -> None:
    """Print the version."""
    if output == JSON:
        echo_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(f"towpath {__version__}")
