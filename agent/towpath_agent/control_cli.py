"""The commands for the person on the host: hold, release, revert, retry, explain, doctor.

Rules: none of them needs a server. What changes something is asked of the running agent over its socket; looking works
with the agent stopped too, from the journal. A command that waits says so. Exit 0: done; 1: not, one line says why.
Not handled here: what the commands do (`runner.local`), what doctor looks at (`doctor`).
"""

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from towpath.errors import InputError, TowpathError
from towpath.holds import Hold, check_line
from towpath.names import check_app
from towpath.quantity import parse_duration_ms
from towpath_agent import identity
from towpath_agent.control.client import ask, ping
from towpath_agent.control.protocol import Answer, Contact, Request, contact_in
from towpath_agent.options import DEFAULT_DIR, folder_option, output_option
from towpath_agent.output import echo_json, printable, time_text
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

WAIT_SAID_S = 1.5
JOURNAL = "state.db"

_COMMAND = re.compile(r"towpath-agent (?:explain|history|retry|hold) [a-z0-9-]+")


@click.command()
@folder_option
@output_option
@click.option("--for", "duration", required=True, metavar="DURATION", help="How long at most, such as 2h; up to 30d.")
@click.option("--reason", required=True, help="Why; operators see it.")
@click.argument("app", required=False)
def hold(folder: Path, output: str, duration: str, reason: str, app: str | None) -> None:
    """Let nothing new begin here for a while: no change to APP, or to any app. What runs is kept running.

    A change that has not switched stays where it is and goes on afterwards; one past its switch finishes. The hold ends
    by itself. Operators see it, and their rollouts pass this host by.
    """
    request = Request("hold", check_app(app) if app else "", parse_duration_ms(duration), check_line(reason, "reason"))
    _show(_ask(folder, request), output, folder)


@click.command()
@folder_option
@output_option
@click.argument("app", required=False)
def release(folder: Path, output: str, app: str | None) -> None:
    """End the hold on APP, or every hold on this host."""
    _show(_ask(folder, Request("release", check_app(app) if app else "")), output, folder)


@click.command()
@folder_option
@output_option
@click.option("--reason", default="", help="Why; operators see it.")
@click.argument("app")
def revert(folder: Path, output: str, reason: str, app: str) -> None:
    """Go back to what APP ran before, and do not apply the release that is left again until told.

    A change that is under way is given up. The same probes prove what is gone back to.
    """
    said = check_line(reason, "reason") if reason else ""
    _show(_ask(folder, Request("revert", check_app(app), reason=said)), output, folder)


@click.command()
@folder_option
@output_option
@click.argument("app")
def retry(folder: Path, output: str, app: str) -> None:
    """Forget that something of APP failed here, so that what should run is tried again now."""
    _show(_ask(folder, Request("retry", check_app(app))), output, folder)


@click.command()
@folder_option
@output_option
@click.argument("app")
def explain(folder: Path, output: str, app: str) -> None:
    """Say why APP runs what it runs here: each fact, and the command that would change it."""
    try:
        data = _ask(folder, Request("explain", check_app(app))).data
    except TowpathError as error:
        if error.code not in ("not-running", "busy"):
            raise
        data = _from_journal(folder, app)
    reasons = data["reasons"]
    if output == "json":
        echo_json(data)
        return
    for reason in reasons if isinstance(reasons, list) else []:
        click.echo(printable(reason["fact"]))
        if reason["command"]:
            click.echo(f"    $ {_here(printable(reason['command']), folder)}")


@click.command()
@folder_option
@output_option
@click.pass_context
def doctor(context: click.Context, folder: Path, output: str) -> None:
    """Look whether this host is in order: folder, disk, clock, certificate, journal, programs, way to the server.

    Exit 0 where nothing fails, 1 otherwise. Works with the agent stopped.
    """
    from towpath_agent.doctor import Level, examine  # noqa: PLC0415  (SQLite, gRPC: only here)

    findings = examine(folder, Files(), SystemClock(), context.default_map or {})
    failed = sum(finding.level is Level.FAIL for finding in findings)
    if output == "json":
        echo_json({"findings": [asdict(finding) for finding in findings], "failed": failed})
    else:
        for finding in findings:
            click.echo(f"{finding.level:<4}  {finding.check:<11}  {printable(finding.text)}")
            if finding.command:
                click.echo(f"{'':19}$ {_here(finding.command, folder)}")
        click.echo(f"{failed} {'check fails' if failed == 1 else 'checks fail'}" if failed else "nothing fails")
    context.exit(1 if failed else 0)


