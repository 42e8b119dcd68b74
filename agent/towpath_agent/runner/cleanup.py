"""Clean-up after a confirm or a revert: old trees, their records and logs, and objects that nothing names.

Never current or previous; nothing at all where current or a record is unknown (elastic-agent #14699: clean-up deleted
the running version). The log of the release that failed last stays, whatever else goes: `logs/last-failed` names it,
because the journal forgets a failure once something else runs well.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from towpath.errors import TowpathError
from towpath.index import EntryType
from towpath.objects import Digests
from towpath.wire import decode_release, iter_index
from towpath_agent.installers.base import Installer, current_release
from towpath_agent.journal import Deployed
from towpath_agent.runner.site import Site

# Logs of releases that are gone: the newest that are at most so many and so large together.
OLD_LOGS = 10
OLD_LOG_BYTES = 64 * 2**20
LAST_FAILED = "last-failed"
_LOG_NAMES = (".log", ".log.1")
_MAX_ID_BYTES = 256


def remember_failed(site: Site, app: str, release_id: str) -> None:
    """Let the log of this release stay until another fails; one that never ran has none, and changes nothing."""
    folder = site.app_dir(app) / "logs"
    known = any(site.files.exists(folder / f"{release_id}{end}") for end in _LOG_NAMES)
    if known and _last_failed(site, folder) != release_id:
        site.files.write_atomic(folder / LAST_FAILED, release_id.encode())


def _last_failed(site: Site, folder: Path) -> str:
    try:
        return site.files.read(folder / LAST_FAILED, _MAX_ID_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def prune_releases(site: Site, installer: Installer, app: str, *, keep: int, keep_bytes: int = 0) -> None:
    """Remove trees beyond `keep` and `keep_bytes` (0: no limit), the records of trees that are gone, and old logs."""
    folder = site.app_dir(app)
    if current_release(folder, site.files) is None:
        return
    installer.prune(folder, keep, keep_bytes)
    kept = set(site.files.listdir(folder / "releases"))
    for name in site.files.listdir(folder / "records"):
        if name.rpartition(".")[0] not in kept:
            site.files.remove(folder / "records" / name)
    _prune_logs(site, folder / "logs", kept | {_last_failed(site, folder / "logs")})


def _prune_logs(site: Site, folder: Path, needed: set[str]) -> None:
    """Remove logs of releases that are not `needed`, the oldest first, until the rest is within its bounds."""
    files = site.files
    names = [name for name in files.listdir(folder) if name != LAST_FAILED]
    old = [name for name in names if _release_of(name) not in needed]
    newest_first = sorted(old, key=lambda name: (files.stat(folder / name).st_mtime_ns, name), reverse=True)
    total = 0
    doomed: list[str] = []
    for count, name in enumerate(newest_first, 1):
        total += files.disk_bytes(folder / name)
        if count > OLD_LOGS or total > OLD_LOG_BYTES:
            doomed.append(name)
    for name in reversed(doomed):
        files.remove(folder / name)


def _release_of(log: str) -> str:
    """Return the id of the release that a log is of; a stranger's name stands for itself and is an old one."""
    return next((log.removesuffix(end) for end in _LOG_NAMES if log.endswith(end)), log)


def prune_store(site: Site, also: Iterable[Deployed] = ()) -> bool:
    """Remove every object that neither an installed release names nor one of `also`, which may not be here whole.

    Nothing, and False, where the record or the tree of an installed release cannot be read.
    """
    needed = Digests()  # an object that stays for nothing does no harm
    for it in also:
        needed.add(decode_release(it.release).artifact.index_sha256)
        with suppress(TowpathError, OSError):  # without its index nothing else of it can have come
            _add_contents(needed, site.index(it))
    for app in site.files.listdir(site.apps):
        releases = site.app_dir(app) / "releases"
        if not site.files.is_dir(releases):
            continue
        for release_id in site.files.listdir(releases):
            found = site.recorded(app, release_id)
            if found is None:
                return False
            release = decode_release(found.release)
            needed.add(release.artifact.index_sha256)
            try:
                _add_contents(needed, site.index(found))
            except (TowpathError, OSError):
                return False
    site.store.prune(needed)
    return True


def _add_contents(needed: Digests, index: Iterable[bytes]) -> None:
    for entry in iter_index(index):
        if entry.type is EntryType.FILE:
            needed.add(entry.sha256)
