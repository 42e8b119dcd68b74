"""`towpath-agent bundle`: apply what came on a stick, and write down what happened for the way back.

Rules: a bundle is proven as a whole before the agent hears of it, so that a bad file is one line and changes nothing;
the agent then verifies it once more, by what it alone knows. Exit 0: done; 1: not, or it failed here; 2: `--wait` took
too long.
"""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from towpath.errors import InputError
from towpath.quantity import parse_duration_ms
from towpath.reports import AppState
from towpath.status import State, Verdict
from towpath_agent import identity
from towpath_agent.control.client import ask
from towpath_agent.control.protocol import BUNDLE, Answer, Request
from towpath_agent.options import folder_option, output_option
from towpath_agent.output import echo_json, printable
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import Files, absolute

JOURNAL = "state.db"
MAX_ROOT_BYTES = 2**20
LOOK_S = 0.3
WAIT_SAID_S = 1.5
FAILED, LATE = 1, 2
_BAD = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.REFUSED)


@click.group()
def bundle() -> None:
    """Take a release from a file, where no line leads to a server, and bring reports back."""


@bundle.command()
@folder_option
@output_option
@click.option("--wait", "waits", is_flag=True, help="Wait until it is confirmed (exit 0), failed (1), or too late (2).")
@click.option("--timeout", default="15m", show_default=True, metavar="DURATION", help="How long --wait waits at most.")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def apply(context: click.Context, /, *, folder: Path, output: str, waits: bool, timeout: str, file: Path) -> None:
    """Check the bundle FILE, and have this host's agent do what it says, as if a server had said it.

    A host that is held is not moved before its hold ends. The file has to stay where it is until all of it is taken.
    """
    timeout_s, files = parse_duration_ms(timeout) / 1000, Files()
    record = identity.read_record(folder, files)
    path = files.real(file)
    _check(path, folder, files, record.host_id)
    said = _waiting(lambda: ask(folder, Request(BUNDLE, path=str(path), login=os.environ.get("SUDO_USER", ""))))
    data = dict(said.data)
    wanted = {str(it["app"]): bytes.fromhex(it["sha256"]) for it in _list(data.get("apps"))}
    refused = data.get("refused")
    code = FAILED if isinstance(refused, dict) and set(refused) & set(wanted) else 0
    if output != "json":
        for line in said.lines:
            click.echo(printable(line))
    if waits and not code:
        code = _follow(folder, wanted, timeout_s, quiet=output == "json")
    if output == "json":
        echo_json({**data, "result": code})
    context.exit(code)


def _check(path: Path, folder: Path, files: Files, host_id: str) -> None:
    """Prove the whole file by the root that this host was enrolled with."""
    from towpath.bundle.checking import check, naming  # noqa: PLC0415  (loads tuf)

    root = files.read(folder / identity.ROOT, MAX_ROOT_BYTES)
    with files.open_regular(path) as file, naming(path):
        check(file.read_at, file.length(), root=root, now_unix_ms=SystemClock().now_unix_ms(), host_id=host_id)


def _list(value: object) -> list[dict[str, str]]:
    return value if isinstance(value, list) else []


def _waiting(call: Callable[[], Answer]) -> Answer:
    """Return what the agent answers; say that it takes a while where it does."""
    said = threading.Timer(WAIT_SAID_S, lambda: click.echo("waiting for the agent: it verifies the bundle", err=True))
    said.daemon = True
    said.start()
    try:
        return call()
    finally:
        said.cancel()


def outcome(states: Mapping[str, AppState], wanted: Mapping[str, bytes]) -> int | None:
    """Return the exit code once every app has ended, None before. `wanted` is app to the digest of its release."""
    if failed_before(states, wanted):
        return FAILED
    open_ends = False
    for app, sha256 in wanted.items():
        state = states.get(app)
        runs = state is not None and state.current_sha256 == sha256 and state.state is State.CONFIRMED
        open_ends = open_ends or not runs
    return None if open_ends else 0


