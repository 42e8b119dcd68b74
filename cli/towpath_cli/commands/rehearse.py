"""`towpath rehearse`: a policy tried on a simulated fleet, so that it can be chosen with numbers.

The policy and the labels come from the server; the arithmetic is done here, by a program of the same installation
(`towpath_server.services.rehearsing`), so that a server is kept by no rehearsal.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from towpath.budgets import order_text
from towpath.commandline import clean
from towpath.errors import Broken, InputError
from towpath.waves import ALL, parse_share
from towpath_cli.client import Client
from towpath_cli.commands.deploy import order_of
from towpath_cli.model import DeployOrder, Rollout
from towpath_cli.options import DURATION, Operator, operator_command
from towpath_cli.output import count, echo_json, echo_table
from towpath_cli.plot import HOUR_MS, svg
from towpath_cli.policy import limit_options, rule_options

MODULE = "towpath_server.services.rehearsing"
LIMIT_SECONDS = 1800.0
# Where hosts end, as the answer names it: each host is in one of them.
ENDS = {
    "healthy": "healthy",
    "harmed": "harmed",
    "back": "taken back",
    "offline": "offline",
    "unfinished": "unfinished",
    "not_let_in": "not let in",
}
COLUMNS = ("wave", "what", "hosts", "opened after", *ENDS.values())
_NOT_BY_ID = (
    "waves",
    "soak",
    "max_unavailable",
    "max_failures",
    "max_failure_share",
    "progress_deadline",
    "budgets",
    "order",
)


def _share(text: str) -> float:
    return 0.0 if text in ("0", "0%") else parse_share(text) / ALL


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="ROLLOUT | APP VERSION")
@click.option("--environment", metavar="E", default="", help="Where; with APP VERSION.")
@rule_options
@limit_options
@click.option("--hosts", type=click.IntRange(1), default=None, help="How many hosts [as many as there are].")
@click.option("--failures", metavar="P%", default="0%", show_default=True, help="Hosts on which the release fails.")
@click.option("--offline", metavar="P%", default="0%", show_default=True, help="Hosts that are away when it begins.")
@click.option("--away", type=DURATION, default=8 * HOUR_MS, show_default="8h", help="How long those stay away, mean.")
@click.option("--host-time", type=DURATION, default=60_000, show_default="1m", help="From told to proven, mean.")
@click.option("--person", type=DURATION, default=1_800_000, show_default="30m", help="How long a manual gate waits.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same rehearsal.")
@click.option("--plot", type=click.Path(path_type=Path), default=None, help="Write a picture, FILE.svg.")
@operator_command
def rehearse(
    operator: Operator,
    *,
    names: tuple[str, ...],
    environment: str,
    selector: tuple[str, ...],
    all_hosts: bool,
    hosts: int | None,
    failures: str,
    offline: str,
    away: int,
    host_time: int,
    person: int,
    seed: int,
    plot: Path | None,
    **limits: Any,
) -> None:
    """Try a policy on a simulated fleet: of a ROLLOUT that exists, or of one of APP VERSION that could be deployed."""
    if plot is not None and plot.suffix != ".svg":
        raise InputError(f"cannot draw {plot}: pictures are SVG, give a name that ends with .svg")
    assumptions = {
        "failures": _share(failures),
        "offline": _share(offline),
        "host_ms": host_time,
        "spread": 0.5,
        "away_ms": away,
        "person_ms": person,
    }
    with operator.connect() as client:
        if len(names) == 2:
            rule = order_of(*names, environment, selector, all_hosts=all_hosts, limits=limits, verb="rehearse")
            policy, labels = _planned(client, rule)
        elif len(names) == 1:
            _check_alone(environment, selector, all_hosts=all_hosts, limits=limits)
            policy, labels = _existing(client, names[0])
        else:
            raise InputError("cannot rehearse that: give a ROLLOUT, or an APP and a VERSION")
    number = hosts or len(labels)
    if number == 0:
        raise InputError("cannot rehearse without hosts: none matches, give --hosts")
    if operator.world.is_tty():
        click.echo(f"rehearsing with {count(number, 'host')} ...", err=True)
    request = {"policy": policy, "labels": labels, "hosts": number, "assumptions": assumptions, "seed": seed}
    numbers = _run(request)
    if plot is not None:
        _draw(plot, f"{' '.join(names)}: {number} hosts, {failures} fail, {offline} offline, seed {seed}", numbers)
    if operator.json:
        echo_json({"seed": seed, "assumptions": assumptions, "policy": policy} | numbers)
        return
    _show(operator, numbers)
    if plot is not None:
        click.echo(f"drawn: {plot}")


def _check_alone(environment: str, selector: tuple[str, ...], *, all_hosts: bool, limits: Mapping[str, Any]) -> None:
    """Raise InputError where options of a deploy stand beside a rollout that has its own."""
    given = [name for name in _NOT_BY_ID if limits[name]]
    if environment or selector or all_hosts or given:
        raise InputError("cannot use a deploy's options with a ROLLOUT: it has its own; give APP VERSION instead")


def _planned(client: Client, order: Any) -> tuple[dict[str, Any], list[Mapping[str, str]]]:
    try:
        plan = client.plan(order)
    except InputError as error:  # in the words of a plan, which nobody typed
        raise InputError(f"cannot rehearse: {error}", code=error.code) from error
    policy = {
        "waves": ",".join(wave.text for wave in plan.waves),  # the server's default too
        "max_unavailable": order.max_unavailable,
        "max_failures": order.max_failures,
        "max_failure_share": order.max_failure_share,
        "on_breach": order.on_breach,
        "progress_deadline_ms": plan.progress_deadline_ms,
        **_reach(order),
    }
    return policy, [host.labels for host in plan.hosts]


def _existing(client: Client, name: str) -> tuple[dict[str, Any], list[Mapping[str, str]]]:
    one = client.get_assignment(name)
    labels = {host.name: host.labels for host in client.list_hosts()}
    policy = {
        "waves": ",".join(wave.text for wave in one.waves),
        "max_unavailable": one.max_unavailable,
        "max_failures": one.max_failures,
        "max_failure_share": one.max_failure_share,
        "on_breach": one.on_breach,
        "progress_deadline_ms": one.progress_deadline_ms,
        **_reach(one),
    }
    return policy, [labels[host.host] for host in one.hosts if host.host in labels]


def _reach(one: DeployOrder | Rollout) -> dict[str, Any]:
    return {"budgets": [budget.text for budget in one.budgets], "order": order_text(one.order_label)}


def _run(request: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode == 1 and done.stderr.count("\n") == 1:
        raise InputError(done.stderr.strip())
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Broken(f"cannot rehearse: {MODULE} ended with {done.returncode}: {last[0]}")
    answer = json.loads(done.stdout)
    return dict(answer)


def _show(operator: Operator, numbers: Mapping[str, Any]) -> None:
    hosts = numbers["hosts"]
    click.echo(clean(f"{numbers['state']} after {_hours(numbers['took_ms'])}: {numbers['reason']}"))
    share = 100 * numbers["harmed"] / hosts
    line = f"{numbers['harmed']} of {count(hosts, 'host')} harmed ({share:.2f}%), {numbers['moved']} moved"
    if numbers["stopped_ms"] >= 0:
        line += f"; stopped after {_hours(numbers['stopped_ms'])}, {numbers['harmed_at_stop']} had failed by then"
    click.echo(line)
    if numbers["waits"]:
        click.echo(clean(f"it would not end by itself: {numbers['waits']}"))
    if numbers["cut"]:
        click.echo("it was not over then: the simulation ends there")
    click.echo()
    echo_table(operator.world, COLUMNS, [_row(wave) for wave in numbers["waves"]])


def _row(wave: Mapping[str, Any]) -> tuple[object, ...]:
    opened = _hours(wave["opened_ms"]) if wave["opened_ms"] >= 0 else "never"
    ends = (wave[key] for key in ENDS)
    return (wave["number"] + 1, wave["text"], wave["hosts"], opened, *ends)


def _hours(milliseconds: int) -> str:
    return f"{milliseconds / HOUR_MS:.2f}h" if milliseconds >= HOUR_MS else f"{milliseconds / 60_000:.1f}m"


def _draw(path: Path, title: str, numbers: Mapping[str, Any]) -> None:
    opened = {wave["text"]: wave["opened_ms"] for wave in numbers["waves"] if wave["opened_ms"] >= 0}
    try:
        path.write_text(svg(title, numbers["samples"], numbers["hosts"], opened), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
