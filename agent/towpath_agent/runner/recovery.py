"""What to do at start before the first tick: open the journal or rebuild it from facts, and sweep what was left over.

Facts win: the link `current` says what is live. A journal that cannot be read, or that a newer agent wrote in a way of
its own, is set aside; running apps are not touched. Where that agent was on trial, the copy from before the trial takes
its place. An older agent on trial sets no newer journal aside: the newer agent is to come back to all that it knew.
Open transactions need nothing here: the table's action of their state is simply done again.
"""

from pathlib import Path

from towpath.errors import Broken
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE
from towpath_agent.installers.base import current_release, previous_release
from towpath_agent.journal import OTHER_SCHEMA, Journal, open_journal, trouble_in
from towpath_agent.runner.site import Site, id_of
from towpath_agent.system.files import temporary

JOURNAL = "state.db"


def recover(site: Site, now_unix_ms: int, *, on_trial: bool = False) -> tuple[Journal, str, list[str]]:
    """Return a usable journal, what became of one that was not (else empty), and what more was mended, one line each.

    Broken where there is none to be had, and `journal-schema` where this agent is `on_trial` and may not rebuild it.
    """
    lost = ""
    path, before = site.root / JOURNAL, site.root / JOURNAL_BEFORE
    name = f"{JOURNAL}.damaged-{now_unix_ms}"
    if site.files.exists(before) and not site.files.exists(path):  # cut off below, between aside and back
        _set_aside(site, path, name)
        _put_back(site, before, path)
        lost = "the journal is missing; the copy from before the agent's update took its place"
    try:
        journal = open_journal(path)
    except Broken as error:
        copied = site.files.exists(before) and not trouble_in(before)
        if error.code != "journal-damaged" and (error.code != OTHER_SCHEMA or (on_trial and not copied)):
            raise
        _set_aside(site, path, name)
        if copied:
            _put_back(site, before, path)
        instead = "the copy from before the agent's update took its place" if copied else "rebuilt from what runs"
        lost = f"{error}; it was set aside as {name} and {instead}"
        journal = open_journal(path)
    said = _take_facts(site, journal)
    _sweep(site, journal)
    return journal, lost, said


def _set_aside(site: Site, path: Path, name: str) -> None:
    """Rename the journal, and what SQLite left beside it, which must not be taken for another one's."""
    for end in ("", "-journal"):
        left = path.with_name(f"{path.name}{end}")
        if site.files.exists(left):
            site.files.rename(left, path.with_name(f"{name}{end}"))


def _put_back(site: Site, before: Path, path: Path) -> None:
    """Let a copy of the copy be the journal: the one on trial may ruin it again before it is given up."""
    temp = temporary(path)
    site.files.copy(before, temp)
    site.files.sync_file(temp)
    site.files.rename(temp, path)


def _take_facts(site: Site, journal: Journal) -> list[str]:
    """Make the journal's current agree with the links, for apps without a transaction under way."""
    said = []
    moving = {tx.app for tx in journal.transactions() if not tx.state.ended}
    known = journal.deployed("current")
    apps = set(known)
    if site.files.is_dir(site.apps):
        apps |= set(site.files.listdir(site.apps))
    for app in sorted(apps - moving):
        folder = site.app_dir(app)
        live = current_release(folder)
        if live is None or (app in known and id_of(known[app]) == live):
            continue
        found = site.recorded(app, live)
        if found is None:
            said.append(f"cannot tell what {app} runs: {live} has no record; it is left as it is")
            continue
        before = previous_release(folder)
        journal.set_current(app, found, site.recorded(app, before) if before is not None else None)
        said.append(f"the journal did not know that {app} runs {found.wish.version}; taken from its link")
    return said


def _sweep(site: Site, journal: Journal) -> None:
    """Remove what a crash left: half-written files under temporary names, staging folders that no transaction names."""
    folders = [site.root, site.root / "trust"]
    for app in site.files.listdir(site.apps):
        folders += [site.app_dir(app), site.app_dir(app) / "releases", site.app_dir(app) / "records"]
    for folder in folders:
        site.files.sweep(folder)
    staging = site.root / "staging"
    if not site.files.is_dir(staging):
        return
    alive = {tx.id for tx in journal.transactions()}
    for name in site.files.listdir(staging):
        if name not in alive:
            site.files.remove_tree(staging / name)
