"""`towpath promote`: the very same release on to the next environment; `towpath undo`: back to the one before."""

from typing import Any

import click

from towpath.commandline import clean
from towpath.errors import InputError
from towpath.names import check_app, check_environment, check_labels
from towpath_cli.commands.deploy import TIMEOUT_MS, finish
from towpath_cli.commands.plan import show_plan
from towpath_cli.following import follow, headline
from towpath_cli.model import DeployOrder, Rollout
from towpath_cli.options import DURATION, Operator, operator_command, pairs
from towpath_cli.output import echo_json, say_error
from towpath_cli.policy import policy, policy_options
from towpath_cli.watch import Result


@click.command()
@click.argument("app")
@click.option("--from", "source", required=True, metavar="E", help="Where the release is proven healthy.")
@click.option("--to", "target", required=True, metavar="E", help="Where it shall run.")
@click.option("--select", "selector", multiple=True, metavar="K=V", help="Hosts with this label [every host].")
@policy_options
@click.option("--dry-run", is_flag=True, help="Show what it would do, as towpath plan does, and do nothing.")
@click.option("--wait", "waits", is_flag=True, help="Wait until the hosts have proven it: exit 0, 1 (failed) or 2.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_MS, show_default="10m", help="The longest wait.")
@operator_command
def promote(
    operator: Operator,
    *,
    app: str,
    source: str,
    target: str,
    selector: tuple[str, ...],
    dry_run: bool,
    waits: bool,
    timeout: int,
    **limits: Any,
) -> None:
    """Have another environment run the very release of APP that is proven healthy in one: the same bytes."""
    if dry_run and waits:
        raise InputError("cannot use --dry-run together with --wait: there would be nothing to wait for")
    labels = check_labels(pairs(selector, "selector"))
    order = DeployOrder(
        app=check_app(app),
        version="",
        environment=check_environment(target),
        selector=labels,
        whole_environment=not labels,
        **policy(**limits),
    )
    with operator.connect() as client:
        if dry_run:
            planned = client.plan(order, check_environment(source))
            show_plan(operator, order, planned, "the same words without --dry-run do it")
            return
        deployed = client.promote(check_environment(source), order)
        finish(operator, client, order, deployed, waits=waits, timeout_ms=timeout)


@click.command()
@click.argument("app")
@click.option("--environment", required=True, metavar="E", help="Where.")
@click.option("--select", "selector", multiple=True, metavar="K=V", help="The rule to undo, where there are several.")
@click.option("--all-hosts", is_flag=True, help="The rule of every host, where there are several.")
@click.option("--wait", "waits", is_flag=True, help="Wait until the hosts are back: exit 0, 1 (one cannot) or 2.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_MS, show_default="10m", help="The longest wait.")
@operator_command
def undo(
    operator: Operator,
    *,
    app: str,
    environment: str,
    selector: tuple[str, ...],
    all_hosts: bool,
    waits: bool,
    timeout: int,
) -> None:
    """Take APP back to the release that was done before: no waves, but never more hosts at once than allowed."""
    labels = check_labels(pairs(selector, "selector"))
    if labels and all_hosts:
        raise InputError("cannot use --select together with --all-hosts: choose one")
    rule = labels if labels or all_hosts else None
    with operator.connect() as client:
        undone = client.undo(check_app(app), check_environment(environment), rule)
        if not waits:
            if operator.json:
                echo_json(undone)
            else:
                click.echo(clean(f"{undone.app} {undone.version} in {undone.environment}: {undone.reason}"))
                click.echo(f"see: towpath rollout show {undone.assignment}")
            return
        outcome = follow(operator, client, undone.assignment, timeout_ms=timeout, judge=returned)
    seen = outcome.rollout
    if operator.json:
        echo_json({"result": outcome.result.name.lower(), "seconds": round(outcome.seconds, 3), "rollout": seen})
    if seen is not None and outcome.result is Result.HEALTHY:
        back = sum(host.phase == "back" for host in seen.hosts)
        click.echo(f"{headline(seen)}; {back} of {len(seen.hosts)} hosts are back", err=operator.json)
    elif seen is not None:
        late = f"; not over after {outcome.seconds:.0f}s, it goes on" if outcome.result is Result.TIMEOUT else ""
        say_error(f"{headline(seen)}{late}; see: towpath rollout show {seen.assignment}")
    click.get_current_context().exit(outcome.result)


def returned(rollout: Rollout) -> Result | None:
    """Return how taking back ended, or None while it goes on."""
    match rollout.state:
        case "reverting":
            return None
        case "reverted":
            return Result.FAILED if any(host.phase == "failed" for host in rollout.hosts) else Result.HEALTHY
        case _:
            return Result.FAILED
