"""Options that the agent's commands share: the folder, with the settings file in it, and the form of output."""

import tomllib
from pathlib import Path

import click

from towpath.errors import InputError
from towpath.settings import check_settings
from towpath_agent.system.files import Files

DEFAULT_DIR = "/var/lib/towpath"
SETTINGS = "agent.toml"
KNOWN_SETTINGS = ("control_group", "max_release_bytes", "name", "server", "sync_interval", "token_file")
MAX_SETTINGS_BYTES = 64 * 1024


def _load_settings(context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    """Take DIR/agent.toml as the defaults of the command; runs before its other options are looked at."""
    path = folder / SETTINGS
    files = Files()
    if files.exists(path):
        try:
            table = tomllib.loads(files.read(path, MAX_SETTINGS_BYTES).decode())
        except ValueError as error:
            raise InputError(f"cannot use {path}: it is no TOML ({error})") from error
        context.default_map = check_settings(table, KNOWN_SETTINGS, str(path))
    return folder


folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TOWPATH_AGENT_DIR",
    default=DEFAULT_DIR,
    show_default=True,
    is_eager=True,
    callback=_load_settings,
    help="The agent's folder.",
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Print a table, or JSON."
)
