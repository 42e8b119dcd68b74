"""`towpath init`: a new fleet's three folders."""

import getpass
import shlex
from pathlib import Path

import click

from towpath.errors import InputError
from towpath.names import check_host
from towpath_cli.options import world_of
from towpath_cli.passphrase import new_passphrase, read_passphrase_file

FALLBACK_NAME = "operator"


def login_name() -> str:
    """Return the login name where it is usable as an operator's name."""
    try:
        return check_host(getpass.getuser().lower())
    except (InputError, KeyError, OSError, ImportError):
        return FALLBACK_NAME


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Protect the publisher's keys with the first line of this file.",
)
@click.option("--passphrase", "ask", is_flag=True, help="Ask for a passphrase for the publisher's keys.")
@click.option("--operator", default=None, metavar="NAME", help="The operator's name in the audit log [login name].")
@click.pass_context
def init(ctx: click.Context, folder: Path, passphrase_file: Path | None, ask: bool, operator: str | None) -> None:
    """Make a new fleet in FOLDER.

    Three folders, one for each party: publisher/ (keep it offline), operator/ and server/.
    """
    if passphrase_file is not None and ask:
        raise InputError("cannot use both --passphrase and --passphrase-file: choose one")
    name = check_host(operator) if operator is not None else login_name()
    passphrase = read_passphrase_file(passphrase_file) if passphrase_file is not None else None
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        # Said before a passphrase is asked for; create_fleet checks it again.
        raise InputError(f"cannot make a fleet in {folder}: it is there already; choose another folder", code="exists")
    if ask:
        passphrase = new_passphrase()
    from towpath_cli.fleet import create_fleet  # noqa: PLC0415 - loads tuf

    create_fleet(folder, passphrase=passphrase, operator=name, now_ms=world_of(ctx).now_ms())
    shown = shlex.quote(str(folder))
    click.echo(f"made {folder}: publisher/ (keep it offline), operator/ ({name}), server/")
    click.echo(f"next: towpath server run --dir {shown}/server")
