"""`towpath deploy` and `towpath undeploy`: which hosts run what.

`deploy --wait` exits 0 when the release is proven healthy, 1 when it failed or was reverted, 2 on time-out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from towpath.commandline import INTERRUPTED
from towpath.errors import InputError
from towpath.names import check_app, check_environment, check_labels, check_version
from towpath.waves import words
from towpath_cli.client import Client
from towpath_cli.following import COLUMNS, follow, host_rows
from towpath_cli.model import Deployed, DeployOrder
from towpath_cli.options import DURATION, Operator, operator_command, pairs
from towpath_cli.output import count, echo_json, echo_table, say_error
from towpath_cli.policy import policy, policy_options, rule_options
from towpath_cli.watch import Outcome, Result

TIMEOUT_MS = 600_000


def order_of(
    app: str,
    version: str,
    environment: str,
    selector: tuple[str, ...],
    *,
    all_hosts: bool,
    limits: Mapping[str, Any],
    verb: str = "deploy",
) -> DeployOrder:
    """Return what the options of a deploy ask for, or of what `verb` says; InputError where they do not fit."""
    labels = check_labels(pairs(selector, "selector"))
    if not labels and not all_hosts:
        raise InputError(
            f"cannot {verb} without a selector: give --select KEY=VALUE, or --all-hosts for every host of {environment}"
        )
    if labels and all_hosts:
        raise InputError("cannot use --select together with --all-hosts: choose one")
    return DeployOrder(
        app=check_app(app),
        version=check_version(version),
        environment=check_environment(environment),
        selector=labels,
        whole_environment=all_hosts,
        **policy(**limits),
    )


@click.command()
@click.argument("app")
@click.argument("version")
@click.option("--environment", required=True, metavar="E", help="Where.")
@rule_options
@policy_options
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
    waits: bool,
    timeout: int,
    **limits: Any,
) -> None:
    """Have hosts run a release: VERSION of APP, also on hosts that enrol later."""
    order = order_of(app, version, environment, selector, all_hosts=all_hosts, limits=limits)
    with operator.connect() as client:
        finish(operator, client, order, client.deploy(order), waits=waits, timeout_ms=timeout)


def finish(
    operator: Operator, client: Client, order: DeployOrder, deployed: Deployed, *, waits: bool, timeout_ms: int
) -> None:
    """Say what was assigned; where it `waits`, follow it to its end and exit with the code of that."""
    order = replace(order, version=deployed.version or order.version)
    if not waits:
        _tell(operator, order, deployed)
        return
    if not deployed.hosts:
        click.echo(f"no host of {order.environment} fits yet; waiting for one", err=True)
    try:
        outcome = follow(operator, client, deployed.assignment, timeout_ms=timeout_ms)
    except KeyboardInterrupt:
        say_error(f"interrupted; the rollout goes on, see: towpath status {order.app}")
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
    if len(order.waves) > 1 and not deployed.unchanged:
        click.echo(f"in {len(order.waves)} waves ({words(order.waves)}): towpath rollout watch {deployed.assignment}")


def _facts(deployed: Deployed) -> dict[str, object]:
    return {
        "assignment": deployed.assignment,
        "generation": deployed.generation,
        "hosts": deployed.hosts,
        "unchanged": deployed.unchanged,
    }


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
        echo_table(operator.world, COLUMNS, host_rows(rollout))
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
