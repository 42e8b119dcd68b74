"""The commands for whoever looks after a server: backup, restore, migrate, doctor.

Exit 0: done, or nothing fails. 1: not, one line says why. Not handled here: what they do (`upkeep`).
"""

import getpass
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towpath.errors import InputError
from towpath.quantity import format_size
from towpath_server.options import bucket_options, folder_option, listen_options, locked

if TYPE_CHECKING:
    from towpath.findings import Finding

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Print lines, or JSON."
)
path_type = click.Path(path_type=Path)
_SHOWN_EVERY_S = 0.5


def now_unix_ms() -> int:
    """Return the machine's time."""
    return time.time_ns() // 1_000_000


def _progress(doing: str) -> Callable[[int, int], None]:
    """Return what shows a person how far it is, after the first half second; nothing where nobody looks."""
    shown = time.monotonic()

    def tell(done: int, whole: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - shown >= _SHOWN_EVERY_S:
            shown = time.monotonic()
            click.echo(f"\r{doing}: {done * 100 // max(1, whole)} %", err=True, nl=False)
            click.echo("\r", err=True, nl=False)

    return tell


def _echo(output: str, value: Any, *lines: str) -> None:
    if output == "json":
        click.echo(json.dumps(asdict(value), indent=2))
        return
    for line in lines:
        click.echo(line)


def _when(unix_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(unix_ms // 1000))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """Make an end by a timer or a lost terminal one by Ctrl-C: what is half made goes, with the keys in it."""
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@click.command()
@folder_option
@click.option("--out", required=True, type=path_type, help="The new file, or a folder for it.")
@output_option
def backup(folder: Path, out: Path, output: str) -> None:
    """Write everything that the server is into one file, 0600, while it runs or not.

    The file holds the keys of the server and of the CA: keep it as safe as the server. It is read again before it gets
    its name. Settings in /etc/towpath are not in it.
    """
    from towpath_server.upkeep.backup import back_up  # noqa: PLC0415 (SQLAlchemy, tuf: only here)

    now = now_unix_ms()
    if out.is_dir():
        out /= time.strftime("towpath-%Y%m%dT%H%M%SZ.tar.zst", time.gmtime(now // 1000))
    if not out.absolute().parent.is_dir():
        raise InputError(f"cannot back up to {out}: there is no folder {out.absolute().parent}; make it")
    with _cleaning_up():
        made = back_up(folder, out, now, _progress("backing up"))
    if made.left_out:
        click.echo(f"left out, no part of a server: {', '.join(made.left_out)}", err=True)
    files = f"{made.files} {'file' if made.files == 1 else 'files'}"
    size = format_size(made.bytes)
    _echo(output, made, f"made {made.file}: {size}, {files}, schema {made.schema}, read again and whole")


@click.command()
@folder_option
@click.argument("archive", type=path_type)
@output_option
def restore(folder: Path, archive: Path, output: str) -> None:
    """Make the empty folder --dir a server again, out of the backup ARCHIVE.

    Refused, and nothing changed, where the folder is not empty, or the backup not whole.
    """
    from towpath_server.upkeep import restore as restoring  # noqa: PLC0415

    with _cleaning_up():
        done = restoring.restore(
            archive,
            folder,
            now_unix_ms=now_unix_ms(),
            actor=f"local/{_user()}",
            progress=_progress("restoring"),
        )
    hosts = f"{done.hosts} {'host' if done.hosts == 1 else 'hosts'}"
    _echo(
        output,
        done,
        f"restored {done.folder} from a backup of {_when(done.made_unix_ms)}: {hosts}, schema {done.schema}",
        "what was done after the backup is not known here; look through it:",
        "  hosts that were revoked since: revoke them again; hosts that enrolled since have to enrol again",
        "  releases that were published since: publish them again, in the same order; hosts keep what they run",
        "  tokens made before are void: make new ones",
        f"next: towpath server doctor --dir {done.folder}, then start the server, then towpath rollout list",
    )


@click.command()
@folder_option
@output_option
def migrate(folder: Path, output: str) -> None:
    """Bring the database to this Towpath's schema, without serving.

    A copy of the older one is made first, beside it. `towpath server run` does the same at its start.
    """
    from towpath_server.storage import SqlStorage  # noqa: PLC0415
    from towpath_server.storage.database import head_revision  # noqa: PLC0415

    database = folder / "towpath.db"
    with locked(folder, "migrate"):
        if not database.is_file():
            raise InputError(f"cannot migrate {folder}: it has no towpath.db; --dir must be a server's folder")
        storage = SqlStorage(database)
        storage.close()
    done = storage.upgraded
    if output == "json":
        before, copy = (done.before, str(done.copy)) if done is not None else (head_revision(), "")
        click.echo(json.dumps({"before": before, "after": head_revision(), "copy": copy}, indent=2))
    elif done is None:
        click.echo(f"{database} is of schema {head_revision()} already; nothing was changed")
    else:
        click.echo(f"{database}: schema {done.before} is now {done.after}; as it was: {done.copy}")


@click.command()
@folder_option
@listen_options
@bucket_options
@click.option("--full", is_flag=True, help="Read every object, not a sample of them.")
@output_option
@click.pass_context
def doctor(context: click.Context, /, folder: Path, full: bool, output: str, **settings: str) -> None:
    """Look whether the server is in order: files, disk, clock, keys, metadata, database, objects, ports.

    Only looks, but that it puts damaged objects aside, so that they can be uploaded again. Works with the server
    running or stopped; give it the options and AWS_* variables that the server has.
    Exit 0 where nothing fails, 1 otherwise.
    """
    from towpath.findings import Level  # noqa: PLC0415
    from towpath_server.storage.opening import ObjectStore  # noqa: PLC0415
    from towpath_server.upkeep.doctor import examine  # noqa: PLC0415

    url, endpoint, region = (settings.pop(f"object_store{part}") for part in ("", "_endpoint", "_region"))
    store = ObjectStore(url, endpoint, region)
    findings = examine(folder, settings, now_unix_ms(), full=full, progress=_progress("reading objects"), store=store)
    failed = sum(finding.level is Level.FAIL for finding in findings)
    if output == "json":
        click.echo(json.dumps({"findings": [asdict(one) for one in findings], "failed": failed}, indent=2))
    else:
        for finding in findings:
            _show(finding)
        click.echo(f"{failed} {'check fails' if failed == 1 else 'checks fail'}" if failed else "nothing fails")
    context.exit(1 if failed else 0)


def _show(finding: "Finding") -> None:
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in finding.text)
    click.echo(f"{finding.level:<4}  {finding.check:<11}  {text}")
    if finding.command:
        click.echo(f"{'':19}$ {finding.command}")


def add_to(group: click.Group) -> None:
    """Register the commands of this module."""
    for command in (backup, restore, migrate, doctor):
        group.add_command(command)
