"""Options that the agent's commands share: the folder, with the settings file in it, and the form of output."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from towpath.errors import InputError
from towpath.settings import Setting, check_settings
from towpath_agent.system.files import Files

DEFAULT_DIR = "/var/lib/towpath"
SETTINGS = "agent.toml"
# Where a package puts the settings of the agent in the default folder. What stands in the folder itself is stronger.
HOST_SETTINGS = Path("/etc/towpath") / SETTINGS
KNOWN_SETTINGS = (
    "control_group",
    "direct_from",
    "max_prefetch_bytes",
    "max_rate",
    "max_release_bytes",
    "min_rate",
    "name",
    "relay",
    "server",
    "sync_interval",
    "token_file",
)
MAX_SETTINGS_BYTES = 64 * 1024


def _load_settings(context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    """Take DIR/agent.toml as the defaults of the command; runs before its other options are looked at."""
    files = Files()
    context.default_map = read_settings([path for path in settings_files(folder) if files.exists(path)], files)
    return folder


def settings_files(folder: Path) -> list[Path]:
    """Return where settings for the agent in `folder` may stand, the weakest first."""
    return [*([HOST_SETTINGS] if folder == Path(DEFAULT_DIR) else []), folder / SETTINGS]


def read_settings(paths: Sequence[Path], files: Files) -> dict[str, Setting]:
    """Return what the files say, later ones beating earlier ones; InputError names the file that cannot be used."""
    settings: dict[str, Setting] = {}
    for path in paths:
        try:
            table = tomllib.loads(files.read(path, MAX_SETTINGS_BYTES).decode())
        except ValueError as error:
            raise InputError(f"cannot use {path}: it is no TOML ({error})") from error
        settings |= check_settings(table, KNOWN_SETTINGS, str(path))
    return settings


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
