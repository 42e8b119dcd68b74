"""`towpath trust status`: the roles that hosts trust, verified before they are shown."""

from pathlib import Path

import click

from towpath.errors import InputError
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import echo_json, echo_table, when

COLUMNS = ("role", "keys", "threshold", "version", "expires", "note")


@click.group()
def trust() -> None:
    """See who may sign what."""


def pinned_root(folder: Path) -> bytes:
    """Return the root that the operator's own folder pins."""
    path = folder / "operator" / "root.json"
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot verify the server's metadata: {path} cannot be read ({error.strerror}); name the fleet's folder "
            "with --dir (or TOWPATH_DIR)"
        ) from error


@trust.command()
@operator_command
def status(operator: Operator) -> None:
    """Show roles, keys, thresholds and expiries, verified from the root in operator/."""
    with operator.connect() as client:
        files = client.repository()
    from towpath_cli.trust import overview  # noqa: PLC0415 - loads tuf

    rows = overview(files, operator.world.now_ms(), pinned_root(operator.folder))
    if operator.json:
        echo_json(rows)
        return
    table = [
        (
            row.role,
            " ".join(key[:8] for key in row.keys),
            f"{row.threshold} of {len(row.keys)}",
            row.version,
            when(row.expires_ms or 0),
            row.note,
        )
        for row in rows
    ]
    echo_table(operator.world, COLUMNS, table)
