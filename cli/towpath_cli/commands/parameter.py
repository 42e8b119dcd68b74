"""`towpath parameter`: parameters of an environment, or of a label in it; those of one host are `towpath host set`."""

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.names import check_app, check_environment, check_labels
from towpath_cli.commands.host import check_parameter
from towpath_cli.options import Operator, operator_command, pairs
from towpath_cli.output import count, echo_json, echo_table

COLUMNS = ("environment", "label", "parameter", "value")


@click.group()
def parameter() -> None:
    """See and set parameters of environments and labels. The host's own come before a label's, and it before both."""


@parameter.command(name="list")
@click.argument("app", required=False)
@click.option("--environment", metavar="E", default="", help="Only of this environment.")
@operator_command
def list_parameters(operator: Operator, *, app: str | None, environment: str) -> None:
    """List what is set: of APP, or of every app."""
    where = check_environment(environment) if environment else ""
    with operator.connect() as client:
        rows = client.list_parameters(where, check_app(app) if app else "")
    if operator.json:
        echo_json(rows)
    elif rows:
        echo_table(
            operator.world, COLUMNS, [(one.environment, one.label, f"{one.app}.{one.name}", one.text) for one in rows]
        )
    else:
        click.echo("nothing is set; towpath parameter set --environment E app.name=value")


@parameter.command(name="set")
@click.argument("values", nargs=-1, metavar="[APP.NAME=VALUE]...")
@click.option("--environment", required=True, metavar="E", help="Where.")
@click.option("--label", metavar="K=V", default="", help="Only for hosts with this label.")
@operator_command
def set_parameters(operator: Operator, *, values: tuple[str, ...], environment: str, label: str) -> None:
    """Set parameters for every host of an environment, or for those with a label there. It counts at once."""
    parameters = pairs(values, "parameter")
    _change(operator, environment, label, parameters, ())


@parameter.command()
@click.argument("names", nargs=-1, metavar="[APP.NAME]...")
@click.option("--environment", required=True, metavar="E", help="Where.")
@click.option("--label", metavar="K=V", default="", help="Only for hosts with this label.")
@operator_command
def unset(operator: Operator, *, names: tuple[str, ...], environment: str, label: str) -> None:
    """Unset parameters: the environment's, or the release's default, counts again."""
    _change(operator, environment, label, {}, names)


def _change(
    operator: Operator, environment: str, label: str, parameters: dict[str, str], gone: tuple[str, ...]
) -> None:
    if not parameters and not gone:
        raise InputError(f"cannot change nothing of {environment[:80]}: name a parameter, such as hello.port=8080")
    for key in (*parameters, *gone):
        check_parameter(key)
    labels = check_labels(pairs([label] if label else [], "label"))
    text = next((f"{key}={value}" for key, value in labels.items()), "")
    with operator.connect() as client:
        hosts, notes = client.set_parameters(check_environment(environment), text, parameters, gone)
    if operator.json:
        echo_json({"environment": environment, "label": text, "hosts": hosts, "notes": notes})
        return
    words = ", ".join([*(f"{k}={v}" for k, v in sorted(parameters.items())), *(f"{k} unset" for k in sorted(gone))])
    where = f"{environment} with {text}" if text else environment
    click.echo(clean(f"{where}: {words}; for {count(hosts, 'host')} now"))
    for note in notes:
        click.echo(f"note: {clean(note)}")
