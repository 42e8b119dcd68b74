"""`towpath host`: list, show, set, why, revoke; and `towpath why`."""

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.holds import Hold
from towpath.names import check_app, check_host, check_labels
from towpath_cli.model import Host, HostChange
from towpath_cli.options import Operator, operator_command, pairs
from towpath_cli.output import echo_json, echo_table, when

COLUMNS = ("host", "environment", "labels", "status", "online", "last seen", "agent", "platform", "holds")


@click.group()
def host() -> None:
    """See hosts, and change what is theirs."""


def _hold_text(hold: Hold) -> str:
    return f"{hold.app or 'all apps'} {hold.text}"


def _row(item: Host) -> tuple[object, ...]:
    seen = when(item.last_seen_unix_ms)
    return (
        item.name,
        item.environment,
        item.labels,
        item.status,
        item.online,
        seen,
        item.agent_version,
        item.platform,
        "; ".join(_hold_text(hold) for hold in item.holds),
    )


@host.command(name="list")
@operator_command
def list_hosts(operator: Operator) -> None:
    """List the enrolled hosts."""
    with operator.connect() as client:
        hosts = client.list_hosts()
    if operator.json:
        echo_json(hosts)
    elif hosts:
        echo_table(operator.world, COLUMNS, [_row(item) for item in hosts])
    else:
        click.echo("no host is enrolled yet; let one in with: towpath token create --environment E")


@host.command()
@click.argument("name", metavar="HOST")
@operator_command
def show(operator: Operator, *, name: str) -> None:
    """Show a host: what it is, what it runs, and what it reported last."""
    with operator.connect() as client:
        detail = client.get_host(check_host(name))
    if operator.json:
        echo_json(detail)
        return
    echo_table(operator.world, COLUMNS, [_row(detail.host)])
    click.echo(f"\ncertificate good until {when(detail.host.certificate_expires_unix_ms)}")
    for key, value in sorted(detail.host.parameters.items()):
        where = detail.host.parameter_origins.get(key, "host")
        said = "" if where == "host" else f"  (from {where})"
        click.echo(clean(f"parameter {key}={value}{said}"))
    if detail.apps:
        click.echo()
        rows = [
            (
                a.app,
                a.current_version,
                a.desired_version,
                a.state,
                a.health,
                a.verdict,
                when(a.since_unix_ms),
                a.transfer.text if a.transfer is not None and not a.reason else a.reason,
            )
            for a in detail.apps
        ]
        columns = ("app", "current", "desired", "state", "health", "verdict", "since", "reason")
        echo_table(operator.world, columns, rows)
    if detail.events:
        click.echo()
        events = [(when(e.at_unix_ms), e.kind, e.app, e.version, e.state, e.verdict, e.reason) for e in detail.events]
        echo_table(operator.world, ("at", "event", "app", "version", "state", "verdict", "reason"), events)


@host.command(name="set")
@click.argument("name", metavar="HOST")
@click.argument("values", nargs=-1, metavar="[APP.NAME=VALUE]...")
@click.option("--unset", multiple=True, metavar="APP.NAME", help="Give a parameter back its default.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Set a label.")
@click.option("--unset-label", "unset_labels", multiple=True, metavar="K", help="Remove a label.")
@operator_command
def set_host(
    operator: Operator,
    *,
    name: str,
    values: tuple[str, ...],
    unset: tuple[str, ...],
    labels: tuple[str, ...],
    unset_labels: tuple[str, ...],
) -> None:
    """Set parameters (hello.port=9001) and labels of a host."""
    parameters = pairs(values, "parameter")
    for key in (*parameters, *unset):
        check_parameter(key)
    new_labels = check_labels(pairs(labels, "label"))
    if not (parameters or unset or new_labels or unset_labels):
        raise InputError(f"cannot set nothing of {name}: give app.name=value, --label k=v, --unset or --unset-label")
    with operator.connect() as client:
        changed, notes = client.set_host(
            check_host(name), HostChange(parameters, tuple(unset), new_labels, tuple(unset_labels))
        )
    if operator.json:
        echo_json({"host": changed, "notes": notes})
        return
    origins = changed.parameter_origins
    own = [(k, v) for k, v in sorted(changed.parameters.items()) if origins.get(k, "host") == "host"]
    parts = [f"parameter {k}={v}" for k, v in own]
    parts += [f"label {k}={v}" for k, v in sorted(changed.labels.items())]
    click.echo(clean(f"{changed.name}: {', '.join(parts) or 'no parameters, no labels'}"))
    for note in notes:
        click.echo(f"note: {clean(note)}")


def check_parameter(key: str) -> None:
    """Raise InputError where `key` is no `app.name`."""
    app, dot, name = key.partition(".")
    if not dot or not name:
        raise InputError(f"cannot set {key[:80]!r}: a parameter is named app.name, such as hello.port")
    check_app(app)


def _print_why(operator: Operator, name: str, app: str) -> None:
    with operator.connect() as client:
        reasons = client.why(check_host(name), check_app(app))
    if operator.json:
        echo_json(reasons)
        return
    for reason in reasons:
        click.echo(clean(reason.fact))
        if reason.command:
            click.echo(f"    $ {clean(reason.command)}")


@host.command(name="why")
@click.argument("name", metavar="HOST")
@click.argument("app")
@operator_command
def host_why(operator: Operator, *, name: str, app: str) -> None:
    """Say why HOST runs what it runs of APP."""
    _print_why(operator, name, app)


@click.command()
@click.argument("name", metavar="HOST")
@click.argument("app")
@operator_command
def why(operator: Operator, *, name: str, app: str) -> None:
    """Say why HOST runs what it runs of APP."""
    _print_why(operator, name, app)


@host.command()
@click.argument("name", metavar="HOST")
@click.option("--reason", default="", help="For the audit log.")
@operator_command
def revoke(operator: Operator, *, name: str, reason: str) -> None:
    """Refuse HOST from now on; it keeps running what it runs, and must enrol again to come back."""
    with operator.connect() as client:
        client.revoke_host(check_host(name), reason)
    if operator.json:
        echo_json({"host": name, "status": "revoked"})
    else:
        click.echo(f"{name}: revoked")
