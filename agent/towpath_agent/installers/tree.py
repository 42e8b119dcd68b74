"""Installer `tree`: the artifact's tree below `releases/`, made live by the link `current`.

Rules: the entries are checked again here, whoever checked them before. The tree is built in staging, written to disk
as a whole (syncfs), and renamed into place, so a name below `releases/` always means a complete tree; bytes that rot
later are found by `verify` and replaced in one step. `previous` moves before `current`: a crash between leaves both
on the old.
Option `shared`: paths kept from release to release (see `installers.shared`).
Not handled here: what the app itself writes beside its files; `verify` ignores strangers.
"""

import hashlib
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from towpath.errors import Broken
from towpath.index import Entry, EntryType, check_entries
from towpath_agent.installers import base, shared
from towpath_agent.installers.base import CURRENT, FOLDER_MODE, PREVIOUS, RELEASES, InstallPlan, Materialise
from towpath_agent.system.files import Files


class TreeInstaller:
    """See the module."""

    def __init__(self, files: Files) -> None:
        """Work on `files`."""
        self._files = files

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Build the tree in staging and give it its name below `releases/`."""
        entries = check_entries(plan.entries)
        paths = shared.shared_paths(plan)
        files = self._files
        shared.check_places(files, plan, paths)
        for folder in (plan.app_dir, plan.app_dir / RELEASES):
            files.make_dirs(folder, FOLDER_MODE)
            files.sweep(folder)
        damaged = files.exists(plan.folder)
        if damaged and self._whole(plan):
            files.remove_tree(plan.staging)
            return
        files.remove_tree(plan.staging)
        files.make_dirs(plan.staging.parent)
        files.make_dirs(plan.staging)
        _build(files, plan.staging, entries, materialise)
        for path in paths:
            shared.seed(files, plan, plan.staging, path)
        _set_folder_modes(files, plan.staging, shared.own_entries(plan, paths))
        files.sync_tree(plan.staging)
        if damaged:
            files.exchange(plan.staging, plan.folder)
            files.remove_tree(plan.staging)
        else:
            files.rename(plan.staging, plan.folder)

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Point `previous`, then `current`."""
        files = self._files
        self.require_staged(plan)
        files.sweep(plan.app_dir)
        if previous_id is None or previous_id == plan.release_id:
            self._remove_link(plan.app_dir / PREVIOUS)
        else:
            self._point(plan.app_dir / PREVIOUS, previous_id)
        self._point(plan.app_dir / CURRENT, plan.release_id)

    def require_staged(self, plan: InstallPlan) -> None:
        """Broken where the release's tree is not there."""
        if not self._files.is_dir(plan.folder):
            raise Broken(f"cannot switch {plan.app} to {plan.release_id}: its tree is not there; stage it again")

    def unswitch(self, plan: InstallPlan) -> None:
        """Remove both links."""
        self._remove_link(plan.app_dir / CURRENT)
        self._remove_link(plan.app_dir / PREVIOUS)

    def verify(self, plan: InstallPlan) -> bool:
        """Compare every entry of the index with the disk."""
        check_entries(plan.entries)
        return self._whole(plan)

    def witnesses(self, _plan: InstallPlan) -> Sequence[Path]:
        """Return nothing: the tree is all there is."""
        return ()

    def in_place(self, _plan: InstallPlan) -> bool:
        """Return True: there is nothing beyond the tree."""
        return True

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` and `keep_bytes`, never current or previous."""
        return base.prune(app_dir, keep, self._files, keep_bytes)

    def _point(self, link: Path, release_id: str) -> None:
        target = base.link_target(release_id)
        if self._files.read_link(link) != target:
            self._files.swap_link(link, target)

    def _remove_link(self, link: Path) -> None:
        if self._files.exists(link):
            self._files.remove(link)
            self._files.sync_dir(link.parent)

    def _whole(self, plan: InstallPlan) -> bool:
        files = self._files
        if not files.is_dir(plan.folder):
            return False
        paths = shared.shared_paths(plan)
        if not all(shared.in_place(files, plan, path) for path in paths):
            return False
        return all(_matches(files, plan.folder / entry.path, entry) for entry in shared.own_entries(plan, paths))


def _build(files: Files, tree: Path, entries: Sequence[Entry], materialise: Materialise) -> None:
    """Write the entries below `tree`. Folders stay open to their owner until `_set_folder_modes`."""
    for entry in entries:
        path = tree / entry.path
        if entry.type is EntryType.DIRECTORY:
            files.make_dir(path)
        elif entry.type is EntryType.LINK:
            files.make_link(path, entry.target)
        else:
            materialise(entry.sha256, path, entry.mode)


def _set_folder_modes(files: Files, tree: Path, entries: Iterable[Entry]) -> None:
    """Close the folders, deepest first: one that its owner may not write would keep us out of those below."""
    for entry in reversed([entry for entry in entries if entry.type is EntryType.DIRECTORY]):
        files.set_mode(tree / entry.path, entry.mode)
    files.set_mode(tree, FOLDER_MODE)


def _matches(files: Files, path: Path, entry: Entry) -> bool:
    if entry.type is EntryType.LINK:
        return files.read_link(path) == entry.target
    try:
        facts = files.stat(path)
    except FileNotFoundError:
        return False
    if entry.type is EntryType.DIRECTORY:
        return stat.S_ISDIR(facts.st_mode) and stat.S_IMODE(facts.st_mode) == entry.mode
    return is_file(files, path, mode=entry.mode, size=entry.size, sha256=entry.sha256)


def is_file(files: Files, path: Path, *, mode: int, size: int, sha256: bytes) -> bool:
    """Return whether `path` is a regular file, no link, of exactly that mode and content."""
    try:
        facts = files.stat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(facts.st_mode) or stat.S_IMODE(facts.st_mode) != mode or facts.st_size != size:
        return False
    return file_sha256(files, path) == sha256


def file_sha256(files: Files, path: Path) -> bytes:
    """Return the digest of a file's content; memory stays flat."""
    digest = hashlib.sha256()
    with files.open_read(path) as source:
        for part in source.blocks():
            digest.update(part)
    return digest.digest()
