"""`towpath plan`: what a deploy would do, before anything moves. Takes the arguments of `towpath deploy`.

`show_plan` is `towpath promote --dry-run` too.
"""

from typing import Any

import click

from towpath.commandline import clean
from towpath.quantity import format_duration
from towpath_cli.commands.deploy import order_of
from towpath_cli.model import DeployOrder, Plan
from towpath_cli.options import Operator, operator_command
from towpath_cli.output import count, echo_json, echo_table
from towpath_cli.policy import policy_options, reach, rule_options

HOST_COLUMNS = ("wave", "turn", "host", "from", "to", "at most", "stays because")
WAVE_COLUMNS = ("wave", "what", "hosts", "opens after", "its gate")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command()
@click.argument("app")
@click.argument("version")
@click.option("--environment", required=True, metavar="E", help="Where.")
@rule_options
@policy_options
@operator_command
def plan(
    operator: Operator,
    *,
    app: str,
    version: str,
    environment: str,
    selector: tuple[str, ...],
    all_hosts: bool,
    **limits: Any,
) -> None:
    """Show what a deploy of VERSION of APP would do: waves, turns, bytes, delays, and who cannot take it."""
    order = order_of(app, version, environment, selector, all_hosts=all_hosts, limits=limits, verb="plan")
    with operator.connect() as client:
        found = client.plan(order)
    show_plan(operator, order, found, "the same words after 'towpath deploy' do it")


def show_plan(operator: Operator, order: DeployOrder, plan: Plan, next_step: str) -> None:
    """Print a plan; `next_step` says how it is done."""
    if operator.json:
        echo_json(plan)
        return
    name = f"{order.app} {plan.version}"
    moving = [host for host in plan.hosts if not host.stays]
    if plan.unchanged:
        click.echo(f"{name} is what {order.environment} should run already by this rule: it would change nothing")
        return
    click.echo(
        f"{name} to {order.environment}: {len(moving)} of {count(len(plan.hosts), 'host')} would move, at most "
        f"{count(plan.at_once, 'host')} at once; at most {size(plan.at_most_bytes)} travel"
    )
    for line in reach(order):
        click.echo(line)
    click.echo(f"{_time(plan)}\n")
    echo_table(operator.world, WAVE_COLUMNS, [_wave(plan, n) for n in range(len(plan.waves))])
    if plan.hosts:
        click.echo()
        echo_table(operator.world, HOST_COLUMNS, [_row(plan, n) for n in range(len(plan.hosts))])
    if order.prefetch:
        most = max((host.at_most_bytes for host in moving), default=0)
        click.echo(f"prefetch: each host downloads it before it is let in, at most {size(most)}")
    for delay in plan.delays:
        lasts = f" for {format_duration(delay.lasts_ms)}" if delay.lasts_ms else ""
        click.echo(clean(f"delay: after {_after(delay.after_ms)} wave {delay.wave + 1} waits{lasts}: {delay.waits}"))
    if plan.waits:
        click.echo(clean(f"it would not end by itself: {plan.waits}"))
    click.echo(f"nothing was changed; {next_step}")


def _time(plan: Plan) -> str:
    each = f"where each host takes {format_duration(plan.host_ms)} and nobody keeps a manual gate waiting"
    if plan.cut:
        return f"it takes longer than {_after(plan.took_ms)}, {each}; turns beyond that are not shown"
    return f"it takes {_after(plan.took_ms)}, {each}"


def _after(milliseconds: int) -> str:
    """Return a time after the beginning in whole seconds."""
    return format_duration(-(-milliseconds // 1000) * 1000) if milliseconds else "0s"


def _wave(plan: Plan, number: int) -> tuple[object, ...]:
    wave = plan.waves[number]
    return (number + 1, wave.text, wave.hosts, _after(wave.opens_ms) if wave.opens_ms >= 0 else "", wave.asks)


def _row(plan: Plan, number: int) -> tuple[object, ...]:
    host = plan.hosts[number]
    goes = "" if host.stays else plan.version
    travels = size(host.at_most_bytes) if goes else ""
    return (host.wave + 1, host.turn or "", host.host, host.before, goes, travels, host.stays)


def size(number: int) -> str:
    """Return bytes as people read them."""
    value = float(number)
    for unit in _UNITS[:-1]:
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"
