"""`towpath server ...`: becomes `towpath-server ...` of the same environment; the CLI never imports the server."""

import sys

import click

from towpath.commandline import version_option
from towpath_cli.options import world_of

MODULE = "towpath_server.cli"


COMMANDS = {
    "run": "Run the server in this terminal.",
    "backup": "Write everything that the server is into one file.",
    "restore": "Make an empty folder a server again, out of a backup.",
    "migrate": "Bring the database to this Towpath's schema.",
    "doctor": "Look whether the server is in order.",
}


@click.group()
@version_option("towpath-server")
def server() -> None:
    """Run a server, and look after its folder: on the server's own machine, as its user or root."""


def _add(name: str, text: str) -> None:
    @server.command(
        name,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
        add_help_option=False,
        short_help=f"{text} See: towpath server {name} --help",
        help=text,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def _become(ctx: click.Context, arguments: tuple[str, ...]) -> None:
        world_of(ctx).become([sys.executable, "-m", MODULE, name, *arguments])


for _name, _text in COMMANDS.items():
    _add(_name, _text)
