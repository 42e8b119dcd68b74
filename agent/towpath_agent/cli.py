"""The command `towpath-agent`: enrol this host, run its agent, look at what it did.

Parties: the person (or service manager) on the host. Everything is in one folder (`--dir`), so that no root is needed.
Rules: flags beat TOWPATH_* variables, these beat DIR/agent.toml, that beats defaults. Errors are one line on stderr:
exit 1, or 2 for a wrong command line. `run` becomes the daemon (exec), so that click does not stay in memory.
Looking never asks the server: `status` and `history` read the journal beside a running agent.
Not handled here: the loop (`daemon`), what enrolment checks (`enroll`).
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from towpath import __version__, commandline
from towpath.commandline import setting, version_option
from towpath.errors import InputError
from towpath.quantity import parse_duration_ms, parse_rate, parse_size
from towpath.reports import AppState, Event, Prefetch, Transfer
from towpath.weburl import parse_origins
from towpath_agent import control_cli, identity
from towpath_agent.bundle_cli import bundle
from towpath_agent.drivertest.cli import driver
from towpath_agent.options import folder_option, output_option
from towpath_agent.output import echo_json, echo_table, printable, time_text
from towpath_agent.system.files import Files
from towpath_agent.system.launch import is_launched, launch, taken

PROGRAM = "towpath-agent"
JOURNAL = "state.db"
MAX_TOKEN_BYTES = 4096
# What a change took goes back to the system, and the idle agent stays small: one arena for all threads, and what is
# large lies alone. glibc would let it grow into the heap once something as large was freed, and leave holes there.
# Large is what is larger than any buffer: those come and go with each file, and making them anew costs time.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2 * 2**20),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@version_option(PROGRAM)
def group() -> None:
    """Enrol this host, run its agent, look at what it did."""


group.add_command(driver)


@group.command()
@folder_option
@click.option("--server", envvar="TOWPATH_AGENT_SERVER", required=True, help="The server's enrolment port, HOST:PORT.")
@click.option("--token", envvar="TOWPATH_TOKEN", help="What `towpath token create` printed; others may see it in `ps`.")
@click.option(
    "--token-file",
    envvar="TOWPATH_TOKEN_FILE",
    type=click.Path(path_type=Path),
    help="A file that holds the token.",
)
@click.option("--name", envvar="TOWPATH_AGENT_NAME", required=True, help="This host's name in the fleet.")
def enroll(folder: Path, server: str, token: str | None, token_file: Path | None, name: str) -> None:
    """Make this host a member of a fleet. Safe to repeat where the server's answer was lost."""
    from towpath_agent.enroll import Request  # noqa: PLC0415  (X.509 code: only this command needs it)
    from towpath_agent.enroll import enroll as enroll_host  # noqa: PLC0415

    token = _token(token, token_file)
    if not token:
        raise click.UsageError("a token is missing: give --token, --token-file or TOWPATH_TOKEN")
    record = enroll_host(folder, Files(), Request(server, token, name))
    click.echo(f"enrolled {record.name} in {record.environment}; start it: towpath-agent run --dir {folder}")


@group.command()
@folder_option
@click.option("--server", envvar="TOWPATH_AGENT_SERVER", default="", help="The server's enrolment port, HOST:PORT.")
@click.option("--token", envvar="TOWPATH_TOKEN", help="What `towpath token create` printed; others may see it in `ps`.")
@click.option(
    "--token-file",
    envvar="TOWPATH_TOKEN_FILE",
    type=click.Path(path_type=Path),
    help="A file that holds the token.",
)
@click.option("--name", envvar="TOWPATH_AGENT_NAME", help="This host's name in the fleet. Default: its hostname.")
@click.option("--new-identity", is_flag=True, help="Enrol anew as another host: for a clone of a host's disk.")
def setup(
    folder: Path, server: str, token: str | None, token_file: Path | None, name: str | None, *, new_identity: bool
) -> None:
    """Enrol this host, have systemd run its agent, and wait until the server has answered it. Safe to repeat.

    A host that is enrolled already needs no options: its agent is enabled and started again.
    """
    from towpath_agent.setup import Setup, Wish  # noqa: PLC0415  (X.509 code: only this command needs it)

    wish = Wish(server, lambda: _token(token, token_file) or "", name or os.uname().nodename.lower(), new_identity)
    record = Setup(folder, click.echo).run(wish)
    click.echo(f"{record.name} in {record.environment} is set up; look: towpath-agent status")