def progress(state: AppState | None, sha256: bytes) -> str:
    """Return how far an app is with the release of that digest, for people; empty where that has not begun."""
    if state is None or state.desired_sha256 != sha256:
        return ""
    if state.state is State.CONFIRMED and state.current_sha256 != state.desired_sha256:
        # The state is still that of what runs: the host is held, or has not begun.
        return f"{state.app}: runs {state.current_version}; {state.desired_version} waits"
    return f"{state.app}: {state.state} {state.desired_version} {state.reason}".rstrip()


def failed_before(states: Mapping[str, AppState], wanted: Mapping[str, bytes]) -> list[str]:
    """Return the apps whose wanted release failed on this host, as far as `states` says."""
    found = []
    for app, sha256 in wanted.items():
        state = states.get(app)
        if state is not None and state.desired_sha256 == sha256 and state.verdict in _BAD:
            found.append(app)
    return found


def _follow(folder: Path, wanted: Mapping[str, bytes], timeout_s: float, *, quiet: bool) -> int:
    deadline = Deadline(SystemClock(), timeout_s)
    told: dict[str, str] = {}
    states = _states(folder)
    for app in failed_before(states, wanted):
        if states[app].verdict is Verdict.REFUSED:
            said = f"was refused here; see: towpath-agent explain {app}"
        else:
            said = f"failed here before and is not tried again until: towpath-agent retry {app}"
        click.echo(f"{app}: this release {said}", err=True)
    while True:
        for app, sha256 in wanted.items():
            text = progress(states.get(app), sha256)
            if text and told.get(app) != text and not quiet:
                click.echo(printable(text))
            told[app] = text
        code = outcome(states, wanted)
        if code is not None:
            return code
        if deadline.expired:
            click.echo(f"not over after {timeout_s:g}s; see: towpath-agent status", err=True)
            return LATE
        pause(LOOK_S)
        states = _states(folder)


def _states(folder: Path) -> dict[str, AppState]:
    from towpath_agent.journal import open_readonly  # noqa: PLC0415  (SQLite: only where it is needed)

    journal = open_readonly(folder / JOURNAL)
    try:
        return {state.app: state for state in journal.app_states()}
    finally:
        journal.close()


@bundle.command()
@folder_option
@click.option("-o", "--out", "path", type=click.Path(path_type=Path), required=True, help="The file to write.")
def report(folder: Path, path: Path) -> None:
    """Write what this host has to report, and no server has heard yet, into a file that its key signs.

    Hand it in with: towpath bundle import FILE. What is in it stays here too, until a server itself has heard it.
    """
    from towpath import pki  # noqa: PLC0415  (X.509 code: only this command needs it)
    from towpath.wire.reportfile import MAX_EVENTS, HostReports, encode_report_file  # noqa: PLC0415
    from towpath_agent.journal import open_readonly  # noqa: PLC0415

    files = Files()
    who = identity.load(folder, files)
    if not files.exists(folder / JOURNAL):
        raise InputError(f"cannot report: the agent has never run here; start it: towpath-agent run --dir {folder}")
    path = absolute(path)
    if files.is_dir(path) or not files.is_dir(files.real(path.parent)):
        raise InputError(f"cannot write {path}: it has to be a file in a folder that is there")
    journal = open_readonly(folder / JOURNAL)
    try:
        events, apps = journal.outbox(MAX_EVENTS), journal.app_states()
        revision = int(journal.meta().get("state_revision", "0"))
    finally:
        journal.close()
    reports = HostReports(who.host.host_id, SystemClock().now_unix_ms(), tuple(events), tuple(apps), revision)
    key = pki.key_from_pem(who.pem)
    files.write_atomic(
        path, encode_report_file(reports, who.host.key_sha256, lambda message: pki.sign(key, message)), 0o644
    )
    said = f"{len(events)} {'event' if len(events) == 1 else 'events'}"
    state = f"the state of {len(apps)} {'app' if len(apps) == 1 else 'apps'}"
    click.echo(f"{path}: {said} and {state} of {who.host.name}")
