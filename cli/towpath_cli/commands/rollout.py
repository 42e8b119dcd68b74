"""`towpath rollout`: see what is on its way, and steer it.

`watch` exits 0 when the release is proven healthy, 1 when it failed, was taken back or cancelled, 2 on time-out.
"""

from collections.abc import Callable

import click

from towpath.commandline import INTERRUPTED, clean
from towpath.names import check_app, check_environment
from towpath.quantity import format_duration
from towpath.reports import PrefetchState
from towpath.waves import format_share
from towpath_cli.following import COLUMNS, bar_line, follow, headline, host_rows, look, wave_table
from towpath_cli.model import Rollout
from towpath_cli.options import DURATION, Operator, operator_command
from towpath_cli.output import cell, count, echo_json, echo_table, say_error, say_notice, when
from towpath_cli.policy import reach
from towpath_cli.watch import Result

LIST_COLUMNS = ("rollout", "app", "version", "environment", "selector", "state", "wave", "healthy", "by", "reason")
TIMEOUT_MS = 3_600_000
_DONE = {
    "pause": "paused; nobody else moves, who is in flight finishes",
    "resume": "goes on",
    "advance": "goes on",
    "halt": "halted; who has not switched stays on what it has",
    "retry": "tries its failed hosts again",
    "cancel": "cancelled; who runs the release keeps it, nobody else gets it",
    "revert": "goes back to the release before, no more hosts at once than allowed",
}
# What was replaced or taken off counts for nobody any more: its hosts are the next one's.
_OVER = ("superseded", "removed")
_HELP = {
    "pause": "Let nobody else move; hosts in flight finish.",
    "resume": "Go on after a pause or a halt, in the same wave; hosts that failed until now do not count again.",
    "advance": "Open the next wave now, whatever this one waits for.",
    "halt": "Stop now: hosts that have not switched stay on what they have.",
    "retry": "Try the hosts again that failed, in the same wave.",
    "revert": "Take it back to the release that was done before, as 'towpath undo' does by app and environment.",
    "cancel": "End it: who runs the release keeps it, what was there before counts again for the others.",
}


@click.group()
def rollout() -> None:
    """See rollouts, and steer them. ROLLOUT is an id from the list, or the beginning of one."""


@rollout.command(name="list")
@click.argument("app", required=False)
@click.option("--environment", metavar="E", default="", help="Only of this environment.")
@click.option("--all", "history", is_flag=True, help="Those of the past too.")
@operator_command
def list_rollouts(operator: Operator, *, app: str | None, environment: str, history: bool) -> None:
    """List rollouts, newest first: of APP, or of every app."""
    where = check_environment(environment) if environment else ""
    with operator.connect() as client:
        found = client.list_rollouts(check_app(app) if app else "", where, history=history)
        say_notice(client.notice)
    if operator.json:
        echo_json(found)
    elif found:
        echo_table(operator.world, LIST_COLUMNS, [_row(one) for one in found])
    else:
        click.echo("nothing is deployed; towpath deploy APP VERSION --environment E --select K=V")


def _row(one: Rollout) -> tuple[object, ...]:
    healthy = sum(host.phase == "healthy" for host in one.hosts)
    wave = f"{min(one.wave + 1, len(one.waves))} of {len(one.waves)}"
    selector = one.selector or "(every host)"
    proven = "" if one.state in _OVER else f"{healthy} of {len(one.hosts)}"
    return (
        one.assignment,
        one.app,
        one.version,
        one.environment,
        selector,
        one.state,
        wave,
        proven,
        one.created_by,
        one.reason,
    )


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@operator_command
def show(operator: Operator, *, name: str) -> None:
    """Show a rollout: its policy, its waves, its hosts."""
    with operator.connect() as client:
        one = client.get_assignment(name)
    if operator.json:
        echo_json(one)
        return
    click.echo(headline(one))
    selector = cell(one.selector) if one.selector else "every host"
    created = f"by {one.created_by} at {when(one.created_unix_ms)}"
    click.echo(clean(f"rollout {one.assignment}, generation {one.generation}, for {selector}, {created}"))
    click.echo(f"{_limits(one)}; on a breach: {one.on_breach}")
    for line in (*reach(one), *_times(one), *_gates(one), *map(bar_line, one.bars), *_prefetch(one)):
        click.echo(clean(line))
    if one.state in _OVER:
        click.echo(f"its hosts are not its own any more; see: towpath status {one.app}")
        return
    click.echo()
    echo_table(operator.world, *wave_table(one))
    for wave in one.waves:
        for check in wave.checks:
            click.echo(clean(f"wave {wave.number + 1}: {check}"))
    if one.hosts:
        click.echo()
        rows = [(host.wave + 1, *row) for host, row in zip(one.hosts, host_rows(one), strict=True)]
        echo_table(operator.world, ("wave", *COLUMNS), rows)