def add_to(group: click.Group) -> None:
    """Register the commands of this module."""
    for command in (hold, release, revert, retry, explain, doctor):
        group.add_command(command)


def _ask(folder: Path, request: Request) -> Answer:
    """Ask the agent; say that it takes a while where it does. Where nobody is enrolled, that is the answer."""
    request = Request(request.command, request.app, request.for_ms, request.reason, os.environ.get("SUDO_USER", ""))
    said = threading.Timer(
        WAIT_SAID_S,
        lambda: click.echo("waiting for the agent: it is busy with a hook, a probe or its server", err=True),
    )
    said.daemon = True
    said.start()
    try:
        return ask(folder, request)
    except InputError as error:
        if error.code == "not-running":
            identity.read_record(folder, Files())
        raise
    finally:
        said.cancel()


def _show(answer: Answer, output: str, folder: Path) -> None:
    if output == "json":
        echo_json(dict(answer.data))
        return
    for line in answer.lines:
        # The agent, which says it, knows nothing of how a person called this command.
        click.echo(_COMMAND.sub(lambda command: _here(command[0], folder), printable(line)))


def _here(command: str, folder: Path) -> str:
    """Return a command of ours with the folder that it needs; one with a note behind it is none of ours."""
    ours = command.startswith("towpath-agent ") and str(folder) != DEFAULT_DIR
    return f"{command} --dir {folder}" if ours else command


def _from_journal(folder: Path, app: str) -> Mapping[str, object]:
    """Explain without an agent: from what it wrote down."""
    from towpath_agent.engine.explaining import chain  # noqa: PLC0415  (only where no agent answers)
    from towpath_agent.journal import open_readonly  # noqa: PLC0415
    from towpath_agent.runner.explaining import gather  # noqa: PLC0415
    from towpath_agent.runner.holding import kept_holds  # noqa: PLC0415

    if not Files().exists(folder / JOURNAL):
        raise InputError(
            f"cannot explain {app}: the agent has never run here; start it: towpath-agent run --dir {folder}"
        )
    journal = open_readonly(folder / JOURNAL)
    try:
        seen = (kept_holds(journal) or ((), 0))[1]
        facts = gather(journal, app, max(SystemClock().now_unix_ms(), seen), None)
        return {"app": app, "reasons": [asdict(reason) for reason in chain(facts)]}
    finally:
        journal.close()


def agent_here(folder: Path) -> tuple[bool | None, Contact | None]:
    """Return whether an agent answers in `folder`, None where that cannot be told, and how it finds its server."""
    try:
        answer = ping(folder)
    except TowpathError:
        return None, None
    return (False, None) if answer is None else (True, contact_in(answer))


def running_line(folder: Path, running: bool | None) -> str:
    """Return the line of `status` about the agent."""
    if running is None:
        return f"agent: cannot tell whether it runs; see: {_here('towpath-agent doctor', folder)}"
    return "agent: runs" if running else f"agent: does not run; start it: {_here('towpath-agent run', folder)}"


def server_line(contact: Contact) -> str:
    """Return the line of `status` about the server, as the running agent finds it."""
    if contact.answered_unix_ms:
        answered = f"last answered {time_text(contact.answered_unix_ms)}"
    else:
        answered = "has not answered since this agent began"
    away = f"away since {time_text(contact.away_since_unix_ms)}, " if contact.away_since_unix_ms else ""
    return f"server: {away}{answered}{': ' if contact.trouble else ''}{printable(contact.trouble)}"


def holds_here(folder: Path) -> tuple[Hold, ...]:
    """Return the holds in force, as the journal has them."""
    from towpath_agent.engine.holds import live  # noqa: PLC0415
    from towpath_agent.journal import open_readonly  # noqa: PLC0415  (SQLite: only the commands that look need it)
    from towpath_agent.runner.holding import kept_holds  # noqa: PLC0415

    if not Files().exists(folder / JOURNAL):
        return ()
    journal = open_readonly(folder / JOURNAL)
    try:
        holds, seen = kept_holds(journal) or ((), 0)
    finally:
        journal.close()
    return live(holds, max(SystemClock().now_unix_ms(), seen))
