"""`towpath release`: lint, publish, list, show, schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.names import check_app, check_version
from towpath.quantity import format_size
from towpath.release import Release
from towpath_cli.compressed import notes
from towpath_cli.model import WayToRelease
from towpath_cli.operator_folder import read_identity
from towpath_cli.options import JSON, Operator, operator_command, output_option, world_of
from towpath_cli.output import count, echo_json, echo_table, say_error, when
from towpath_cli.passphrase import passphrase_source
from towpath_cli.publisher import Publisher
from towpath_cli.publishing import checked, publish
from towpath_cli.releasefile import ReleaseFileError, load_release_file, schema_json
from towpath_cli.tree import Progress, Tree, no_progress
from towpath_cli.world import World

# What lint calls a release whose version is only given at publish.
UNVERSIONED = "0"


@click.group()
def release() -> None:
    """Check, publish and list releases."""


class Bars:
    """Progress of what takes longer: a bar on a terminal, silence elsewhere."""

    def __init__(self, world: World) -> None:
        """Draw only where `world` has a terminal."""
        self._draw = world.is_tty()

    @contextmanager
    def __call__(self, label: str, total: int) -> Iterator[Progress]:
        """Yield the function that is told bytes."""
        if not self._draw:
            yield no_progress
            return
        from towpath_cli.terminal import progress_bar  # noqa: PLC0415 - rich is loaded only where it is seen

        with progress_bar(label, total) as add:
            yield add


def _describe(release: Release, tree: Tree) -> dict[str, object]:
    return {
        "app": release.app,
        "version": release.version,
        "files": tree.files,
        "entries": len(tree.entries),
        "bytes": release.artifact.tree_size,
        "index_sha256": release.artifact.index_sha256,
        "install": release.install.kind,
        "run": release.run.kind,
        "probes": [probe.kind for probe in release.probes],
        "parameters": [parameter.name for parameter in release.parameters],
    }


@release.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--version", "number", metavar="V", help="The version, where the file does not say it.")
@output_option
@click.pass_context
def lint(ctx: click.Context, file: Path, number: str | None, output: str) -> None:
    """Check a release FILE and its artifact, without a server, and say what it would publish."""
    try:
        parsed = load_release_file(file)
        shown = number or parsed.section.version
        counter = max(1, parsed.section.rollback_floor)
        world = world_of(ctx)
        made, tree = checked(parsed, version=shown or UNVERSIONED, counter=counter, show=Bars(world))
    except ReleaseFileError as error:
        if output == JSON:
            echo_json({"problems": error.problems})
        for problem in error.problems:
            say_error(problem)
        ctx.exit(1)
    advice = notes(made.install.kind, tree)
    facts = _describe(made, tree) | {"version": shown, "notes": advice}
    if output == JSON:
        echo_json(facts)
        return
    size = format_size(made.artifact.tree_size)
    name = f"{made.app} {shown}" if shown else f"{made.app} (version given at publish)"
    click.echo(f"{name}: good")
    click.echo(f"would publish {count(tree.files, 'file')}, {size}, tree sha256:{made.artifact.index_sha256.hex()}")
    for line in advice:
        click.echo(f"note: {line}")


@release.command(name="publish")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--version", "number", metavar="V", help="The version; stronger than the file's own.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    envvar="TOWPATH_PASSPHRASE_FILE",
    help="The passphrase of the publisher's keys, where they have one.",
)
@operator_command
def publish_release(operator: Operator, *, file: Path, number: str | None, passphrase_file: Path | None) -> None:
    """Sign the release of FILE with the keys in publisher/, and hand it to the server."""
    parsed = load_release_file(file)
    if number is not None:
        check_version(number)
    elif parsed.section.version is None:
        raise InputError(f"cannot publish {file}: it names no version; give one with --version")
    read_identity(operator.folder)
    signer = Publisher(operator.folder / "publisher", passphrase_source(passphrase_file))
    with operator.connect() as client:
        done = publish(parsed, client, signer, version=number, world=operator.world, show=Bars(operator.world))
    made = done.release
    if operator.json:
        facts = _describe(made, done.tree) | {"unchanged": done.unchanged, "uploaded": done.uploaded}
        echo_json(facts)
        return
    if done.unchanged:
        click.echo(f"{made.app} {made.version}: unchanged, it is published already")
        return
    click.echo(
        f"published {made.app} {made.version}: {count(done.tree.files, 'file')}, {format_size(made.artifact.tree_size)}"
    )
    if done.uploaded is not None:
        sent = done.uploaded
        click.echo(
            f"uploaded {sent.objects} of {count(sent.of_objects, 'object')}, {format_size(sent.size)} as "
            f"{format_size(sent.carried)}{'; the server had the rest' if sent.objects < sent.of_objects else ''}"
        )


@release.command(name="list")
@click.argument("app", required=False)
@operator_command
def list_releases(operator: Operator, *, app: str | None) -> None:
    """List the published releases of APP, or of every app."""
    with operator.connect() as client:
        rows = client.list_releases(check_app(app) if app else "")
    if operator.json:
        echo_json(rows)
    elif rows:
        table = [(r.app, r.version, r.counter, when(r.published_unix_ms), r.published_by, r.sha256) for r in rows]
        echo_table(operator.world, ("app", "version", "counter", "published", "by", "sha256"), table)
    else:
        click.echo("nothing is published yet; publish with: towpath release publish FILE --version V")


@release.command()
@click.argument("app")
@click.argument("version")
@operator_command
def show(operator: Operator, *, app: str, version: str) -> None:
    """Show the bytes of a release: unpacked, compressed, and what travels to hosts that run another one."""
    with operator.connect() as client:
        rows = {row.version: row for row in client.list_releases(check_app(app))}
        weight = client.weigh_release(app, check_version(version))
    row = rows[version]
    if operator.json:
        echo_json({"release": row, "bytes": weight})
        return
    published = f"published {when(row.published_unix_ms)} by {row.published_by}"
    click.echo(clean(f"{app} {version}, counter {row.counter}, {published}, sha256 {row.sha256.hex()}"))
    click.echo(
        f"{format_size(weight.unpacked)} unpacked; {format_size(weight.carried)} in {count(weight.objects, 'object')} "
        "travel to a host without anything of it"
    )
    if not weight.ways:
        click.echo("no host runs another release of it")
        return
    table = [(way.version, way.hosts, format_size(way.objects), _delta(way)) for way in weight.ways]
    echo_table(operator.world, ("from", "hosts", "objects", "delta"), table)


def _delta(way: WayToRelease) -> str:
    """Return the size of a delta, or why there is none; an older server does not say that."""
    if way.delta is not None:
        return format_size(way.delta)
    return f"none: {way.no_delta}" if way.no_delta else "none"


@release.command()
def schema() -> None:
    """Print the JSON Schema of release files, for editors."""
    click.echo(schema_json())