def _times(one: Rollout) -> list[str]:
    """Return when it moves hosts and whom it waits for, where that was said."""
    parts = [f"window {text}" for text in one.windows]
    parts += [f"not before {when(one.at_unix_ms)}"] if one.at_unix_ms else []
    parts += [f"expires {when(one.expires_unix_ms)}"] if one.expires_unix_ms else []
    parts += [f"overrides freezes: {one.override_freeze}"] if one.override_freeze else []
    parts += [f"waits {format_duration(one.offline_wait_ms)} for offline hosts"] if one.offline_wait_ms else []
    parts += ["newcomers wait for the next rollout"] if one.newcomers == "wait" else []
    return ["; ".join(parts)] if parts else []


def _prefetch(one: Rollout) -> list[str]:
    """Return how many of the hosts that wait have the release already, and why the first of the others does not."""
    waiting = [host for host in one.hosts if not host.admitted]
    if not one.prefetch:
        return []
    mine = {host.host: host.prefetch for host in waiting if host.prefetch and host.prefetch.version == one.version}
    have = sum(it.state is PrefetchState.COMPLETE for it in mine.values())
    lines = [f"prefetch: {have} of {count(len(waiting), 'host')} not let in yet have downloaded it"]
    lines += [f"prefetch: {name}: {it.text}" for name, it in mine.items() if it.reason][:1]
    return lines


def _limits(one: Rollout) -> str:
    unavailable = str(one.max_unavailable) if one.max_unavailable else "a quarter of its hosts"
    share = f"{format_share(one.max_failure_share)} of the finished hosts" if one.max_failure_share else ""
    failures = str(one.max_failures) if one.max_failures or not share else ""
    return f"unavailable at once: {unavailable}; failures allowed: {' and '.join(p for p in (failures, share) if p)}"


def _gates(one: Rollout) -> list[str]:
    """Return who may approve, and what each metric asks."""
    lines = [f"approvers: {', '.join(one.approvers)}"] if one.approvers else []
    return lines + [f"metric {each.name}: {each.query} {each.limits}" for each in one.metrics]


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@click.option("--wait/--once", "waits", default=True, show_default=True, help="Until it ended, or one look.")
@click.option("--timeout", type=DURATION, default=TIMEOUT_MS, show_default="1h", help="The longest wait.")
@operator_command
def watch(operator: Operator, *, name: str, waits: bool, timeout: int) -> None:
    """Watch a rollout until it ended: exit 0 (healthy), 1 (failed or taken back) or 2 (time-out)."""
    context = click.get_current_context()
    with operator.connect() as client:
        begun = client.get_assignment(name)
        if not waits:
            look(operator, begun)
            return
        try:
            outcome = follow(operator, client, begun.assignment, timeout_ms=timeout, keep=True)
        except KeyboardInterrupt:
            say_error(f"interrupted; the rollout goes on, see: towpath rollout show {begun.assignment}")
            context.exit(INTERRUPTED)
    seen = outcome.rollout or begun
    if operator.json:
        echo_json({"result": outcome.result.name.lower(), "seconds": round(outcome.seconds, 3), "rollout": seen})
    elif outcome.result is Result.HEALTHY:
        click.echo(f"{headline(seen)} after {outcome.seconds:.1f}s")
    if outcome.result is Result.TIMEOUT:
        say_error(f"{headline(seen)}; not over after {outcome.seconds:.0f}s, it goes on")
    elif outcome.result is Result.FAILED:
        say_error(f"{headline(seen)}; see: towpath rollout show {seen.assignment}")
    context.exit(outcome.result)


@rollout.command()
@click.argument("name", metavar="ROLLOUT")
@click.option("--wave", type=click.IntRange(1), default=None, help="Only if this is the newest open wave.")
@click.option("--reason", default="", help="For the audit log.")
@operator_command
def approve(operator: Operator, *, name: str, wave: int | None, reason: str) -> None:
    """Approve the newest open wave: others than its author say that the next one may open."""
    with operator.connect() as client:
        done = client.approve(name, wave or 0, reason)
    if operator.json:
        echo_json(done)
        return
    names = ", ".join(done.names)
    before = " (you had already)" if done.again else ""
    left = done.needed - len(done.names)
    rest = f"{left} to go" if left > 0 else "enough"
    what = f"{done.app} {done.version} in {done.environment}: wave {done.wave + 1}"
    click.echo(clean(f"{what} is approved by {names}{before}: {len(done.names)} of {done.needed}, {rest}"))
    click.echo(f"see: towpath rollout show {done.assignment}")


def _steering(verb: str) -> Callable[..., None]:
    @rollout.command(name=verb, help=_HELP[verb])
    @click.argument("name", metavar="ROLLOUT")
    @click.option("--reason", default="", help="For the audit log, and for who asks why.")
    @operator_command
    def act(operator: Operator, *, name: str, reason: str) -> None:
        with operator.connect() as client:
            after = client.steer(name, verb, reason)
        if operator.json:
            echo_json(after)
            return
        number = f", wave {after.wave + 1} is open" if verb == "advance" and after.state != "done" else ""
        said = "is done" if after.state == "done" else f"{_DONE[verb]}{number}"
        click.echo(clean(f"{after.app} {after.version} in {after.environment}: {said}"))
        click.echo(f"see: towpath rollout show {after.assignment}")

    return act


pause, resume, advance, halt, retry, cancel, revert = (_steering(verb) for verb in _DONE)
