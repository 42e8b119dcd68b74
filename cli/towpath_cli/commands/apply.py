"""`towpath apply` and `towpath diff`: the fleet as a file says, done or only shown.

Both compare the file with the server and have it try every step, in one transaction that is undone: so what `diff`
shows is what `apply` would do, and what cannot be is said with file, line and key before anything is changed. `apply`
then has the very steps done, all in one transaction. `diff` exits 0 where the file asks for nothing new, 1 where it
does, 2 where it could not be compared.
"""

from pathlib import Path

import click

from towpath.commandline import clean
from towpath.errors import InputError, TowpathError
from towpath_cli import surroundings
from towpath_cli.changes import Act, Kind
from towpath_cli.client import Client
from towpath_cli.comparing import compare, key_of, lines
from towpath_cli.fleetfile import load_fleet_file, schema_json
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import count, echo_json, say_error
from towpath_cli.steps import Applied
from towpath_cli.surroundings import There
from towpath_cli.wishes import FleetFile

DIFFERENT, TROUBLE = 1, 2
_FILE = click.option("-f", "--file", "path", type=click.Path(path_type=Path), help="The fleet file.")
_PRUNE = click.option("--prune", is_flag=True, help="Also take off what is not in the file, in its environments.")


def _compared(operator: Operator, client: Client, file: FleetFile, *, prune: bool) -> list[Act]:
    """Return what there is to do; InputError where the server would refuse a step, nothing is changed."""
    there = There(
        client.list_environments(),
        client.list_parameters("", ""),
        client.list_hosts() if file.hosts else [],
        [*client.list_entries("freeze"), *client.list_entries("window")],
    )
    around = surroundings.compare(file, there, operator.world.now_ms(), prune=prune)
    rules = compare(file, client.list_rollouts("", "", history=False), prune=prune)
    acts = sorted([*around, *rules], key=lambda act: act.change.kind is Kind.REMOVE)
    _check(acts, _done(client, acts, dry_run=True))
    return acts


def _done(client: Client, acts: list[Act], *, dry_run: bool) -> Applied:
    steps = [act.step for act in acts if act.step is not None]
    return client.apply(steps, dry_run=dry_run) if steps else Applied()


def _check(acts: list[Act], answer: Applied) -> None:
    """Raise InputError with file, line and key where the server refused a step."""
    if answer.step < 0:
        return
    act = [act for act in acts if act.step is not None][answer.step]
    if act.place is None:
        raise InputError(f"cannot apply ({act.change.line()}): {answer.reason}")
    raise act.place.error(answer.reason, key_of(answer.reason))


def _needed(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("missing option '-f': give the fleet file")
    return path


@click.command()
@_FILE
@_PRUNE
@operator_command
def diff(operator: Operator, *, path: Path | None, prune: bool) -> None:
    """Show what applying a fleet file would change: exit 0 (nothing), 1 (something), 2 (cannot compare)."""
    context = click.get_current_context()
    try:
        file = load_fleet_file(_needed(path))
        with operator.connect() as client:
            acts = _compared(operator, client, file, prune=prune)
    except TowpathError as error:
        say_error(str(error))
        context.exit(TROUBLE)
    changes = [act.change for act in acts]
    differs = any(change.kind.differs for change in changes)
    if operator.json:
        echo_json({"differs": differs, "changes": changes})
    else:
        _tell(acts)
        if not differs:
            click.echo("nothing to change")
    context.exit(DIFFERENT if differs else 0)


def _tell(acts: list[Act]) -> None:
    for line in lines(act.change for act in acts):
        click.echo(clean(line))


@click.command()
@_FILE
@_PRUNE
@click.option("--yes", is_flag=True, help="Do not ask before --prune takes something off.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a fleet file, for editors, and do nothing.")
@operator_command
def apply(operator: Operator, *, path: Path | None, prune: bool, yes: bool, schema: bool) -> None:
    """Have the fleet be as a file says: all of it or nothing. What is in place already stays as it is."""
    if schema:
        click.echo(schema_json())
        return
    file = load_fleet_file(_needed(path))
    with operator.connect() as client:
        acts = _compared(operator, client, file, prune=prune)
        if not operator.json:
            _tell(acts)
        _agree(operator, [act for act in acts if act.change.kind is Kind.REMOVE], yes=yes)
        _check(acts, _done(client, acts, dry_run=False))
    changed = sum(act.change.kind.differs for act in acts)
    if operator.json:
        echo_json({"changed": changed, "changes": [act.change for act in acts]})
    elif changed:
        click.echo(f"{count(changed, 'change')} made; see: towpath rollout list")
    else:
        click.echo("nothing to change")


def _agree(operator: Operator, gone: list[Act], *, yes: bool) -> None:
    """Return where what is to be taken off may be; ask a person at a terminal."""
    if not gone or yes:
        return
    what = count(len(gone), "thing")
    if not operator.world.is_tty() or operator.json:
        raise InputError(f"cannot take {what} off unasked: say --yes, or leave --prune away; nothing was changed")
    if not click.confirm(f"take {what} off?"):
        raise InputError("cannot apply: it was not agreed to; nothing was changed")
