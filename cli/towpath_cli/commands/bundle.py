"""`towpath bundle`: create, verify, import. Files that travel where no line leads, and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from towpath.bundle.checking import Checked, naming
from towpath.commandline import clean
from towpath.errors import InputError
from towpath.quantity import format_size
from towpath_cli.bundlefile import save, verified, writing
from towpath_cli.commands.trust import pinned_root
from towpath_cli.model import BundleOrder, BundlePiece
from towpath_cli.operator_folder import read_identity
from towpath_cli.options import DURATION, JSON, TABLE, Operator, dir_option, operator_command, output_option, world_of
from towpath_cli.output import count, echo_json, when
from towpath_cli.tree import Progress, no_progress

PIECE_BYTES = 256 * 1024
DEFAULT_DELTA_WAIT = "2m"
_SHOWN = 8


@click.group()
def bundle() -> None:
    """Carry releases to hosts that no line reaches, in one file, and their reports back."""


@bundle.command()
@click.option(
    "--release", "releases", multiple=True, required=True, metavar="APP@VERSION", help="What is carried. Repeatable."
)
@click.option(
    "--for",
    "hosts",
    multiple=True,
    required=True,
    metavar="HOST | KEY=VALUE[,KEY=VALUE]",
    help="For whom: a host, or every active host with these labels. Repeatable.",
)
@click.option(
    "--since",
    multiple=True,
    metavar="VERSION | APP@VERSION",
    help="What the hosts run now: only what changed since is carried. Repeatable.",
)
@click.option("--valid", type=DURATION, default="14d", show_default=True, help="How long it is good; 1h to 90d.")
@click.option(
    "--delta-wait",
    type=DURATION,
    default=DEFAULT_DELTA_WAIT,
    show_default=True,
    help="How long deltas that are not ready are waited for.",
)
@click.option("-o", "--out", "path", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@dir_option
@click.option(
    "--server",
    envvar="TOWPATH_SERVER",
    default="127.0.0.1:7445",
    show_default=True,
    metavar="HOST:PORT",
    help="The server's address for operators.",
)
@click.pass_context
def create(ctx: click.Context, /, *, folder: Path, server: str, path: Path, as_json: bool, **wishes: Any) -> None:
    """Make a bundle that tells hosts to run a release, with all that they need for it, in one signed file.

    Each host is let in as its rollout would let it in now; a host that its rollout bars gets none.
    """
    operator = Operator(folder, server, JSON if as_json else TABLE, world_of(ctx))
    order = BundleOrder(wishes["hosts"], wishes["releases"], wishes["since"], wishes["valid"], wishes["delta_wait"])
    read_identity(operator.folder)
    root = pinned_root(operator.folder)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"cannot write {path}: it has to be a file in a folder that is there")
    with operator.connect() as client, writing(path) as part:
        save(part, _shown(operator, client.create_bundle(order)))
        checked = verified(part, root, operator.world.now_ms())
    _show(operator, path, checked, "made")


def _shown(operator: Operator, pieces: Iterator[BundlePiece]) -> Iterator[BundlePiece]:
    """Yield pieces with data; print notes, and on a terminal how far it is."""
    first: BundlePiece | None = None
    for first in pieces:
        if first.data:
            break
        click.echo(clean(first.note), err=True)
    if first is None or not first.data:
        return
    if not operator.world.is_tty():
        yield from _counted(first, pieces, no_progress)
        return
    from towpath_cli.terminal import progress_bar  # noqa: PLC0415 - rich is loaded only where it is seen

    with progress_bar("receiving", first.size) as add:
        yield from _counted(first, pieces, add)


def _counted(first: BundlePiece, rest: Iterator[BundlePiece], add: Progress) -> Iterator[BundlePiece]:
    add(len(first.data))
    yield first
    for piece in rest:
        add(len(piece.data))
        yield piece


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@dir_option
@output_option
@click.pass_context
def verify(ctx: click.Context, /, *, file: Path, folder: Path, output: str) -> None:
    """Check a bundle without a server: every signature, every byte, whether anything is missing, until when it is good.

    Verified from the root in operator/. Exit 0 where all of it is good, 1 with the first fault otherwise.
    """
    operator = Operator(folder, "", output, world_of(ctx))
    checked = verified(file, pinned_root(operator.folder), operator.world.now_ms())
    _show(operator, file, checked, "good")


@bundle.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@operator_command
def import_reports(operator: Operator, *, file: Path) -> None:
    """Hand a host's reports, which came back as a FILE of `towpath-agent bundle report`, to the server.

    Importing a file twice is harmless.
    """
    pieces = _pieces(file)
    head = next(pieces, b"")
    with operator.connect() as client, naming(file):
        done = client.import_reports(_chained(head, pieces))
    if operator.json:
        echo_json(done)
        return
    state = "what it says of its apps is news" if done.state else "what it says of its apps was known"
    click.echo(f"{done.host}: {count(done.events, 'event')}, {done.added} new; {state}")
    click.echo(f"made on {when(done.made_unix_ms)} by the host's clock; see: towpath host show {done.host}")


def _chained(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _show(operator: Operator, path: Path, checked: Checked, word: str) -> None:
    said = checked.statement
    deltas = [one for one in said.members if one.name.startswith("deltas/")]
    if operator.json:
        echo_json(
            {
                "file": str(path),
                "id": said.id,
                "created_unix_ms": said.created_unix_ms,
                "created_by": said.created_by,
                "valid_until_unix_ms": said.valid_until_unix_ms,
                "hosts": said.hosts,
                "releases": said.releases,
                "objects": said.objects,
                "object_bytes": said.object_bytes,
                "deltas": len(deltas),
                "delta_bytes": sum(one.size for one in deltas),
                "bytes": checked.size,
            }
        )
        return
    click.echo(f"{path}: {word}, {format_size(checked.size)}")
    for one in said.releases:
        since = f" for hosts that run {', '.join(one.since)}" if one.since else ""
        click.echo(clean(f"release  {one.app} {one.version}{since}"))
    hosts = [f"{one.name} ({one.environment})" for one in said.hosts]
    more = f" and {len(hosts) - _SHOWN} more" if len(hosts) > _SHOWN else ""
    click.echo(clean(f"for      {', '.join(hosts[:_SHOWN])}{more}"))
    click.echo(f"until    {when(said.valid_until_unix_ms)}")
    click.echo(clean(f"made     {when(said.created_unix_ms)} by {said.created_by}, id {said.id}"))
    click.echo(
        f"holds    {count(said.objects, 'object')}, {format_size(said.object_bytes)}; {count(len(deltas), 'delta')}, "
        f"{format_size(sum(one.size for one in deltas))}"
    )