def _token(token: str | None, token_file: Path | None) -> str | None:
    if token is not None or token_file is None:
        return token
    try:
        return Files().read(token_file, MAX_TOKEN_BYTES).decode("ascii", "replace")
    except FileNotFoundError as error:
        raise InputError(f"cannot read the token: there is no file {token_file}") from error


def _checked_rate(text: str) -> str:
    """Return a limit as it was written; the agent itself reads it anew."""
    from towpath_agent.engine.maxrate import parse_max_rate  # noqa: PLC0415  (zones: for this setting alone)

    parse_max_rate(text)
    return text


def _checked_relay(text: str) -> str:
    """Return the address of a relay, empty where there is none; the agent itself reads it anew."""
    if not text:
        return ""
    from towpath_agent.transport.dialling import check_relay  # noqa: PLC0415  (grpc: for this setting alone)

    return check_relay(text)


@group.command()
@folder_option
@click.option(
    "--sync-interval",
    envvar="TOWPATH_AGENT_SYNC_INTERVAL",
    callback=setting(parse_duration_ms),
    help="How often to ask unprompted, such as 60s.",
)
@click.option(
    "--control-group", envvar="TOWPATH_AGENT_CONTROL_GROUP", help="Let this group of users control the agent."
)
@click.option(
    "--max-release-bytes",
    envvar="TOWPATH_AGENT_MAX_RELEASE_BYTES",
    callback=setting(parse_size),
    help="What the releases of one app may take on disk, such as 2GiB; the running one and its previous always stay.",
)
@click.option(
    "--max-prefetch-bytes",
    envvar="TOWPATH_AGENT_MAX_PREFETCH_BYTES",
    callback=setting(parse_size),
    help="What may be fetched ahead of a change in a day, such as 2GiB; 0: nothing.",
)
@click.option(
    "--relay",
    envvar="TOWPATH_AGENT_RELAY",
    callback=setting(_checked_relay),
    help="The relay of this site, HOST:PORT, or auto: the one that the name towpath-relay leads to. "
    "The server itself is asked where the relay does not answer.",
)
@click.option(
    "--direct-from",
    envvar="TOWPATH_AGENT_DIRECT_FROM",
    callback=setting(parse_origins),
    help="Where large objects may be fetched without the server, such as https://bucket.s3.eu-central-1.amazonaws.com; "
    "several with spaces between. They are asked for nothing else, and what comes is checked as ever.",
)
@click.option(
    "--max-rate",
    envvar="TOWPATH_AGENT_MAX_RATE",
    callback=setting(_checked_rate),
    help="What is fetched in a second at most, such as 256KiB/s, and in windows: "
    "'256KiB/s; daily 22:00-06:00 local full'.",
)
@click.option(
    "--min-rate",
    envvar="TOWPATH_AGENT_MIN_RATE",
    callback=setting(parse_rate),
    help="What a server must send in a second while the agent waits for it, such as 1KiB/s; less is tried anew.",
)
def run(
    folder: Path,
    *,
    sync_interval: int | None,
    control_group: str | None,
    max_release_bytes: int | None,
    max_prefetch_bytes: int | None,
    relay: str | None,
    direct_from: Sequence[str] | None,
    max_rate: str | None,
    min_rate: int | None,
) -> None:
    """Run the agent until it is stopped. Apps go on running without it."""
    identity.read_record(folder, Files())
    # -P, -s: neither the current folder nor what a user installed for herself offers modules to the agent.
    arguments = [sys.executable, "-P", "-s", "-m", "towpath_agent.daemon", "--dir", str(folder)]
    if sync_interval is not None:
        arguments += ["--sync-interval-ms", str(sync_interval)]
    if control_group:
        arguments += ["--control-group", control_group]
    if max_release_bytes is not None:
        arguments += ["--max-release-bytes", str(max_release_bytes)]
    if max_prefetch_bytes is not None:
        arguments += ["--max-prefetch-bytes", str(max_prefetch_bytes)]
    if relay:
        arguments += ["--relay", relay]
    if direct_from:
        arguments += ["--direct-from", " ".join(direct_from)]
    if max_rate is not None:
        arguments += ["--max-rate", max_rate]
    if min_rate is not None:
        arguments += ["--min-rate", str(min_rate)]
    if not is_launched(os.environ):  # from a virtual environment; a package's command is the launcher
        launch(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, arguments, {**_MALLOC, **os.environ})  # noqa: S606  (no shell is wanted)


