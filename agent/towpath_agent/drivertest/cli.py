"""`towpath-agent driver ...`: what the author or the installer of a driver runs. Needs neither server nor enrolment."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from towpath.errors import InputError, Refusal
from towpath.kinds import check_options
from towpath.quantity import parse_duration_ms
from towpath_agent.system.files import Files, absolute

_SEED_BITS = 32
_MARKS = {"passed": "ok", "failed": "FAILED", "not run": "-"}


@click.group()
def driver() -> None:
    """Work on drivers of installer kind `exec`."""


@driver.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--option", "pairs", multiple=True, metavar="NAME=VALUE", help="The driver's own; may hold {outside}.")
@click.option(
    "--tree",
    "trees",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Twice: the files of a release and of the next one, instead of the samples.",
)
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Only this one, named as JSON names it.")
@click.option("--timeout", default="10s", show_default=True, help="What one call may take.")
@click.option("--kills", type=click.IntRange(0, 10_000), default=12, show_default=True, help="Kills for each move.")
@click.option("--seed", type=int, help="Of the random moments; printed, so that a run can be repeated.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Print a table, or JSON.")
@click.pass_context
def test(  # noqa: PLR0917  (click hands them over by name)
    context: click.Context,
    path: Path,
    pairs: Sequence[str],
    trees: tuple[Path, ...],
    cases: Sequence[str],
    timeout: str,
    kills: int,
    seed: int | None,
    output: str,
) -> None:
    """Prove that the driver at PATH keeps the protocol, survives being killed and takes back what it did.

    It is run on temporary folders. Let one of its options lead it into the test's own: --option root={outside}
    """
    from towpath_agent.drivertest import suite  # noqa: PLC0415  (the other commands need none of it)
    from towpath_agent.installers.found import check_program  # noqa: PLC0415

    check_options("driver test", {"option": "pairs"}, {"option": tuple(pairs)})
    timeout_ms = parse_duration_ms(timeout)
    if timeout_ms < 1:
        raise InputError("cannot test with --timeout 0: a call needs some time")
    unknown = sorted(set(cases) - set(suite.names()))
    if unknown:
        raise InputError(f"cannot test case {unknown[0]!r}: known are {', '.join(suite.names())}")
    seed = secrets.randbits(_SEED_BITS) if seed is None else seed
    warning = ""
    program = absolute(path)
    try:
        program = check_program(path, Files())
    except Refusal as refusal:
        warning = str(refusal)
    options = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    subject = suite.subject_of(program, options, trees, timeout_ms / 1000)
    results = []
    if output == "table":
        click.echo(f"driver {path}, seed {seed}")
    for result in suite.run(subject, kills_per_move=kills, seed=seed, only=cases):
        results.append(result)
        if output == "table":
            detail = f": {result.detail}" if result.detail and result.status != suite.FAILED else ""
            click.echo(f"{_MARKS[result.status]:<6}  {result.sentence.rstrip('.')}{detail}")
            if result.status == suite.FAILED:
                click.echo(f"        {result.detail}")
    failed = [result for result in results if result.status == suite.FAILED]
    counts = {status: sum(result.status == status for result in results) for status in _MARKS}
    if output == "json":
        table = [asdict(result) for result in results]
        said = {"driver": str(path), "seed": seed, "warning": warning, "cases": table, "ok": not failed}
        click.echo(json.dumps(said, indent=2))
    else:
        if warning:
            click.echo(f"warning: an agent would not run it from here: {warning}")
        click.echo(f"{counts['passed']} passed, {counts['failed']} failed, {counts['not run']} not run")
    context.exit(1 if failed else 0)
