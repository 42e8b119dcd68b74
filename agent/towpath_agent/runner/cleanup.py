"""Clean-up after a confirm: old trees, their records and logs, and objects that nothing names.

Never current or previous; nothing at all where current or a record is unknown (elastic-agent #14699: clean-up deleted
the running version).
"""

from towpath.errors import TowpathError
from towpath.index import objects
from towpath.wire import decode_release
from towpath_agent.installers.base import Installer
from towpath_agent.runner.site import Site


def prune_releases(site: Site, installer: Installer, app: str, keep: int) -> None:
    """Remove trees beyond `keep`, and the records of trees that are gone. Logs stay: the last few by name."""
    folder = site.app_dir(app)
    installer.prune(folder, keep)
    kept = set(site.files.listdir(folder / "releases"))
    for name in site.files.listdir(folder / "records"):
        if name.rpartition(".")[0] not in kept:
            site.files.remove(folder / "records" / name)


def prune_store(site: Site) -> None:
    """Remove every object that no installed release names; nothing where one of them cannot be read."""
    needed: set[bytes] = set()
    for app in site.files.listdir(site.apps):
        releases = site.app_dir(app) / "releases"
        if not site.files.is_dir(releases):
            continue
        for release_id in site.files.listdir(releases):
            found = site.recorded(app, release_id)
            if found is None:
                return
            release = decode_release(found.release)
            needed.add(release.artifact.index_sha256)
            try:
                needed.update(objects(site.entries(found)))
            except (TowpathError, OSError):
                return
    site.store.prune(needed)
