"""What the agent keeps: journal, links, staging, holds, failures; and whether an agent runs."""

from collections.abc import Iterator
from pathlib import Path

from towpath.errors import InputError, TowpathError
from towpath.selfupdate import AGENT_APP
from towpath.status import Health, State
from towpath.wire import decode_release
from towpath_agent import identity
from towpath_agent.control.client import is_running
from towpath_agent.doctor.findings import Finding, fail, ok, warn
from towpath_agent.engine.holds import live
from towpath_agent.engine.selfupdate import POINTER
from towpath_agent.installers.base import current_release, previous_release
from towpath_agent.journal import Deployed, Journal, trouble_in
from towpath_agent.runner.holding import kept_holds
from towpath_agent.runner.recovery import JOURNAL
from towpath_agent.runner.site import id_of
from towpath_agent.services.agent import read_pointer
from towpath_agent.system.files import Files


def agent(folder: Path, files: Files) -> Finding:
    """Ask whether an agent runs here."""
    try:
        if is_running(folder):
            return ok("agent", "it runs and answers")
    except TowpathError as error:
        return fail("agent", str(error))
    if files.exists(folder / identity.LOCK):
        try:
            files.lock(folder / identity.LOCK).release()
        except InputError:
            return fail(
                "agent", "a process holds the folder, but answers nobody on its socket; stop it and start it again"
            )
    return warn(
        "agent", "it does not run: apps go on, but nothing is repaired, changed or reported", "towpath-agent run"
    )


def journal(folder: Path, files: Files) -> Finding:
    """Read all of the journal, as the agent does at its start."""
    if not files.exists(folder / JOURNAL):
        return ok("journal", "none yet: the agent has never run here")
    trouble = trouble_in(folder / JOURNAL)
    if trouble:
        return fail(
            "journal",
            f"{trouble}; at its next start the agent sets it aside and rebuilds it from what runs",
            "towpath-agent run",
        )
    return ok("journal", "whole")


def links(folder: Path, files: Files, kept: Journal) -> Iterator[Finding]:
    """Hold the links `current` and `previous` against the journal, for apps that are not on the move."""
    moving = {tx.app for tx in kept.transactions() if not tx.state.ended}
    current, previous = kept.deployed("current"), kept.deployed("previous")
    apps = folder / "apps"
    known = set(current) | ({name for name in files.listdir(apps) if files.is_dir(apps / name)})
    good = 0
    for app in sorted(known - moving):
        live_id = current_release(apps / app, files)
        if live_id != _id(current.get(app)):
            yield fail(
                "links",
                f"{app}: the journal says {_id(current.get(app)) or 'nothing'}, its link current says "
                f"{live_id or 'nothing'}; the agent takes what the link says at its next start",
                f"towpath-agent explain {app}",
            )
        elif app in previous and previous_release(apps / app, files) != _id(previous[app]):
            yield warn(
                "links",
                f"{app}: its link previous does not say {_id(previous[app])}: going back puts it right",
                f"towpath-agent explain {app}",
            )
        else:
            good += 1
    yield ok("links", f"{good} {'app agrees' if good == 1 else 'apps agree'} with the journal")


def _id(deployed: Deployed | None) -> str | None:
    return id_of(deployed) if deployed is not None else None


def launch(folder: Path, files: Files) -> Iterator[Finding]:
    """Say which version of the agent is to run; nothing where it was never changed."""
    pointer = read_pointer(files, folder)
    if pointer is None:
        if files.exists(folder / POINTER):
            yield fail(
                "launch", f"{POINTER} is garbled: the packaged agent runs, and puts it right", "towpath-agent run"
            )
        return
    explain = f"towpath-agent explain {AGENT_APP}"
    if pointer.failed:
        yield fail("launch", f"{pointer.trying} could not be kept as the agent: {pointer.failed}", explain)
    elif pointer.trying:
        yield ok("launch", f"{pointer.trying} is on trial; what ran before comes back where it fails")
    yield ok("launch", f"the agent is {pointer.current or 'the packaged one'}")


def staging(folder: Path, files: Files, kept: Journal) -> Finding:
    """Look for folders in staging that belong to no transaction."""
    alive = {tx.id for tx in kept.transactions()}
    left = [name for name in files.listdir(folder / "staging") if name not in alive]
    if left:
        return warn("staging", f"{len(left)} leftovers of an agent that was killed; its next start sweeps them")
    return ok("staging", "nothing is left over")


def holds(kept: Journal, now_unix_ms: int) -> Iterator[Finding]:
    """Say what is held."""
    found = kept_holds(kept)
    if found is None:
        yield warn("holds", "they cannot be read; the agent drops them at its next start")
        return
    for hold in live(found[0], max(now_unix_ms, found[1])):
        command = f"towpath-agent release {hold.app}".rstrip()
        yield warn("holds", f"{hold.app or 'all apps'} {hold.text}; nothing new begins", command)


def apps(kept: Journal) -> Iterator[Finding]:
    """Say which apps are in trouble."""
    for state in kept.app_states():
        explain = f"towpath-agent explain {state.app}"
        if state.state is State.STUCK:
            yield fail("apps", f"{state.app} is Stuck: {state.reason}", explain)
        elif state.health is Health.UNHEALTHY:
            yield fail("apps", f"{state.app} {state.current_version} is unhealthy: {state.reason}", explain)
        elif state.state is State.REVERTED:
            yield warn("apps", f"{state.app} {state.desired_version} {state.verdict}: {state.reason}", explain)
        elif not state.state.ended:
            yield ok("apps", f"{state.app}: {state.desired_version or 'its removal'} is {state.state}")
        else:
            yield ok("apps", f"{state.app} {state.current_version}, {state.health}")


def used_kinds(kept: Journal) -> set[str]:
    """Return the kinds of installers and services that apps of this host use, or should."""
    kinds = set()
    for it in [*kept.deployed("current").values(), *(kept.desired() or [])]:
        release = decode_release(it.release)
        kinds |= {release.install.kind, release.run.kind}
    return kinds