@group.command()
@folder_option
@output_option
def status(folder: Path, output: str) -> None:
    """Show this host and its apps, as its own journal has them; of the server, what the running agent knows."""
    record = identity.read_record(folder, Files())
    apps, _, ahead, transfers = _from_journal(folder, 0)
    running, contact = control_cli.agent_here(folder)
    holds = control_cli.holds_here(folder)
    if output == "json":
        echo_json(
            {
                "host": asdict(record),
                "apps": [asdict(app) for app in apps],
                "prefetch": {app: asdict(it) for app, it in ahead.items()},
                "transfers": {app: {**asdict(it), "text": it.text} for app, it in transfers.items()},
                "holds": [asdict(hold) for hold in holds],
                "agent_runs": running,
                "server": asdict(contact) if contact is not None else None,
            }
        )
        return
    click.echo(f"host {record.name} in {record.environment}, server {record.agent_address}")
    click.echo(f"certificate until {time_text(record.not_after_unix_ms)}, to be renewed from "
               f"{time_text(identity.renew_at_unix_ms(record))}")  # fmt: skip
    click.echo(control_cli.running_line(folder, running))
    if contact is not None:
        click.echo(control_cli.server_line(contact))
    for hold in holds:
        click.echo(f"{hold.app or 'all apps'} {printable(hold.text)}")
    for app, it in ahead.items():
        click.echo(f"{app} {printable(it.text)}")
    for app, transfer in transfers.items():
        click.echo(f"{app} {printable(transfer.version)} comes: {transfer.text}")
    if not apps:
        click.echo("no app yet")
        return
    rows = [
        (
            a.app,
            a.current_version,
            a.desired_version,
            a.state,
            a.health,
            a.verdict,
            time_text(a.since_unix_ms),
            a.reason,
        )
        for a in apps
    ]
    echo_table(("app", "current", "desired", "state", "health", "verdict", "since", "reason"), rows)


@group.command()
@folder_option
@output_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="The newest N events.")
@click.argument("app", required=False)
def history(folder: Path, output: str, limit: int, app: str | None) -> None:
    """Show what happened on this host, the newest last; with APP, of that app alone."""
    identity.read_record(folder, Files())
    _, events, _, _ = _from_journal(folder, limit)
    chosen = [event for event in events if app is None or event.app == app]
    if output == "json":
        echo_json([asdict(event) for event in chosen])
        return
    if not chosen:
        click.echo(f"nothing happened to {app} yet" if app else "nothing happened yet")
        return
    rows = [(time_text(e.at_unix_ms), e.kind, e.app, e.version, e.state, e.verdict, e.code, e.reason) for e in chosen]
    echo_table(("at", "kind", "app", "version", "state", "verdict", "code", "reason"), rows)


control_cli.add_to(group)
group.add_command(bundle)


@group.command()
def version() -> None:
    """Print the version."""
    click.echo(f"towpath-agent {__version__}")


def _from_journal(
    folder: Path, limit: int
) -> tuple[list[AppState], list[Event], dict[str, Prefetch], dict[str, Transfer]]:
    """Return apps, newest events, what is fetched ahead and what travels by app; none where the agent has never run."""
    from towpath_agent.journal import open_readonly  # noqa: PLC0415  (SQLite: only these commands need it)
    from towpath_agent.runner import announced, transferring  # noqa: PLC0415

    path = folder / JOURNAL
    if not Files().exists(path):
        return [], [], {}, {}
    journal = open_readonly(path)
    try:
        events = journal.events(limit) if limit else []
        return journal.app_states(), events, announced.states(journal), transferring.told(journal)
    finally:
        journal.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected failure is one line and an exit code."""
    sys.exit(commandline.code_of(_told, PROGRAM, args=arguments, prog_name=PROGRAM))


def _told(**words: Any) -> Any:
    """Run the command line; what a person has to mend says nothing against the release that was to run."""
    try:
        return group.main(**words)
    except (InputError, click.UsageError):
        if is_launched(os.environ):
            from towpath_agent.services.agent import uncount  # noqa: PLC0415  (services: for this case alone)

            uncount(Files(), taken(dict(os.environ)))
        raise
