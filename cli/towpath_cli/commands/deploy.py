"""`towpath deploy` and `towpath undeploy`: which hosts run what.

`deploy --wait` exits 0 when the release is proven healthy, 1 when it failed or was reverted, 2 on time-out.
"""

from contextlib import ExitStack

import click

from towpath.errors import InputError
from towpath.names import check_app, check_environment, check_labels, check_version
from towpath_cli.client import Client
from towpath_cli.model import Deployed, DeployOrder, Rollout
from towpath_cli.options import DURATION, Operator, operator_command, pairs
from towpath_cli.output import cell, count, echo_json, echo_table, say_error
from towpath_cli.watch import ChangeLines, Outcome, Result, wait

TIMEOUT_MS = 600_000
INTERRUPTED = 130
COLUMNS = ("host", "phase", "current", "state", "health", "reason")


@click.command()
@click.argument("app")
@click.argument("version")
@click.option("--environment", required=True, metavar="E", help="Where.")
@click.option("--select", "selector", multiple=True, metavar="K=V", help="Hosts with this label; all of them must fit.")
@click.option("--all-hosts", is_flag=True, help="Every host of the environment.")
@click.option(
    "--max-unavailable", type=click.IntRange(1), default=None, help="Hosts in flight at once [a quarter of them]."
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Halt when more hosts than this failed.",
)
@click.option("--progress-deadline", type=DURATION, default=None, help="Silence of a host in flight that is a failure.")
@click.option("--wait", "waits", is_flag=True, help="Wait until the hosts have proven it: exit 0, 1 (failed) or 2.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_MS, show_default="10m", help="The longest wait.")
@operator_command
def deploy(
    operator: Operator,
    *,
    app: str,
    version: str,
    environment: str,
    selector: tuple[str, ...],
    all_hosts: bool,
    max_unavailable: int | None,
    max_failures: int,
    progress_deadline: int | None,
    waits: bool,
    timeout: int,
) -> None:
    """Have hosts run a release: VERSION of APP, also on hosts that enrol later."""
    labels = check_labels(pairs(selector, "selector"))
    if not labels and not all_hosts:
        raise InputError(
            f"cannot deploy to every host of {environment} unasked: choose with --select k=v, or say --all-hosts"
        )
    if labels and all_hosts:
        raise InputError("cannot use --select together with --all-hosts: choose one")
    order = DeployOrder(
        app=check_app(app),
        version=check_version(version),
        environment=check_environment(environment),
        selector=labels,
        whole_environment=all_hosts,
        max_unavailable=max_unavailable or 0,
        max_failures=max_failures,
        progress_deadline_ms=progress_deadline or 0,
    )
    with operator.connect() as client:
        deployed = client.deploy(order)
        if not waits:
            _tell(operator, order, deployed)
            return
        try:
            outcome = _wait(operator, client, order, deployed, timeout)
        except KeyboardInterrupt:
            say_error(f"interrupted; the rollout goes on, see: towpath status {app}")
            click.get_current_context().exit(INTERRUPTED)
    _report(operator, order, deployed, outcome)
    click.get_current_context().exit(outcome.result)


def _tell(operator: Operator, order: DeployOrder, deployed: Deployed) -> None:
    if operator.json:
        echo_json({"app": order.app, "version": order.version, "environment": order.environment} | _facts(deployed))
        return
    name = f"{order.app} {order.version}"
    if deployed.unchanged:
        click.echo(f"{name}: unchanged, {count(deployed.hosts, 'host')} of {order.environment} should run it already")
    else:
        click.echo(f"{name}: assigned to {count(deployed.hosts, 'host')} of {order.environment}")
    click.echo(f"see: towpath status {order.app}")


def _facts(deployed: Deployed) -> dict[str, object]:
    return {
        "assignment": deployed.assignment,
        "generation": deployed.generation,
        "hosts": deployed.hosts,
        "unchanged": deployed.unchanged,
    }


def _wait(operator: Operator, client: Client, order: DeployOrder, deployed: Deployed, timeout_ms: int) -> Outcome:
    def note(text: str) -> None:
        click.echo(text, err=True)

    if not deployed.hosts:
        note(f"no host of {order.environment} fits yet; waiting for one")
    live = operator.world.is_tty() and not operator.json
    with ExitStack() as stack:
        if live:
            from towpath_cli.terminal import live_table  # noqa: PLC0415 - rich is loaded only where it is seen

            draw = stack.enter_context(live_table(COLUMNS))

            def show(rollout: Rollout) -> None:
                draw([[cell(value) for value in row] for row in _rows(rollout)])
        else:
            lines = ChangeLines()

            def show(rollout: Rollout) -> None:
                for line in lines.changes(rollout):
                    click.echo(line, err=operator.json)

        return wait(
            lambda seconds: client.get_assignment(deployed.assignment, seconds),
            world=operator.world,
            timeout_ms=timeout_ms,
            show=show,
            note=note,
        )


def _rows(rollout: Rollout) -> list[tuple[object, ...]]:
    return [tuple(getattr(host, column) for column in COLUMNS) for host in rollout.hosts]


def _report(operator: Operator, order: DeployOrder, deployed: Deployed, outcome: Outcome) -> None:
    rollout = outcome.rollout
    hosts = rollout.hosts if rollout is not None else ()
    if operator.json:
        echo_json(
            {
                "app": order.app,
                "version": order.version,
                "environment": order.environment,
                "result": outcome.result.name.lower(),
                "state": rollout.state if rollout is not None else "",
                "reason": rollout.reason if rollout is not None else "",
                "seconds": round(outcome.seconds, 3),
            }
            | _facts(deployed)
            | {"hosts": hosts}
        )
    elif rollout is not None and hosts:
        echo_table(operator.world, COLUMNS, _rows(rollout))
    healthy = [host for host in hosts if host.phase == "healthy"]
    name = f"{order.app} {order.version}"
    if outcome.result is Result.HEALTHY:
        held = sum(host.phase == "held" for host in hosts)
        rest = len(hosts) - len(healthy) - held
        later = f"; {count(rest, 'host')} offline, to follow when back" if rest else ""
        later += f"; {count(held, 'host')} held, to follow when released" if held else ""
        line = f"{name} is healthy on {count(len(healthy), 'host')} of {order.environment}"
        click.echo(f"{line} after {outcome.seconds:.1f}s{later}", err=operator.json)
        return
    reason = f": {rollout.reason.strip()}" if rollout is not None and rollout.reason else ""
    where = next((host.host for host in hosts if host.phase in ("failed", "inconclusive")), None)
    where = where or next((host.host for host in hosts if host.phase != "healthy"), None)
    see = f"towpath why {where} {order.app}" if where is not None else "towpath host list"
    if outcome.result is Result.TIMEOUT:
        did = f"{len(healthy)} of {count(len(hosts), 'host')} healthy after {outcome.seconds:.0f}s"
        say_error(f"{name} is not proven yet: {did}{reason}; it goes on, see: {see}")
    else:
        state = rollout.state if rollout is not None else "failed"
        did = f"{len(healthy)} of {count(len(hosts), 'host')} healthy"
        say_error(f"{name} failed: {state}, {did}{reason}; see: {see}")


@click.command()
@click.argument("app")
@click.option("--environment", required=True, metavar="E", help="Where.")
@operator_command
def undeploy(operator: Operator, *, app: str, environment: str) -> None:
    """Take APP off the hosts of an environment."""
    with operator.connect() as client:
        removed = client.undeploy(check_app(app), check_environment(environment))
    if operator.json:
        echo_json({"app": app, "environment": environment, "assignments": removed})
    elif removed:
        click.echo(f"{app}: {count(removed, 'assignment')} of {environment} removed; its hosts will take it off")
    else:
        click.echo(f"{app}: nothing was assigned in {environment}")
